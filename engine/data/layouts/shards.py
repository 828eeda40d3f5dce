"""Layout of images in shards: TFRecord files of the public form of ImageNet, or tar archives.

Shards are read where they are: listed once at the start, after which any image is one read of its
bytes, so that training shuffles over all of them and resumes as it does with single files.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from engine import arrays
from engine.console import followed
from engine.data.layouts import tfrecord
from engine.data.layouts.layout import (
    TRAIN,
    VAL,
    Parts,
    classes_of,
    entries,
    is_image,
    numbered,
    part_of,
    validation,
)
from engine.data.sources import FileSource, some
from engine.errors import UsageError
from engine.schema import shown

TAR = '.tar'
TFRECORD = re.compile(r'\.(tfrecords?|tfrec)$|-\d+-of-\d+$')
_WORD = re.compile('[a-z]+')

# Images from which on the list of shards is kept for the next start.
KEPT = 20_000
# Of such a list: another number where something else is listed.
_FORM = 2


class Listed(NamedTuple):
    """An image of a shard: its name, place and length there, and its label."""

    name: str
    offset: int
    length: int
    label: str


class ShardSource(FileSource):
    """Image files in shards."""

    def __init__(
        self, root: Path, shards: Sequence[str], found: dict[str, np.ndarray], labels: np.ndarray
    ) -> None:
        """Keep where the images are.

        Args:
            root: folder of the shards.
            shards: their paths in it.
            found: ``name``, ``shard``, ``offset`` and ``length`` [N].
            labels: int64 [N].
        """
        names = found['name'].tolist()
        super().__init__(root, names, labels)
        self._shards = shards
        self._shard = found['shard']
        self._offset = found['offset']
        self._length = found['length']

    def part(self, numbers: np.ndarray) -> 'ShardSource':
        """See ``Source.part``."""
        found = {
            'name': np.array(self.files)[numbers],
            'shard': self._shard[numbers],
            'offset': self._offset[numbers],
            'length': self._length[numbers],
        }
        return ShardSource(self.root, self._shards, found, self.labels[numbers])

    def stored_size(self, i: int) -> int:
        """Length of file `i`."""
        return int(self._length[i])

    def opened(self, i: int) -> BinaryIO:
        """The bytes of file `i`."""
        return io.BytesIO(self.stored(i))

    def _bytes(self, i: int) -> np.ndarray:
        # Opened each time: there may be more shards than a process may have files.
        path = os.path.join(self.root, self._shards[int(self._shard[i])])
        with open(path, 'rb', buffering=0) as file:
            content = os.pread(file.fileno(), int(self._length[i]), int(self._offset[i]))
        return np.frombuffer(content, np.uint8)


class Shards:
    """Shards of one kind, whose names or folders tell the part."""

    def __init__(self, kind: str, name: str, wanted: str):
        self.name = name
        self.wanted = wanted
        self._kind = kind

    def recognise(self, root: Path) -> bool:
        """Whether there are such files."""
        return bool(self._shards(root))

    def read(self, root: Path) -> Parts:
        """List the images of all shards.

        Raises:
            UsageError: a shard is damaged, or validation images have labels that others lack.
        """
        parts = self._shards(root)
        train = parts.get('train') or parts.get('')
        if not train:
            raise UsageError(f'--data: {root}: there are no shards of training images')
        found = self._listed(root, train)
        labels = found['label'].tolist()
        classes, index = classes_of(labels, root)
        source = ShardSource(root, train, found, numbered(labels, index, root))
        part, note = validation(parts, 'shards')
        if not part:
            return Parts(classes, source, None)
        val = parts[part]
        found = self._listed(root, val)
        numbers = numbered(found['label'].tolist(), index, root / val[0])
        return Parts(classes, source, ShardSource(root, val, found, numbers), note)

    def _shards(self, root: Path) -> dict[str, list[str]]:
        """Paths of shards by part, which is empty for those that do not tell."""
        found: dict[str, list[str]] = {}
        for name in entries(root):
            if self._is_shard(name):
                words = _WORD.findall(Path(name).stem.lower())
                told = [part_of(word) for word in words if part_of(word)]
                part = told[0] if told else ''
                found.setdefault(part, []).append(name)
        for folder in (*TRAIN, *VAL):
            for name in entries(root / folder):
                if self._is_shard(name):
                    found.setdefault(part_of(folder), []).append(f'{folder}/{name}')
        return found

    def _is_shard(self, name: str) -> bool:
        if self._kind == TAR:
            return name.lower().endswith(TAR)
        return TFRECORD.search(name) is not None

    def _listed(self, root: Path, shards: Sequence[str]) -> dict[str, np.ndarray]:
        """Name, shard, offset, length and label of every image, [N] each.

        Raises:
            UsageError: a shard is damaged, or holds no images.
        """
        try:
            kept = _kept(root, shards)
        except OSError as error:
            raise UsageError(f'--data: a shard cannot be read: {error}') from error
        try:
            return arrays.read(kept, _LIST, 'it is made anew')
        except UsageError:
            pass
        images: list[Listed] = []
        numbers: list[int] = []
        read = _archived if self._kind == TAR else _recorded
        listed = followed(shards, 'listing', len(shards), 'shards', delay=3)
        for number, name in enumerate(listed):
            try:
                images += read(root, name)
            except OSError as error:
                raise UsageError(f'--data: {root / name} cannot be read: {error}') from error
            numbers += [number] * (len(images) - len(numbers))
        if not images:
            raise UsageError(f'--data: {root}: there are no images in {some(shards)}')
        names, offsets, lengths, labels = zip(*images)
        found = {
            'name': np.array(names),
            'shard': np.array(numbers, np.int64),
            'offset': np.array(offsets, np.int64),
            'length': np.array(lengths, np.int64),
            'label': np.array(labels),
        }
        if len(images) >= KEPT:
            _keep(kept, found)
        return found


_LIST = {
    'name': arrays.Array('U', 1),
    'shard': arrays.Array('i', 1, low=0),
    'offset': arrays.Array('i', 1, low=0),
    'length': arrays.Array('i', 1, low=0),
    'label': arrays.Array('U', 1),
}


def _kept(root: Path, shards: Sequence[str]) -> Path:
    """Where a list of the images of these shards is kept, as they are now."""
    digest = hashlib.blake2b(os.fsencode(f'{_FORM}\0{root.absolute()}'), digest_size=16)
    for name in shards:
        state = (root / name).stat()
        digest.update(os.fsencode(f'{name}\0{state.st_size}\0{state.st_mtime_ns}\n'))
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(cache, 'switchable-nets', f'shards-{digest.hexdigest()}.npz')


def _keep(path: Path, found: dict[str, np.ndarray]) -> None:
    """Keeps a list where that is possible; the next start is quicker then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays.write(path, found)
    except OSError:
        return


