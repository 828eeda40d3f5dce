"""Reads ``.lqn`` files back as programs, and trusts nothing in them.

A file that is cut behind a section is a file of fewer points. ``NativeFile.append`` takes its rest
as it arrives, and more points with it.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.deployment import native_layout as layout
from engine.deployment import planes, shapes
from engine.deployment.choices import Chosen
from engine.deployment.names import IMAGES
from engine.deployment.program import (
    Codes,
    Constant,
    Floats,
    Operation,
    Part,
    PointProgram,
    Program,
)
from engine.errors import UsageError
from engine.files import Damaged, read_bytes

REMEDY = 'python -m scripts.export RUN --out NAME.lqn makes one'

# Bytes of a file, and operations of all of its points: more is none of ours.
LARGEST = 2**31
MOST_OPERATIONS = 2**20


def read(path: Path) -> NativeFile:
    """A file that ends with a section.

    Raises:
        UsageError: it cannot be read, or is no such file.
        Damaged: it is damaged, or cut within a section.
    """
    found = NativeFile(read_bytes(path, REMEDY, LARGEST), str(path))
    if found.pending:
        raise Damaged(f'{path}: {found.where()}')
    return found


class NativeFile:
    """A file, as much of it as is there.

    Args:
        content: its first bytes: the head at least, and the first section.
        name: for messages.

    Attributes:
        name: for messages.
        texts: that it carries, by name.
        all_points: spellings of its points, those too that cannot run yet.

    Raises:
        UsageError: it is no such file, of another version, or damaged.
    """

    def __init__(self, content: bytes, name: str):
        self.name = name
        self._content = bytearray()
        self._there = 0
        self._header = _header(content, name)
        try:
            self._tables = _tables(content[: int(self._header['head'])], self._header)
            self._sections = self._tables['sections'].tolist()
            _check_sections(self._sections, self._header)
            self.texts = self._texts()
            self.all_points = self._names()
        except ValueError as error:
            raise Damaged(f'{name}: damaged ({error}); {REMEDY}') from None
        self._constant = functools.cache(self._decoded)
        self.append(content)
        if not self._there:
            raise Damaged(f'{name}: {self.where()}')

    @property
    def points(self) -> list[str]:
        """Spellings of the points that can run, in the order of the file."""
        needed = self._tables['points']['sections'].tolist()
        return [name for name, count in zip(self.all_points, needed) if count <= self._there]

    @property
    def sections(self) -> list[tuple[int, int, bool]]:
        """Of each section the bits of its points, where a file that is cut there ends, and whether
        it is there.
        """
        found = []
        for number, (place, size, _, bits) in enumerate(self._sections):
            found.append((bits, place + size, number < self._there))
        return found

    @property
    def content(self) -> bytes:
        """All bytes that are there."""
        return bytes(self._content)

    @property
    def pending(self) -> int:
        """Bytes of a section that is not complete."""
        return len(self._content) - self._end(self._there)

    def _end(self, sections: int) -> int:
        """Place behind the first sections."""
        if not sections:
            return int(self._header['head'])
        place, size, *_ = self._sections[sections - 1]
        return place + size

    def where(self) -> str:
        """Where the bytes end, for messages."""
        number = min(self._there, len(self._sections) - 1)
        place, size, _, bits = self._sections[number]
        what = f' (planes for {bits} bits)' if bits else ''
        end = len(self._content)
        cuts = ', '.join(str(self._end(count)) for count in range(1, len(self._sections) + 1))
        return (
            f'ends after {end} bytes, {max(0, end - place)} of {size} of section {number + 1}'
            f'{what}; a file can end after {cuts} bytes'
        )

    def append(self, more: bytes) -> list[str]:
        """Takes the bytes that follow in the file; returns the points that can run since.

        Raises:
            Damaged: they are no such bytes. Those of the sections before stay.
        """
        before = set(self.points)
        self._content += more
        if len(self._content) > self._header['bytes']:
            end = len(self._content)
            self._forget()
            raise Damaged(f'{self.name}: has {end} bytes, of {self._header["bytes"]} that it says')
        while self._there < len(self._sections):
            place, size, checksum, _ = self._sections[self._there]
            section = self._content[place : place + size]
            if len(section) < size:
                break
            if zlib.crc32(section) != checksum:
                self._forget()
                raise Damaged(
                    f'{self.name}: damaged (section {self._there + 1} has another checksum); '
                    f'append it again, or {REMEDY}'
                )
            self._there += 1
        return [name for name in self.points if name not in before]

    def _forget(self) -> None:
        """Drops the bytes of a section that is not complete."""
        del self._content[self._end(self._there) :]

    def program(self, points: Sequence[str] = ()) -> Program:
        """The program of some points; of all that can run, if none is given.

        Raises:
            UsageError: there is no such point.
            Damaged: the file holds what is no program.
        """
        for name in points:
            self._check_point(name)
        records = dict(zip(self.all_points, self._tables['points']))
        made = {}
        constants: dict[str, Constant] = {}
        total = 0
        for name in points or self.points:
            try:
                total += int(self._row('graphs', records[name]['graph'])['count'])
                made[name] = _Point(self, records[name], constants).made(MOST_OPERATIONS - total)
            except ValueError as error:
                raise Damaged(f'{self.name}: damaged ({name}: {error}); {REMEDY}') from None
        return Program(made, constants)

    def _check_point(self, name: str) -> None:
        if name in self.points:
            return
        if name in self.all_points:
            raise UsageError(f'point {name!r}: {self.name} has no planes of it yet: {self.where()}')
        raise UsageError(f'point {name!r}: {self.name} has {" ".join(self.all_points)}')

    def _names(self) -> list[str]:
        found = [self.string(place) for place in self._tables['points']['name'].tolist()]
        if not found or len(set(found)) < len(found):
            raise ValueError('no points, or one twice')
        needed = self._tables['points']['sections']
        if needed.min() < 1 or needed.max() > len(self._sections):
            raise ValueError('points that need other sections than there are')
        return found

    def _texts(self) -> dict[str, str]:
        found = {}
        for name, value in self._tables['texts'].tolist():
            found[self.string(name)] = self.string(value)
        if len(found) < len(self._tables['texts']):
            raise ValueError('a text is there twice')
        return found

    def string(self, place: int) -> str:
        """The text that begins at a place.

        Raises:
            ValueError: there is none.
        """
        content: bytes = self._tables['strings']
        end = content.find(b'\0', place)
        if not 0 <= place < len(content) or end < 0:
            raise ValueError(f'no text at {place}')
        return content[place:end].decode()

    def _row(self, table: str, place: int) -> Any:
        """A record.

        Raises:
            ValueError: there is none.
        """
        return self.rows(table, place, 1)[0]

    def rows(self, table: str, first: int, count: int) -> Any:
        """Records that follow one another.

        Raises:
            ValueError: there are not so many.
        """
        found = self._tables[table]
        if not 0 <= first <= first + count <= len(found):
            raise ValueError(f'{count} {table} from {first} on, of {len(found)}')
        return found[int(first) : int(first) + int(count)]

    def part(self, place: int, sections: int, constants: dict[str, Constant]) -> Part:
        """A part of a constant, which is added to a pool.

        Args:
            place: of the part.
            sections: in which it has to be.
            constants: the pool.

        Raises:
            ValueError: there is no such part.
        """
        record = self._row('parts', place)
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
            ValueError: it is none.
        """
        record = self._row('constants', number)
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
            return kinds[int(record['kind'])](self, record, shape)
        except ValueError as error:
            raise ValueError(f'constant {number}: {error}') from None

    def block(self, place: int, size: int) -> tuple[bytes, int]:
        """The content of a block of that many bytes, and the number of its section, from 1 on.

        Raises:
            ValueError: there is none, or not yet.
        """
        first, count = self._row('blocks', place).tolist()
        section = 0
        for number, (start, length, *_) in enumerate(self._sections[: self._there], 1):
            if start <= first and first + count <= start + length:
                section = number
        if not section:
            raise ValueError(f'block {place} lies in no section that is there')
        if count != size or first % layout.BLOCK_ALIGNED:
            raise ValueError(f'block {place} has {count} bytes at {first}, not {size}')
        return bytes(self._content[first : first + count]), section


