"""Spelling of operating points."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets.points import Point

values = st.none() | st.integers(0, 10**6)
points = st.builds(Point, size=values, width=values, exit=values, bits=values)
points = points.filter(lambda p: p != Point())


@given(points)
def test_spelling_comes_back(point):
    assert Point.parse(str(point)) == point


@given(points, points)
def test_spellings_differ_where_points_do(one, other):
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize(
    'point, text',
    [
        (Point(size=224), 's224'),
        (Point(width=3), 'w03'),
        (Point(width=112), 'w112'),
        (Point(exit=2), 'x2'),
        (Point(size=160, exit=2), 's160-x2'),
        (Point(size=0, width=1, exit=2), 's0-w01-x2'),
        (Point(size=224, bits=4), 's224-b4'),
        (Point(width=3, bits=2), 'w03-b2'),
        (Point(size=160, exit=2, bits=3), 's160-x2-b3'),
    ],
)
def test_known_spellings(point, text):
    assert str(point) == text
    assert Point.parse(text) == point


@pytest.mark.parametrize(
    'text',
    [
        '224',
        's',
        's-1',
        's0224',
        'w3',
        'w003',
        'x2-s160',
        's160-s128',
        's160_x2',
        's160-',
        '-s160',
        'S160',
        's160 ',
        'q4',
        's1.5',
        's\u0661',
        's160-x',
    ],
)
def test_other_spellings_are_refused(text):
    with pytest.raises(ValueError, match='expected a form such as s224') as caught:
        Point.parse(text)
    assert repr(text) in str(caught.value)


def test_nothing_is_no_spelling():
    with pytest.raises(ValueError):
        Point.parse('')


def test_points_are_values():
    assert len({Point(size=28), Point(size=28), Point(size=20)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Point(size=28).size = 20