def _recorded(root: Path, shard: str) -> Iterator[Listed]:
    """The images of a TFRecord file."""
    for number, record in enumerate(tfrecord.records(root / shard)):
        yield Listed(f'{shard}/{number}', *record)


def _archived(root: Path, shard: str) -> list[Listed]:
    """The images of a tar archive: KEY.jpg (or another image) beside KEY.cls.

    Raises:
        UsageError: it is no archive, or an image has no label, or has it with another one.
        OSError: of the file system.
    """
    images: dict[str, tarfile.TarInfo] = {}
    labels = {}
    pairs = []
    try:
        with tarfile.open(root / shard, 'r:') as archive:
            for member, key in _members(archive, (root / shard).stat().st_size):
                if member.name.endswith('.cls'):
                    content = archive.extractfile(member)
                    assert content is not None
                    labels[key] = content.read().decode().strip()
                    continue
                before = images.get(key, member).name
                # One that is added again under its name replaces what was there.
                if before != member.name:
                    pairs.append(f'{before} and {member.name}')
                images[key] = member
    except OSError:
        raise
    except (tarfile.TarError, *arrays.FAULTS) as error:
        raise UsageError(f'--data: {root / shard} is no complete tar archive ({error})') from error
    if pairs:
        raise UsageError(
            f'--data: {root / shard}: these images have one label, as KEY ends at the first dot: '
            f'{some(pairs)}'
        )
    without = [member.name for key, member in images.items() if not labels.get(key)]
    if without:
        raise UsageError(
            f'--data: {root / shard}: these images have no label, KEY.cls beside KEY.jpg: '
            f'{some(without)}'
        )
    found = []
    for key, member in images.items():
        name = f'{shard}/{member.name}'
        found.append(Listed(name, member.offset_data, member.size, labels[key]))
    return found


def _members(archive: tarfile.TarFile, size: int) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Images and labels of an archive, each with its key: its path up to the first dot of the name.

    Args:
        archive: that is read.
        size: of it, bytes.

    Raises:
        ValueError: one is not all there, or a label or name is too long.
    """
    for member in archive:
        name = shown(member.name, 200)
        if member.size < 0:
            raise ValueError(f'{name} has {member.size} bytes')
        folder, _, file = member.name.rpartition('/')
        stem, _, suffix = file.partition('.')
        is_label = suffix == 'cls'
        if not member.isfile() or not (is_label or is_image(file)):
            continue
        if member.issparse() or member.size > size - member.offset_data:
            raise ValueError(f'{name} is not all there')
        if max(len(member.name), is_label * member.size) > tfrecord.LONGEST:
            raise ValueError(f'{name} is too long')
        yield member, f'{folder}/{stem}'


TFRECORDS = Shards(
    'tfrecord',
    'TFRecord shards',
    'train-00000-of-00010 and validation-00000-of-00002 (or *.tfrecord), also in train/ and val/, '
    'with image/encoded and image/class/label',
)
WEBDATASET = Shards(
    TAR,
    'WebDataset shards',
    'train-000000.tar and val-000000.tar, also in train/ and val/, with KEY.jpg and KEY.cls',
)
