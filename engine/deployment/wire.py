"""Messages of Protocol Buffers, of which ONNX files are made, by the numbers of their fields.

Runtimes come without a package that knows these files. Nothing is copied, and what nobody looks at
is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

# How a field says where it ends.
_NUMBER, _SIZED = 0, 2
_WIDTHS = {1: 8, 5: 4}


# A field of a message in a file: its number, the place of the text or the message in it, that
# behind the field, and that of the field.
Field = tuple[int, int, int, int]


def fields(file: bytes, start: int, last: int) -> Iterator[Field]:
    """The fields of a message, in its order.

    Args:
        file: with the message.
        start: place of the message.
        last: place behind it.

    Raises:
        ValueError: the bytes are no message.
    """
    while start < last:
        key, first = file[start], start + 1
        if key > 127:
            key, first = _number(file, start)
        kind = key & 7
        if kind == _SIZED:
            # Most are short: a file has ten thousand, and is opened while somebody waits.
            size = file[first]
            first += 1
            if size > 127:
                size, first = _number(file, first - 1)
            end = first + size
        elif kind == _NUMBER:
            _, end = _number(file, first)
        elif kind in _WIDTHS:
            end = first + _WIDTHS[kind]
        else:
            raise ValueError(f'no field begins at byte {start}')
        if end > last:
            raise ValueError(f'the field at byte {start} has no end')
        yield key >> 3, first, end, start
        start = end


def start_of(number: int, size: int) -> bytes:
    """The bytes that make a field of a text or a message of some size, which stand before it."""
    return _spelled(number << 3 | _SIZED) + _spelled(size)


def field(number: int, content: bytes) -> bytes:
    """A text or a message as a field."""
    return start_of(number, len(content)) + content


def number_field(number: int, value: int) -> bytes:
    """A whole number that is not negative as a field."""
    return _spelled(number << 3 | _NUMBER) + _spelled(value)


def _number(file: bytes, place: int) -> tuple[int, int]:
    """A whole number, and the place behind it: seven bits to a byte, the lowest first."""
    value = file[place]
    place += 1
    if value < 128:
        return value, place
    value &= 127
    shift = 7
    while True:
        byte = file[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7


def _spelled(value: int) -> bytes:
    """The bytes of such a number."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
