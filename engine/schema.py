"""Plain data, as JSON holds them, checked against Python types; what does not fit is told by place.

Types are those of annotations: ``int``, ``float`` (finite), ``str``, ``bool``, ``None``, ``Any``,
unions, ``Literal``, ``list[T]``, ``tuple[T, ...]``, ``dict[str, T]``, dataclasses and named tuples.
A field that is an ``option`` has the option's range, and ``Annotated[float, Limits(...)]`` one
without being an option.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union

from quant.options import Limits, limits

Amount = Annotated[float, Limits('how much', low=0)]
Percent = Annotated[float, Limits('percent', low=0, high=100)]
Count = Annotated[int, Limits('how many', low=0)]
Positive = Annotated[int, Limits('how many, of which there must be some', low=1)]

# May be no number: a metric of an epoch that has nothing to average.
Metric = Annotated[float, math.nan]

# Of whole numbers: what fits into the variables that they become.
LARGEST = 2**63 - 1

_NAMES = {int: 'a whole number', str: 'a text', bool: 'true or false', type(None): 'null'}


class Misfit(ValueError):
    """A value that is not of its type; the message names its place and what is expected."""

    def __init__(self, place: str, fault: str):
        self.place = place
        named = f'"{shown(place, 200)}": ' if place else ''
        super().__init__(f'{named}{fault}')


class Part:
    """Base of dataclasses that are some fields of an object, whatever others it has."""


class _Field(NamedTuple):
    """Type, limits and necessity of one field of an object."""

    kind: Any
    limits: Limits | None
    needed: bool


def checked(value: Any, kind: Any, place: str = '') -> Any:
    """The value as that type: lists become tuples, and objects dataclasses, where it says so.

    Args:
        value: Plain data.
        kind: A type, see the module.
        place: Where the value stands in its file, such as ``points.s28``.

    Raises:
        Misfit: The value is of another type or out of range.
    """
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _annotated(value, kind, place)
    if origin in (Union, types.UnionType):
        return _union(value, typing.get_args(kind), place)
    if origin is Literal:
        return _one_of(value, typing.get_args(kind), place)
    if origin in (list, tuple):
        return _sequence(value, kind, place)
    if origin is dict:
        return _mapping(value, typing.get_args(kind)[1], place)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, '_fields')):
        return _made(value, kind, place)
    return _plain(value, kind, place)


def field_of(value: Any, cls: Any, name: str, place: str, *, ranged: bool = True) -> Any:
    """The value as one field of a dataclass takes it, see ``checked``.

    Args:
        value: Plain data.
        cls: The dataclass.
        name: Of the field.
        place: Where the value stands in its file.
        ranged: Whether it must be in the field's range, too.

    Raises:
        Misfit: It is of another type or out of range.
    """
    kind, known, _ = fields(cls)[name]
    found = checked(value, kind, place)
    if ranged:
        _check_limits(found, known, place)
    return found


@functools.cache
def fields(cls: Any) -> dict[str, _Field]:
    """Fields of a dataclass or a named tuple by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            made = field.default_factory is not dataclasses.MISSING
            needed = field.default is dataclasses.MISSING and not made
            found[field.name] = _Field(hints[field.name], limits(field), needed)
        return found
    defaults = cls._field_defaults
    return {name: _Field(hints[name], None, name not in defaults) for name in cls._fields}


def shown(value: Any, length: int = 60) -> str:
    """A value of a file as part of a message: short, and in characters of ASCII."""
    text = value if isinstance(value, str) else repr(value)
    text = text[: length + 1].encode('ascii', 'backslashreplace').decode()
    return text if len(text) <= length else f'{text[:length]}...'


def _fault(place: str, value: Any, expected: str) -> Misfit:
    given = repr(value) if isinstance(value, str) else value
    return Misfit(place, f'{shown(given)}, {expected} expected')


def _plain(value: Any, kind: type[Any], place: str) -> Any:
    if kind is float:
        return _number(value, place, finite=True)
    if kind is None:
        kind = type(None)
    # In Python a truth value is a whole number, in a record it is none.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _fault(place, value, _NAMES.get(kind, f'a {kind.__name__}'))
    if kind is int and abs(value) > LARGEST:
        raise _fault(place, value, f'at most {LARGEST}')
    if kind is str and not _is_name(value):
        raise _fault(place, value, 'a text of characters')
    return value


def _is_name(text: str) -> bool:
    """Whether a text could name a file, whose name may hold bytes that are no text."""
    try:
        return b'\0' not in text.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:
        return False


def _number(value: Any, place: str, *, finite: bool) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _fault(place, value, 'a number')
    try:
        wrong = finite and not math.isfinite(value)
    except OverflowError:
        wrong = True
    if wrong:
        raise _fault(place, value, 'a finite number')
    return value


def _annotated(value: Any, kind: Any, place: str) -> Any:
    inner, about = typing.get_args(kind)
    if isinstance(about, float):
        return _number(value, place, finite=False)
    found = checked(value, inner, place)
    _check_limits(found, about, place)
    return found


def _check_limits(value: Any, known: Limits | None, place: str) -> None:
    if known is None:
        return
    values = value if isinstance(value, (tuple, list)) else (value,)
    if len(values) < known.count:
        raise _fault(place, value, f'at least {known.count}')
    for one in values:
        fault = known.fault(one)
        if fault and one is not None:
            raise Misfit(place, f'{shown(one)}, {fault}')


def _union(value: Any, kinds: Sequence[Any], place: str) -> Any:
    faults = []
    for kind in kinds:
        try:
            return checked(value, kind, place)
        except Misfit as fault:
            faults.append(fault)
    # The one that fits best is meant.
    raise max(faults, key=lambda fault: len(fault.place))


def _one_of(value: Any, choices: Sequence[Any], place: str) -> Any:
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return value
    raise _fault(place, value, f'one of {", ".join(map(str, choices))}')


def _sequence(value: Any, kind: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _fault(place, value, 'a list')
    origin, kinds = typing.get_origin(kind), typing.get_args(kind)
    if origin is list or kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _fault(place, value, f'a list of {len(kinds)}')
    found = []
    for number, (one, of_one) in enumerate(zip(value, kinds)):
        of_row = f'{place}[{number}]' if place else f'row {number + 1}'
        found.append(checked(one, of_one, of_row))
    return origin(found)


def _mapping(value: Any, kind: Any, place: str) -> dict[str, Any]:
    _object(value, place)
    start = f'{place}.' if place else ''
    return {name: checked(one, kind, f'{start}{name}') for name, one in value.items()}


def _made(value: Any, cls: Any, place: str) -> Any:
    found = _fields(value, cls, place)
    try:
        return cls(**found)
    except ValueError as error:  # of a class that checks its fields
        raise Misfit(place, str(error)) from None


def _fields(value: Any, cls: Any, place: str) -> dict[str, Any]:
    _object(value, place)
    known = fields(cls)
    start = f'{place}.' if place else ''
    for name in value:
        if name not in known and not issubclass(cls, Part):
            raise _fault(f'{start}{name}', value[name], f'none but {", ".join(known)}')
    found = {}
    for name, field in known.items():
        if name in value:
            found[name] = field_of(value[name], cls, name, f'{start}{name}')
        elif field.needed:
            raise Misfit(f'{start}{name}', 'is missing')
    return found


def _object(value: Any, place: str) -> None:
    if not isinstance(value, Mapping):
        raise _fault(place, value, 'an object')
