"""CIFAR-10 and CIFAR-100 as arrays, from the original archives.

Of those for Python no code is run; the binary ones do as well.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.sources import ArraySource
from engine.data.spec import Dataset, DatasetSpec
from engine.errors import UsageError
from engine.files import read_bytes, read_text
from engine.pickles.arrays import ARRAYS
from engine.pickles.budget import Budget
from engine.pickles.machine import Machine


@dataclasses.dataclass(frozen=True)
class Archive:
    """Where one of the two sets lies in an archive.

    Attributes:
        folder: usual name of the folder that holds the files.
        train: training files.
        val: validation file.
        meta: file of the class names.
    """

    folder: str
    train: tuple[str, ...]
    val: str
    meta: str

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the archive."""
        return *self.train, self.val, self.meta


@dataclasses.dataclass(frozen=True)
class Pickled(Archive):
    """The archive for Python.

    Attributes:
        names_key: key of the class names in their file.
        labels_key: key of the labels in the others.
    """

    names_key: str
    labels_key: str


@dataclasses.dataclass(frozen=True)
class Binary(Archive):
    """The binary archive, whose class names are a text.

    Attributes:
        labels: bytes in front of each image, of which the last one is the class.
    """

    labels: int


PICKLED = {
    'cifar10': Pickled(
        folder='cifar-10-batches-py',
        train=tuple(f'data_batch_{k}' for k in range(1, 6)),
        val='test_batch',
        meta='batches.meta',
        names_key='label_names',
        labels_key='labels',
    ),
    'cifar100': Pickled(
        folder='cifar-100-python',
        train=('train',),
        val='test',
        meta='meta',
        names_key='fine_label_names',
        labels_key='fine_labels',
    ),
}

BINARIES = {
    'cifar10': Binary(
        folder='cifar-10-batches-bin',
        train=tuple(f'data_batch_{k}.bin' for k in range(1, 6)),
        val='test_batch.bin',
        meta='batches.meta.txt',
        labels=1,
    ),
    'cifar100': Binary(
        folder='cifar-100-binary',
        train=('train.bin',),
        val='test.bin',
        meta='fine_label_names.txt',
        labels=2,
    ),
}

# Bytes of a binary file: that of CIFAR-100 has 154 million.
LARGEST = 2**28

# Bytes of an image: planes R, G, B of 32 x 32.
PIXELS = 3072

# Bytes that reading a file may take: of Python 2's texts, several copies are made.
_REPEATS, _ROOM = 4, 2**25


def _find(archive: Archive, root: Path) -> Path | None:
    """The folder with all files of an archive: `root` or the usual one in it; None without."""
    for folder in (root, root / archive.folder):
        if all((folder / file).is_file() for file in archive.files):
            return folder
    return None


def _claims(name: str, root: Path) -> bool:
    return any(_find(forms[name], root) for forms in (PICKLED, BINARIES))


def _open(name: str, root: str, image_size: int) -> Dataset:
    pickled = PICKLED[name]
    binary = BINARIES[name]
    place = Path(root).expanduser()
    folder = _find(pickled, place)
    folder_of_binary = _find(binary, place)
    if folder is None and folder_of_binary is not None:
        return _open_binary(name, folder_of_binary)
    if folder is None:
        packed = [path.name for path in sorted(place.glob('cifar-*.tar.gz'))]
        unpack = f'; unpack {packed[0]} first' if packed else ''
        raise UsageError(
            f'--data {name}:{root}: no batches; expected {", ".join(pickled.files)} '
            f'in {root} or {Path(root) / pickled.folder}, or {", ".join(binary.files)} '
            f'in {root} or {Path(root) / binary.folder}{unpack}'
        )
    classes = _read_names(folder / pickled.meta, pickled.names_key)
    train = _read_batches([folder / file for file in pickled.train], pickled.labels_key)
    val = _read_batches([folder / pickled.val], pickled.labels_key)
    return Dataset(name, SPECS[name], classes=classes, train=train, val=val)


def _read_batches(files: list[Path], labels_key: str) -> ArraySource:
    """Join pickled batches of rows uint8 [n, 3072] (planes R, G, B of 32 x 32).

    Raises:
        UsageError: rows have another length or number than the labels say.
    """
    rows = []
    labels = []
    for file in files:
        data, found = _load_pickle(file, 'data', labels_key)
        known = _whole_numbers(found)
        if known is None:
            raise UsageError(f'--data: {file}: {labels_key} are no list of whole numbers')
        expected = (len(known), PIXELS)
        if not isinstance(data, np.ndarray) or data.shape != expected or data.dtype != np.uint8:
            shape = getattr(data, 'shape', type(data).__name__)
            raise UsageError(
                f'--data: {file}: data has shape {shape}, expected {expected} of uint8, '
                f'found {getattr(data, "dtype", type(data).__name__)}'
            )
        rows.append(data)
        labels.append(known)
    return _source(np.concatenate(rows), np.concatenate(labels))


