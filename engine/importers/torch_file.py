"""Reader of PyTorch checkpoints that runs neither PyTorch nor the code that a pickle can hold.

torch.save writes a zip archive since PyTorch 1.6; before, it wrote a row of pickles followed by the
raw numbers.
"""

import io
import math
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.errors import UsageError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

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

WANTED = 'give a complete checkpoint that torch.save wrote'

# Raw numbers of a storage by its key, length and bytes per number; None while a file's storages are
# only listed.
Fetch = Callable[[str, int, int], bytes | None]


@dataclass(frozen=True)
class TorchCheckpoint:
    """The model in a checkpoint.

    Attributes:
        arch: name of the architecture, if the file tells it.
        tensors: by PyTorch's names.
    """

    arch: str | None
    tensors: dict[str, np.ndarray]


def read_checkpoint(path: Path) -> TorchCheckpoint:
    """Reads the model tensors.

    Those under 'state_dict_ema' (a moving average, kept to be evaluated) if there are any, else
    those under 'state_dict', or the whole object if it is a flat dict of tensors.

    Args:
        path: file written by torch.save.

    Returns:
        C-contiguous arrays of the stored shapes and types (bfloat16 as float32), named without the
        'module.' of DataParallel if all names had it.

    Raises:
        UsageError: the file cannot be read, or holds no such tensors.
    """
    content = read_torch(path)
    whole = content if isinstance(content, dict) else {}
    found = whole.get('state_dict_ema') or whole.get('state_dict', whole)
    tensors = _tensors(found)
    if not tensors or found is whole and len(tensors) < len(whole):
        keys = ', '.join(repr(key)[:40] for key in list(whole)[:8] if isinstance(key, str))
        raise UsageError(
            f"{path}: no model tensors, neither under 'state_dict' nor as a flat dict; it has "
            f'{keys or "no names at all"}'
        )
    if all(name.startswith('module.') for name in tensors):
        tensors = {name.removeprefix('module.'): value for name, value in tensors.items()}
    arch = whole.get('arch')
    return TorchCheckpoint(arch if isinstance(arch, str) else None, tensors)


def _tensors(found: Any) -> dict[str, np.ndarray]:
    tensors = {}
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(name, str) and isinstance(value, np.ndarray):
                tensors[name] = value
    return tensors


def read_torch(path: Path) -> Any:
    """Reads the object in a file written by torch.save.

    Args:
        path: zip archive (PyTorch 1.6 or later) or row of pickles (before).

    Returns:
        Nested dicts, lists and tuples of numbers, strings and C-contiguous numpy arrays, each with
        its own memory.

    Raises:
        UsageError: there is no such file, it is damaged, or it holds more than tensors, numbers and
            strings.
    """
    try:
        with path.open('rb') as stream:
            return _read(stream, path)
    except UsageError:
        raise
    except Exception as error:  # a broken pickle or archive can raise anything
        message = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        reason = ' '.join(message.split())[:200]
        raise UsageError(
            f'{path}: cannot be read as a PyTorch checkpoint ({reason}); {WANTED}'
        ) from error


def _read(stream: BinaryIO, path: Path) -> Any:
    head = stream.read(512)
    stream.seek(0)
    if not head:
        raise UsageError(f'{path}: the file is empty; {WANTED}')
    if head[257:262] == b'ustar':
        raise UsageError(f'{path}: a tar archive, which no .pth.tar is; unpack it, or {WANTED}')
    if head.startswith(b'PK\x03\x04'):
        return _read_zip(stream, path)
    if MAGIC.to_bytes(10, 'little') not in head[:32]:
        raise UsageError(
            f'{path}: it starts with {head[:16]!r}, which torch.save never wrote; {WANTED}'
        )
    return _read_legacy(stream, path)


def _read_zip(stream: BinaryIO, path: Path) -> Any:
    with zipfile.ZipFile(stream) as archive:
        root = _root(archive, path)
        if f'{root}byteorder' in archive.namelist():
            _check_order(path, _member(archive, f'{root}byteorder') == b'little')
        pickled = io.BytesIO(_member(archive, f'{root}data.pkl'))
        return _load(pickled, path, lambda key, *_: _member(archive, f'{root}data/{key}'))


def _root(archive: zipfile.ZipFile, path: Path) -> str:
    """The folder in the archive that holds data.pkl, with its slash, if torch.save made one.

    Raises:
        UsageError: it made none, or the archive holds a program.
    """
    names = archive.namelist()
    pickles = [name for name in names if re.fullmatch(r'[^/]+/data\.pkl', name)]
    roots = {name.removesuffix('data.pkl') for name in pickles}
    if len(roots) != 1:
        raise UsageError(f'{path}: a zip archive with {len(roots)} data.pkl, expected 1; {WANTED}')
    root = roots.pop()
    if any(name == f'{root}constants.pkl' or name.startswith(f'{root}code/') for name in names):
        raise UsageError(
            f'{path}: a TorchScript archive, which holds a program; save its state_dict() by '
            'torch.save'
        )
    return root


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of a file in the archive, which is not compressed: it could be of any size.

    Raises:
        UnpicklingError: it is compressed.
    """
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f'{name!r} is compressed, which torch.save never does')
    return archive.read(info)


def _check_order(path: Path, little: bool) -> None:
    if not little:
        raise UsageError(
            f'{path}: written on a big-endian machine; save it again on a little-endian one'
        )


def _read_legacy(stream: BinaryIO, path: Path) -> Any:
    """Reads the object twice: its storages stand behind it, and only it says their types.

    Raises:
        UnpicklingError: the file starts otherwise.
    """
    forms: dict[str, tuple[int, int]] = {}

    def list_form(key: str, *form: int) -> None:
        forms[key] = form[0], form[1]

    magic, protocol, system = (_load(stream, path, list_form) for _ in range(3))
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise pickle.UnpicklingError(f'it does not start with the magic number and {PROTOCOL}')
    _check_order(path, system.get('little_endian') is not False)
    start = stream.tell()
    _load(stream, path, list_form)
    raw = {key: _read_storage(stream, *forms[key]) for key in _load(stream, path, list_form)}
    stream.seek(start)
    return _load(stream, path, lambda key, *_: raw[key])


def _read_storage(stream: BinaryIO, numel: int, width: int) -> bytes:
    (found,) = struct.unpack('<q', stream.read(8))
    if found != numel:
        raise pickle.UnpicklingError(f'a storage of {found} numbers, expected {numel}')
    return stream.read(numel * width)


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


def _load(stream: BinaryIO, path: Path, fetch: Fetch) -> Any:
    """Reads one pickle of the file `path` from `stream`.

    Raises:
        UnpicklingError: a memo slot lies beyond the size of the file.
    """
    start = stream.tell()
    size = path.stat().st_size
    for opcode, slot, _ in pickletools.genops(stream):
        # The unpickler reserves memory up to the slot: one wrong number could take all there is.
        if opcode.name in ('PUT', 'LONG_BINPUT') and not 0 <= int(slot or 0) <= size:
            raise pickle.UnpicklingError('a memo slot that cannot be')
    stream.seek(start)
    return _TensorUnpickler(stream, path, fetch).load()
