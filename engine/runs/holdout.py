"""Training images that are set aside to choose thresholds by: never trained or reported on."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from engine import arrays
from engine.config.config import Config
from engine.data.datasets import Dataset, Subset, open_dataset
from engine.errors import UsageError
from engine.files import derived
from engine.quantities import counted

FILE = 'holdout.npz'

RECORD = {
    'indices': arrays.Array('iu', 1, low=0),
    'images': arrays.Array('iu', 0, low=0),
    'seed': arrays.Array('iu', 0, needed=False),
}


def draw(images: int, count: int, seed: int) -> np.ndarray:
    """Numbers of the images that a run with this seed sets aside.

    Args:
        images: number of training images.
        count: how many to set aside.
        seed: of the run.

    Returns:
        int64 [count], ascending.

    Raises:
        UsageError: it would leave nothing to train on.
    """
    if count >= images:
        raise UsageError(f'--holdout {count}: of {counted(images, "training image")}; give fewer')
    order = np.random.default_rng([seed, count]).permutation(images)  # [images]
    return np.sort(order[:count])


def write(folder: Path, indices: np.ndarray, images: int, seed: int | None = None) -> None:
    """Records which training images are set aside.

    Args:
        folder: the run folder.
        indices: int [N], numbers of the images.
        images: number of all training images.
        seed: by which they were drawn; None if they were imported.

    Raises:
        UsageError: it cannot be written.
    """
    path = folder / FILE
    number = -1 if seed is None else seed
    values = {'indices': indices, 'images': images, 'seed': number}
    try:
        arrays.write(path, values)
    except OSError as error:
        raise UsageError(f'{path}: cannot be written ({error.strerror})') from error


def read(folder: Path) -> np.ndarray | None:
    """Numbers of the images that a run folder records as set aside, or None without a record.

    Raises:
        UsageError: the file is there and cannot be read, or holds something else.
    """
    record = _read(folder, 'the run was trained without these images')
    return record[0] if record else None


def _read(folder: Path, remedy: str) -> tuple[np.ndarray, int] | None:
    """Numbers of the images, and how many training images there were.

    Args:
        folder: the run folder.
        remedy: end of the message if the file cannot be read.

    Raises:
        UsageError: the file is there and cannot be read, or holds something else.
    """
    path = folder / FILE
    if not path.exists():
        return None
    found = arrays.read(path, RECORD, remedy)
    return found['indices'], int(found['images'])


def _recorded(config: Config, folder: Path, anew: bool) -> tuple[np.ndarray, int] | None:
    """The same as ``_read``; None for images that are to be drawn, again where ``anew`` says so."""
    if anew and config.holdout:
        return derived(folder / FILE, functools.partial(_read, folder))
    return _read(folder, 'imagenet_tf.py with the flags of the training makes its own anew')


def open_data(config: Config, folder: Path) -> Dataset:
    """The data of a run as it was trained on them, its held-out images apart.

    Args:
        config: of the run, with the place of the data.
        folder: of the run.

    Raises:
        UsageError: they are not there, or are others.
    """
    dataset = open_dataset(
        config.data, size=config.image_size, skip=config.skip_list, split=config.split
    )
    return apply(dataset, config, folder)


def apply(dataset: Dataset, config: Config, folder: Path | None, *, anew: bool = False) -> Dataset:
    """Moves the run's held-out images from ``train`` to ``holdout``.

    Args:
        dataset: with all training images.
        config: the run's ``holdout`` and ``seed``.
        folder: run folder whose record, if there is one, wins over these.
        anew: whether a damaged record is set aside, and the images drawn again.

    Raises:
        UsageError: there are no such images, or the record of them cannot be read.
    """
    images = len(dataset.train)
    record = _recorded(config, folder, anew) if folder else None
    indices, known = record or (draw(images, config.holdout, config.seed), images)
    if not len(indices):
        return dataset
    if known != images or indices.max() >= images:
        raise UsageError(
            f'--data {dataset.name}: has {images} training images; the run set {len(indices)} of '
            f'{known} aside: it was trained on other data, or with another --skip-list'
        )
    rest = np.setdiff1d(np.arange(images), indices)
    return dataclasses.replace(
        dataset, train=Subset(dataset.train, rest), holdout=Subset(dataset.train, indices)
    )
