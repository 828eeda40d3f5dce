"""Division of images into training and validation images, where data come without one.

The share is taken of every class. Which images are validated on follows from a seed and their
names, wherever the data lie; images of equal bytes stay on one side, whatever they are called.
"""

import hashlib
import os
from typing import NamedTuple

import numpy as np

from engine.data.identity import hashed, looked_at, mapped
from engine.data.sources import Source
from engine.errors import UsageError
from engine.quantities import counted


class Split(NamedTuple):
    """A division: the share of every class that is validated on (0: none is made), and a seed."""

    share: float = 0.0
    seed: int = 0


NONE = Split()


def divided(source: Source, split: Split, classes: tuple[str, ...]) -> tuple[Source, Source]:
    """Training and validation images.

    Args:
        source: all images.
        split: how they are divided.
        classes: names, for messages.

    Raises:
        UsageError: a class has too few images for both, or all are too many copies of a few.
    """
    counts = np.bincount(source.labels, minlength=len(classes))  # [classes]
    wanted = np.maximum(1, np.round(split.share * counts)).astype(int)  # [classes]
    for name, count, taken in zip(classes, counts, wanted):
        if 0 < count <= taken:
            raise UsageError(
                f'--val-split {split.share:g}: class {name} has {counted(count, "image")}, too few '
                'for training and validation; give a smaller share, or more images'
            )
    chosen = _chosen(source, split, wanted)
    if not chosen:
        raise UsageError(
            f'--val-split {split.share:g}: no image can be set aside, as those of equal bytes stay '
            'together; give a larger share, or remove copies'
        )
    numbers = np.arange(len(source))
    val = np.array(sorted(chosen), np.int64)
    return source.part(np.setdiff1d(numbers, val)), source.part(val)


def _chosen(source: Source, split: Split, wanted: np.ndarray) -> list[int]:
    """Numbers of the images that are validated on.

    Args:
        source: all images.
        split: how they are divided.
        wanted: number of them by class, [classes].
    """
    groups: dict[int, list[int]] = {}
    for number, key in enumerate(_contents(source)):
        groups.setdefault(key, []).append(number)
    order = sorted(groups.values(), key=lambda group: _draw(source.name(group[0]), split.seed))
    free = wanted.copy()
    chosen: list[int] = []
    for group in order:
        taken = np.bincount(source.labels[group], minlength=len(free))  # [classes]
        if (taken <= free).all():
            free -= taken
            chosen += group
    return chosen


def _draw(name: str, seed: int) -> bytes:
    return hashlib.blake2b(os.fsencode(f'{seed}/{name}'), digest_size=8).digest()


def _contents(source: Source) -> list[int]:
    """A number for each image, equal where the bytes are.

    Only images of one length are read.
    """
    numbers = np.arange(len(source))
    found = mapped(lambda i: looked_at(source.stored_size, i, -1), numbers)
    sizes = np.array(found)  # [N]
    _, places, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    alike = np.flatnonzero(counts[places] > 1)
    # Others differ by their length: their numbers are those of none that is read.
    keys = [-1 - number for number in range(len(source))]
    contents = mapped(lambda i: hashed(looked_at(source.stored, i, b'')), alike)
    for number, content in zip(alike.tolist(), contents):
        keys[number] = content
    return keys
