"""Training images that are set aside: thresholds are chosen by them, and neither trained nor reported on."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from engine.config import Config
from engine.datasets import Dataset, Subset
from engine.errors import UsageError
from engine.run import replacing

FILE = 'holdout.npz'


def draw(images: int, count: int, seed: int) -> np.ndarray:
    """Sorted numbers, int64 [count], of the images that a run with this seed sets aside.

    Raises:
        UsageError: it would leave nothing to train on.
    """
    if count >= images:
        raise UsageError(f'--holdout {count}: there are {images} training images; give fewer')
    return np.sort(np.random.default_rng([seed, count]).permutation(images)[:count])


def write(folder: Path, indices: np.ndarray, images: int, seed: int | None = None) -> None:
    """Records which of ``images`` training images are set aside; ``seed`` is None if they were imported."""
    with replacing(folder / FILE) as temporary, temporary.open('wb') as stream:
        np.savez(stream, indices=indices, images=images, seed=-1 if seed is None else seed)


def read(folder: Path) -> np.ndarray | None:
    """What ``write`` recorded in a run folder, or None.

    Raises:
        UsageError: the file is there and cannot be read, or holds something else.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            indices = arrays['indices']
        if indices.ndim != 1 or indices.dtype.kind not in 'iu' or (indices < 0).any():
            raise ValueError(f'indices: {indices.dtype} {list(indices.shape)}, expected numbers of images from 0 on')
        return indices
    # Without the structure of a file of several arrays, numpy loads what is no context manager: TypeError.
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'{path}: is no list of held-out images ({error})') from error


def apply(dataset: Dataset, config: Config, folder: Path | None) -> Dataset:
    """``dataset`` with the run's held-out images in ``holdout`` and no longer in ``train``; as it is without any.

    Raises:
        UsageError: there are no such images, or the record of them cannot be read.
    """
    images, indices = len(dataset.train), read(folder) if folder else None
    if indices is None:
        indices = draw(images, config.holdout, config.seed)
    if not len(indices):
        return dataset
    if indices.max() >= images:
        raise UsageError(f'--data {dataset.name}: has {images} training images; the run held out number '
                         f'{indices.max()}: it was trained on other data')
    rest = np.setdiff1d(np.arange(images), indices)
    return dataclasses.replace(dataset, train=Subset(dataset.train, rest), holdout=Subset(dataset.train, indices))
