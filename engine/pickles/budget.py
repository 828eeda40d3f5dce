"""Bounds for reading a file: of the memory that it takes, and of the bytes of its stream."""

import os
from pickle import UnpicklingError
from typing import BinaryIO


class Budget:
    """Bytes that may still be taken.

    Args:
        limit: how many.
        excess: what is said if they do not suffice.
    """

    def __init__(self, limit: int, excess: str):
        self._left = limit
        self._excess = excess

    def charge(self, amount: int) -> None:
        """Takes some of them.

        Raises:
            UnpicklingError: there are not so many.
        """
        self._left -= amount
        if self._left < 0:
            raise UnpicklingError(self._excess)


class Source:
    """The rest of a stream; never asks it for more than there is."""

    def __init__(self, stream: BinaryIO):
        start = stream.tell()
        self.size = stream.seek(0, os.SEEK_END)
        stream.seek(start)
        self._left = self.size - start
        self._stream = stream

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            UnpicklingError: there are fewer.
        """
        if not 0 <= count <= self._left:
            raise UnpicklingError('it ends too early')
        self._left -= count
        return self._stream.read(count)

    def line(self) -> bytes:
        """The next line without its end.

        Raises:
            UnpicklingError: it has none.
        """
        found = self._stream.readline()
        self._left -= len(found)
        if not found.endswith(b'\n'):
            raise UnpicklingError('it ends too early')
        return found[:-1]
