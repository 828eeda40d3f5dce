"""Networks of all families, small ones: the library gives what the interpreter gives."""

import functools

import numpy as np
import pytest

from engine.deployment import integer_program, interpreter, native_writer
from engine.errors import UsageError
from tests.engine.deployment.test_integer_program import whole
from tests.engine.deployment.test_program import IMAGES

# Quick tests have a network, too: tests/scripts/test_export_native.py.
pytestmark = [pytest.mark.usefixtures('shallow'), pytest.mark.slow]

CELLS = [
    'rsnet-sizes-w2a2',
    'rsnet-sizes-float',
    'rsnet-sizes-lsq4',
    'rsnet-sizes-dorefa4',
    'rsnet-sizes-n2uq4',
    'rsnet-sizes-apot4',
    'rsnet-sizes-affine4',
    'rsnet-sizes-bireal1',
    'rsnet-sizes-twn2',
    'rsnet-sizes-b4b2',
    'san-sizes-w2a2',
    'aig-gates-w2a2',
    'msdnet-exits-w2a2',
    'dsnet-widths-w2a2',
]


@functools.cache
def program_of(cell):
    """In whole numbers where that is possible."""
    before = whole(cell)
    try:
        return integer_program.integer(before)
    except UsageError:
        return before


@pytest.mark.parametrize('cell', CELLS)
def test_every_point(opened, cell):
    """Sums of whole numbers are exact; floats before them can carry a value over a threshold."""
    found = program_of(cell)
    content = native_writer.serialized(found, {'form': '"native"'})
    network = opened(content)
    shared = opened(content, threads=3)
    assert network.text('form') == '"native"'
    assert [point.name for point in network.points] == list(found.points)
    for place, (name, point) in enumerate(found.points.items()):
        images = np.ascontiguousarray(IMAGES[:, : point.side, : point.side])
        logits, executed = network.run(place, images)
        expected, chosen = interpreter.answers(found, name, images)
        np.testing.assert_array_equal(executed, chosen)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * expected.std())
        np.testing.assert_array_equal(shared.run(place, images)[0], logits)


def test_a_file_that_was_cut_runs_its_points_of_few_bits(opened):
    """And all others once the rest was appended."""
    content = native_writer.serialized(program_of('rsnet-sizes-b4b2'), {})
    network = opened(content)
    expected = {}
    for place, point in enumerate(network.points):
        images = np.ascontiguousarray(IMAGES[:, : point.sides[0], : point.sides[0]])
        expected[place] = network.run(place, images)[0]
    # The first section is in the first entry of the first table.
    head = np.frombuffer(content, '<u4', 1, 64)[0]
    first = int(np.frombuffer(content, '<u8', 2, head).sum())
    cut = opened(content[:first])
    here = [point.here for point in cut.points]
    assert True in here and False in here
    with pytest.raises(UsageError, match='was cut before the bits'):
        cut.run(here.index(False), IMAGES)
    for appended in (False, True):
        for place, point in enumerate(cut.points):
            if point.here:
                images = np.ascontiguousarray(IMAGES[:, : point.sides[0], : point.sides[0]])
                np.testing.assert_array_equal(cut.run(place, images)[0], expected[place])
        if not appended:
            with pytest.raises(UsageError, match='damaged|section'):
                cut.append(content[first:-64] + bytes(64))
            cut.append(content[first:])
    assert all(point.here for point in cut.points)
