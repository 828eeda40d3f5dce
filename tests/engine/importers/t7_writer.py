"""Writes binary Torch7 files as torch.save does, for the tests of the reader and the importer."""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CODES = {
    '<f8': 'Double',
    '<f4': 'Float',
    '<f2': 'Half',
    '<i8': 'Long',
    '<i4': 'Int',
    '<i2': 'Short',
    '|i1': 'Char',
    '|u1': 'Byte',
}


class Object(NamedTuple):
    """An instance of a class of Torch."""

    name: str
    fields: dict[Any, Any]


class Raw(NamedTuple):
    """Bytes to put where an object is."""

    data: bytes


def string(text: str) -> bytes:
    return struct.pack('<i', len(text)) + text.encode('latin1')


class Writer:
    """Bytes of one file; what is one Python object is one Torch object."""

    def __init__(self, *, versions: bool = True, prefix: str = ''):
        """``versions``: as files are since 2012; ``prefix``: of types of tensors, such as Cuda."""
        self.data, self._seen, self._versions, self._prefix = bytearray(), {}, versions, prefix

    def put(self, value: Any) -> 'Writer':
        if isinstance(value, Raw):
            self.data += value.data
        elif value is None:
            self.data += struct.pack('<i', 0)
        elif isinstance(value, bool):
            self.data += struct.pack('<ii', 5, value)
        elif isinstance(value, (int, float)):
            self.data += struct.pack('<id', 1, value)
        elif isinstance(value, str):
            self.data += struct.pack('<i', 2) + string(value)
        elif isinstance(value, list):
            self.put(dict(enumerate(value, 1)))
        elif isinstance(value, dict):
            if self._start(3, value):
                self.data += struct.pack('<i', len(value))
                for pair in value.items():
                    self.put(pair[0]).put(pair[1])
        elif isinstance(value, Object):
            if self._start(4, value, value.name):
                self.put(value.fields)
        else:
            self._array(value)
        return self

    def _start(self, kind: int, value: Any, name: str = '') -> bool:
        """Type, number and class; whether the content has to follow."""
        new = id(value) not in self._seen
        number, _ = self._seen.setdefault(id(value), (len(self._seen) + 1, value))
        self.data += struct.pack('<ii', kind, number)
        if new and name:
            self.data += (string('V 1') if self._versions else b'') + string(name)
        return new

    def _array(self, value: np.ndarray) -> None:
        """A tensor: a whole storage, or a view of ``value.base``, which then is the storage."""
        storage = value if value.base is None else value.base
        kind = self._kind(value)
        if self._start(4, value, f'torch.{kind}Tensor'):
            offset = value.__array_interface__['data'][0] - storage.__array_interface__['data'][0]
            steps = [step // value.itemsize for step in value.strides]
            self.data += struct.pack(
                f'<i{value.ndim}q{value.ndim}qq',
                value.ndim,
                *value.shape,
                *steps,
                offset // value.itemsize + 1,
            )
            if value.size:
                self._storage(storage, kind)
            else:
                self.put(None)

    def _storage(self, storage: np.ndarray, kind: str) -> None:
        # The same memory is a tensor of its own elsewhere.
        key = self._seen.setdefault(('storage', id(storage)), (object(), storage))[0]
        if self._start(4, key, f'torch.{kind}Storage'):
            self.data += struct.pack('<q', storage.size) + storage.tobytes()

    def _kind(self, value: np.ndarray) -> str:
        code = CODES[value.dtype.str]
        return self._prefix if self._prefix and code == 'Float' else self._prefix + code


def write_t7(path: Path, value: Any, **options: Any) -> Path:
    path.write_bytes(Writer(**options).put(value).data)
    return path
