"""Operating points.

Frozen values on the axes that can be chosen at run time, with one spelling used everywhere.
"""

import dataclasses
from typing import Any


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

    >>> str(Point(size=160, exit=2))
    's160-x2'
    >>> Point.parse('s160-x2') == Point(size=160, exit=2)
    True
    """

    size: int | None = axis('s')
    width: int | None = axis('w', digits=2)
    exit: int | None = axis('x')

    def __str__(self) -> str:
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                parts.append(f'{field.metadata["letter"]}{value:0{field.metadata["digits"]}d}')
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
                f'operating point {text!r}: expected a form such as s224, w03, x2 or s160-x2'
            )
        return point

    @classmethod
    def within(cls, name: str) -> 'Point':
        """The point in a name that has other parts too; without any axis if there is none.

        >>> str(Point.within('ensemble-s160-x2'))
        's160-x2'
        """
        axes = {field.metadata['letter']: field.name for field in dataclasses.fields(cls)}
        values = {}
        for part in name.split('-'):
            letter, digits = part[:1], part[1:]
            if letter in axes and digits.isascii() and digits.isdigit():
                values[axes[letter]] = int(digits)
        return cls(**values)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes that it is a choice on."""
        fields = dataclasses.fields(self)
        return tuple(field.name for field in fields if getattr(self, field.name) is not None)

    @property
    def values(self) -> tuple[int, ...]:
        """Its values on ``axes``.

        Of two points on the same axes, the one of larger values is stronger.
        """
        return tuple(getattr(self, name) for name in self.axes)


def split_name(name: str) -> tuple[Point, str]:
    """The point whose scope a variable is in, and the name without that scope.

    >>> point, shared = split_name('conv0/bn/s160/gamma')
    >>> str(point), shared
    ('s160', 'conv0/bn/gamma')
    """
    scopes = name.split('/')
    for i, scope in enumerate(scopes):
        point = Point.within(scope)
        if scope and str(point) == scope:
            return point, '/'.join([*scopes[:i], *scopes[i + 1 :]])
    return Point(), name
