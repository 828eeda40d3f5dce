"""Operating points: frozen values on the axes that can be chosen at run time, with one spelling used everywhere."""

import dataclasses
import re

# Letter of an axis in a spelling -> field, in the order in which they are spelled.
_AXES = {'s': 'size', 'w': 'width', 'x': 'exit', 'g': 'gate'}


@dataclasses.dataclass(frozen=True)
class Point:
    """One choice at run time. An axis left None is not chosen by this network.

    Attributes:
        size: pixels of the square input, ``s224``.
        width: index of the sub-network, narrowest first, ``w03``.
        exit: index of the classifier, shallowest first, ``x2``.
        gate: target execution rate in percent, ``g60``.

    >>> str(Point(size=160, exit=2))
    's160-x2'
    >>> Point.parse('s160-x2') == Point(size=160, exit=2)
    True
    """

    size: int | None = None
    width: int | None = None
    exit: int | None = None
    gate: int | None = None

    def __str__(self) -> str:
        values = ((letter, getattr(self, field)) for letter, field in _AXES.items())
        return '-'.join(
            f'{letter}{value:02d}' if letter == 'w' else f'{letter}{value}'
            for letter, value in values
            if value is not None
        )

    @classmethod
    def parse(cls, text: str) -> 'Point':
        """The point that ``text`` spells.

        Raises:
            ValueError: ``text`` is no spelling of a point.
        """
        parts = [re.fullmatch(r'([swxg])(\d+)', part) for part in text.split('-')]
        fields = {_AXES[part[1]]: int(part[2]) for part in parts if part}
        point = cls(**fields)
        if not text or str(point) != text:
            raise ValueError(
                f'operating point {text!r}: expected a form such as s224, w03, x2 or s160-x2'
            )
        return point
