"""Images of any size as views of evaluation, a batch at a time."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from engine.console import Progress
from engine.data.opencv import cv2
from engine.data.preprocessing import Preprocessing
from engine.errors import UsageError

# Most images of a batch, and most pixels of their views together.
LARGEST_BATCH, BATCH_PIXELS = 256, 2**21


def batches(
    images: Iterable[np.ndarray],
    preprocessing: Preprocessing,
    *,
    single: bool = False,
    total: int | None = None,
) -> Iterator[list[np.ndarray]]:
    """Views of so many images at a time that a network of their size runs them well.

    Args:
        images: uint8 [H, W, 3].
        preprocessing: makes the views.
        single: whether each image is a batch of its own.
        total: how many there are, where it does not show.

    Raises:
        UsageError: there are no images, or one is not uint8 [H, W, 3]; of a list before any is run.
    """
    if isinstance(images, Sequence | np.ndarray):
        total = len(images)
        for number, image in enumerate(images):
            _check_image(image, number, preprocessing.channels)
    pixels = sum(side**2 for side in preprocessing.view_sizes)
    count = max(1, min(LARGEST_BATCH, BATCH_PIXELS // pixels))
    if single:
        count = 1
    rest = iter(images)
    done = 0
    with Progress('predicting', total, 'images', delay=3) as progress:
        while batch := views(itertools.islice(rest, count), preprocessing, done):
            yield batch
            done += len(batch[0])
            progress.update(len(batch[0]))
    if not done:
        raise UsageError('images: none given')


def views(
    images: Iterable[np.ndarray], preprocessing: Preprocessing, start: int = 0
) -> list[np.ndarray]:
    """One array per view size, as evaluation makes them; empty for no images.

    Args:
        images: each is let go of when its views are made.
        preprocessing: makes them.
        start: number of the first image, for messages.

    Raises:
        UsageError: one is not uint8 [H, W, 3].
    """
    made = []
    for number, image in enumerate(images, start):
        _check_image(image, number, preprocessing.channels)
        if image.shape[2] == 1:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        own = preprocessing.eval_views(image)
        made.append([np.array(view) for view in own])
    return [np.stack(size) for size in zip(*made)]


def _check_image(image: object, number: int, channels: int) -> None:
    """Refuses what is no image.

    Args:
        image: to be checked.
        number: of it, for messages.
        channels: of the network: one that has a single one takes images with one, too.

    Raises:
        UsageError: it is not uint8 [H, W, 3], or empty.
    """
    if not _is_image(image, channels):
        kind, shape = getattr(image, 'dtype', type(image)), getattr(image, 'shape', ())
        wanted = '[H, W, 3]' if channels == 3 else '[H, W, 3] or [H, W, 1]'
        raise UsageError(
            f'images: expected uint8 {wanted}, found {kind} {list(shape)} (number {number})'
        )


def _is_image(image: object, channels: int) -> bool:
    """Whether it is an array uint8 [H, W, 3 or the network's channels] of at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not image.size:
        return False
    return image.ndim == 3 and image.shape[2] in (3, channels)
