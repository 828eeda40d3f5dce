"""Random erasing: the drawn rectangle, its noise and its distribution."""

import math

import numpy as np
import pytest

from engine.config.config import Config
from engine.data import erasing, inputs, randaugment
from engine.data.erasing import random_erasing
from engine.errors import UsageError
from tests.engine.data.pictures import Scripted, noise


@pytest.mark.parametrize('probability', [-0.1, 1.1, math.nan])
def test_a_probability_of_erasing(probability):
    config = Config.from_values(erasing=probability)
    with pytest.raises(
        UsageError, match=f'^--erasing {probability}: must be .*at least 0 and at most 1'
    ):
        config.check()


def test_erased_rectangle_is_the_drawn_one():
    image = noise(40, 50)
    rng = Scripted(random=[0.19], uniform=[0.2, math.log(2)], integers=[7, 11])
    height, width = round((400 * 2) ** 0.5), round((400 / 2) ** 0.5)
    erased = random_erasing(image, 0.2, rng)
    expected = image.copy()
    mean, std = (
        255 * np.array(values) for values in ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    )
    values = mean + std * Scripted().standard_normal((height, width, 3), np.float32)
    expected[7 : 7 + height, 11 : 11 + width] = np.clip(np.floor(values + 0.5), 0, 255)
    np.testing.assert_array_equal(erased, expected)
    np.testing.assert_array_equal(image, noise(40, 50))
    assert rng.asked == [
        (0.02, 1 / 3),
        (pytest.approx(math.log(0.3)), pytest.approx(math.log(1 / 0.3))),
        40 - height + 1,
        50 - width + 1,
    ]


def test_the_noise_is_standard_normal_once_normalised():
    rule = inputs.RULES['normalized_bgr']
    np.testing.assert_allclose(erasing.MEAN / 255, rule.mean, atol=1e-6)
    np.testing.assert_allclose(erasing.STD / 255, rule.std, atol=1e-6)
    assert tuple(np.rint(erasing.MEAN[::-1])) == randaugment.FILL == (124, 116, 104)
    image = np.full((300, 300, 3), 7, np.uint8)
    erased = random_erasing(image, 1.0, np.random.default_rng(1))
    values = (erased[(erased != 7).all(axis=-1)] / 255 - rule.mean) / rule.std
    assert len(values) > 1500 and np.abs(values.mean(axis=0)).max() < 0.06
    assert np.abs(values.std(axis=0) - 1).max() < 0.06 and np.ptp(values, axis=0).max() < 5
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.06


def test_nothing_is_erased_by_chance_or_when_nothing_fits():
    image = noise(40, 50)
    assert random_erasing(image, 0.2, Scripted(random=[0.2])) is image
    rng = Scripted(random=[0.0], uniform=[1 / 3, math.log(1 / 0.3)] * 10)
    assert random_erasing(image, 1.0, rng) is image and not rng.answers['uniform']
    assert random_erasing(image[:1, :1], 1.0, np.random.default_rng(0)).shape == (1, 1, 3)


def test_erasing_has_the_published_distribution():
    image = np.zeros((60, 60, 3), np.uint8)
    erased = [
        random_erasing(image, 0.2, np.random.default_rng(k)).any(axis=-1) for k in range(4000)
    ]
    areas = np.array([mask.mean() for mask in erased if mask.any()])
    assert abs(len(areas) - 800) < 4 * (4000 * 0.16) ** 0.5
    assert (
        0.015 < areas.min() < 0.03
        and 0.3 < areas.max() < 0.345
        and abs(areas.mean() - 0.17) < 0.015
    )
    places = np.mean([mask for mask in erased if mask.any()], axis=0)
    assert abs(places[:30].mean() / places[30:].mean() - 1) < 0.15
    assert abs(places[:, :30].mean() / places[:, 30:].mean() - 1) < 0.15


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (28, 28), (33, 20)])
def test_any_image_survives_and_is_not_written_to(shape):
    image = noise(*shape)
    image.flags.writeable = False
    for k in range(60):
        assert random_erasing(image, 1.0, np.random.default_rng(k)).shape == image.shape
