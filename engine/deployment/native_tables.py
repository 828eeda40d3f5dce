"""Tables of a ``.lqn`` file in the making, and the file of tables; see ``runtime/README.md``."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.deployment import native_layout as layout


class Records:
    """Records in the making, of which equal ones are stored once.

    Args:
        name: in the layout.
    """

    def __init__(self, name: str):
        self._type = layout.TABLES[name]
        self._places: dict[bytes, int] = {}
        self._rows: list[Any] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, **fields: Any) -> int:
        """The place of a record, which is added behind the others."""
        record = np.zeros((), self._type)
        for name, value in fields.items():
            record[name] = value
        self._rows.append(record)
        return len(self._rows) - 1

    def once(self, **fields: Any) -> int:
        """The place of a record, which is added if there is none that is equal."""
        place = self.add(**fields)
        known = self._places.setdefault(self._rows[place].tobytes(), place)
        if known < place:
            self._rows.pop()
        return known

    def array(self) -> np.ndarray:
        """All of them."""
        return np.array(self._rows, self._type)


class Numbers:
    """A table of plain numbers, of which equal runs are stored once.

    Args:
        name: in the layout.
    """

    def __init__(self, name: str):
        self._type = layout.TABLES[name]
        self._places: dict[bytes, int] = {}
        self._content = bytearray()

    def __len__(self) -> int:
        return len(self._content) // self._type.itemsize

    def add(self, numbers: Sequence[int]) -> int:
        """The place of the first of some numbers."""
        content = np.array(numbers, self._type).tobytes()
        if content not in self._places:
            self._places[content] = len(self)
            self._content += content
        return self._places[content]

    def array(self) -> np.ndarray:
        """All of them."""
        return np.frombuffer(bytes(self._content), self._type)


def assembled(tables: Mapping[str, np.ndarray], data: bytes) -> bytes:
    """The bytes of a file.

    Args:
        tables: all, by name; places of sections and blocks are those in ``data``.
        data: all sections.
    """
    place = layout.FIRST_TABLE
    directory = np.zeros(len(layout.TABLES), layout.PLACE)
    for number, name in enumerate(layout.TABLES):
        directory[number] = place, len(tables[name])
        place += tables[name].nbytes
        place += -place % layout.TABLE_ALIGNED
    head = bytearray(place + -place % layout.ALIGNED)
    head[layout.HEADER.itemsize : layout.FIRST_TABLE] = directory.tobytes()
    for name, start in zip(layout.TABLES, directory['place'].tolist()):
        table = tables[name]
        if name in ('sections', 'blocks'):
            table = moved(table, len(head))
        head[start : start + table.nbytes] = table.tobytes()
    head[: layout.HEADER.itemsize] = _header(head, len(head) + len(data))
    return bytes(head) + data


def moved(table: np.ndarray, distance: int) -> np.ndarray:
    """Records whose places are so many bytes further behind."""
    found = table.copy()
    found['place'] = found['place'].astype(np.int64) + distance
    return found


def _header(head: bytearray, size: int) -> bytes:
    """The header of a file.

    Args:
        head: of the file, behind room for the header.
        size: of the whole file, in bytes.
    """
    found = np.zeros((), layout.HEADER)
    found['magic'] = list(layout.MAGIC)
    found['version'] = layout.VERSION
    found['head'] = len(head)
    found['bytes'] = size
    found['checksum'] = zlib.crc32(head[layout.HEADER.itemsize :])
    found['own'] = zlib.crc32(found.tobytes()[: -found['own'].nbytes])
    return found.tobytes()
