"""Tables of a ``.lqn`` file in the making, see ``runtime/README.md``."""

from __future__ import annotations

from collections.abc import Sequence
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

    def bytes(self) -> bytes:
        """All of them."""
        return b''.join(record.tobytes() for record in self._rows)


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

    def bytes(self) -> bytes:
        """All of them."""
        return bytes(self._content)
