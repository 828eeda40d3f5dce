"""A made-up data set for dry runs: noise in the size and number of classes of ImageNet."""

import numpy as np

from engine.data.sources import Source
from engine.data.spec import Dataset, DatasetSpec

CLASSES, TRAIN, VAL = 1000, 256, 64


class NoiseSource(Source):
    """Noise that costs no disk, the same in every process: image `i` is drawn from (seed, i)."""

    def __init__(self, count: int, *, size: int, seed: int) -> None:
        """Make `count` images of `size` x `size` pixels."""
        super().__init__(np.random.default_rng(seed).integers(CLASSES, size=count))
        self.size = size
        self.seed = seed

    def read(self, i: int) -> np.ndarray:
        """Image `i`, uint8 [size, size, 3]."""
        rng = np.random.default_rng([self.seed, i])
        return rng.integers(256, size=(self.size, self.size, 3), dtype=np.uint8)

    def stored(self, i: int) -> bytes:
        """Seed and number that image `i` is drawn from."""
        return f'{self.seed} {i}'.encode()


def _open(folder: str, image_size: int) -> Dataset:
    classes = tuple(f'class{k:03}' for k in range(CLASSES))
    train = NoiseSource(TRAIN, size=image_size, seed=0)
    val = NoiseSource(VAL, size=image_size, seed=1)
    return Dataset('fake', SPEC, classes, train, val)


SPEC = DatasetSpec(name='fake', open=_open, help='fake')
