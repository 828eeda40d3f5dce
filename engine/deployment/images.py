"""Pixels of the images that a program hands to a predictor."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.sources import BadImage, FileSource
from engine.errors import UsageError

# What is told of an image that cannot be read, and why.
Bad = Callable[[str, str], None]


def is_one(images: object) -> bool:
    """Whether this is one image, and not several."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | Path) or is_pillow(images)


def is_pillow(image: object) -> bool:
    """Whether this is an image of Pillow."""
    return type(image).__module__.startswith('PIL.') and hasattr(image, 'convert')


def name_of(image: object, number: int) -> str:
    """The name of an image: its path, or its number.

    Args:
        image: as it was given.
        number: among those that were given.
    """
    if isinstance(image, str | Path):
        return str(image)
    # An array that is mapped from a file has the name of the file of all.
    name = getattr(image, 'filename', '') if is_pillow(image) else ''
    return name or f'image {number}'


def pixels(image: Any, number: int, rgb: bool | None) -> np.ndarray:
    """An image uint8 [H, W, 3] in BGR order, as evaluation decodes it: files are not turned.

    Args:
        image: path, image of Pillow, or array uint8 [H, W, 3], or [H, W] or [H, W, 1] (grey).
        number: among those that were given, for messages.
        rgb: colour order of arrays.

    Raises:
        BadImage: a file, or that of an image of Pillow, cannot be read.
        UsageError: it is none of these, or an array whose colour order was not told.
    """
    if isinstance(image, str | Path):
        return _decoded(image)
    if is_pillow(image):
        return _loaded(image, number)
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f'images: number {number} is a {type(image).__name__}; give a path, an image of Pillow '
            'or an array uint8 [H, W, 3]'
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 2:
        return np.stack([image] * 3, axis=2)
    if rgb is None:
        raise UsageError(
            f'images: number {number} is an array, which does not say its colour order; give '
            "RGB=True, or RGB=False for OpenCV's BGR"
        )
    return np.ascontiguousarray(image[..., ::-1]) if rgb else image


def _loaded(image: Any, number: int) -> np.ndarray:
    """The pixels of an image of Pillow, which reads a file that was opened only now.

    Raises:
        BadImage: it cannot be read.
    """
    try:
        found = np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError) as error:  # the latter of PNG files
        name = name_of(image, number)
        raise BadImage(f'{name} cannot be read ({error})', name) from error
    return np.ascontiguousarray(found[:, :, ::-1])


def _decoded(path: str | Path) -> np.ndarray:
    """The pixels of a file.

    Raises:
        BadImage: it cannot be read.
    """
    source = FileSource(Path(), [str(path)], [0])
    try:
        return source.read(0)
    except BadImage as error:
        why = str(error).removeprefix('--data: ').partition('; repair')[0]
        raise BadImage(why, str(path)) from error


def read(
    images: Iterable[Any], rgb: bool | None, bad: Bad | None, names: collections.deque[str]
) -> Iterator[np.ndarray]:
    """The pixels of images, whose names are kept meanwhile.

    Args:
        images: as of ``Predictor.__call__``.
        rgb: colour order of arrays.
        bad: is told of those that cannot be read.
        names: to which those of the others are added.

    Raises:
        BadImage: one cannot be read, and there is nobody to tell.
    """
    for number, image in enumerate(images):
        name = name_of(image, number)
        try:
            found = pixels(image, number, rgb)
        except BadImage as error:
            if bad is None:
                raise
            bad(name, str(error))
            continue
        names.append(name)
        yield found