def _header(content: bytes, name: str) -> Any:
    """The header of a file.

    Raises:
        UsageError: it has one of another version.
        Damaged: it has none of ours.
    """
    if not content.startswith(layout.MAGIC):
        raise Damaged(f'{name}: is no .lqn file; {REMEDY}')
    if len(content) < layout.FIRST_TABLE:
        raise Damaged(f'{name}: ends after {len(content)} bytes, in its head; {REMEDY}')
    found = np.frombuffer(content, layout.HEADER, 1)[0]
    if found['version'] != layout.VERSION:
        raise UsageError(
            f'{name}: has version {found["version"]} of the format, and this program knows '
            f'{layout.VERSION}; install one that knows it, or {REMEDY}'
        )
    own = content[: layout.HEADER.itemsize - found['own'].nbytes]
    if zlib.crc32(own) != found['own'] or found['zero'].any():
        raise Damaged(f'{name}: damaged (its header has another checksum); {REMEDY}')
    size = int(found['head'])
    if len(content) < size:
        raise Damaged(f'{name}: ends after {len(content)} bytes of its head of {size}; {REMEDY}')
    if zlib.crc32(content[layout.HEADER.itemsize : size]) != found['checksum']:
        raise Damaged(f'{name}: damaged (its head has another checksum); {REMEDY}')
    return found


