"""Reader of PyTorch checkpoints that does not run PyTorch.

torch.save writes a zip archive since PyTorch 1.6; before, it wrote a row of pickles followed by the
raw numbers.
"""

import io
import os
import pickle
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from engine.errors import UsageError
from engine.importers import containers, torch_pickle
from engine.pickles.budget import Budget

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# Bytes of Python objects that a byte of an archive's table of contents may become.
_CONTENTS = 24

WANTED = 'give a complete checkpoint that torch.save wrote'


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

    Those under the first of ``containers.ENTRIES`` that holds some, or the whole object if it is a
    flat dict of tensors.

    Args:
        path: file written by torch.save.

    Returns:
        C-contiguous arrays of the stored shapes and types (bfloat16 as float32), named without what
        wrappers put in front, see ``containers.unwrapped``.

    Raises:
        UsageError: the file cannot be read, or holds no such tensors.
    """
    content = read_torch(path)
    whole = content if isinstance(content, dict) else {}
    tensors = containers.find_tensors(content)
    flat = tensors.keys() <= whole.keys()
    if not tensors or flat and len(tensors) < len(whole):
        keys = ', '.join(repr(key)[:40] for key in list(whole)[:8] if isinstance(key, str))
        raise UsageError(
            f"{path}: no model tensors, neither under 'state_dict', 'model', ... nor as a flat "
            f'dict; it has {keys or "no names at all"}'
        )
    arch = whole.get('arch')
    if not isinstance(arch, str):
        arch = None
    return TorchCheckpoint(arch, containers.unwrapped(tensors))


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
        return _read_zip(path)
    if MAGIC.to_bytes(10, 'little') not in head[:32]:
        raise UsageError(
            f'{path}: it starts with {head[:16]!r}, which torch.save never wrote; {WANTED}'
        )
    return _read_legacy(stream, path)


class _Archive(io.BufferedReader):
    """A file whose table of contents is charged to a budget before it is read.

    Args:
        path: of the file.
        budget: charged by every reading, until ``opened``.
    """

    def __init__(self, path: Path, budget: Budget):
        super().__init__(io.FileIO(path))
        self._budget = budget
        self.opened = False

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        if not self.opened and size is not None and size > 0:
            self._budget.charge(_CONTENTS * size)
        return super().read(size)


def _read_zip(path: Path) -> Any:
    budget = torch_pickle.new_budget(path)
    with _Archive(path, budget) as stream, zipfile.ZipFile(stream) as archive:
        stream.opened = True
        root = _root(archive, path)
        if f'{root}byteorder' in archive.namelist():
            with _member(archive, f'{root}byteorder') as order:
                _check_order(path, order.read(7) == b'little')
        name = f'{root}data.pkl'
        budget.charge(archive.getinfo(name).file_size)
        with _member(archive, name) as member:
            pickled = io.BytesIO(member.read())

        def fetch(key: str, *form: int) -> IO[bytes]:
            """Opens a storage, whose length and bytes per number an archive knows itself."""
            return _member(archive, f'{root}data/{key}')

        return torch_pickle.load(pickled, path, fetch, budget)


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


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Opens a file in the archive, which is not compressed: it could be of any size.

    Raises:
        UnpicklingError: it is compressed.
    """
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise pickle.UnpicklingError(f'{name!r} is compressed, which torch.save never does')
    return archive.open(info)


def _check_order(path: Path, little: bool) -> None:
    if not little:
        raise UsageError(
            f'{path}: written on a big-endian machine; save it again on a little-endian one'
        )


class _Slice:
    """A part of a stream.

    Args:
        stream: of the file.
        start: byte of the file where it begins.
        length: bytes.
    """

    def __init__(self, stream: IO[bytes], start: int, length: int):
        self._stream = stream
        self._left = length
        stream.seek(start)

    def read(self, count: int) -> bytes:
        """The next bytes, at most so many."""
        found = self._stream.read(min(count, self._left))
        self._left -= len(found)
        return found


def _read_legacy(stream: BinaryIO, path: Path) -> Any:
    """Reads the object twice: its storages stand behind it, and only it says their types.

    Raises:
        UnpicklingError: the file starts otherwise.
    """
    forms: dict[str, tuple[int, int]] = {}

    def list_form(key: str, *form: int) -> None:
        forms[key] = form[0], form[1]

    def load_next() -> Any:
        """The next pickle of the file, its storages only listed."""
        return torch_pickle.load(stream, path, list_form, torch_pickle.new_budget(path))

    magic, protocol, system = load_next(), load_next(), load_next()
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise pickle.UnpicklingError(f'it does not start with the magic number and {PROTOCOL}')
    _check_order(path, system.get('little_endian') is not False)
    start = stream.tell()
    load_next()
    keys = load_next()
    starts = {}
    for key in keys:
        starts[key] = _find_storage(stream, *forms[key])
    with path.open('rb') as numbers:

        def fetch(key: str, numel: int, width: int) -> _Slice:
            """Opens a storage.

            Args:
                key: of the storage.
                numel: how many numbers it has.
                width: bytes per number.

            Raises:
                UnpicklingError: the first reading found it with another length.
            """
            if forms[key] != (numel, width):
                raise pickle.UnpicklingError('a storage of two lengths')
            return _Slice(numbers, starts[key], numel * width)

        stream.seek(start)
        return torch_pickle.load(stream, path, fetch, torch_pickle.new_budget(path))


def _find_storage(stream: BinaryIO, numel: int, width: int) -> int:
    """The byte of the file where the numbers of the storage start at which the stream is.

    Raises:
        UnpicklingError: it has another length.
    """
    (found,) = struct.unpack('<q', stream.read(8))
    if found != numel:
        raise pickle.UnpicklingError(f'a storage of {found} numbers, expected {numel}')
    start = stream.tell()
    stream.seek(numel * width, os.SEEK_CUR)
    return start
