"""Unpickler of tensors, which runs none of the code that a pickle can hold."""

import math
import pickle
import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.errors import UsageError

BFLOAT16 = 'BFloat16Storage'
STORAGES = {
    'FloatStorage': '<f4',
    'DoubleStorage': '<f8',
    'HalfStorage': '<f2',
    BFLOAT16: '<u2',
    'LongStorage': '<i8',
    'IntStorage': '<i4',
    'ShortStorage': '<i2',
    'CharStorage': '|i1',
    'ByteStorage': '|u1',
    'BoolStorage': '|b1',
}

# All tensors together may be this many times the file: some share a storage, but a few bytes must
# not fill the memory.
REPEATS = 8

# Raw numbers of a storage by its key, length and bytes per number; None while a file's storages are
# only listed.
Fetch = Callable[[str, int, int], bytes | None]


class _Dict(dict):
    """Stands for OrderedDict and argparse.Namespace.

    The attributes that a pickle sets on one (`_metadata`, a method, the settings of a run) are
    dropped.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Keeps nothing."""


class _Function:
    """A function that a pickle can call but not alter: it could set attributes of a plain one."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError('it alters a function')


class _Dtype:
    """Type of a NumPy number.

    Its byte order comes as a state to set, which no shared np.dtype must be exposed to.
    """

    def __init__(self, code: Any, *_: Any) -> None:
        if not re.fullmatch('[biuf][1248]', code):
            raise pickle.UnpicklingError('a NumPy value that is no number')
        self.code, self.order = code, '<'

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ('<', '>', '|'):
            raise pickle.UnpicklingError('a NumPy value of unknown byte order')
        self.order = state[1]


def _scalar(dtype: _Dtype, raw: str | bytes) -> int | float | bool:
    """A NumPy number from its bytes, which Python 2 wrote as a string."""
    data = raw.encode('latin1') if isinstance(raw, str) else raw
    (value,) = np.frombuffer(data, dtype.order + dtype.code).tolist()
    return value


# What is built for the names in a pickle.
TENSORS = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2')
FUNCTIONS: dict[str, Callable[..., Any]] = {
    'collections.OrderedDict': _Dict,
    'torch._utils._rebuild_parameter': lambda data, *_: data,
    'torch.Size': tuple,
    'torch.device': lambda *args: args,
    'numpy.dtype': _Dtype,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
    '_codecs.encode': lambda text, *_: text.encode('latin1'),  # how bytes are pickled for Python 2
}


class _Storages:
    """The storages of one file, and the tensors in them.

    Knows no unpickler, so that it lives no longer than one.
    """

    def __init__(self, fetch: Fetch, *, limit: int) -> None:
        """Takes raw numbers from `fetch`: at most `limit` bytes of storages and tensors in all."""
        self._fetch, self._left = fetch, limit
        self._arrays: dict[str, np.ndarray | None] = {}

    def find(self, pid: Any) -> np.ndarray | None:
        """Numbers of a storage, or of a view of one.

        Raises:
            UnpicklingError: `pid` is anything else.
        """
        reference = isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == 'storage'
        if not reference or not isinstance(pid[2], str):
            raise pickle.UnpicklingError('a reference to something that is no storage')
        _, kind, key, _, numel, *view = pid
        if key not in self._arrays:
            self._arrays[key] = self._read(kind, key, numel)
        storage = self._arrays[key]
        if storage is None or not view or view[0] is None:
            return storage
        _, start, length = view[0]
        return storage[start : start + length]

    def _read(self, kind: str, key: str, numel: int) -> np.ndarray | None:
        """Numbers [numel] of a storage.

        Raises:
            UnpicklingError: its type or length is unknown.
        """
        if kind not in STORAGES or not _whole([numel]):
            raise pickle.UnpicklingError('a storage of unknown type or length')
        dtype = np.dtype(STORAGES[kind])
        self._charge(numel * dtype.itemsize)
        raw = self._fetch(key, numel, dtype.itemsize)
        if raw is None:
            return None
        values = np.frombuffer(raw, dtype, numel) if numel else np.empty(0, dtype)
        if kind == BFLOAT16:
            return (values.astype('<u4') << 16).view('<f4')
        return values

    def tensor(
        self,
        storage: np.ndarray | None,
        offset: int,
        size: Sequence[int],
        stride: Sequence[int],
        *_: Any,
    ) -> np.ndarray | None:
        """Copy of a tensor [*size] out of its storage.

        Args:
            storage: [numbers] array, or None while storages are only listed.
            offset: number of the first value in it.
            size: shape of the tensor.
            stride: numbers between neighbours, by dimension.
            *_: what else torch.save says.

        Raises:
            UnpicklingError: there is no such part of the storage, or it is too large.
        """
        if storage is None:
            return None
        if not _whole([offset, *size, *stride]) or len(size) != len(stride):
            raise pickle.UnpicklingError('a tensor of impossible shape')
        if 0 in size:
            return np.empty(size, storage.dtype)
        width, last, steps = storage.itemsize, offset, []
        for count, step in zip(size, stride, strict=True):
            last += (count - 1) * step
            # A dimension of length 1 may have any stride.
            steps.append(step * width if count > 1 else 0)
        if last >= storage.size:
            raise pickle.UnpicklingError('a tensor that reaches beyond its storage')
        self._charge(math.prod(size) * width)
        return np.ndarray(size, storage.dtype, storage, offset * width, steps).copy()

    def _charge(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise pickle.UnpicklingError(
                f'its tensors are more than {REPEATS} times larger than the file'
            )


def _whole(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)


class _TensorUnpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and tensors; a pickle could otherwise run any code."""

    def __init__(self, stream: BinaryIO, path: Path, fetch: Fetch) -> None:
        """Reads from `stream`, which is at a pickle of the file `path`."""
        super().__init__(stream, encoding='latin1')
        self._path = path
        self._storages = _Storages(fetch, limit=REPEATS * path.stat().st_size)

    def find_class(self, module: str, name: str) -> Any:
        """Stand-in for an admitted class or function.

        Raises:
            UsageError: it is another one.
        """
        place = f'{module}.{name}'
        if module == 'torch' and name in STORAGES:
            return name
        if place == 'argparse.Namespace':
            # Made without a call, so it must be a class; setting a state on that fails.
            return _Dict
        if place in TENSORS:
            return _Function(self._storages.tensor)
        if place in FUNCTIONS:
            return _Function(FUNCTIONS[place])
        raise UsageError(
            f'{self._path}: holds {place[:80]!r}, but only tensors, numbers and strings are read; '
            'save the state_dict() alone'
        )

    def persistent_load(self, pid: Any) -> np.ndarray | None:
        """Numbers of a storage."""
        return self._storages.find(pid)


def load(stream: BinaryIO, path: Path, fetch: Fetch) -> Any:
    """Reads one pickle.

    Args:
        stream: is at its start.
        path: the file that it is from.
        fetch: takes raw numbers from the file.

    Raises:
        UnpicklingError: it is damaged, or its tensors are impossible or too large.
        UsageError: it holds more than tensors, numbers and strings.
    """
    start = stream.tell()
    size = path.stat().st_size
    for opcode, slot, _ in pickletools.genops(stream):
        # The unpickler reserves memory up to the slot: one wrong number could take all there is.
        if opcode.name in ('PUT', 'LONG_BINPUT') and not 0 <= int(slot or 0) <= size:
            raise pickle.UnpicklingError('a memo slot that cannot be')
    stream.seek(start)
    return _TensorUnpickler(stream, path, fetch).load()