def _tables(head: bytes, header: Any) -> dict[str, Any]:
    """Tables by name; that of strings as bytes.

    Raises:
        ValueError: one lies elsewhere than in the head.
    """
    if len(head) % layout.ALIGNED or len(head) < layout.FIRST_TABLE:
        raise ValueError(f'a head of {header["head"]} bytes')
    directory = np.frombuffer(head, layout.PLACE, len(layout.TABLES), layout.HEADER.itemsize)
    found: dict[str, Any] = {}
    for (name, kind), (place, count) in zip(layout.TABLES.items(), directory.tolist()):
        end = place + count * kind.itemsize
        if place < layout.FIRST_TABLE or place % layout.TABLE_ALIGNED or end > len(head):
            raise ValueError(f'the table of {name} lies at {place} to {end}')
        found[name] = np.frombuffer(head, kind, count, place)
    found['strings'] = found['strings'].tobytes()
    return found


def _check_sections(sections: Sequence[Any], header: Any) -> None:
    """Refuses sections that do not follow one another up to the end of the file.

    Raises:
        ValueError: they do not.
    """
    end = int(header['head'])
    for place, size, *_ in sections:
        if place != end or size % layout.ALIGNED:
            raise ValueError(f'a section of {size} bytes lies at {place}')
        end += size
    if not sections or end != header['bytes']:
        raise ValueError(f'sections end at {end}, and the file at {header["bytes"]}')


def _check_none(record: Any, *names: str) -> None:
    """Refuses a constant with fields that it has no use for.

    Raises:
        ValueError: one is set.
    """
    for name in names:
        unset = layout.NONE if name == 'codes' else 0
        if record[name] != unset:
            raise ValueError(f'has {name} {record[name]}')


def _plain(file: NativeFile, record: Any, shape: tuple[int, ...]) -> tuple[Constant, int]:
    """A constant that is stored as it is, and how many sections it needs; so below."""
    _check_none(record, 'bits', 'levels', 'codes')
    kind = layout.TYPES[record['type']]
    content, section = file.block(record['block'], math.prod(shape) * kind.itemsize)
    return Floats(_floats(content, kind).reshape(shape)), section


def _floats(content: bytes, kind: np.dtype[Any]) -> np.ndarray:
    """Stored numbers, float32."""
    return np.frombuffer(content, kind).astype(np.float32)


