"""Points in one list: what several compute is there once, and nothing is executed in vain."""

import functools

import numpy as np
import pytest

from engine.deployment.choices import Choose
from engine.deployment.joining import joint
from engine.deployment.program import (
    Activation,
    Affine,
    Cast,
    Combine,
    Floats,
    Part,
    PointProgram,
    Program,
    Resize,
)
from engine.deployment.regions import regions


def shape_of(name):
    """Of the constants of a layer: names of the same length are of layers that differ in size."""
    return (len(name.rstrip("'")),)


def point(*layers, side=4):
    """A point of operations by spelling: ``name:what it reads``."""
    operations = [Cast('cast', 'images')]
    for layer in layers:
        name, _, read = layer.partition(':')
        if name.startswith('resize'):
            shares = Part(name, (int(name.removeprefix('resize')), side))
            operations.append(Resize(name, read, shares))
        elif '+' in read:
            x, _, y = read.partition('+')
            operations.append(Combine(name, x, y, 'add'))
        else:
            one = Part(name, shape_of(name))
            operations.append(Affine(name, read or operations[-1].out, one, one))
    return PointProgram('images', side, tuple(operations), operations[-1].out)


def program(**points):
    names = {}
    for one in points.values():
        for operation in one.operations:
            shape = getattr(getattr(operation, 'shares', None), 'shape', shape_of(operation.out))
            names[operation.out] = Floats(np.ones(shape, np.float32))
    return Program(points, names)


def executed(region, number_of):
    """Names of what is executed where a choice takes branch ``number_of(choice)``."""
    found = []
    for first, *_ in region.rows:
        if isinstance(first, Choose):
            branch = region.branches[first.out][number_of(first)]
            found += executed(branch, number_of)
        elif isinstance(first, Affine | Combine | Resize):
            found.append(first.out)
    return found


def by_point(whole):
    """What each point executes in the common file."""
    found = joint(whole)
    numbers = {row[0].out: row[0] for row in found.rows}
    region = regions(found.rows, [found.output])

    def number_of(place, choice):
        return numbers[choice.x].numbers[place]

    places = range(len(whole.points))
    return [executed(region, functools.partial(number_of, place)) for place in places]


EXITS = {
    'x2': point('a', 'b:a', 'c:b', 'd:c'),
    'x1': point('a', 'b:a', 'head1:b'),
    'x0': point('a', 'head0:a'),
}
WIDTHS = {
    'w2': point('A', 'B:A', 'C:B'),
    'w1': point('a', 'b1:a', 'c1:b1'),
    'w0': point('a', 'b00:a', 'c00:b00'),
}


@pytest.mark.parametrize('points', [EXITS, WIDTHS, dict(reversed(EXITS.items()))])
def test_every_point_executes_what_it_needs_and_no_more(points):
    wanted = [[one.out for one in each.operations[1:]] for each in points.values()]
    assert by_point(program(**points)) == wanted


def test_what_cannot_be_told_apart_is_executed_once_and_for_more():
    """Every two of three points share a layer that the third does not need."""
    points = {
        'x': point('a:cast', 'b:cast', 'x:a+b'),
        'y': point('b:cast', 'cc:cast', 'y:b+cc'),
        'z': point('cc:cast', 'a:cast', 'z:cc+a'),
    }
    for found, one in zip(by_point(program(**points)), points.values(), strict=True):
        assert {each.out for each in one.operations[1:]} <= set(found)
        assert len(set(found)) == len(found)


def test_sizes_are_rows_and_exits_are_branches():
    """The same exits at two sizes."""
    points = {}
    for size, place in ((4, ''), (3, "'")):
        for exit, layers in (('x1', ('a', 'b', 'c')), ('x0', ('a', 'head'))):
            names = [f'{layer}{place}' for layer in layers]
            resize = [f'resize{size}:cast'] if size != 4 else []
            points[f's{size}-{exit}'] = point(*resize, *names)
    found = joint(program(**points))
    assert found.numbers == [0, 0, 1, 1]
    assert {len(row) for row in found.rows if isinstance(row[0], Affine)} == {2}
    (resize,) = [row for row in found.rows if isinstance(row[0], Resize)]
    assert [one.shares.shape for one in resize] == [(4, 4), (3, 4)]


def test_what_nothing_reads_is_not_executed():
    rows = [
        (Cast('x', 'images'),),
        (Activation('y', 'x', 'relu'),),
        (Activation('z', 'x', 'relu'),),
    ]
    assert [row[0].out for row in regions(rows, ['y']).rows] == ['x', 'y']
