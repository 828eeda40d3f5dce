"""Many labelled files in one, for network file systems.

There, opening a million small files is what takes the time. Layout: ``MAGIC``; per file a header
(label, crc32 of name and bytes, length of the bytes, length of the name), its name and its bytes;
then an index of all of them (an .npz) and ``TAIL`` with its place. The index is written last, into
a file that gets its name then: a pack that is there is complete, and what an interrupted writer
left can be continued.

LMDB, which tensorpack's serializer writes, is documented as unfit for remote file systems, and the
serializer can neither go on nor check what it wrote.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from engine import arrays
from engine.console import Progress
from engine.data.sources import FileSource
from engine.errors import UsageError

PACKS = ('train.pack', 'val.pack')  # in a packed folder
MAGIC = b'SWPACK1\n'
HEADER = struct.Struct('<IIIH')
TAIL = struct.Struct('<QQ8s')


class File(NamedTuple):
    """A file to be packed: name, class index, and bytes as uint8 [n]."""

    name: str
    label: int
    content: np.ndarray


class Entry(NamedTuple):
    """Where a packed file is: place and length of its bytes, checksum, label, name."""

    offset: int
    length: int
    crc: int
    label: int
    name: bytes

    @property
    def end(self) -> int:
        """Place behind its last byte."""
        return self.offset + self.length


class Pack:
    """A complete pack, which several threads can read.

    Attributes:
        path: of the file.
        classes: names of the classes.
        labels: int64 [N].
        names: of the files.
        skipped: names of the files that were left out; None: not known, in an earlier pack.
        form: what was done to the files, see ``engine.data.shrink``; empty: nothing.
    """

    def __init__(self, path: Path) -> None:
        """Read the index.

        Raises:
            UsageError: it is no complete pack.
        """
        self.path = path
        try:
            self._file = path.open('rb')
            index = _read_index(self._file)
            self.classes = tuple(index['classes'].tolist())
            self.labels = index['label'].astype(np.int64)
            self.names = list(map(os.fsdecode, index['name'].tolist()))
            self.skipped = _skipped(index)
            self.form = str(index['form']) if 'form' in index else ''
            self._offset = index['offset']  # [N], as the next two
            self._length = index['length']
            self._crc = index['crc']
        except arrays.FAULTS as error:
            raise UsageError(
                f'{path}: is no complete pack ({error}); write it with python -m scripts.pack_data'
            ) from error

    def __len__(self) -> int:
        """Number of files."""
        return len(self.labels)

    def read(self, i: int) -> np.ndarray:
        """Bytes of file `i`, uint8 [n].

        Raises:
            OSError: name or bytes are not those that were written.
        """
        content = self.stored(i)
        if checksum(os.fsencode(self.names[i]), content) != self._crc[i]:
            raise OSError(f'{self.path} differs from its checksum there')
        return np.frombuffer(content, np.uint8)

    def stored(self, i: int) -> bytes:
        """Bytes of file `i`, unchecked."""
        return os.pread(self._file.fileno(), int(self._length[i]), int(self._offset[i]))

    def size(self, i: int) -> int:
        """Length of file `i`."""
        return int(self._length[i])


class PackedSource(FileSource):
    """Image files in one large file."""

    def __init__(self, pack: Pack) -> None:
        """Take names and labels from a pack."""
        super().__init__(pack.path, pack.names, pack.labels)
        self.skipped = pack.skipped
        self._pack = pack

    def stored_size(self, i: int) -> int:
        """Length of file `i`."""
        return self._pack.size(i)

    def stored(self, i: int) -> bytes:
        """Bytes of file `i`, which may be damaged."""
        return self._pack.stored(i)

    def opened(self, i: int) -> BinaryIO:
        """The bytes of file `i`."""
        return io.BytesIO(self.stored(i))

    def _bytes(self, i: int) -> np.ndarray:
        return self._pack.read(i)


def checksum(name: bytes, content: bytes | memoryview) -> int:
    """CRC-32 of a name followed by its file's bytes."""
    return zlib.crc32(content, zlib.crc32(name))


