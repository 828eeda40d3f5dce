"""Options as fields of dataclasses.

Written once, beside their owner, with text and range; flags and records follow from them.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from quant.spelling import unknown


@dataclasses.dataclass(frozen=True)
class Limits:
    """Values that an option takes, and the text of its flag.

    Attributes:
        help: text for a reader of ``--help``.
        low: smallest value allowed.
        above: the value must be greater than this.
        high: largest value allowed.
        below: the value must be smaller than this.
        choices: the values allowed; a callable gives them when they are asked for.
        count: smallest number of values of an option that takes several.
        file: whether the flag names a JSON file that holds the value.
        parse: makes the value of the text of a flag, where its type alone does not.
        unit: what the number counts, as ``engine.quantities`` names it, where people write units.
        metavar: stands for the value in ``--help``.
        alone: value of a flag that is given without one.
        short: further spellings of the flag, such as ``('-s',)``.
        flag: whether there is a flag; what follows from other things has none.
        evaluation: whether the flag belongs to ``--eval`` alone.
    """

    help: str
    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    choices: Sequence[Any] | Callable[[], Sequence[Any]] | None = None
    count: int = 0
    file: bool = False
    parse: Callable[[str], Any] | None = None
    unit: str = ''
    metavar: str | None = None
    alone: str | None = None
    short: tuple[str, ...] = ()
    flag: bool = True
    evaluation: bool = False

    def allowed(self) -> Sequence[Any] | None:
        """The values allowed, or None if they are not listed."""
        if callable(self.choices):
            return self.choices()
        return self.choices

    def range_text(self) -> str:
        """The range in words, such as ``at least 0 and below 1``; empty without a range."""
        bounds = (
            ('at least', self.low),
            ('greater than', self.above),
            ('at most', self.high),
            ('below', self.below),
        )
        parts = [f'{words} {bound}' for words, bound in bounds if bound is not None]
        return ' and '.join(parts)

    def fault(self, value: Any) -> str:
        """The end of a message that says what is wrong with one value; empty if nothing is."""
        allowed = self.allowed()
        if allowed is not None and value not in allowed:
            return unknown(str(value), allowed)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return ''
        text = self.range_text()
        if isinstance(value, float) and not math.isfinite(value):
            return f'must be a finite number {text}'.rstrip()
        if self._contains(value):
            return ''
        return f'must be {text}'

    def _contains(self, value: float) -> bool:
        if self.low is not None and value < self.low:
            return False
        if self.above is not None and value <= self.above:
            return False
        if self.high is not None and value > self.high:
            return False
        return self.below is None or value < self.below


def option(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with its help text and range.

    Args:
        default: of the field.
        help: text for a reader of ``--help``.
        **limits: see ``Limits``.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Example:
    ...     momentum: float = option(0.9, 'share of the last step', low=0, below=1)
    >>> check(Example(momentum=1.5))
    Traceback (most recent call last):
    ValueError: momentum 1.5: must be at least 0 and below 1
    """
    return dataclasses.field(default=default, metadata={'option': Limits(help, **limits)})


def limits(field: 'dataclasses.Field[Any]') -> Limits | None:
    """The ``Limits`` that ``option`` gave a field; None for a plain field."""
    return field.metadata.get('option')


def check(options: Any) -> None:
    """Checks every field of a dataclass of options; one that takes several values, value by value.

    Raises:
        ValueError: names the field, the value and what would be right.
    """
    for field in dataclasses.fields(options):
        known = limits(field)
        if known is None:
            continue
        value = getattr(options, field.name)
        values = value if isinstance(value, (tuple, list)) else (value,)
        if len(values) < known.count:
            raise ValueError(f'{field.name}: give at least {known.count}')
        for one in values:
            fault = known.fault(one)
            if fault:
                raise ValueError(f'{field.name} {one}: {fault}')
