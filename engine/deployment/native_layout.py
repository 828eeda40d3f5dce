"""The layout of ``.lqn`` files: records, kinds, fields of operations; see ``runtime/README.md``.

What a record holds of an operation is written once, for those who write files and those who read
them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.deployment import program
from engine.deployment.choices import Choose, Confident, Largest, Number, Probabilities
from engine.deployment.program import Operation, Part
from engine.deployment.shape_rules import Tensor

MAGIC = b'\x89LQN\r\n\x1a\n'
VERSION = 1
# Places in a file are multiples: of sections, of blocks in them, and of tables.
ALIGNED = 64
BLOCK_ALIGNED = 16
TABLE_ALIGNED = 8
NONE = 2**32 - 1

HEADER = np.dtype(
    [
        ('magic', 'u1', 8),
        ('version', '<u4'),
        ('head', '<u4'),
        ('bytes', '<u8'),
        ('checksum', '<u4'),
        ('zero', '<u4', 8),
        ('own', '<u4'),
    ]
)
PLACE = np.dtype([('place', '<u4'), ('count', '<u4')])


def _record(text: str) -> np.dtype[Any]:
    """The type of a record of fields, each a name and a type; behind a star how many."""
    fields = []
    for field in text.split(','):
        name, kind = field.split()
        kind, _, count = kind.partition('*')
        shape = (int(count),) if count else ()
        fields.append((name, f'<{kind}', shape))
    return np.dtype(fields)


TABLES: Mapping[str, np.dtype[Any]] = {
    'sections': _record('place u8, bytes u8, checksum u4, bits u4'),
    'points': _record(
        'name u4, graph u4, side u4, channels u4, sections u4, parts u4, first_choice u4, '
        'choices u4, first_view u4, views u4'
    ),
    'graphs': _record('first u4, count u4, inputs u4, output u4, parts u4, zero u4'),
    'operations': _record(
        'kind u2, function u1, flags u1, x u4, y u4, name u4, value i4, pads u2*4, window u2*2, '
        'stride u2*2, groups u4, first u4, count u4'
    ),
    'parts': _record('constant u4, extents u4*4'),
    'constants': _record(
        'kind u1, axes u1, bits u1, type u1, extents u4*4, levels u4, codes u4, block u4'
    ),
    'codes': _record('weights u8, bits u4, first u4'),
    'blocks': _record('place u8, bytes u8'),
    'choices': _record('name u4, tensor u4, first u4, count u4'),
    'texts': _record('name u4, value u4'),
    'lists': np.dtype('<i4'),
    'strings': np.dtype('u1'),
}
# Where tables begin.
FIRST_TABLE = HEADER.itemsize + len(TABLES) * PLACE.itemsize

PLAIN, CODED, BANDED = range(3)
# Types of stored numbers, by number.
TYPES = (np.dtype('<f4'), np.dtype('i1'))

# Kinds of operations; the first is number 1.
KINDS: Sequence[type[Operation]] = (
    program.Cast,
    program.Arithmetic,
    program.Affine,
    program.Flip,
    program.Resize,
    program.Convolution,
    program.Dense,
    program.Activation,
    program.Quantize,
    program.Encode,
    program.IntegerConvolution,
    program.IntegerDense,
    program.Combine,
    program.Concatenate,
    program.Pool,
    program.GlobalPool,
    program.Pad,
    program.Crop,
    program.ToRows,
    program.ToImages,
    Choose,
    Number,
    Largest,
    Probabilities,
    Confident,
)
_FUNCTIONS: Mapping[type[Operation], Sequence[str]] = {
    program.Arithmetic: ('add', 'subtract', 'multiply', 'divide'),
    program.Activation: ('relu', 'relu6', 'sigmoid', 'log'),
    program.Combine: ('add', '', 'multiply'),
    program.Pool: ('max', 'average'),
}
_SAME, _SIGNED = 1, 2
# Fields that are stored as ``value``.
_VALUES = ('value', 'channels', 'exit')


class Row(NamedTuple):
    """The record of an operation of a graph; tensors are numbers of results.

    Attributes:
        fields: of the record, but for those of names and lists.
        numbers: its list.
    """

    fields: dict[str, Any]
    numbers: tuple[int, ...]


def part_fields(kind: type[Operation]) -> list[str]:
    """Names of the fields of a kind of operation that are constants, in their order."""
    found = []
    for field in dataclasses.fields(kind):
        if field.type == Part.__name__:
            found.append(field.name)
    return found


def row(operation: Operation, tensors: Mapping[str, int]) -> Row:
    """The record of an operation, without its constants.

    Args:
        operation: of a program.
        tensors: numbers of the results that it can read, by name.
    """
    kind = type(operation)
    fields: dict[str, Any] = {'kind': KINDS.index(kind) + 1, 'x': tensors[operation.x], 'y': NONE}
    flags = 0
    for field in dataclasses.fields(operation):
        value: Any = getattr(operation, field.name)
        if field.name == 'function':
            fields['function'] = _FUNCTIONS[kind].index(value)
        elif field.name in ('same', 'signed'):
            flags |= value * {'same': _SAME, 'signed': _SIGNED}[field.name]
        elif field.name in _VALUES:
            fields['value'] = value
        elif field.name in ('window', 'groups'):
            fields[field.name] = value
        elif field.name == 'stride':
            fields['stride'] = (value, value) if isinstance(value, int) else value
        elif field.name == 'pads' and not getattr(operation, 'same', False):
            fields['pads'] = value
        elif field.name == 'y' and isinstance(value, str):
            fields['y'] = tensors[value]
    fields['flags'] = flags
    if isinstance(operation, Choose):
        fields['value'] = 1 + len(operation.beside)
    return Row(fields, _numbers(operation, tensors))


def _numbers(operation: Operation, tensors: Mapping[str, int]) -> tuple[int, ...]:
    """The list of an operation."""
    if isinstance(operation, program.Concatenate):
        return tuple(tensors[name] for name in operation.others)
    if isinstance(operation, program.Crop):
        return (*operation.start, *operation.stop, *operation.step)
    if isinstance(operation, Choose):
        found: list[int] = []
        for branch in operation.branches:
            found += [tensors[name] for name in branch]
        return tuple(found)
    return ()


def results(record: Any) -> int:
    """How many results the operation of a record gives.

    Raises:
        ValueError: a choice has too many, or none.
    """
    if KINDS[record['kind'] - 1] is not Choose:
        return 1
    value, count = int(record['value']), int(record['count'])
    if not 1 <= value <= count or count % value:
        raise ValueError(f'chooses among {count} tensors for {value} results')
    return value


def operation(
    record: Any,
    numbers: Sequence[int],
    names: Sequence[str],
    made: Sequence[str],
    parts: Sequence[Part],
    tensors: Mapping[str, Tensor],
) -> Operation:
    """The operation of a record.

    Args:
        record: of the table of operations.
        numbers: its list.
        names: of the results that it can read.
        made: of those that it gives.
        parts: its constants, as many as ``part_fields``.
        tensors: what is known of results, by name.

    Raises:
        ValueError: it holds what is no such operation, or more than that.
    """
    kind = KINDS[record['kind'] - 1]
    fields: dict[str, Any] = {'out': made[0], 'x': named(record['x'], names)}
    fields.update(zip(part_fields(kind), parts, strict=True))
    for field in dataclasses.fields(kind):
        if field.name not in fields:
            fields[field.name] = _field(field.name, kind, record, numbers, names)
    if kind is Choose:
        fields['beside'] = tuple(made[1:])
    if fields.get('same'):
        fields['pads'] = _same_pads(fields, tensors[fields['x']].shape)
    found = kind(**fields)
    _check_nothing_else(found, record, numbers, names)
    return found


def _field(
    name: str, kind: type[Operation], record: Any, numbers: Sequence[int], names: Sequence[str]
) -> Any:
    """The value of a field that is no constant.

    Args:
        name: of the field.
        kind: of the operation.
        record: as of ``operation``.
        numbers: as of ``operation``.
        names: as of ``operation``.
    """
    if name == 'function':
        known = dict(enumerate(_FUNCTIONS[kind]))
        return known.get(int(record['function']), '')
    if name in ('same', 'signed'):
        return bool(record['flags'] & {'same': _SAME, 'signed': _SIGNED}[name])
    if name in _VALUES:
        return int(record['value'])
    if name == 'groups':
        return int(record['groups'])
    if name == 'stride' and issubclass(kind, program.Convolution):
        return int(record['stride'][0])
    if name in ('pads', 'window', 'stride'):
        return tuple(map(int, record[name]))
    if name == 'y':
        return named(record['y'], names)
    if name == 'others':
        return tuple(named(number, names) for number in numbers)
    if name in ('start', 'stop', 'step'):
        first = 3 * ('start', 'stop', 'step').index(name)
        return tuple(map(int, numbers[first : first + 3]))
    if name == 'branches':
        count = int(record['value'])
        found = [named(number, names) for number in numbers]
        return tuple(tuple(found[i : i + count]) for i in range(0, len(found), count))
    return ()


def named(number: Any, names: Sequence[str]) -> str:
    """Name of a result.

    Raises:
        ValueError: there is none of that number yet.
    """
    if not 0 <= number < len(names):
        raise ValueError(f'reads tensor {number}, of {len(names)} that are known')
    return names[number]


def _same_pads(fields: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Pads that follow from the size of the images.

    Raises:
        ValueError: there are no images, or no windows.
    """
    kernel = fields.get('kernel')
    window = fields['window'] if kernel is None else kernel.shape[:2]
    stride = fields['stride']
    if isinstance(stride, int):
        stride = (stride, stride)
    if len(shape) != 3 or min(*window, *stride) < 1 or len(window) != 2:
        raise ValueError(f'has windows {list(window)} in steps {list(stride)} on {list(shape)}')
    return program.same_pads(shape[:2], window, stride)


def _check_nothing_else(
    found: Operation, record: Any, numbers: Sequence[int], names: Sequence[str]
) -> None:
    """Refuses a record that is not how its operation is written.

    Args:
        found: the operation.
        record: as of ``operation``.
        numbers: as of ``operation``.
        names: as of ``operation``.

    Raises:
        ValueError: a field that has no meaning is set, or has one that is not known.
    """
    tensors = {name: number for number, name in enumerate(names)}
    try:
        expected = row(found, tensors)
    except ValueError:
        raise ValueError(f'has function {record["function"]}') from None
    if expected.numbers != tuple(map(int, numbers)):
        raise ValueError('has another list')
    for name in TABLES['operations'].names or ():
        if name in ('name', 'first', 'count'):
            continue
        value = expected.fields.get(name, 0)
        if not np.array_equal(np.broadcast_to(value, np.shape(record[name])), record[name]):
            raise ValueError(f'has {name} {np.asarray(record[name]).tolist()}')
