"""Reader of binary Torch7 files (.t7) that runs neither Torch nor anything in them.

Format of torch.File and torch.DiskFile: every object starts with an int32 that tells its type;
tables, tensors and instances have a number, by which they are referred to again. Longs have 64
bits.
"""

import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.pickles.budget import Budget

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN = range(6)
FUNCTIONS = (6, 7, 8)

STORAGES = {
    'Double': '<f8',
    'Float': '<f4',
    'Half': '<f2',
    'Long': '<i8',
    'Int': '<i4',
    'Short': '<i2',
    'Char': '|i1',
    'Byte': '|u1',
    'Cuda': '<f4',
    'CudaDouble': '<f8',
    'CudaHalf': '<f2',
    'CudaLong': '<i8',
    'CudaInt': '<i4',
    'CudaShort': '<i2',
    'CudaChar': '|i1',
    'CudaByte': '|u1',
}

# Classes whose instances are stored as the table of their fields.
INSTANCES = r'(nn|cudnn)\.\w+'

# What is made of a file may take as much memory as the file and these bytes more: some tensors
# share a storage, but a few bytes must not fill the memory.
ROOM = 2**25

# Bytes that an object and an item of a table may take, and most dimensions of a tensor.
_OBJECT, _ITEM, _DIMENSIONS = 400, 136, 64

WANTED = 'give a file that torch.save of Torch7 wrote in binary'


@dataclass
class Instance:
    """An instance of a class.

    Attributes:
        name: of the class, such as ``nn.Linear``.
        fields: its fields by name.
    """

    name: str
    fields: dict[Any, Any] = field(default_factory=dict)


def read_t7(path: Path) -> Any:
    """Read the object in a file.

    Returns:
        nil, numbers, booleans and strings (latin-1) as they are in Python, whole numbers as int;
        tables as dicts, arrays too (from 1); tensors and storages as C-contiguous numpy arrays;
        instances as ``Instance``. What was one table or instance is one object.

    Raises:
        UsageError: there is no such file, it is damaged, or holds functions or other classes.
    """
    try:
        return _Reader(path.read_bytes()).whole()
    except _Refused as error:
        raise UsageError(f'{path}: {error}') from error
    except (
        OSError,
        struct.error,
        ValueError,
        TypeError,
        RecursionError,
        UnpicklingError,
    ) as error:
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise UsageError(
            f'{path}: cannot be read as a Torch7 file ({reason[:200]}); {WANTED}'
        ) from error


class _Refused(Exception):
    """A sound file of something that is not read."""


class _Reader:
    """Reads one file from start to end."""

    def __init__(self, data: bytes):
        self._data = memoryview(data)
        self._at = 0  # bytes that were read
        self._budget = Budget(len(data) + ROOM, 'it takes far more memory than the file is large')
        self._objects: dict[int, Any] = {}

    def whole(self) -> Any:
        """The one object of the file.

        Raises:
            _Refused: the file is empty or in ASCII.
            ValueError: more follows it.
        """
        if not self._data:
            raise _Refused(f'the file is empty; {WANTED}')
        if re.match(rb'[0-8]\n', self._data):
            raise _Refused(f'a Torch7 file in ASCII; {WANTED}')
        found = self._object()
        if self._at < len(self._data):
            raise ValueError(f'{len(self._data) - self._at} bytes are left over')
        return found

    def _take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError('it ends too early')
        self._at += count
        return self._data[self._at - count : self._at]

    def _ints(self, count: int = 1, kind: str = 'i') -> tuple[int, ...]:
        return struct.unpack(f'<{count}{kind}', self._take(count * struct.calcsize(f'<{kind}')))

    def _text(self) -> str:
        (length,) = self._ints()
        text = bytes(self._take(length)).decode('latin1')
        self._budget.charge(_ITEM + len(text))
        return text

    def _object(self) -> Any:
        (kind,) = self._ints()
        if kind == NIL:
            return None
        self._budget.charge(_ITEM)
        if kind == NUMBER:
            (number,) = struct.unpack('<d', self._take(8))
            return int(number) if number.is_integer() else number
        if kind == STRING:
            return self._text()
        if kind == BOOLEAN:
            return self._ints()[0] == 1
        if kind in FUNCTIONS:
            raise _Refused('holds a function, which is never run; save the model without it')
        if kind not in (TABLE, TORCH):
            raise ValueError(f'an object of type {kind} at byte {self._at - 4}')
        (index,) = self._ints()
        if index not in self._objects:
            read = self._table if kind == TABLE else self._torch
            read(index)
        return self._objects[index]

    def _table(self, index: int) -> None:
        self._budget.charge(_OBJECT)
        found = self._objects[index] = {}
        for _ in range(self._ints()[0]):
            key = self._object()
            if not isinstance(key, str | int | float | None):
                raise ValueError('a key that is neither text nor number')
            self._budget.charge(_ITEM)
            found[key] = self._object()

    def _torch(self, index: int) -> None:
        """Reads a tensor, a storage or an instance.

        Files from before there were versions start with the class.

        Raises:
            _Refused: the class is none of those that are read.
            ValueError: an instance without fields.
        """
        self._budget.charge(_OBJECT)
        name = self._text()
        if re.fullmatch(r'V \d+', name):
            name = self._text()
        kind = re.fullmatch(r'torch\.(\w*)(Tensor|Storage)', name)
        if kind and kind[1] in STORAGES:
            if kind[2] == 'Tensor':
                self._objects[index] = self._tensor()
            else:
                self._objects[index] = self._storage(np.dtype(STORAGES[kind[1]]))
        elif re.fullmatch(INSTANCES, name):
            found = self._objects[index] = Instance(name)
            fields = self._object()
            if not isinstance(fields, dict):
                raise ValueError(f'{name} is no table of fields')
            found.fields = fields
        else:
            raise _Refused(
                f'holds an instance of {name[:80]!r}, but only tensors and nn modules are read'
            )

    def _storage(self, dtype: np.dtype) -> np.ndarray:
        (length,) = self._ints(kind='q')
        raw = self._take(length * dtype.itemsize)
        return np.frombuffer(raw, dtype)  # [length]

    def _tensor(self) -> np.ndarray:
        """Copy of a tensor out of its storage.

        Strides and the offset, which counts from 1, are in numbers, not bytes.

        Raises:
            ValueError: its shape is impossible or reaches beyond the storage.
        """
        (dimensions,) = self._ints()
        if not 0 <= dimensions <= _DIMENSIONS:
            raise ValueError('a tensor of impossible shape')
        size = self._ints(dimensions, 'q')
        stride = self._ints(dimensions, 'q')
        (offset,) = self._ints(kind='q')
        storage = self._object()
        if storage is None:
            return np.empty(0, np.float32)
        if not isinstance(storage, np.ndarray):
            raise ValueError('a tensor without a storage')
        if not dimensions:
            return np.empty(0, storage.dtype)
        if offset < 1 or min(*size, *stride) < 0:
            raise ValueError('a tensor of impossible shape')
        width = storage.itemsize
        if 0 in size:
            return np.empty(size, storage.dtype)
        last, steps = offset - 1, []
        for count, step in zip(size, stride):
            last += (count - 1) * step
            # A dimension of length 1 may have any stride.
            steps.append(step * width if count > 1 else 0)
        if last >= storage.size or math.prod(size) >= 2**48:
            raise ValueError('a tensor that reaches beyond its storage')
        self._budget.charge(math.prod(size) * width)
        return np.ndarray(size, storage.dtype, storage, (offset - 1) * width, steps).copy()
