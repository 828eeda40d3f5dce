"""What is chosen image by image: the branch that an image takes is computed, and no other."""

import numpy as np
import pytest

from engine.deployment import choices, interpreter, native_writer, program
from engine.deployment.native_library import CannotRun
from tests.runtime.programs import Built

SIDE = 6
IMAGES = np.random.default_rng(5).integers(256, size=(4, SIDE, SIDE, 3), dtype=np.uint8)


def with_a_wrong_branch(threshold):
    """Takes branch 0 where the confidence is below a threshold: a choice of a branch -1.

    What branches need stands in front of the number that chooses among them.
    """
    built = Built(SIDE)
    built.activation([0, 1, 2, 3], 8)
    built.add(program.GlobalPool)
    row = built.add(program.ToRows)
    shared = built.add(program.Dense, row, kernel=built.part(built.rng.normal(size=(8, 5))))
    late = built.add(program.Dense, shared, kernel=built.part(built.rng.normal(size=(5, 5))))
    built.add(program.Activation, late, function='relu')
    early = built.add(program.Arithmetic, shared, function='add', y=built.part(1.0))
    nowhere = built.add(choices.Number, row, value=-1)
    built.operations.append(choices.Choose('wrong', nowhere, ((late,), (early,))))
    numbers = [built.add(choices.Number, late, value=value) for value in (7, 3)]
    sure = built.add(choices.Confident, shared, exit=0, threshold=built.part(threshold))
    branches = (('wrong', numbers[0]), (early, numbers[1]))
    built.operations.append(choices.Choose('logits', sure, branches, ('exit',)))
    told = (choices.Chosen('exit', 'exit', (3, 7)),)
    point = program.PointProgram('images', SIDE, tuple(built.operations), 'logits', told)
    return program.Program({'dynamic': point}, dict(built.constants))


def test_a_branch_that_is_not_taken_is_not_computed(opened):
    whole = with_a_wrong_branch(-1e9)
    network = opened(native_writer.serialized(whole, {}))
    expected, chosen = interpreter.answers(whole, 'dynamic', IMAGES)
    found, executed = network.run(0, IMAGES)
    np.testing.assert_array_equal(executed, chosen)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.std())
    assert (executed == 3).all()


def test_a_branch_that_is_taken_is(opened):
    """The same program, whose wrong choice is found as soon as an image comes to it."""
    network = opened(native_writer.serialized(with_a_wrong_branch(1.0), {}))
    with pytest.raises(CannotRun, match='a branch that there is not'):
        network.run(0, IMAGES)
