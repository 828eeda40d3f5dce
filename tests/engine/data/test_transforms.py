"""Crops and scalings that augmentations share, against independent computations."""

import cv2
import numpy as np
import pytest

from engine.data.transforms import centre_crop, mirror
from tests.engine.data.pictures import noise


def test_mirror_half_of_the_time():
    image = noise(4, 5)
    flipped = 0
    for k in range(2000):
        result = mirror(image, np.random.default_rng(k))
        is_flipped = np.array_equal(result, image[:, ::-1])
        assert is_flipped or np.array_equal(result, image)
        flipped += is_flipped
    assert abs(flipped - 1000) < 4 * (2000 / 4) ** 0.5


@pytest.mark.parametrize(
    'size, edge', [(224, 256), (192, 219), (160, 183), (128, 146), (96, 110), (28, 32)]
)
@pytest.mark.parametrize('height, width', [(375, 500), (500, 333), (300, 300), (97, 301)])
def test_centre_crop(size, edge, height, width):
    image = noise(height, width)
    wide = int(edge / min(height, width) * max(height, width) + 0.5)
    whole = cv2.resize(
        image, (wide, edge) if width >= height else (edge, wide), interpolation=cv2.INTER_CUBIC
    )
    top, left = int((whole.shape[0] - size) * 0.5), int((whole.shape[1] - size) * 0.5)
    np.testing.assert_array_equal(
        centre_crop(image, size), whole[top : top + size, left : left + size]
    )


def test_centre_crop_without_scaling_copies_pixels():
    image = noise(256, 300)
    np.testing.assert_array_equal(centre_crop(image, 224), image[16:240, 38:262])
