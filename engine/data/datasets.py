"""The data sets that `--data` can name: an embedded one, a made-up one, CIFAR, or a folder of image files.

Nothing is ever downloaded. Images are handed out decoded but otherwise raw: uint8 [h, w, 3] in BGR order.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from engine.data import cifar
from engine.data.opencv import cv2
from engine.data.packed import Pack
from engine.errors import UsageError

EMBEDDED = Path(__file__).parents[1] / 'resources' / 'animals28.npz'
SUFFIXES = ('.jpeg', '.jpg', '.png', '.bmp', '.webp')
LABEL_LISTS = ('val.txt', 'val_map.txt', 'val_labels.txt')
PACKS = ('train.pack', 'val.pack')
CHOICES = 'animals28, fake, cifar10:DIR, cifar100:DIR, a folder with train/ and val/, or one that pack_data wrote'

SHOWN = 20  # names in a message

FAKE_CLASSES, FAKE_TRAIN, FAKE_VAL = 1000, 256, 64


class BadImage(UsageError):
    """A file that cannot be read or is no complete image."""


class Source:
    """Labelled images that can be read from several threads."""

    def __init__(self, labels: Sequence[int] | np.ndarray) -> None:
        """Keep the class indices as `labels`, int64 [N]."""
        self.labels = np.asarray(labels, np.int64)

    def __len__(self) -> int:
        """Number of images, N."""
        return len(self.labels)

    def read(self, i: int) -> np.ndarray:
        """Image `i`, uint8 [h, w, 3], BGR, of any size. Must not be written to."""
        raise NotImplementedError

    def name(self, i: int) -> str:
        """How messages and skip lists call image `i`: a file by its path relative to the data folder."""
        return f'image {i}'


@dataclass(frozen=True)
class Dataset:
    """Training and validation images of the same classes."""

    name: str
    classes: tuple[str, ...]  # in the order of the class index
    size: int  # edge of the views that the set is meant for, pixels
    augment: str  # recipe of engine.augment: 'area_crop' or 'shift'
    train: Source
    val: Source
    holdout: 'Subset | None' = None  # training images that are not trained on


class ArraySource(Source):
    """Images in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep uint8 [N, h, w] (grey) or [N, h, w, 3] (BGR), and N labels."""
        super().__init__(labels)
        self.images = images

    def read(self, i: int) -> np.ndarray:
        image = self.images[i]
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image


class Subset(Source):
    """Some images of another source."""

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        """Keep the images with these numbers, int64 [N], in this order."""
        super().__init__(source.labels[indices])
        self.source = source
        self.indices = indices

    def read(self, i: int) -> np.ndarray:
        return self.source.read(int(self.indices[i]))

    def name(self, i: int) -> str:
        return self.source.name(int(self.indices[i]))


class FakeSource(Source):
    """Noise that costs no disk, the same in every process: image `i` is drawn from (seed, i)."""

    def __init__(self, count: int, *, size: int, seed: int) -> None:
        """Make `count` images of `size` x `size` pixels."""
        super().__init__(np.random.default_rng(seed).integers(FAKE_CLASSES, size=count))
        self.size = size
        self.seed = seed

    def read(self, i: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, i])
        return rng.integers(256, size=(self.size, self.size, 3), dtype=np.uint8)


def decode(encoded: np.ndarray, name: str) -> np.ndarray:
    """The one way from the bytes of a file to pixels: colours as they are meant, no EXIF rotation.

    From memory OpenCV refuses a JPEG or PNG without its end, which it lets pass, grey below the cut, when it opens the
    file itself. So nothing else has to look for truncation.
    Not at a reduced scale: only 2 % of the crops for 224 pixels are shrunk by 2, and they would differ by 1.5 to 5 grey
    levels in the mean (0.8 without any texture).

    Args:
        encoded: uint8 [n], a file of any format that OpenCV reads.
        name: for the message.

    Returns:
        uint8 [h, w, 3], BGR.

    Raises:
        BadImage: empty, truncated or no image.
    """
    try:
        image = (
            cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if encoded.size
            else None
        )
    except cv2.error:
        image = None
    if image is None:
        raise BadImage(
            f'--data: {name} is {"not a complete image" if encoded.size else "empty"}; repair it or put it '
            'on the list of --skip-list'
        )
    return image


class FileSource(Source):
    """Image files, decoded when they are read."""

    def __init__(
        self, root: Path, files: Sequence[str], labels: Sequence[int] | np.ndarray
    ) -> None:
        """Keep N paths relative to `root` and N labels."""
        super().__init__(labels)
        self.root, self.files = root, files

    def encoded(self, i: int) -> np.ndarray:
        """The bytes of file `i`, uint8 [n]. Raises BadImage if it cannot be read."""
        try:
            return self._bytes(i)
        except OSError as error:
            raise BadImage(f'--data: cannot read {self.files[i]}: {error}') from error

    def read(self, i: int) -> np.ndarray:
        return decode(self.encoded(i), self.files[i])

    def name(self, i: int) -> str:
        return self.files[i]

    def _bytes(self, i: int) -> np.ndarray:
        # numpy.fromfile would return what happens to be in memory where the disk fails.
        with open(os.path.join(self.root, self.files[i]), 'rb') as file:
            return np.frombuffer(file.read(), np.uint8)


class PackedSource(FileSource):
    """Image files in one large file."""

    def __init__(self, pack: Pack) -> None:
        super().__init__(pack.path, pack.names, pack.labels)
        self._pack = pack

    def _bytes(self, i: int) -> np.ndarray:
        return self._pack.read(i)


def recipe(data: str) -> str:
    """How ``engine.data.augment`` treats the images of what `--data` names: small ones are taken as they are."""
    return (
        'shift'
        if cifar.spelled(data).partition(':')[0] in ('animals28', *cifar.SETS)
        else 'area_crop'
    )


def open_dataset(data: str, *, size: int | None = None, skip: str = '') -> Dataset:
    """Open what `--data` names. A name wins over a folder of that name: write ./fake for the folder.

    Args:
        data: animals28, fake, cifar10:DIR, cifar100:DIR, a folder with the CIFAR batches, one with train/CLASS/FILE and
            either val/CLASS/FILE or val/FILE plus a label list, or one with train.pack and val.pack.
        size: edge of the views, pixels; None takes the one the set is meant for.
        skip: file that lists images to leave out, one path relative to the data folder a line; lines that start with #
            are comments.

    Returns:
        The data set. Image files are listed but not opened.

    Raises:
        UsageError: there is no such data set, it is incomplete, or the list names other files.
    """
    dataset = _open(data, size)
    return _skip(dataset, Path(skip).expanduser()) if skip else dataset


def _skip(dataset: Dataset, path: Path) -> Dataset:
    """`dataset` without the images that a file lists. Raises UsageError if it names others, or all."""
    try:
        lines = [
            line.strip()
            for line in path.read_text(encoding='utf-8', errors='surrogateescape').split('\n')
        ]
    except OSError as error:
        raise UsageError(f'--skip-list {path}: cannot be read ({error.strerror})') from error
    listed = {line for line in lines if line and not line.startswith('#')}
    sources, unknown = [], set(listed)
    for source in (dataset.train, dataset.val):
        names = [source.name(i) for i in range(len(source))]
        unknown.difference_update(names)
        kept = [i for i, name in enumerate(names) if name not in listed]
        if not kept:
            raise UsageError(
                f'--skip-list {path}: leaves nothing of {len(names)} images such as {names[0]}'
            )
        sources.append(source if len(kept) == len(names) else Subset(source, np.array(kept)))
    if unknown:
        raise UsageError(
            f'--skip-list {path}: {min(unknown)} is no image of --data {dataset.name}; give paths '
            f'relative to its folder, such as {dataset.train.name(0)}'
        )
    return replace(dataset, train=sources[0], val=sources[1])


def _open(data: str, size: int | None) -> Dataset:
    if size is not None and size < 1:
        raise UsageError(f'size is {size}, expected at least 1')
    if data == 'animals28':
        return _open_animals28(size or 28)
    if data == 'fake':
        edge = size or 224
        return Dataset(
            'fake',
            tuple(f'class{k:03}' for k in range(FAKE_CLASSES)),
            edge,
            'area_crop',
            FakeSource(FAKE_TRAIN, size=edge, seed=0),
            FakeSource(FAKE_VAL, size=edge, seed=1),
        )
    name, _, place = cifar.spelled(data).partition(':')
    if name in cifar.SETS and place:
        return _open_cifar(name, Path(place).expanduser(), size or 32)
    return _open_folder(data, size)


def _open_animals28(size: int) -> Dataset:
    with np.load(EMBEDDED) as arrays:
        image, label, test = arrays['image'], arrays['label'], arrays['test']
        classes = tuple(str(name) for name in arrays['names'])
    return Dataset(
        'animals28',
        classes,
        size,
        'shift',
        ArraySource(image[~test], label[~test]),
        ArraySource(image[test], label[test]),
    )


def _open_cifar(name: str, root: Path, size: int) -> Dataset:
    classes, train, val = cifar.read(name, root)
    return Dataset(name, classes, size, 'shift', ArraySource(*train), ArraySource(*val))


def _open_folder(data: str, size: int | None) -> Dataset:
    root = Path(data).expanduser()
    if not root.is_dir():
        raise UsageError(f'--data {data}: no such name and no such folder; give {CHOICES}')
    if any((root / part).exists() for part in PACKS):
        return _open_packed(root, size or 224)
    for part in ('train', 'val'):
        if not (root / part).is_dir():
            raise UsageError(f'--data {data}: there is no {part}/ in it; give {CHOICES}')
    classes = tuple(_folders(root / 'train'))
    if not classes:
        raise UsageError(f'--data {data}: train/ holds no class folders')
    index = {name: k for k, name in enumerate(classes)}
    return Dataset(
        root.resolve().name,
        classes,
        size or 224,
        'area_crop',
        _read_tree(root, 'train', index),
        _read_val(root, index),
    )


def _open_packed(root: Path, size: int) -> Dataset:
    """Raises UsageError if one of the two files is not complete."""
    train, val = (Pack(root / part) for part in PACKS)
    if train.classes != val.classes:
        raise UsageError(
            f'--data {root}: {PACKS[0]} and {PACKS[1]} have other classes; pack them again'
        )
    return Dataset(
        root.resolve().name,
        train.classes,
        size,
        'area_crop',
        PackedSource(train),
        PackedSource(val),
    )


def _folders(folder: Path) -> list[str]:
    """Sorted names of the folders in it, without hidden ones."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith('.')
    )


