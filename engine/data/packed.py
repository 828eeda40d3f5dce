"""Many labelled files in one: for network file systems, where opening a million small files is what takes the time.

Layout: ``MAGIC``; per file a header (label, crc32 of name and bytes, length of the bytes, length of the name), its name
and its bytes; then an index of all of them (an .npz) and ``TAIL`` with its place. The index is written last, into a
file that gets its name then: a pack that is there is complete, and what an interrupted writer left can be continued.

LMDB, which tensorpack's serializer writes, is documented as unfit for remote file systems, and the serializer can
neither go on nor check what it wrote.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from engine.errors import UsageError

MAGIC = b'SWPACK1\n'
HEADER = struct.Struct('<IIIH')
TAIL = struct.Struct('<QQ8s')


class Entry(NamedTuple):
    """Where a file is: place and length of its bytes, checksum, label, name."""

    offset: int
    length: int
    crc: int
    label: int
    name: bytes


class Pack:
    """A complete pack, which several threads can read.

    Attributes:
        classes: names of the classes.
        labels: int64 [N].
        names: of the files.
    """

    def __init__(self, path: Path) -> None:
        """Read the index. Raises UsageError if it is no complete pack."""
        self.path = path
        try:
            self._file = path.open('rb')
            place = self._file.seek(-TAIL.size, os.SEEK_END)
            start, length, magic = TAIL.unpack(self._file.read())
            if magic != MAGIC or start + length != place:
                raise ValueError('no index')
            self._file.seek(start)
            with np.load(io.BytesIO(self._file.read(length))) as index:
                self.classes = tuple(str(name) for name in index['classes'])
                self.labels = index['label'].astype(np.int64)
                self._offset, self._length, self._crc = (
                    index['offset'],
                    index['length'],
                    index['crc'],
                )
                self.names = [os.fsdecode(name) for name in index['name'].tolist()]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UsageError(
                f'{path}: is no complete pack ({error}); write it with python -m scripts.pack_data'
            ) from error

    def __len__(self) -> int:
        """Number of files."""
        return len(self.labels)

    def read(self, i: int) -> np.ndarray:
        """Bytes of file `i`, uint8 [n]. Raises OSError if name or bytes are not those that were written."""
        content = os.pread(self._file.fileno(), int(self._length[i]), int(self._offset[i]))
        if checksum(os.fsencode(self.names[i]), content) != self._crc[i]:
            raise OSError(f'{self.path} differs from its checksum there')
        return np.frombuffer(content, np.uint8)


def checksum(name: bytes, content: bytes | memoryview) -> int:
    return zlib.crc32(content, zlib.crc32(name))


def unfinished(path: Path) -> Path:
    """Where the pack `path` is while it is written."""
    return path.with_name(path.name + '.part')


def recover(path: Path) -> list[Entry]:
    """The files in an unfinished pack, up to the first one that differs from its checksum: a block that never reached
    the disk may lie anywhere. None if there is no such file. Shows its progress.
    """
    if not path.exists():
        return []
    size = path.stat().st_size
    with (
        path.open('rb') as file,
        tqdm(total=size, unit='B', unit_scale=True, desc=f'checking {path.name}') as bar,
    ):
        if file.read(len(MAGIC)) != MAGIC:
            return []
        found = []
        for entry in _entries(file, size):
            found.append(entry)
            bar.update(file.tell() - bar.n)
    return found


def _entries(file: BinaryIO, size: int) -> Iterator[Entry]:
    while len(header := file.read(HEADER.size)) == HEADER.size:
        label, crc, length, name_length = HEADER.unpack(header)
        name, offset = file.read(name_length), file.tell()
        if not name or offset + length > size or checksum(name, file.read(length)) != crc:
            return
        yield Entry(offset, length, crc, label, name)


def write(
    path: Path,
    entries: list[Entry],
    files: Iterable[tuple[str, int, np.ndarray]],
    *,
    classes: Sequence[str],
) -> None:
    """Write a pack after the `entries` that `recover` found in the unfinished one.

    Args:
        path: of the complete pack.
        entries: what is there already; the new ones are appended to it.
        files: name, label and bytes (uint8 [n]) of those that are not.
        classes: names of the classes.

    Raises:
        OSError: it cannot be written; what was written so far stays.
    """
    part = unfinished(path)
    with part.open('r+b' if part.exists() else 'w+b') as file:
        file.write(MAGIC)
        file.truncate(file.seek(entries[-1].offset + entries[-1].length if entries else len(MAGIC)))
        for text, label, content in files:
            name = os.fsencode(text)
            crc = checksum(name, content.data)
            file.write(HEADER.pack(label, crc, len(content), len(name)) + name)
            entries.append(Entry(file.tell(), len(content), crc, label, name))
            file.write(content.tobytes())
        _write_index(file, entries, classes)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _write_index(file: BinaryIO, entries: Sequence[Entry], classes: Sequence[str]) -> None:
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
    )
    start = file.tell()
    file.write(index.getvalue())
    file.write(TAIL.pack(start, index.tell(), MAGIC))
