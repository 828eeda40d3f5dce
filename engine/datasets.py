"""The data sets that `--data` can name: an embedded one, a made-up one, CIFAR, or a folder of image files.

Nothing is ever downloaded. Images are handed out decoded but otherwise raw: uint8 [h, w, 3] in BGR order.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from engine.errors import UsageError

EMBEDDED = Path(__file__).parent / 'data' / 'animals28.npz'
SUFFIXES = ('.jpeg', '.jpg', '.png', '.bmp', '.webp')
LABEL_LISTS = ('val.txt', 'val_map.txt', 'val_labels.txt')
CHOICES = 'animals28, fake, cifar10:DIR, cifar100:DIR, or a folder with train/ and val/'

FAKE_CLASSES, FAKE_TRAIN, FAKE_VAL = 1000, 256, 64

# Folder, training files, validation file, file and key of the class names, key of the labels.
CIFAR = {
    'cifar10': ('cifar-10-batches-py', tuple(f'data_batch_{k}' for k in range(1, 6)), 'test_batch',
                'batches.meta', 'label_names', 'labels'),
    'cifar100': ('cifar-100-python', ('train',), 'test', 'meta', 'fine_label_names', 'fine_labels'),
}

# What a pickled array is made of. The function is taken from an array as its module moved between numpy 1 and 2.
ARRAY_MODULES = ('numpy', 'numpy.core.multiarray', 'numpy._core.multiarray')
ARRAY_PARTS: dict[str, Any] = {'ndarray': np.ndarray, 'dtype': np.dtype, '_reconstruct': np.empty(0).__reduce__()[0]}


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


@dataclass(frozen=True)
class Dataset:
    """Training and validation images of the same classes."""

    name: str
    classes: tuple[str, ...]  # in the order of the class index
    size: int  # edge of the views that the set is meant for, pixels
    augment: str  # recipe of engine.augment: 'area_crop' or 'shift'
    train: Source
    val: Source


class ArraySource(Source):
    """Images in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep uint8 [N, h, w] (grey) or [N, h, w, 3] (BGR), and N labels."""
        super().__init__(labels)
        self.images = images

    def read(self, i: int) -> np.ndarray:
        image = self.images[i]
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image


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


class FileSource(Source):
    """Image files, decoded when they are read."""

    def __init__(self, files: Sequence[str], labels: Sequence[int]) -> None:
        """Keep N paths and N labels."""
        super().__init__(labels)
        self.files = files

    def read(self, i: int) -> np.ndarray:
        """Decode without the EXIF rotation, as the TensorFlow decoders do. Raises UsageError if it is no image."""
        try:
            encoded = np.fromfile(self.files[i], np.uint8)
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if encoded.size else None
        except (OSError, cv2.error) as error:
            raise UsageError(f'--data: cannot read {self.files[i]}: {error}') from error
        if image is None:
            raise UsageError(f'--data: {self.files[i]} is not an image that OpenCV can decode')
        return image


def open_dataset(data: str, *, size: int | None = None) -> Dataset:
    """Open what `--data` names. A name wins over a folder of that name: write ./fake for the folder.

    Args:
        data: animals28, fake, cifar10:DIR, cifar100:DIR, a folder with the CIFAR batches, or one with
            train/CLASS/FILE and either val/CLASS/FILE or val/FILE plus a label list.
        size: edge of the views, pixels; None takes the one the set is meant for.

    Returns:
        The data set. Image files are listed but not opened.

    Raises:
        UsageError: there is no such data set, or it is incomplete.
    """
    if size is not None and size < 1:
        raise UsageError(f'size is {size}, expected at least 1')
    if data == 'animals28':
        return _open_animals28(size or 28)
    if data == 'fake':
        edge = size or 224
        return Dataset('fake', tuple(f'class{k:03}' for k in range(FAKE_CLASSES)), edge, 'area_crop',
                       FakeSource(FAKE_TRAIN, size=edge, seed=0), FakeSource(FAKE_VAL, size=edge, seed=1))
    name, _, place = data.partition(':')
    if name in CIFAR and place:
        return _open_cifar(name, Path(place).expanduser(), size or 32)
    return _open_folder(data, size)


def _open_animals28(size: int) -> Dataset:
    with np.load(EMBEDDED) as arrays:
        image, label, test = arrays['image'], arrays['label'], arrays['test']
        classes = tuple(str(name) for name in arrays['names'])
    return Dataset('animals28', classes, size, 'shift',
                   ArraySource(image[~test], label[~test]), ArraySource(image[test], label[test]))


def _open_folder(data: str, size: int | None) -> Dataset:
    root = Path(data).expanduser()
    if not root.is_dir():
        raise UsageError(f'--data {data}: no such name and no such folder; give {CHOICES}')
    for name in CIFAR:
        if _find_cifar(name, root):
            return _open_cifar(name, root, size or 32)
    for part in ('train', 'val'):
        if not (root / part).is_dir():
            raise UsageError(f'--data {data}: there is no {part}/ in it; give {CHOICES}')
    classes = tuple(_folders(root / 'train'))
    if not classes:
        raise UsageError(f'--data {data}: train/ holds no class folders')
    index = {name: k for k, name in enumerate(classes)}
    return Dataset(root.resolve().name, classes, size or 224, 'area_crop',
                   _read_tree(root / 'train', index), _read_val(root, index))


def _folders(folder: Path) -> list[str]:
    """Sorted names of the folders in it, without hidden ones."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith('.'))