def _source(rows: np.ndarray, labels: np.ndarray) -> ArraySource:
    """Images of rows uint8 [N, 3072] (planes R, G, B)."""
    planes = rows.reshape(-1, 3, 32, 32)  # RGB
    images = planes[:, ::-1].transpose(0, 2, 3, 1)  # [N, 32, 32, 3], BGR
    return ArraySource(np.ascontiguousarray(images), labels)


def _open_binary(name: str, folder: Path) -> Dataset:
    """The set in its binary form.

    Raises:
        UsageError: a file is cut.
    """
    binary = BINARIES[name]
    text = read_text(folder / binary.meta, 'unpack the archive again')
    classes = tuple(text.split())
    files = [folder / file for file in binary.train]
    train = _read_rows(files, binary.labels)
    val = _read_rows([folder / binary.val], binary.labels)
    return Dataset(name, SPECS[name], classes, train, val)


def _read_rows(files: list[Path], labels: int) -> ArraySource:
    """The images of binary files, of which each has so many bytes of labels in front.

    Raises:
        UsageError: a file is cut.
    """
    rows = np.concatenate([_rows(path, labels) for path in files])
    return _source(rows[:, labels:], rows[:, labels - 1])


def _rows(path: Path, labels: int) -> np.ndarray:
    """Labels and pixels of every image, uint8 [n, labels + 3072].

    Raises:
        UsageError: the file is cut.
    """
    content = read_bytes(path, 'unpack the archive again', LARGEST)
    length = labels + PIXELS
    if not content or len(content) % length:
        raise UsageError(
            f'--data: {path} has {len(content)} bytes, expected a multiple of {length}; unpack the '
            'archive again'
        )
    return np.frombuffer(content, np.uint8).reshape(-1, length)


def _whole_numbers(values: Any) -> np.ndarray | None:
    """Labels [n] from a list or an array of them; None if it is neither."""
    if isinstance(values, np.ndarray):
        return values if values.ndim == 1 and values.dtype.kind in 'iu' else None
    if not isinstance(values, list | tuple):
        return None
    if not all(type(value) is int and abs(value) < 2**31 for value in values):
        return None
    return np.array(values, np.int64)


def _read_names(file: Path, key: str) -> tuple[str, ...]:
    """Names of the classes.

    Raises:
        UsageError: there are none.
    """
    (names,) = _load_pickle(file, key)
    if not isinstance(names, list | tuple):
        raise UsageError(f'--data: {file}: {key} is no list of names')
    if not all(isinstance(name, str | bytes) for name in names):
        raise UsageError(f'--data: {file}: {key} is no list of names')
    return tuple(map(_text, names))


def _load_pickle(path: Path, *keys: str) -> list[Any]:
    """Values of `keys` in a pickled dict, written by Python 2 or 3.

    Raises:
        UsageError: it is none, lacks one of them, or holds more than arrays, numbers and texts.
    """
    budget = Budget(_REPEATS * path.stat().st_size + _ROOM, 'it takes too much memory')
    try:
        with path.open('rb') as stream:
            content = Machine(stream, ARRAYS, budget, text=False).load()
        values = {_text(key): value for key, value in content.items()}
        return [values[key] for key in keys]
    except Exception as error:  # a broken pickle can raise anything
        raise UsageError(
            f'--data: {path} is not a pickled dict with {", ".join(keys)}: {error!r:.200}'
        ) from error


def _text(value: str | bytes) -> str:
    return value.decode(errors='backslashreplace') if isinstance(value, bytes) else value


def _spec(name: str) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        open=functools.partial(_open, name),
        help=f'{name}:DIR',
        image_size=32,
        augmentation='shift',
        resize='area',
        sizes=(32, 28, 24, 20, 16),
        training={
            'arch': 'resnet20',
            'epochs': 100,
            'batch_size': 128,
            'lr': 0.1,
            'schedule': 'cosine',
            'warmup': 0.5,
            'wd': 2e-4,
        },
        needs_folder=True,
        claims=functools.partial(_claims, name),
        in_memory=True,
        small=True,
    )


SPECS = {name: _spec(name) for name in PICKLED}
