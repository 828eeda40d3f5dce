"""Checks of opened data: what cannot be right is refused, what may be a mistake is said."""

from collections.abc import Iterator, Sequence

import numpy as np

from engine.data.identity import Identity
from engine.data.sources import ArraySource, Source, innermost, some
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.quantities import counted

PARTS = ('train', 'val')


def check(dataset: Dataset) -> None:
    """Checks labels, and images that are in memory.

    Raises:
        UsageError: there are no classes, a label is none of them, or images are not uint8.
    """
    for part in PARTS:
        source = getattr(dataset, part)
        _check_labels(dataset, part, source.labels)
        whole, _ = innermost(source)
        if isinstance(whole, ArraySource):
            _check_pixels(f'--data {dataset.name}: {part}', whole.images)


def _check_labels(dataset: Dataset, part: str, labels: np.ndarray) -> None:
    classes = len(dataset.classes)
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if not len(outside):
        return
    first = outside[0]
    message = (
        f'--data {dataset.name}: {part}: {counted(len(outside), "label")} outside of the {classes} '
        f'classes, the first one {labels[first]} of image {first}; expected 0 to {classes - 1}'
    )
    if labels.min() == 1 and labels.max() == classes:
        message += '. They seem to count from 1: subtract 1'
    raise UsageError(message)


def _check_pixels(where: str, images: np.ndarray) -> None:
    """Checks that an array holds pixels as they are expected.

    Raises:
        UsageError: it is of another type, or all of it would be nearly black.
    """
    if images.dtype != np.uint8:
        raise UsageError(
            f'{where}: images are {images.dtype}, from {images.min():g} to {images.max():g}; '
            'expected uint8, from 0 to 255'
        )
    if images.size and images.max() <= 1:
        raise UsageError(
            f'{where}: images hold nothing but 0 and 1, which are all black; expected 0 to 255'
        )


def check_trainable(dataset: Dataset) -> None:
    """Checks that there is something to learn.

    Raises:
        UsageError: all training images are of one class.
    """
    present = np.unique(dataset.train.labels)
    if len(present) > 1:
        return
    only = dataset.classes[int(present[0])]
    raise UsageError(
        f'--data {dataset.name}: all training images are of one class, {only}: every answer would '
        'be right; give at least two classes'
    )


def notes(dataset: Dataset, identity: Identity) -> Iterator[str]:
    """Lines about possible mistakes: classes without images, images that are in both parts."""
    absent = {}
    for part in PARTS:
        source = getattr(dataset, part)
        absent[part] = _absent(source, dataset.classes)
        if absent[part]:
            yield f'--data {dataset.name}: {part} has no images of {some(absent[part])}'
    untaught = set(absent['train']) - set(absent['val'])
    if untaught:
        yield (
            f'--data {dataset.name}: val has images of {some(untaught)}, which train lacks: they '
            'cannot be learned'
        )
    repeated = identity.repeated()
    if repeated:
        train, val = repeated[0]
        yield (
            f'--data {dataset.name}: {counted(len(repeated), "validation image")} also among '
            f'training images, such as {val}, which is {train}: accuracy will be too high'
        )


def _absent(source: Source, classes: Sequence[str]) -> list[str]:
    """Names of the classes that have no image."""
    counts = np.bincount(source.labels, minlength=len(classes))  # [classes]
    return [name for name, images in zip(classes, counts) if not images]
