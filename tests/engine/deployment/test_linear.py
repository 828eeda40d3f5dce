"""Sums of affine functions put together: the same values, of fewer numbers."""

import dataclasses

import numpy as np
import pytest

from engine.deployment import interpreter, program
from engine.deployment.joining import joint
from engine.deployment.linear import folded
from engine.deployment.pool import Constants

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(256, size=(3, 4, 4, 3), dtype=np.uint8)
CHANNELS = 3


def network(end, points=2):
    """A program of points that begin alike, behind which ``end`` adds what is to be tried.

    Args:
        end: function (part) -> operations that read ``a``, ``b`` and ``c`` [N, H, W, 3] and end in
            ``out``, where ``part(name)`` is a vector of the point.
        points: how many, with vectors of their own.
    """
    constants = Constants()
    made = {}
    for number in range(points):

        def part(name, place=number, values=None):
            if values is None:
                values = RNG.normal(size=CHANNELS)
            return constants.add(np.float32(values), f'{name}{place}')

        operations = [program.Cast('cast', 'images')]
        for name in 'abc':
            kernel = constants.add(RNG.normal(size=(1, 1, 3, 3)), f'{name}/{number}')
            convolution = program.Convolution(name, 'cast', kernel, 1, (0, 0, 0, 0), False, 1)
            operations.append(convolution)
        operations += end(part)
        operations.append(program.GlobalPool('pool', 'out'))
        operations.append(program.ToRows('logits', 'pool'))
        point = program.PointProgram('images', 4, tuple(operations), 'logits')
        made[f's{number + 4}'] = point
    return program.Program(made, dict(constants))


def affine(out, x, part):
    return program.Affine(out, x, part(f'{out}/scale'), part(f'{out}/shift'))


def two_branches(part):
    return [
        affine('left', 'a', part),
        affine('right', 'b', part),
        program.Combine('sum', 'left', 'right', 'add'),
    ]


def branch_and_convolved_shortcut(part):
    return [*two_branches(part), affine('out', 'sum', part)]


def branch_and_plain_shortcut(part):
    return [
        affine('left', 'a', part),
        program.Combine('sum', 'c', 'left', 'add'),
        affine('out', 'sum', part),
    ]


def three_branches(part):
    more = affine('more', 'c', part)
    return [*two_branches(part), more, program.Combine('out', 'more', 'sum', 'add')]


def biases(part):
    return [
        program.Arithmetic('left', 'a', 'multiply', part('left')),
        program.Arithmetic('biased', 'left', 'add', part('biased')),
        program.Arithmetic('again', 'biased', 'add', part('again')),
        affine('out', 'again', part),
    ]


def twice_the_same(part):
    return [
        affine('left', 'a', part),
        affine('right', 'a', part),
        program.Combine('out', 'left', 'right', 'add'),
    ]


def nothing_but_a_shift(part):
    return [
        program.Affine('left', 'a', part('one', values=np.ones(3)), part('left')),
        program.Arithmetic('out', 'left', 'add', part('right')),
    ]


def read_twice(part):
    return [
        affine('left', 'a', part),
        program.Combine('sum', 'left', 'b', 'add'),
        program.Combine('product', 'sum', 'left', 'multiply'),
        affine('out', 'product', part),
    ]


def no_affine_function(part):
    """As images are normalised: in the order of evaluation, to the last bit."""
    return [
        program.Arithmetic('left', 'a', 'divide', part('left', values=[255.0])),
        program.Arithmetic('middle', 'left', 'subtract', part('middle')),
        program.Arithmetic('out', 'middle', 'divide', part('out')),
    ]


def another_sum(part):
    return [
        affine('left', 'a', part),
        program.Activation('relu', 'left', 'relu'),
        affine('out', 'relu', part),
    ]


def run(whole, point, rows, output, constants):
    """Answers at a point of a list of operations of all points."""
    place = list(whole.points).index(point)
    operations = tuple(row[place] for row in rows)
    one = dataclasses.replace(whole.points[point], operations=operations, output=output)
    return interpreter.run(program.Program({point: one}, constants), point, IMAGES)


@pytest.mark.parametrize(
    'end, vectors',
    [
        (branch_and_convolved_shortcut, 3),
        (branch_and_plain_shortcut, 3),
        (three_branches, 4),
        (biases, 2),
        (twice_the_same, 2),
        (nothing_but_a_shift, 1),
    ],
)
def test_sums_take_a_weight_of_each_part_and_one_constant(end, vectors):
    whole = network(end)
    before = joint(whole)
    after = folded(before)
    stored = 0
    for row in after.rows:
        assert len(row) == 2
        if not isinstance(row[0], program.Convolution):
            stored += len(program.parts(row[0]))
    assert stored == vectors
    for point in whole.points:
        expected = interpreter.run(whole, point, IMAGES)
        found = run(whole, point, after.rows, after.output, after.constants)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('end', [read_twice, no_affine_function, another_sum])
def test_what_is_no_sum_stays_as_it_is(end):
    before = joint(network(end))
    after = folded(before)
    assert after.rows == before.rows and after.output == before.output