def _images(folder: Path) -> list[str]:
    """Sorted names of the image files in it, without hidden ones. Raises UsageError if there are none."""
    # Names, not Path objects: those would take half a gigabyte for ImageNet.
    names = sorted(name for name in os.listdir(folder)
                   if name.lower().endswith(SUFFIXES) and not name.startswith('.'))
    if not names:
        raise UsageError(f'--data: {folder} holds no images ({" ".join(SUFFIXES)})')
    return names


def _read_tree(folder: Path, index: dict[str, int]) -> FileSource:
    """List folder/CLASS/FILE. Raises UsageError if a class is empty or not in `index`."""
    files: list[str] = []
    labels: list[int] = []
    for name in _folders(folder):
        if name not in index:
            raise UsageError(f'--data: {folder / name} is no class: there is no train/{name}')
        found = _images(folder / name)
        files += [os.path.join(folder, name, file) for file in found]
        labels += [index[name]] * len(found)
    return FileSource(files, labels)


def _read_val(root: Path, index: dict[str, int]) -> FileSource:
    """List val/CLASS/FILE, or val/FILE by its label list. Raises UsageError if they do not fit together."""
    if _folders(root / 'val'):
        return _read_tree(root / 'val', index)
    names = _images(root / 'val')
    candidates = [folder / name for folder in (root, root / 'meta') for name in LABEL_LISTS]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UsageError(f'--data: {root / "val"} holds neither class folders nor is there a label list; looked for '
                         + ', '.join(str(candidate.relative_to(root)) for candidate in candidates))
    return FileSource([os.path.join(root, 'val', name) for name in names], _read_labels(path, names, index))


def _read_labels(path: Path, names: list[str], index: dict[str, int]) -> list[int]:
    """Class index of each file of `names`, from lines 'file label', or 'label' in the sorted order of the files.

    Raises UsageError if files and lines do not match one to one, or a label is unknown.
    """
    content = path.read_text(encoding='utf-8', errors='replace')
    lines = [line.rsplit(None, 1) for line in content.splitlines() if line.strip()]
    if len(lines) != len(names):
        raise UsageError(f'--data: {path} has {len(lines)} lines for the {len(names)} images of val/')
    bare = all(len(fields) == 1 for fields in lines)
    listed = names if bare else [PurePosixPath(fields[0]).name for fields in lines]
    missing = sorted(set(names) - set(listed))
    if missing:
        raise UsageError(f'--data: {path} has no line for val/{missing[0]}')
    labels = {name: _read_label(path, fields[-1], index) for name, fields in zip(listed, lines, strict=True)}
    return [labels[name] for name in names]


def _read_label(path: Path, label: str, index: dict[str, int]) -> int:
    """Class index from the name of a class folder, else from a decimal number. Raises UsageError for any other."""
    known = index.get(label, int(label) if label.isdecimal() else -1)
    if not 0 <= known < len(index):
        raise UsageError(f'--data: {path}: label {label} is neither a class of train/ nor 0..{len(index) - 1}')
    return known


def _find_cifar(name: str, root: Path) -> Path | None:
    """The folder that holds all batches of `name`: `root` or the usual one in it."""
    usual, train, val, meta, _, _ = CIFAR[name]
    return next((folder for folder in (root, root / usual)
                 if all((folder / file).is_file() for file in (*train, val, meta))), None)


def _open_cifar(name: str, root: Path, size: int) -> Dataset:
    usual, train, val, meta, names_key, labels_key = CIFAR[name]
    folder = _find_cifar(name, root)
    if folder is None:
        raise UsageError(f'--data {name}:{root}: no batches; expected {", ".join((*train, val, meta))} '
                         f'in {root} or {root / usual}')
    classes = tuple(_text(entry) for entry in _load_pickle(folder / meta, names_key)[0])
    return Dataset(name, classes, size, 'shift', _read_cifar([folder / file for file in train], labels_key),
                   _read_cifar([folder / val], labels_key))


def _read_cifar(files: list[Path], labels_key: str) -> ArraySource:
    """Join pickled batches of rows uint8 [n, 3072] (planes R, G, B of 32 x 32)."""
    rows, labels = [], []
    for file in files:
        data, found = _load_pickle(file, 'data', labels_key)
        if np.shape(data) != (len(found), 3072):
            raise UsageError(f'--data: {file}: data has shape {np.shape(data)}, expected ({len(found)}, 3072)')
        rows.append(data)
        labels.append(found)
    planes = np.concatenate(rows).reshape(-1, 3, 32, 32)[:, ::-1]
    return ArraySource(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.concatenate(labels))


def _load_pickle(path: Path, *keys: str) -> list[Any]:
    """Values of `keys` in a pickled dict, written by Python 2 or 3. Raises UsageError if that is not what it is."""
    try:
        with path.open('rb') as stream:
            content = {_text(key): value for key, value in _ArrayUnpickler(stream, encoding='bytes').load().items()}
        return [content[key] for key in keys]
    except Exception as error:  # a broken pickle can raise anything
        raise UsageError(f'--data: {path} is not a pickled dict with {", ".join(keys)}: {error!r}') from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and numpy arrays; a pickle could otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """The admitted class or function. Raises UnpicklingError for any other."""
        if module not in ARRAY_MODULES or name not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f'{module}.{name} is not admitted')
        return ARRAY_PARTS[name]
