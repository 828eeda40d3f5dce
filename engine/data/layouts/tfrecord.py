"""Records of TFRecord files with images and labels, listed without TensorFlow.

A file is a sequence of: length (8 bytes), its checksum (4), a protocol buffer ``Example`` of that
length, its checksum (4). An ``Example`` holds named lists of bytes, floats or whole numbers; what
is not needed is passed over, so that listing a shard reads some bytes of each image.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from engine.errors import UsageError

IMAGE = b'image/encoded'
LABEL = b'image/class/label'
SYNSET = b'image/class/synset'
TEXT = b'image/class/text'
# What tells a class, the best first: numbers begin at 1 in some sets and at 0 in others. Other
# lists are passed over.
SHORT = (SYNSET, LABEL, TEXT)

_LENGTH = struct.Struct('<QI')
_CRC_BYTES = 4
# Longest label or name of a list, bytes: more is something else.
LONGEST = 4096
# Read at once, to pass over images.
_BUFFER = 4096
_POLYNOMIAL = 0x82F63B78  # of CRC-32C


class Record(NamedTuple):
    """An image of a shard: place and length of its file, and the best text of its label."""

    offset: int
    length: int
    label: str


def records(path: Path) -> Iterator[Record]:
    """The images of a shard, in order.

    Raises:
        UsageError: it is no such file, is cut, or a record has no image or label.
    """
    size = path.stat().st_size
    start = 0
    with path.open('rb', buffering=_BUFFER) as file:
        while start < size:
            file.seek(start)
            header = file.read(_LENGTH.size)
            if len(header) < _LENGTH.size:
                raise UsageError(f'--data: {path} is cut: its last record, at {start}, is none')
            length, checksum = _LENGTH.unpack(header)
            if masked_crc(header[:8]) != checksum:
                raise UsageError(
                    f'--data: {path}: no TFRecord file, or damaged: the length at byte {start} '
                    'differs from its checksum'
                )
            first = start + _LENGTH.size
            start = first + length + _CRC_BYTES
            if start > size:
                raise UsageError(
                    f'--data: {path} is cut: its last record needs {start - size} bytes more'
                )
            yield _record(path, file, first, first + length)


def masked_crc(content: bytes) -> int:
    """CRC-32C as such files have it: rotated, and moved by a constant."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> list[int]:
    found = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL * (crc & 1)
        found.append(crc)
    return found


_TABLE = _table()


def _record(path: Path, file: BinaryIO, start: int, end: int) -> Record:
    """The image of an ``Example`` in these bytes of a file.

    Args:
        path: of the file, for messages.
        file: that is read.
        start: first byte.
        end: byte behind the last one.

    Raises:
        UsageError: it has no image, or no label.
    """
    image = None
    labels = {}
    try:
        for _, features, end_of_features in _fields(file, start, end):
            for _, entry, end_of_entry in _fields(file, features, end_of_features):
                name, value = _entry(file, entry, end_of_entry)
                if name == IMAGE:
                    image = _bytes_of(file, *value)
                elif name in SHORT:
                    labels[name] = _text_of(file, *value)
    except (ValueError, IndexError) as error:
        raise UsageError(f'--data: {path}: the record at byte {start} is no Example') from error
    texts = [labels[name] for name in SHORT if labels.get(name)]
    if image is None or not texts:
        lacking = IMAGE if image is None else LABEL
        raise UsageError(
            f'--data: {path}: the record at byte {start} has no {lacking.decode()}; expected '
            f'{IMAGE.decode()} and {LABEL.decode()}'
        )
    return Record(image[0], image[1] - image[0], texts[0])


def _entry(file: BinaryIO, start: int, end: int) -> tuple[bytes, tuple[int, int]]:
    """Name of a list, and the bytes that it takes."""
    name = b''
    value = (end, end)
    for number, first, last in _fields(file, start, end):
        if number == 1:
            name = _read(file, first, last)
        elif number == 2:
            value = (first, last)
    return name, value


def _bytes_of(file: BinaryIO, start: int, end: int) -> tuple[int, int] | None:
    """Where the first value of a list of bytes is; None for an empty one.

    Raises:
        ValueError: it is another list.
    """
    for kind, first, last in _fields(file, start, end):
        if kind != 1:
            raise ValueError('no bytes')
        for _, begin, behind in _fields(file, first, last):
            return begin, behind
    return None


def _text_of(file: BinaryIO, start: int, end: int) -> str:
    """The first value of a list of bytes or of whole numbers, as a text.

    Raises:
        ValueError: there is none.
    """
    for kind, first, last in _fields(file, start, end):
        if kind == 1:
            for _, begin, behind in _fields(file, first, last):
                return _read(file, begin, behind).decode()
        if kind == 3:
            return str(_whole_number(file, first, last))
    raise ValueError('no value')


def _whole_number(file: BinaryIO, start: int, end: int) -> int:
    """The first of a list of whole numbers, which are stored one by one or together.

    Raises:
        ValueError: there is none.
    """
    file.seek(start)
    if _varint(file) & 7 == 2:
        _varint(file)
    if file.tell() >= end:
        raise ValueError('no number')
    value = _varint(file)
    return value - 2**64 if value >= 2**63 else value


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first byte and byte behind the last one of each field with a length.

    Raises:
        ValueError: there is something else.
    """
    while start < end:
        file.seek(start)
        key = _varint(file)
        if key & 7 != 2:
            raise ValueError('no field with a length')
        length = _varint(file)
        first = file.tell()
        start = first + length
        if start > end:
            raise ValueError('a field is longer than what holds it')
        yield key >> 3, first, start


def _varint(file: BinaryIO) -> int:
    """A whole number, seven bits a byte.

    Raises:
        ValueError: it does not end.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError('a number is too long')


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    """These bytes of a file.

    Raises:
        ValueError: they are too many.
    """
    if end - start > LONGEST:
        raise ValueError('a label or name is too long')
    file.seek(start, os.SEEK_SET)
    return file.read(end - start)
