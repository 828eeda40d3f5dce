"""Pickles of tensors, and the storages that their numbers lie in."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, Protocol

import numpy as np

from engine.errors import UsageError
from engine.pickles.arrays import NUMBERS
from engine.pickles.budget import Budget
from engine.pickles.machine import Machine
from engine.pickles.values import Class, Function, NotAdmitted, Record

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

# All arrays together may be this many times the file, and these bytes more: some tensors share a
# storage, but a few bytes must not fill the memory.
REPEATS, ROOM = 2, 2**22

# Bytes that may be taken beside twice the file, names and containers included.
OBJECTS = 40 * 2**20

# Numbers that are read at a time, and most dimensions of a tensor.
PIECE, DIMENSIONS = 2**18, 64


# Starts of names whose objects stand for nothing: what trainings put beside a model.
INERT = (
    'pytorch_lightning.',
    'lightning.',
    'lightning_fabric.',
    'lightning_utilities.',
    'omegaconf.',
    'pathlib.',
    'torch.optim.',
)


class Numbers(Protocol):
    """Raw numbers of a storage, from its start."""

    def read(self, count: int, /) -> bytes:
        """The next bytes, at most so many."""


# Opens a storage by its key, length and bytes per number: at its start, so that exactly these bytes
# follow. None while a file's storages are only listed.
Fetch = Callable[[str, int, int], Numbers | None]


class Storages:
    """The storages of one file, and the tensors in them.

    Args:
        fetch: opens one.
        size: bytes of the file.
        budget: of all that is read of it.
    """

    def __init__(self, fetch: Fetch, size: int, budget: Budget):
        self._fetch = fetch
        excess = f'its tensors are more than {REPEATS} times larger than the file'
        self._arrays_budget = Budget(REPEATS * size + ROOM, excess)
        self._budget = budget
        self._arrays: dict[str, np.ndarray | None] = {}

    def find(self, pid: Any) -> Any:
        """The storage that a reference names: its key, and where it starts and ends in it.

        Raises:
            UnpicklingError: it is something else.
        """
        reference = isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == 'storage'
        if not reference or not isinstance(pid[2], str):
            raise UnpicklingError('a reference to something that is no storage')
        _, kind, key, _, numel, *view = pid
        if key not in self._arrays:
            self._arrays[key] = self._read(kind, key, numel)
        storage = self._arrays[key]
        if storage is None or not view or view[0] is None:
            return _Part(key, storage)
        _, start, length = view[0]
        if not _whole((start, length)):
            raise UnpicklingError('a view of impossible length')
        return _Part(key, storage[start : start + length])

    def _charge(self, amount: int) -> None:
        self._arrays_budget.charge(amount)
        self._budget.charge(amount)

    def _read(self, kind: Any, key: str, numel: Any) -> np.ndarray | None:
        """Numbers [numel] of a storage.

        Raises:
            UnpicklingError: its type or length is unknown, or it ends too early.
        """
        if not isinstance(kind, str) or kind not in STORAGES or not _whole((numel,)):
            raise UnpicklingError('a storage of unknown type or length')
        dtype = np.dtype(STORAGES[kind])
        kept = np.dtype('<f4') if kind == BFLOAT16 else dtype
        self._charge(numel * kept.itemsize)
        stream = self._fetch(key, numel, dtype.itemsize)
        if stream is None:
            return None
        values = np.empty(numel, kept)
        for start in range(0, numel, PIECE):
            part = values[start : start + PIECE]
            raw = stream.read(len(part) * dtype.itemsize)
            numbers = np.frombuffer(raw, dtype)
            if kind == BFLOAT16:
                part.view('<u4')[:] = numbers.astype('<u4') << 16
            else:
                part[:] = numbers
        if stream.read(1):
            raise UnpicklingError(f'a storage of more than {numel} numbers')
        return values

    def tensor(
        self, part: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
    ) -> np.ndarray | None:
        """A tensor [*size] with memory of its own.

        Args:
            part: of a storage, as ``find`` returns it.
            offset: number of the first value in it.
            size: shape of the tensor.
            stride: numbers between neighbours, by dimension.
            *_: what else torch.save says.

        Raises:
            UnpicklingError: there is no such part of the storage, or it is too large.
        """
        if not isinstance(part, _Part):
            raise UnpicklingError('a tensor in something that is no storage')
        if part.values is None:
            return None
        values = part.values
        shaped = isinstance(size, tuple | list) and isinstance(stride, tuple | list)
        if not shaped or len(size) != len(stride) or len(size) > DIMENSIONS:
            raise UnpicklingError('a tensor of impossible shape')
        if not _whole((offset, *size, *stride)):
            raise UnpicklingError('a tensor of impossible shape')
        if 0 in size:
            return np.empty(size, values.dtype)
        steps = _steps(values, offset, size, stride)
        view = np.ndarray(tuple(size), values.dtype, values, offset * values.itemsize, steps)
        if view.size == values.size and view.flags.c_contiguous and values.flags.owndata:
            # The numbers are one tensor as they are, as nearly always; others get copies.
            self._arrays[part.key] = values.reshape(-1)
            values.resize(tuple(size), refcheck=False)
            return values
        self._charge(view.nbytes)
        return view.copy()


class _Names(dict):
    """Names that a pickle may ask for; those of ``INERT`` things are made without a call."""

    def __contains__(self, name: object) -> bool:
        """Whether a pickle may ask for it."""
        return super().__contains__(name) or str(name).startswith(INERT)

    def __missing__(self, name: str) -> Class:
        """A substitute for an inert class: it makes an empty dict, whatever it is called with."""
        return Class(lambda *args: Record())


class _Part:
    """A storage, or a part of one; a pickle can do nothing to it."""

    __slots__ = ('key', 'values')

    def __init__(self, key: str, values: np.ndarray | None):
        self.key = key
        self.values = values


def _steps(
    values: np.ndarray, offset: int, size: Sequence[int], stride: Sequence[int]
) -> list[int]:
    """Bytes between neighbours, by dimension.

    Args:
        values: [numbers] of a storage.
        offset: number of the first value.
        size: shape of a tensor without a dimension of length 0.
        stride: numbers between neighbours, by dimension.

    Raises:
        UnpicklingError: the tensor reaches beyond the storage.
    """
    last, steps = offset, []
    for count, step in zip(size, stride, strict=True):
        last += (count - 1) * step
        # A dimension of length 1 may have any stride.
        steps.append(step * values.itemsize if count > 1 else 0)
    if last >= values.size or math.prod(size) >= 2**62:
        raise UnpicklingError('a tensor that reaches beyond its storage')
    return steps


def _whole(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)


def _size(lengths: Any) -> tuple[int, ...]:
    """A shape.

    Raises:
        UnpicklingError: the lengths are no list of whole numbers.
    """
    if not isinstance(lengths, tuple | list) or not _whole(lengths):
        raise UnpicklingError('a shape that is none')
    return tuple(lengths)


def new_budget(path: Path) -> Budget:
    """The budget for reading a file."""
    size = path.stat().st_size
    return Budget(2 * size + OBJECTS, 'it takes far more memory than the file is large')


def load(stream: BinaryIO, path: Path, fetch: Fetch, budget: Budget) -> Any:
    """Reads one pickle.

    Args:
        stream: is at its start.
        path: the file that it is from.
        fetch: opens storages of the file.
        budget: of all that is read of it.

    Raises:
        UnpicklingError: it is damaged, or its tensors are impossible or too large.
        UsageError: it holds more than tensors, numbers and strings.
    """
    storages = Storages(fetch, path.stat().st_size, budget)
    tensor = Function(storages.tensor)
    names = _Names(
        {
            **NUMBERS,
            **{f'torch.{kind}': kind for kind in STORAGES},
            'torch._utils._rebuild_tensor': tensor,
            'torch._utils._rebuild_tensor_v2': tensor,
            'torch._utils._rebuild_parameter': Function(lambda data, *_: data),
            'torch.Size': Function(_size),
            'torch.device': Function(lambda *args: args),
            # Made without a call, its attributes dropped.
            'argparse.Namespace': Class(Record),
        }
    )
    try:
        return Machine(stream, names, budget, text=True, find=storages.find).load()
    except NotAdmitted as error:
        raise UsageError(
            f'{path}: holds {error.place[:80]!r}, but only tensors, numbers and strings are read; '
            'save the state_dict() alone'
        ) from error
