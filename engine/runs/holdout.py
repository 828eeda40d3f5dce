"""Training images that are set aside to choose thresholds by: never trained or reported on."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from engine.config.config import Config
from engine.data.datasets import Dataset, Subset
from engine.errors import UsageError
from engine.files import replacing

FILE = 'holdout.npz'


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
        raise UsageError(f'--holdout {count}: there are {images} training images; give fewer')
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
    try:
        with replacing(path) as temporary, temporary.open('wb') as stream:
            np.savez(stream, indices=indices, images=images, seed=-1 if seed is None else seed)
    except OSError as error:
        raise UsageError(f'{path}: cannot be written ({error.strerror})') from error


def read(folder: Path) -> np.ndarray | None:
    """Numbers of the images that a run folder records as set aside, or None without a record.

    Raises:
        UsageError: the file is there and cannot be read, or holds something else.
    """
    record = _read(folder)
    return record[0] if record else None


def _read(folder: Path) -> tuple[np.ndarray, int] | None:
    """Numbers of the images, and how many training images there were.

    Raises:
        UsageError: the file is there and cannot be read, or holds something else.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            indices = arrays['indices']
            images = int(arrays['images'])
        _check_indices(indices)
        return indices, images
    # Without the structure of a file of several arrays, numpy loads no context manager: TypeError.
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'{path}: is no list of held-out images ({error})') from error


def _check_indices(indices: np.ndarray) -> None:
    """Checks that these are numbers of images.

    Raises:
        ValueError: they are not whole numbers from 0 on, in one row.
    """
    if indices.ndim != 1 or indices.dtype.kind not in 'iu' or (indices < 0).any():
        shape = list(indices.shape)
        raise ValueError(f'indices: {indices.dtype} {shape}, expected numbers of images from 0 on')


def apply(dataset: Dataset, config: Config, folder: Path | None) -> Dataset:
    """Moves the run's held-out images from ``train`` to ``holdout``.

    Args:
        dataset: with all training images.
        config: the run's ``holdout`` and ``seed``.
        folder: run folder whose record, if there is one, wins over these.

    Raises:
        UsageError: there are no such images, or the record of them cannot be read.
    """
    images = len(dataset.train)
    record = _read(folder) if folder else None
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