def unfinished(path: Path, form: str = '') -> Path:
    """Where the pack `path` is while it is written, by what is done to its files."""
    middle = f'.{form}' if form else ''
    return path.with_name(f'{path.name}{middle}.part')


def recover(path: Path) -> list[Entry]:
    """The files in an unfinished pack, up to the first one that differs from its checksum.

    A block that never reached the disk may lie anywhere. Shows its progress. Empty if there is no
    such pack.
    """
    if not path.exists():
        return []
    size = path.stat().st_size
    found = []
    with (
        path.open('rb') as file,
        Progress(f'checking {path.name}', size, 'bytes', scaled=True) as progress,
    ):
        for entry in _entries(file, size):
            found.append(entry)
            progress.to(file.tell())
    return found


def write(
    path: Path,
    entries: list[Entry],
    files: Iterable[File],
    *,
    classes: Sequence[str],
    skipped: Iterable[str] = (),
    form: str = '',
) -> None:
    """Write a pack after the `entries` that `recover` found in the unfinished one.

    Args:
        path: of the complete pack.
        entries: what is there already; the new ones are appended to it.
        files: those that are not.
        classes: names of the classes.
        skipped: names of the files that are left out.
        form: what was done to the files.

    Raises:
        OSError: it cannot be written; what was written so far stays.
    """
    part = unfinished(path, form)
    with part.open('r+b' if part.exists() else 'w+b') as file:
        file.write(MAGIC)
        start = entries[-1].end if entries else len(MAGIC)
        file.seek(start)
        file.truncate()
        for one in files:
            entries.append(_append(file, one))
        _write_index(file, entries, classes, skipped, form)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _read_index(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays that `_write_index` wrote.

    Raises:
        ValueError: the tail is not there.
    """
    place = file.seek(-TAIL.size, os.SEEK_END)
    start, length, magic = TAIL.unpack(file.read())
    if magic != MAGIC or start + length != place:
        raise ValueError('no index')
    file.seek(start)
    return arrays.members(file.read(length))


def _entries(file: BinaryIO, size: int) -> Iterator[Entry]:
    """Read file by file from the start, as long as all is as it was written."""
    if file.read(len(MAGIC)) != MAGIC:
        return
    while len(header := file.read(HEADER.size)) == HEADER.size:
        label, crc, length, name_length = HEADER.unpack(header)
        name = file.read(name_length)
        entry = Entry(file.tell(), length, crc, label, name)
        if not name or entry.end > size or checksum(name, file.read(length)) != crc:
            return
        yield entry


def _append(file: BinaryIO, one: File) -> Entry:
    name = os.fsencode(one.name)
    length = len(one.content)
    crc = checksum(name, one.content.data)
    file.write(HEADER.pack(one.label, crc, length, len(name)))
    file.write(name)
    entry = Entry(file.tell(), length, crc, one.label, name)
    file.write(one.content.tobytes())
    return entry


def _skipped(index: Mapping[str, np.ndarray]) -> frozenset[str] | None:
    if 'skipped' not in index:
        return None
    return frozenset(map(os.fsdecode, index['skipped'].tolist()))


def _write_index(
    file: BinaryIO,
    entries: Sequence[Entry],
    classes: Sequence[str],
    skipped: Iterable[str],
    form: str,
) -> None:
    """Writes the index of a pack, and where it begins.

    Args:
        file: of the pack, behind its files.
        entries: these files.
        classes: names of the classes.
        skipped: names of the files that are left out.
        form: what was done to the files.
    """
    offset, length, crc, label, name = zip(*entries)
    index = io.BytesIO()
    np.savez(
        index,
        offset=np.array(offset, np.int64),
        length=np.array(length, np.uint32),
        crc=np.array(crc, np.uint32),
        label=np.array(label, np.uint32),
        name=np.array(name),
        classes=np.array(classes),
        skipped=np.array([os.fsencode(one) for one in sorted(skipped)], np.bytes_),
        form=np.array(form),
    )
    start = file.tell()
    file.write(index.getvalue())
    file.write(TAIL.pack(start, index.tell(), MAGIC))
