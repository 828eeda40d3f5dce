"""Reads ``.lqn`` files back as programs, and trusts nothing in them.

A file that is cut behind a section is a file of fewer points. ``NativeFile.append`` takes its rest
as it arrives, and more points with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.deployment import native_layout as layout
from engine.deployment.native_constants import Stored
from engine.deployment.native_head import REMEDY, Head
from engine.deployment.native_points import PointReader
from engine.deployment.program import Constant, Program
from engine.errors import UsageError
from engine.files import Damaged, read_bytes

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


class Section(NamedTuple):
    """A part of a file, behind which the file can end.

    Attributes:
        bits: of its points; 0 where points have no bits.
        points: that can run with it, and not without.
        end: place behind it.
        there: whether it is there.
    """

    bits: int
    points: tuple[str, ...]
    end: int
    there: bool


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
        self._head = Head(content, name)
        self.texts = self._head.texts
        self.all_points = self._head.names
        self._content = bytearray()
        self._there = 0
        self._stored = Stored(self._head, self._block)
        self.append(content)
        if not self._there:
            raise Damaged(f'{name}: {self.where()}')

    @property
    def points(self) -> list[str]:
        """Spellings of the points that can run, in the order of the file."""
        needed = self._head.points['sections'].tolist()
        return [name for name, count in zip(self.all_points, needed) if count <= self._there]

    @property
    def sections(self) -> list[Section]:
        """All sections, also those that are not there."""
        needed = self._head.points['sections'].tolist()
        found = []
        for number, (place, size, _, bits) in enumerate(self._head.sections, 1):
            points = [name for name, count in zip(self.all_points, needed) if count == number]
            found.append(Section(bits, tuple(points), place + size, number <= self._there))
        return found

    def first(self, bits: int) -> bytes:
        """The bytes up to the planes of so many bits: a file of the points that need no more.

        Raises:
            UsageError: no points have so many bits, or their planes are not there.
        """
        ends = {one.bits: one.end for one in self.sections if one.there and one.bits}
        if bits not in ends:
            known = ', '.join(map(str, ends)) or 'no points of several bits'
            raise UsageError(f'--bits-first {bits}: {self.name} has {known}')
        return bytes(self._content[: ends[bits]])

    def with_texts(self, texts: Mapping[str, str]) -> bytes:
        """The bytes of the whole file with further texts, or others in place of some.

        Args:
            texts: by name.
        """
        return self._head.with_texts(texts, bytes(self._content[self._head.size :]))

    @property
    def complete(self) -> bytes:
        """The bytes of all sections that are there."""
        return bytes(self._content[: self._head.end(self._there)])

    @property
    def pending(self) -> int:
        """Bytes of a section that is not complete."""
        return len(self._content) - self._head.end(self._there)

    def where(self) -> str:
        """Where the bytes end, for messages."""
        number = min(self._there, len(self._head.sections) - 1)
        place, size, _, bits = self._head.sections[number]
        what = f' (planes for {bits} bits)' if bits else ''
        end = len(self._content)
        cuts = ', '.join(
            str(self._head.end(count)) for count in range(1, len(self._head.sections) + 1)
        )
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
        if len(self._content) > self._head.bytes:
            end = len(self._content)
            self._forget()
            raise Damaged(f'{self.name}: has {end} bytes, of {self._head.bytes} that it says')
        while self._there < len(self._head.sections):
            place, size, checksum, _ = self._head.sections[self._there]
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
        del self._content[self._head.end(self._there) :]

    def program(self, points: Sequence[str] = ()) -> Program:
        """The program of some points; of all that can run, if none is given.

        Raises:
            UsageError: there is no such point.
            Damaged: the file holds what is no program.
        """
        for name in points:
            self._check_point(name)
        records = dict(zip(self.all_points, self._head.points))
        made = {}
        constants: dict[str, Constant] = {}
        total = 0
        for name in points or self.points:
            try:
                total += int(self._head.row('graphs', records[name]['graph'])['count'])
                made[name] = PointReader(self._head, self._stored, records[name], constants).made(
                    MOST_OPERATIONS - total
                )
            except ValueError as error:
                raise Damaged(f'{self.name}: damaged ({name}: {error}); {REMEDY}') from None
        return Program(made, constants)

    def _check_point(self, name: str) -> None:
        if name in self.points:
            return
        if name in self.all_points:
            raise UsageError(f'point {name!r}: {self.name} has no planes of it yet: {self.where()}')
        raise UsageError(f'point {name!r}: {self.name} has {" ".join(self.all_points)}')

    def _block(self, place: int, size: int) -> tuple[bytes, int]:
        """The content of a block of that many bytes, and the number of its section, from 1 on.

        Raises:
            ValueError: there is none, or not yet.
        """
        first, count = self._head.row('blocks', place).tolist()
        section = 0
        for number, (start, length, *_) in enumerate(self._head.sections[: self._there], 1):
            if start <= first and first + count <= start + length:
                section = number
        if not section:
            raise ValueError(f'block {place} lies in no section that is there')
        if count != size or first % layout.BLOCK_ALIGNED:
            raise ValueError(f'block {place} has {count} bytes at {first}, not {size}')
        return bytes(self._content[first : first + count]), section