def _images(folder: Path) -> list[str]:
    """Sorted names of the image files in it, without hidden ones."""
    # Names, not Path objects: those would take half a gigabyte for ImageNet.
    return sorted(
        name
        for name in os.listdir(folder)
        if name.lower().endswith(SUFFIXES) and not name.startswith('.')
    )


def _some(names: Iterable[str]) -> str:
    """The first of many names in order, for a message."""
    first, more = sorted(names)[:SHOWN], len(set(names)) - SHOWN
    return ', '.join(first) + (f' and {more} more' if more > 0 else '')


def _read_tree(root: Path, part: str, index: dict[str, int]) -> FileSource:
    """List root/part/CLASS/FILE. Raises UsageError if a class is empty or not in `index`."""
    files: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    for name in _folders(root / part):
        folder = root / part / name
        if name not in index:
            raise UsageError(f'--data: {folder} is no class: there is no train/{name}')
        found = _images(folder)
        empty += [] if found else [name]
        files += [f'{part}/{name}/{file}' for file in found]
        labels += [index[name]] * len(found)
    if empty:
        raise UsageError(
            f'--data: {root / part}: these classes hold no images ({" ".join(SUFFIXES)}): {_some(empty)}'
        )
    return FileSource(root, files, labels)


def _read_val(root: Path, index: dict[str, int]) -> FileSource:
    """List val/CLASS/FILE, or val/FILE by its label list. Raises UsageError if they do not fit together."""
    names = _images(root / 'val')
    if folders := _folders(root / 'val'):
        if lacking := set(index).difference(folders):
            raise UsageError(
                f'--data: {root / "val"} lacks the folders of these classes: {_some(lacking)}'
            )
        if names:
            raise UsageError(
                f'--data: {root / "val"} holds class folders and beside them {len(names)} images; put '
                f'those into their classes: {_some(names)}'
            )
        return _read_tree(root, 'val', index)
    if not names:
        raise UsageError(f'--data: {root / "val"} holds no images ({" ".join(SUFFIXES)})')
    candidates = [folder / name for folder in (root, root / 'meta') for name in LABEL_LISTS]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UsageError(
            f'--data: {root / "val"} holds neither class folders nor is there a label list; looked for '
            + ', '.join(str(candidate.relative_to(root)) for candidate in candidates)
        )
    return FileSource(root, [f'val/{name}' for name in names], _read_labels(path, names, index))


