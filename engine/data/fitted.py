"""The recipe that suits the images of a folder: that of their size."""

import dataclasses

import numpy as np
from PIL import Image

from engine.data.sources import ArraySource, Source
from engine.data.spec import DatasetSpec, Edges

# Shortest edge in pixels up to which images are of the kind of CIFAR, whose networks do not shrink
# them at once.
SMALL = 64
LOOKED_AT = 48
LEAST = 8  # pixels of an input size
# Input sizes as shares of the largest, in eighths and in sevenths: those of CIFAR and of ImageNet.
SMALL_SIZES = (8, 7, 6, 5, 4)
SIZES = (7, 6, 5, 4, 3)
STEP, SMALL_STEP = 8, 4


def edges(source: Source) -> Edges:
    """Shortest edges of images at equal distances; those that cannot be read do not count."""
    count = min(len(source), LOOKED_AT)
    found = []
    for number in np.linspace(0, len(source) - 1, count).astype(int).tolist():
        edge = _edge(source, number)
        if edge:
            found.append(edge)
    if not found:
        return Edges()
    return Edges(min(found), int(np.median(found)), max(found))


def _edge(source: Source, number: int) -> int:
    """The shortest edge of an image, pixels; 0 if it cannot be read."""
    if isinstance(source, ArraySource):
        return min(source.images.shape[1:3])
    try:
        with source.opened(number) as file, Image.open(file) as image:
            return min(image.size)
    except Exception:  # noqa: BLE001
        # Plugins of Pillow raise anything; who reads the image says what is wrong with it.
        return 0


def fitted(spec: DatasetSpec, median: int, small: DatasetSpec) -> DatasetSpec:
    """A data set with the recipe of images of this size.

    Args:
        spec: of images of any size, which it is for.
        median: shortest edge of an image, pixels; 0: not known.
        small: a data set whose recipe small images get.
    """
    if not 0 < median < spec.image_size:
        return spec
    if median <= SMALL:
        edge = max(LEAST, median)
        sizes = [_rounded(edge * part / 8, SMALL_STEP) for part in SMALL_SIZES[1:]]
        return dataclasses.replace(
            small,
            name=spec.name,
            open=spec.open,
            help=spec.help,
            image_size=edge,
            sizes=tuple(dict.fromkeys([edge, *sizes])),
            needs_folder=False,
            claims=None,
            in_memory=False,
        )
    edge = _rounded(median, STEP)
    sizes = [_rounded(edge * part / 7, STEP) for part in SIZES[1:]]
    return dataclasses.replace(spec, image_size=edge, sizes=tuple(dict.fromkeys([edge, *sizes])))


def _rounded(pixels: float, step: int) -> int:
    """The nearest multiple of ``step`` that is no larger than half a step more."""
    return max(LEAST, step * int(pixels / step + 0.5))
