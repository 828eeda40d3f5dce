"""The head of a ``.lqn`` file: what is in the file, and where; see ``runtime/README.md``."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.deployment import native_layout as layout
from engine.deployment import native_tables
from engine.errors import UsageError
from engine.files import Damaged

REMEDY = 'python -m scripts.export RUN --out NAME.lqn makes one'


class Head:
    """The tables of a file, each of which lies in its head.

    Args:
        content: the first bytes of the file.
        name: for messages.

    Attributes:
        size: of the head, in bytes.
        bytes: of the whole file.
        sections: place, bytes, checksum and bits of each.
        points: records of the points.
        names: of the points.
        texts: that the file carries, by name.

    Raises:
        UsageError: it is of another version.
        Damaged: it is no .lqn file, or checksums differ.
    """

    def __init__(self, content: bytes, name: str):
        header = _header(content, name)
        self.size, self.bytes = int(header['head']), int(header['bytes'])
        try:
            self._tables = _tables(content[: self.size])
            self.sections: list[tuple[int, int, int, int]] = self._tables['sections'].tolist()
            self._check_sections()
            self.points = self._tables['points']
            self.names = self._names()
            self.texts = self._texts()
        except ValueError as error:
            raise Damaged(f'{name}: damaged ({error}); {REMEDY}') from None

    def with_texts(self, texts: Mapping[str, str], data: bytes) -> bytes:
        """The bytes of the file with further texts, or others in place of those of that name.

        Args:
            texts: by name.
            data: all sections.
        """
        strings = bytearray(self._tables['strings'])
        rows = []
        for name, text in sorted({**self.texts, **texts}.items()):
            places = []
            for one in (name, text):
                places.append(len(strings))
                strings += one.encode() + b'\0'
            rows.append(tuple(places))
        tables = dict(self._tables)
        tables['texts'] = np.array(rows, layout.TABLES['texts'])
        tables['strings'] = np.frombuffer(bytes(strings), layout.TABLES['strings'])
        for name in ('sections', 'blocks'):
            tables[name] = native_tables.moved(tables[name], -self.size)
        return native_tables.assembled(tables, data)

    def end(self, sections: int) -> int:
        """Place behind the first sections."""
        if not sections:
            return self.size
        place, size, *_ = self.sections[sections - 1]
        return place + size

    def _check_sections(self) -> None:
        """Refuses sections that do not follow one another up to the end of the file.

        Raises:
            ValueError: they do not.
        """
        end = self.size
        for place, size, *_ in self.sections:
            if place != end or size % layout.ALIGNED:
                raise ValueError(f'a section of {size} bytes lies at {place}')
            end += size
        if not self.sections or end != self.bytes:
            raise ValueError(f'sections end at {end}, and the file at {self.bytes}')

    def _names(self) -> list[str]:
        """Names of the points.

        Raises:
            ValueError: they are none.
        """
        found = [self.string(place) for place in self.points['name'].tolist()]
        if not found or len(set(found)) < len(found):
            raise ValueError('no points, or one twice')
        needed = self.points['sections']
        if needed.min() < 1 or needed.max() > len(self.sections):
            raise ValueError('points that need other sections than there are')
        return found

    def _texts(self) -> dict[str, str]:
        """Texts by name.

        Raises:
            ValueError: they are none.
        """
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

    def row(self, table: str, place: int) -> Any:
        """A record.

        Raises:
            ValueError: there is none.
        """
        return self.rows(table, place, 1)[0]

    def rows(self, table: str, first: int, count: int) -> Any:
        """Records that follow one another.

        Args:
            table: name of the table.
            first: number of the first.
            count: how many.

        Raises:
            ValueError: there are not so many.
        """
        found = self._tables[table]
        # Numbers of 32 bits would overflow.
        first, count = int(first), int(count)
        if not 0 <= first <= first + count <= len(found):
            raise ValueError(f'{count} {table} from {first} on, of {len(found)}')
        return found[first : first + count]


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


def _tables(head: bytes) -> dict[str, Any]:
    """Tables by name; that of strings as bytes.

    Raises:
        ValueError: one lies elsewhere than in the head.
    """
    if len(head) % layout.ALIGNED or len(head) < layout.FIRST_TABLE:
        raise ValueError(f'a head of {len(head)} bytes')
    directory = np.frombuffer(head, layout.PLACE, len(layout.TABLES), layout.HEADER.itemsize)
    found: dict[str, Any] = {}
    for (name, kind), (place, count) in zip(layout.TABLES.items(), directory.tolist()):
        end = place + count * kind.itemsize
        if place < layout.FIRST_TABLE or place % layout.TABLE_ALIGNED or end > len(head):
            raise ValueError(f'the table of {name} lies at {place} to {end}')
        found[name] = np.frombuffer(head, kind, count, place)
    found['strings'] = found['strings'].tobytes()
    return found
