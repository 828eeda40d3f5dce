"""CIFAR-10 and CIFAR-100 as arrays, from the original Python archives, of which no code is run."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.errors import UsageError

# Folder, training files, validation file, file and key of the class names, key of the labels.
SETS = {
    'cifar10': (
        'cifar-10-batches-py',
        tuple(f'data_batch_{k}' for k in range(1, 6)),
        'test_batch',
        'batches.meta',
        'label_names',
        'labels',
    ),
    'cifar100': ('cifar-100-python', ('train',), 'test', 'meta', 'fine_label_names', 'fine_labels'),
}

# What a pickled array is made of. The function is taken from an array as its module moved between numpy 1 and 2.
ARRAY_MODULES = ('numpy', 'numpy.core.multiarray', 'numpy._core.multiarray')
ARRAY_PARTS: dict[str, Any] = {
    'ndarray': np.ndarray,
    'dtype': np.dtype,
    '_reconstruct': np.empty(0).__reduce__()[0],
}


class Labelled(NamedTuple):
    """Images and their classes.

    Attributes:
        images: uint8 [N, 32, 32, 3], BGR.
        labels: class indices [N].
    """

    images: np.ndarray
    labels: np.ndarray


class Cifar(NamedTuple):
    """Names of the classes, training and validation images."""

    classes: tuple[str, ...]
    train: Labelled
    val: Labelled


def find(name: str, root: Path) -> Path | None:
    """The folder that holds all batches of `name`, cifar10 or cifar100: `root` or the usual one in it; None without."""
    usual, train, val, meta, _, _ = SETS[name]
    return next(
        (
            folder
            for folder in (root, root / usual)
            if all((folder / file).is_file() for file in (*train, val, meta))
        ),
        None,
    )


def spelled(data: str) -> str:
    """What `--data` names, with a plain folder that holds CIFAR batches as ``cifar10:DIR`` or ``cifar100:DIR``."""
    return next(
        (f'{name}:{data}' for name in SETS if data and find(name, Path(data).expanduser())), data
    )


def read(name: str, root: Path) -> Cifar:
    """The data set `name` (cifar10 or cifar100) in a folder.

    Raises:
        UsageError: its batches are not there, or damaged.
    """
    usual, train, val, meta, names_key, labels_key = SETS[name]
    folder = find(name, root)
    if folder is None:
        raise UsageError(
            f'--data {name}:{root}: no batches; expected {", ".join((*train, val, meta))} '
            f'in {root} or {root / usual}'
        )
    classes = tuple(_text(entry) for entry in _load_pickle(folder / meta, names_key)[0])
    return Cifar(
        classes,
        _read_batches([folder / file for file in train], labels_key),
        _read_batches([folder / val], labels_key),
    )


def _read_batches(files: list[Path], labels_key: str) -> Labelled:
    """Join pickled batches of rows uint8 [n, 3072] (planes R, G, B of 32 x 32)."""
    rows, labels = [], []
    for file in files:
        data, found = _load_pickle(file, 'data', labels_key)
        if np.shape(data) != (len(found), 3072):
            raise UsageError(
                f'--data: {file}: data has shape {np.shape(data)}, expected ({len(found)}, 3072)'
            )
        rows.append(data)
        labels.append(found)
    planes = np.concatenate(rows).reshape(-1, 3, 32, 32)[:, ::-1]
    return Labelled(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.concatenate(labels))


def _load_pickle(path: Path, *keys: str) -> list[Any]:
    """Values of `keys` in a pickled dict, written by Python 2 or 3. Raises UsageError if that is not what it is."""
    try:
        with path.open('rb') as stream:
            content = {
                _text(key): value
                for key, value in _ArrayUnpickler(stream, encoding='bytes').load().items()
            }
        return [content[key] for key in keys]
    except Exception as error:  # a broken pickle can raise anything
        raise UsageError(
            f'--data: {path} is not a pickled dict with {", ".join(keys)}: {error!r}'
        ) from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and numpy arrays; a pickle could otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """The admitted class or function. Raises UnpicklingError for any other."""
        if module not in ARRAY_MODULES or name not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f'{module}.{name} is not admitted')
        return ARRAY_PARTS[name]
