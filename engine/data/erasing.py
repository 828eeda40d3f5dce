"""Random erasing as DS-Net trains with it (timm 0.3.2).

Reference: Random Erasing Data Augmentation, https://arxiv.org/abs/1708.04896.
"""

from __future__ import annotations

import math

import numpy as np

from engine.data.inputs import IMAGENET_MEAN, IMAGENET_STD

# ImageNet statistics of the range [0, 255], BGR.
MEAN = 255 * np.array(IMAGENET_MEAN[::-1], np.float32)
STD = 255 * np.array(IMAGENET_STD[::-1], np.float32)
AREA = (0.02, 1 / 3)
LOG_ASPECT = (math.log(0.3), -math.log(0.3))
TRIES = 10


def random_erasing(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Fill a random rectangle with noise.

    Its area is U(0.02, 1/3) of the image, its aspect ratio log-uniform in [0.3, 1/0.3]. One that
    does not leave a row and a column of the image is drawn again, up to ten times; then nothing is
    erased.

    The published code fills with N(0, 1) per value after the images were normalised with the mean
    and standard deviation of ImageNet. In uint8 that is N(mean, deviation) per channel, rounded and
    clipped: 3 to 4 in 100 values lie outside of 0..255, which begin at 1.8 to 2.6 deviations from
    the mean.

    Args:
        image: uint8 [h, w, 3], BGR, as the result.
        probability: of erasing.
        rng: source of all chance.
    """
    if rng.random() >= probability:
        return image
    height, width = image.shape[:2]
    for _ in range(TRIES):
        rows, columns = _draw_rectangle(height * width, rng)
        if rows < height and columns < width:
            return _erased(image, rows, columns, rng)
    return image


def _draw_rectangle(area: int, rng: np.random.Generator) -> tuple[int, int]:
    """Height and width of a random rectangle, for an image of `area` pixels."""
    target = area * rng.uniform(*AREA)
    aspect = math.exp(rng.uniform(*LOG_ASPECT))
    return round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))


def _erased(image: np.ndarray, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """A copy of `image` with noise in a rectangle at a random place."""
    top = int(rng.integers(image.shape[0] - rows + 1))
    left = int(rng.integers(image.shape[1] - columns + 1))
    noise = MEAN + STD * rng.standard_normal((rows, columns, 3), np.float32)
    erased = image.copy()
    erased[top : top + rows, left : left + columns] = np.clip(np.rint(noise), 0, 255)
    return erased
