"""Checksums of records in JSON.

A record is closed by a checksum of its values, so that every changed digit is found: its first
field ``checked`` says that there is one, and its last field ``checksum`` is it. Two marks at both
ends, because one could be lost with what lies beside it. In a list every row is closed for itself
and those before it, and says how many there are. Who changes a record by hand deletes both. Records
of earlier versions, and files that people write, have neither and are read as they are.
"""

import json
import zlib
from collections.abc import Sequence
from typing import Any

from engine.schema import Misfit

# The first field of a record with a checksum, the start of its value, and the last field.
CHECKED, METHOD, CHECKSUM = 'checked', 'crc32', 'checksum'


def closed(plain: Any) -> Any:
    """Plain data with the marks of a checksum. What holds no object is left as it is."""
    if isinstance(plain, dict):
        return _closed_row(plain, METHOD, '')
    if not isinstance(plain, list):
        return plain
    rows = []
    before = ''
    for number, row in enumerate(plain, 1):
        if isinstance(row, dict):
            row = _closed_row(row, _place(number, plain), before)
            before = row[CHECKSUM]
        rows.append(row)
    return rows


def opened(plain: Any) -> Any:
    """The inverse of ``closed``.

    Raises:
        Misfit: The values are not those of the checksum, or one of the marks is missing.
    """
    if isinstance(plain, dict):
        _open_row(plain, METHOD, '', '')
    elif isinstance(plain, list):
        before = ''
        for number, row in enumerate(plain, 1):
            if isinstance(row, dict):
                before = _open_row(row, _place(number, plain), before, f'row {number}')
    return plain


def _place(number: int, rows: Sequence[Any]) -> str:
    """The first mark of a row: without it nobody would miss the rows behind."""
    return f'{METHOD}, row {number} of {len(rows)}'


def _closed_row(plain: dict[str, Any], mark: str, before: str) -> dict[str, Any]:
    bare = {name: value for name, value in plain.items() if name not in (CHECKED, CHECKSUM)}
    return {CHECKED: mark, **bare, CHECKSUM: _checksum(bare, before)}


def _open_row(plain: dict[str, Any], mark: str, before: str, place: str) -> str:
    """Takes the marks out of an object, and returns its checksum, empty without one.

    Args:
        plain: The object.
        mark: The first of its marks.
        before: Checksum of the row before it.
        place: Where it stands, for messages.

    Raises:
        Misfit: The values are not those of the checksum, or one of the marks is missing.
    """
    if CHECKED not in plain and CHECKSUM not in plain:
        return ''
    found = plain.pop(CHECKED, None)
    recorded = plain.pop(CHECKSUM, None)
    if found != mark or recorded != _checksum(plain, before):
        raise Misfit(
            place,
            'the values are not those of the checksum; if they were changed on purpose, delete '
            f'"{CHECKED}" and "{CHECKSUM}"',
        )
    return str(recorded)


def _checksum(plain: dict[str, Any], before: str) -> str:
    """CRC-32 of the values of an object, behind the checksum of the row before it."""
    content = before + json.dumps(plain, separators=(',', ':'))
    return f'{zlib.crc32(content.encode()):08x}'