def _coded(file: NativeFile, record: Any, shape: tuple[int, ...]) -> tuple[Constant, int]:
    """A kernel of codes.

    Raises:
        ValueError: codes or levels are not there, or do not fit.
    """
    bits, count = int(record['bits']), int(record['levels'])
    (codes,) = file.rows('codes', record['codes'], 1)
    weights = math.prod(shape)
    if not 1 <= bits <= 8 or not 2 ** (bits - 1) < count <= 2**bits:
        raise ValueError(f'has {count} levels in {bits} bits')
    if codes['weights'] != weights or codes['bits'] < bits:
        raise ValueError(f'has {weights} weights of {bits} bits, its codes {codes.tolist()}')
    kind = layout.TYPES[record['type']]
    content, needed = file.block(record['block'], count * shape[-1] * kind.itemsize)
    levels = _floats(content, kind).reshape(count, shape[-1])
    stored = []
    for place in range(bits):
        plane, section = file.block(int(codes['first']) + place, -(-weights // 8))
        if weights % 8 and plane[-1] >> weights % 8:
            raise ValueError(f'plane {place} has weights behind the last')
        needed = max(needed, section)
        stored.append(plane)
    found = planes.from_planes(stored, weights)
    if found.max() >= count:
        raise ValueError(f'has code {found.max()} and {count} levels')
    return Codes(found.reshape(shape), levels), needed


def _banded(file: NativeFile, record: Any, shape: tuple[int, ...]) -> tuple[Constant, int]:
    """A matrix whose rows are zero but for a band.

    Raises:
        ValueError: it is none.
    """
    _check_none(record, 'bits', 'codes')
    width = int(record['levels'])
    if len(shape) != 2 or not 1 <= width <= shape[1]:
        raise ValueError(f'has a band of {width} in {list(shape)}')
    kind = layout.TYPES[record['type']]
    rows, columns = shape
    content, section = file.block(record['block'], rows * (4 + width * kind.itemsize))
    starts = np.frombuffer(content, '<u4', rows).astype(np.int64)
    if (starts + width > columns).any():
        raise ValueError('has a band that ends outside')
    matrix = np.zeros(shape, np.float32)
    numbers = _floats(content[4 * rows :], kind).reshape(rows, width)
    np.put_along_axis(matrix, starts[:, None] + np.arange(width), numbers, axis=1)
    return Floats(matrix), section


class _Point:
    """Reads a point.

    Args:
        file: the file.
        record: of the point.
        constants: pool that gets what it uses.
    """

    def __init__(self, file: NativeFile, record: Any, constants: dict[str, Constant]):
        self._file = file
        self._record = record
        self._constants = constants
        self._graph = file._row('graphs', record['graph'])
        self._names = [IMAGES]
        self._views: list[tuple[str, int]] = []
        for side in file.rows('lists', record['first_view'], record['views']).tolist():
            name = f'{IMAGES}_{side}'
            if side < 1 or name in self._names:
                raise ValueError(f'further images of side {side}')
            self._views.append((name, side))
            self._names.append(name)

    def made(self, left: int) -> PointProgram:
        """The point.

        Args:
            left: operations that other points may still have.

        Raises:
            ValueError: it is none.
        """
        if left < 0:
            raise ValueError(f'more than {MOST_OPERATIONS} operations')
        record, graph = self._record, self._graph
        if graph['inputs'] != len(self._names) or graph['zero']:
            raise ValueError(f'{graph["inputs"]} inputs, of {len(self._names)}')
        side, channels = int(record['side']), int(record['channels'])
        if channels not in (1, 3) or side < 1 or side * side * channels > shapes.LARGEST:
            raise ValueError(f'images of {channels} channels and side {side}')
        views = tuple(self._views)
        bare = PointProgram(IMAGES, side, (), '', (), channels, views)
        known = shapes.Shapes(self._constants, bare)
        operations = tuple(self._operations(known))
        output = layout.named(graph['output'], self._names)
        if len(known.tensors[output].shape) != 1:
            raise ValueError('logits that are no rows')
        choices = tuple(self._choices(known))
        return PointProgram(IMAGES, side, operations, output, choices, channels, views)

    def _operations(self, known: shapes.Shapes) -> list[Operation]:
        """The operations, whose shapes are added to those that are known.

        Raises:
            ValueError: one is none, or has other constants.
        """
        graph = self._graph
        parts = self._file.rows('lists', self._record['parts'], graph['parts']).tolist()
        taken = 0
        found = []
        for record in self._file.rows('operations', graph['first'], graph['count']):
            if not 1 <= record['kind'] <= len(layout.KINDS):
                raise ValueError(f'an operation of kind {record["kind"]}')
            kind = layout.KINDS[record['kind'] - 1]
            count = len(layout.part_fields(kind))
            own = [self._part(place) for place in parts[taken : taken + count]]
            taken += count
            if len(own) < count:
                raise ValueError(f'{kind.__name__} has {len(own)} constants, not {count}')
            operation = self._operation(record, own, known)
            known.add(operation)
            found.append(operation)
        if taken != len(parts):
            raise ValueError(f'{len(parts)} constants, of which {taken} are used')
        return found

    def _part(self, place: int) -> Part:
        return self._file.part(place, int(self._record['sections']), self._constants)

    def _operation(self, record: Any, parts: list[Part], known: shapes.Shapes) -> Operation:
        """An operation, whose results get names."""
        numbers = self._file.rows('lists', record['first'], record['count']).tolist()
        name = self._file.string(int(record['name']))
        made: list[str] = []
        for number in range(layout.results(record)):
            own = f'{name}/{number}' if number else name
            if own in known.tensors:
                own = f'{own}+{len(self._names) + number}'
            made.append(own)
        read = {own: tensor.shape for own, tensor in known.tensors.items()}
        found = layout.operation(record, numbers, self._names, made, parts, read)
        self._names += made
        return found

    def _choices(self, known: shapes.Shapes) -> list[Chosen]:
        record = self._record
        found = []
        rows = self._file.rows('choices', record['first_choice'], record['choices'])
        for place, tensor, first, count in rows.tolist():
            result = layout.named(tensor, self._names)
            if known.tensors[result].shape != ():
                raise ValueError('a choice that is told by what is no number')
            numbers = tuple(self._file.rows('lists', first, count).tolist())
            found.append(Chosen(self._file.string(place), result, numbers))
        return found
