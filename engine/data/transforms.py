"""Crops and scalings that augmentations are made of: numpy, OpenCV and Pillow only.

Every function takes and returns uint8 [h, w, 3] and never writes to its input. All chance comes
from the `numpy.random.Generator` that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from engine.data.opencv import cv2

CENTRE_RATIO = 0.875  # 224 out of 256
LONGEST = 128  # shortest edges; ends of longer images are never seen


def mirror(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Swap left and right of uint8 [h, w, 3] with probability 1/2."""
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The middle uint8 [size, size, 3]; an odd pixel stays at the bottom or right."""
    height, width = image.shape[:2]
    top = (height - size) // 2
    left = (width - size) // 2
    return image[top : top + size, left : left + size]


def centre_crop(image: np.ndarray, size: int, *, ratio: float = CENTRE_RATIO) -> np.ndarray:
    """Scale the shortest edge to size / ratio (cubic) and cut the centre.

    Args:
        image: uint8 [h, w, 3].
        size: edge of the result, pixels.
        ratio: result edge over scaled shortest edge, in (0, 1].

    Returns:
        uint8 [size, size, 3].
    """
    return centre(scale_shortest(image, round(size / ratio), cv2.INTER_CUBIC), size)


def scale_shortest(image: np.ndarray, edge: int, method: int) -> np.ndarray:
    """Scale to a shortest edge of `edge` pixels, the other one rounded to the nearest pixel.

    Args:
        image: uint8 [h, w, 3].
        edge: pixels.
        method: interpolation of OpenCV.
    """
    height, width = image.shape[:2]
    scale = edge / min(height, width)
    shape = (math.floor(width * scale + 0.5), math.floor(height * scale + 0.5))
    return image if shape == (width, height) else cv2.resize(image, shape, interpolation=method)


def scale_antialiased(
    image: np.ndarray, sizes: Sequence[int], method: Image.Resampling = Image.Resampling.BILINEAR
) -> list[np.ndarray]:
    """Scale to uint8 [size, size, 3] for each size with a filter that averages when it shrinks.

    Args:
        image: uint8 [h, w, 3].
        sizes: edges of the results, pixels. An image of this size is returned as it is.
        method: the filter.
    """
    picture = Image.fromarray(image)
    views = []
    for size in sizes:
        if image.shape[:2] == (size, size):
            views.append(image)
        else:
            views.append(np.asarray(picture.resize((size, size), method)))
    return views


def not_too_long(image: np.ndarray) -> np.ndarray:
    """The image, or the middle of a line.

    Scaled to the shortest edge, one of 1 x 40000 pixels would take gigabytes.
    """
    height, width = image.shape[:2]
    longest = LONGEST * min(height, width)
    if max(height, width) <= longest:
        return image
    top = (height - min(height, longest)) // 2
    left = (width - min(width, longest)) // 2
    return np.ascontiguousarray(image[top : top + longest, left : left + longest])
