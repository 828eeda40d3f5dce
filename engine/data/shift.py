"""The augmentation of small images: translation by up to size // 8 pixels, and mirror.

Evaluation takes the image as it is, or its centre square scaled to the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from engine.data.opencv import cv2
from engine.data.transforms import centre, mirror, scale_antialiased, scale_shortest

DIVISOR = 8  # 3 pixels for 28, 4 for 32: the usual padding of CIFAR


class Shift:
    """See the module."""

    mirrors: ClassVar[bool] = True
    evaluated_as: ClassVar[str] = ''
    evaluation = (
        'scale the shortest edge to {side} (OpenCV INTER_AREA to shrink, INTER_CUBIC to enlarge) '
        'and cut the centre {side} x {side}; an image of that size stays as it is'
    )
    evaluation_antialiased = (
        'cut the centre square and scale it to {side} x {side} (Pillow {filter}); an image of that '
        'size stays as it is'
    )

    def train_view(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Fit the image to uint8 [size, size, 3], shift it, and mirror it or not.

        Args:
            image: uint8 [h, w, 3], BGR.
            size: edge of the view, pixels.
            rng: source of all chance.
        """
        return mirror(self.train_crop(image, size, rng), rng)

    def train_crop(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Fit the image to uint8 [size, size, 3] and shift it.

        Args:
            image: uint8 [h, w, 3], BGR.
            size: edge of the largest view, pixels.
            rng: source of all chance.
        """
        return shift(fit(image, size), size // DIVISOR, rng)

    def eval_view(self, image: np.ndarray, size: int) -> np.ndarray:
        """Fit the image to uint8 [size, size, 3]."""
        return fit(image, size)

    def eval_antialiased(
        self, image: np.ndarray, sizes: Sequence[int], method: Image.Resampling
    ) -> list[np.ndarray]:
        """Scale the centre square to uint8 [size, size, 3] for each size.

        Args:
            image: uint8 [h, w, 3], BGR.
            sizes: edges of the views, pixels.
            method: filter of Pillow.
        """
        square = centre(image, min(image.shape[:2]))
        return scale_antialiased(square, sizes, method)


def shift(image: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Move by -pixels..pixels in both directions; the border pixels are repeated into the gap.

    Args:
        image: uint8 [h, w, 3], as the result.
        pixels: largest move, pixels.
        rng: source of all chance.
    """
    height, width = image.shape[:2]
    top, left = rng.integers(2 * pixels + 1, size=2)
    padded = cv2.copyMakeBorder(image, pixels, pixels, pixels, pixels, cv2.BORDER_REPLICATE)
    return padded[top : top + height, left : left + width]


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square scaled to uint8 [size, size, 3]; untouched if it is that already."""
    if image.shape[:2] == (size, size):
        return image
    # Cubic does not average when it shrinks: a 12 pixel view of a 28 pixel drawing would lose its
    # thin lines.
    shrinks = min(image.shape[:2]) > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return centre(scale_shortest(image, size, method), size)