def _read_labels(path: Path, names: list[str], index: dict[str, int]) -> list[int]:
    """Class index of each file of `names`, from lines 'file label', or 'label' in the sorted order of the files.

    Raises UsageError if files and lines do not match one to one, or a label is unknown.
    """
    content = path.read_text(encoding='utf-8', errors='replace')
    lines = [line.rsplit(None, 1) for line in content.splitlines() if line.strip()]
    bare = all(len(fields) == 1 for fields in lines)
    listed = names if bare else [PurePosixPath(fields[0]).name for fields in lines]
    for missing, what in (
        (set(names) - set(listed), 'has no line for these images of val/'),
        (set(listed) - set(names), 'lists images that val/ lacks'),
    ):
        if missing:
            raise UsageError(f'--data: {path} {what}: {_some(missing)}')
    if len(lines) != len(names):
        raise UsageError(
            f'--data: {path} has {len(lines)} lines for the {len(names)} images of val/'
        )
    labels = {
        name: _read_label(path, fields[-1], index)
        for name, fields in zip(listed, lines, strict=True)
    }
    return [labels[name] for name in names]


def _read_label(path: Path, label: str, index: dict[str, int]) -> int:
    """Class index from the name of a class folder, else from a decimal number. Raises UsageError for any other."""
    known = index.get(label, int(label) if label.isdecimal() else -1)
    if not 0 <= known < len(index):
        raise UsageError(
            f'--data: {path}: label {label} is neither a class of train/ nor 0..{len(index) - 1}'
        )
    return known
