"""Operating points: frozen values on the axes of a choice at run time, with one spelling."""

import dataclasses
from typing import Any

# What answers together or by a gate's choice is no operating point: starts and ends of its name.
ENSEMBLE, DYNAMIC = 'ensemble', 'dynamic'


def axis(letter: str, *, digits: int = 1) -> Any:
    """An axis that is left None where a network does not choose on it.

    Args:
        letter: starts its part of a spelling.
        digits: least number of digits in a spelling.
    """
    return dataclasses.field(default=None, metadata={'letter': letter, 'digits': digits})


@dataclasses.dataclass(frozen=True)
class Point:
    """One choice at run time. A new axis is one more field, in the order in which axes are spelled.

    Attributes:
        size: pixels of the square input, ``s224``.
        width: index of the sub-network, narrowest first, ``w03``.
        exit: index of the classifier, shallowest first, ``x2``.
        bits: of the weights, which name a precision, ``b4``.

    >>> str(Point(size=160, exit=2))
    's160-x2'
    >>> Point.parse('s160-x2') == Point(size=160, exit=2)
    True
    """

    size: int | None = axis('s')
    width: int | None = axis('w', digits=2)
    exit: int | None = axis('x')
    bits: int | None = axis('b')

    def __str__(self) -> str:
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                letter, digits = field.metadata['letter'], field.metadata['digits']
                parts.append(f'{letter}{value:0{digits}d}')
        return '-'.join(parts)

    @classmethod
    def parse(cls, text: str) -> 'Point':
        """The point that ``text`` spells.

        Raises:
            ValueError: ``text`` is no spelling of a point.
        """
        point = cls.within(text)
        if not text or str(point) != text:
            raise ValueError(
                f'operating point {text!r}: expected a form such as s224, w03, x2, '
                's160-x2 or s224-b4'
            )
        return point

    @classmethod
    def within(cls, name: str) -> 'Point':
        """The point in a name that has other parts too; without any axis if there is none.

        >>> str(Point.within('ensemble-s160-x2'))
        's160-x2'
        """
        axes = {}
        for field in dataclasses.fields(cls):
            axes[field.metadata['letter']] = field.name
        values = {}
        for part in name.split('-'):
            letter, digits = part[:1], part[1:]
            if letter in axes and digits.isascii() and digits.isdigit():
                values[axes[letter]] = int(digits)
        return cls(**values)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes that it is a choice on."""
        names = [field.name for field in dataclasses.fields(self)]
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def values(self) -> tuple[int, ...]:
        """Its values on ``axes``; of points on the same axes, larger values are stronger."""
        return tuple(getattr(self, name) for name in self.axes)

    def covers(self, other: 'Point') -> bool:
        """Whether ``other`` has the same value on every axis that this one has.

        >>> Point(bits=4).covers(Point(size=160, bits=4)), Point(size=96).covers(Point(size=160))
        (True, False)
        """
        return all(getattr(self, name) == getattr(other, name) for name in self.axes)


def split_name(name: str) -> tuple[Point, str]:
    """The point whose scope a variable is in, and the name without that scope.

    >>> point, shared = split_name('conv0/bn/s160/gamma')
    >>> str(point), shared
    ('s160', 'conv0/bn/gamma')
    """
    *scopes, leaf = name.split('/')
    for i, scope in enumerate(scopes):
        point = Point.within(scope)
        if scope and str(point) == scope:
            return point, '/'.join([*scopes[:i], *scopes[i + 1 :], leaf])
    return Point(), name


def renamed(name: str, point: Point, other: Point) -> str:
    """The name of the variable that belongs to ``other`` as ``name`` belongs to ``point``.

    Args:
        name: of a variable, with a scope that spells ``point``.
        point: the point in it.
        other: the point to put in its place.

    >>> renamed('conv0/bn/s160/gamma', Point(size=160), Point(size=96))
    'conv0/bn/s96/gamma'
    """
    scopes = []
    for scope in name.split('/'):
        if scope == str(point):
            scope = str(other)
        scopes.append(scope)
    return '/'.join(scopes)
