"""Constants of a ``.lqn`` file, of which as many planes are read as they use."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.deployment import native_layout as layout
from engine.deployment import planes, shapes
from engine.deployment.native_head import Head
from engine.deployment.program import Codes, Constant, Floats, Part

# The content of a block of that many bytes, and the number of its section, from 1 on.
Block = Callable[[int, int], tuple[bytes, int]]


class Stored:
    """The constants of a file, each read when it is first used.

    Args:
        head: of the file.
        block: gives the blocks of sections that are there.
    """

    def __init__(self, head: Head, block: Block):
        self._head = head
        self._block = block
        self._constant = functools.cache(self._decoded)

    def part(self, place: int, sections: int, constants: dict[str, Constant]) -> Part:
        """A part of a constant, which is added to a pool.

        Args:
            place: of the part.
            sections: in which it has to be.
            constants: the pool.

        Raises:
            ValueError: there is no such part.
        """
        record = self._head.row('parts', place)
        number = int(record['constant'])
        constant, needed = self._constant(number)
        if needed > sections:
            raise ValueError(f'constant {number} lies in section {needed}')
        extents = tuple(record['extents'].tolist())
        axes = len(constant.shape)
        fits = [1 <= extent <= full for extent, full in zip(extents, constant.shape)]
        if not all(fits) or set(extents[axes:]) - {1}:
            raise ValueError(f'part {extents} of a constant {constant.shape}')
        name = f'c{number}'
        constants[name] = constant
        return Part(name, extents[:axes])

    def _decoded(self, number: int) -> tuple[Constant, int]:
        """A constant, and how many sections it needs.

        Raises:
            ValueError: its record fits no constant.
        """
        record = self._head.row('constants', number)
        extents, axes = tuple(record['extents'].tolist()), int(record['axes'])
        shape = extents[:axes]
        size = math.prod(extents)
        right = 1 <= axes <= 4 and min(extents) >= 1 and set(extents[axes:]) <= {1}
        if not right or size > shapes.LARGEST or record['type'] >= len(layout.TYPES):
            raise ValueError(f'constant {number} has {axes} axes {extents}, type {record["type"]}')
        kinds = {layout.PLAIN: _plain, layout.CODED: _coded, layout.BANDED: _banded}
        if int(record['kind']) not in kinds:
            raise ValueError(f'constant {number} is of kind {record["kind"]}')
        try:
            return kinds[int(record['kind'])](self._head, self._block, record, shape)
        except ValueError as error:
            raise ValueError(f'constant {number}: {error}') from None


def _check_none(record: Any, *names: str) -> None:
    """Refuses a constant with fields that it has no use for.

    Raises:
        ValueError: one is set.
    """
    for name in names:
        unset = layout.NONE if name == 'codes' else 0
        if record[name] != unset:
            raise ValueError(f'has {name} {record[name]}')


def _plain(head: Head, block: Block, record: Any, shape: tuple[int, ...]) -> tuple[Constant, int]:
    """A constant that is stored as it is, and how many sections it needs; so below."""
    _check_none(record, 'bits', 'levels', 'codes')
    kind = layout.TYPES[record['type']]
    content, section = block(record['block'], math.prod(shape) * kind.itemsize)
    return Floats(_floats(content, kind).reshape(shape)), section


def _floats(content: bytes, kind: np.dtype[Any]) -> np.ndarray:
    """Stored numbers, float32.

    Raises:
        ValueError: one is NaN.
    """
    found = np.frombuffer(content, kind).astype(np.float32)
    if np.isnan(found).any():
        raise ValueError('has a number that is NaN')
    return found


def _coded(head: Head, block: Block, record: Any, shape: tuple[int, ...]) -> tuple[Constant, int]:
    """A kernel of codes.

    Raises:
        ValueError: codes or levels are not there, or do not fit.
    """
    bits, count = int(record['bits']), int(record['levels'])
    (codes,) = head.rows('codes', record['codes'], 1)
    weights = math.prod(shape)
    if not 1 <= bits <= 8 or not 2 ** (bits - 1) < count <= 2**bits:
        raise ValueError(f'has {count} levels in {bits} bits')
    if codes['weights'] != weights or codes['bits'] < bits:
        raise ValueError(f'has {weights} weights of {bits} bits, its codes {codes.tolist()}')
    kind = layout.TYPES[record['type']]
    content, needed = block(record['block'], count * shape[-1] * kind.itemsize)
    levels = _floats(content, kind).reshape(count, shape[-1])
    stored = []
    for place in range(bits):
        plane, section = block(int(codes['first']) + place, -(-weights // 8))
        if weights % 8 and plane[-1] >> weights % 8:
            raise ValueError(f'plane {place} has weights behind the last')
        needed = max(needed, section)
        stored.append(plane)
    found = planes.from_planes(stored, weights)
    if found.max() >= count:
        raise ValueError(f'has code {found.max()} and {count} levels')
    return Codes(found.reshape(shape), levels), needed


def _banded(head: Head, block: Block, record: Any, shape: tuple[int, ...]) -> tuple[Constant, int]:
    """A matrix whose rows are zero but for a band.

    Raises:
        ValueError: the record, or a start of a band, fits no such matrix.
    """
    _check_none(record, 'bits', 'codes')
    width = int(record['levels'])
    if len(shape) != 2 or not 1 <= width <= shape[1]:
        raise ValueError(f'has a band of {width} in {list(shape)}')
    kind = layout.TYPES[record['type']]
    rows, columns = shape
    content, section = block(record['block'], rows * (4 + width * kind.itemsize))
    starts = np.frombuffer(content, '<u4', rows).astype(np.int64)
    if (starts + width > columns).any():
        raise ValueError('has a band that ends outside')
    matrix = np.zeros(shape, np.float32)
    numbers = _floats(content[4 * rows :], kind).reshape(rows, width)
    np.put_along_axis(matrix, starts[:, None] + np.arange(width), numbers, axis=1)
    return Floats(matrix), section
