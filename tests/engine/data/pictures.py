"""Pictures and scripted chance for the tests of augmentations."""

import numpy as np
from PIL import Image


class Scripted:
    """Stands in for a generator: answers with fixed numbers, and keeps what it was asked for.

    Answers that are left over are a fault of the test.
    """

    def __init__(self, *, uniform=(), random=(), integers=(), normal=()):
        self.answers = {
            'uniform': list(uniform),
            'random': list(random),
            'integers': list(integers),
            'normal': list(normal),
        }
        self.asked = []

    def uniform(self, low, high):
        self.asked.append((low, high))
        return self.answers['uniform'].pop(0)

    def random(self):
        return self.answers['random'].pop(0)

    def integers(self, high, size=None):
        self.asked.append(high)
        if size is None:
            return self.answers['integers'].pop(0)
        return [self.answers['integers'].pop(0) for _ in range(size)]

    def normal(self, loc=0.0, scale=1.0, size=None):
        self.asked.append((loc, scale))
        if size is None:
            return self.answers['normal'].pop(0)
        return np.array([self.answers['normal'].pop(0) for _ in range(size)])

    def standard_normal(self, shape, dtype):
        return np.random.default_rng(5).standard_normal(shape, dtype)


def noise(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def coordinates(height: int, width: int) -> np.ndarray:
    """Blue is the row, green the column, red a constant."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def scaled(
    image: np.ndarray, width: int, height: int, method: Image.Resampling = Image.BILINEAR
) -> np.ndarray:
    """The image as Pillow scales it."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), method))
