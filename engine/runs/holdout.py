"""Training images that are set aside: thresholds are chosen by them, and neither trained nor reported on."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from engine.config.config import Config
from engine.data.datasets import Dataset, Subset
from engine.errors import UsageError
from engine.runs.folder import replacing

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
    """Records which of ``images`` training images are set aside; ``seed`` is None if they were imported.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        with replacing(folder / FILE) as temporary, temporary.open('wb') as stream:
            np.savez(stream, indices=indices, images=images, seed=-1 if seed is None else seed)
    except OSError as error:
        raise UsageError(f'{folder / FILE}: cannot be written ({error.strerror})') from error


def read(folder: Path) -> np.ndarray | None:
    """What ``write`` recorded in a run folder, or None.

    Raises:
        UsageError: the file is there and cannot be read, or holds something else.
    """
    record = _read(folder)
    return record[0] if record else None


def _read(folder: Path) -> tuple[np.ndarray, int] | None:
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            indices, images = arrays['indices'], int(arrays['images'])
        if indices.ndim != 1 or indices.dtype.kind not in 'iu' or (indices < 0).any():
            raise ValueError(
                f'indices: {indices.dtype} {list(indices.shape)}, expected numbers of images from 0 on'
            )
        return indices, images
    # Without the structure of a file of several arrays, numpy loads what is no context manager: TypeError.
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'{path}: is no list of held-out images ({error})') from error


def apply(dataset: Dataset, config: Config, folder: Path | None) -> Dataset:
    """``dataset`` with the run's held-out images in ``holdout`` and no longer in ``train``; as it is without any.

    Raises:
        UsageError: there are no such images, or the record of them cannot be read.
    """
    images, record = len(dataset.train), _read(folder) if folder else None
    indices, known = record or (draw(images, config.holdout, config.seed), images)
    if not len(indices):
        return dataset
    if known != images or indices.max() >= images:
        raise UsageError(
            f'--data {dataset.name}: has {images} training images; the run set {len(indices)} of {known} '
            'aside: it was trained on other data, or with another --skip-list'
        )
    rest = np.setdiff1d(np.arange(images), indices)
    return dataclasses.replace(
        dataset, train=Subset(dataset.train, rest), holdout=Subset(dataset.train, indices)
    )
