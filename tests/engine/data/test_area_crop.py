"""Area crop and lighting: exact where they are scripted, by counting where they are random."""

import math

import cv2
import numpy as np
import pytest

from engine.data.area_crop import area_crop, lighting, random_crop
from tests.engine.data.pictures import Scripted, coordinates, noise


@pytest.mark.parametrize('swapped', [False, True])
def test_area_crop_takes_the_drawn_rectangle(swapped):
    image = noise(100, 120)
    rng = Scripted(uniform=[0.25 * 1.0, 1.2], random=[0.1 if swapped else 0.9], integers=[3, 4])
    width, height = round((3000 * 1.2) ** 0.5), round((3000 / 1.2) ** 0.5)
    assert (width, height) == (60, 50)
    if swapped:
        width, height = height, width
    expected = cv2.resize(
        image[3 : 3 + height, 4 : 4 + width], (32, 32), interpolation=cv2.INTER_CUBIC
    )
    np.testing.assert_array_equal(area_crop(image, 32, rng), expected)
    assert rng.asked == [(0.08, 1.0), (0.75, 1.333), 100 - height + 1, 120 - width + 1]


def test_area_crop_falls_back_to_the_centre_after_ten_tries():
    image = noise(20, 200)
    rng = Scripted(uniform=[1.0, 1.0] * 10, random=[0.9] * 10)
    whole = cv2.resize(image, (320, 32), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(area_crop(image, 32, rng), whole[:, 144:176])
    assert rng.answers['uniform'] == []


def test_area_crop_reaches_every_border():
    image = coordinates(40, 60)
    crops = [area_crop(image, 8, np.random.default_rng(k)) for k in range(3000)]
    lowest, highest = np.min(crops, axis=(0, 1, 2)), np.max(crops, axis=(0, 1, 2))
    assert lowest[0] == 0 and lowest[1] == 0 and highest[0] == 39 and highest[1] == 59


def test_area_crop_covers_the_area_range():
    image = coordinates(200, 200)
    fractions = []
    for k in range(1500):
        crop = area_crop(image, 64, np.random.default_rng(k)).astype(float)
        height, width = (np.ptp(crop[..., axis]) / 63 * 64 for axis in (0, 1))
        fractions.append(height * width / 40000)
    assert 0.06 < min(fractions) < 0.11 and 0.9 < max(fractions) < 1.06
    # Rectangles that do not fit are drawn again, so that the mean is a little below that of U(0.08,
    # 1) = 0.54.
    assert 0.46 < np.mean(fractions) < 0.56


def test_lighting_adds_the_published_colour():
    image = noise(10, 12)
    weights = np.array(
        [0.3, -0.2, 0.1]
    )  # of the components in the order of `EIGENVALUES`, smallest first
    by_component = {0.0045: 0.3, 0.0188: -0.2, 0.2175: 0.1}
    rgb = sum(
        weight * value * 255 * np.array(vector)
        for (value, weight), vector in zip(
            by_component.items(),
            [(0.4009, -0.8140, 0.4203), (0.7192, -0.0045, -0.6948), (-0.5675, -0.5808, -0.5836)],
        )
    )
    expected = np.clip(image + rgb[::-1].astype(np.float32), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(lighting(image, Scripted(normal=weights)), expected)


def test_lighting_clips_and_has_the_right_spread():
    black, grey = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 128, np.uint8)
    rngs = [np.random.default_rng(k) for k in range(4000)]
    added = np.array([lighting(grey, rng)[0, 0] for rng in rngs]) - 128.0
    eigenvalues, vectors = np.linalg.eigh(np.cov(added.T))
    assert abs(eigenvalues[-1] ** 0.5 / (0.2175 * 25.5) - 1) < 0.05
    assert abs(abs(vectors[:, -1] @ (0.5836, 0.5808, 0.5675)) - 1) < 0.01
    dark = np.array([lighting(black, np.random.default_rng(k))[0, 0] for k in range(200)])
    assert dark.max() < 30 and (dark == 0).any()


@pytest.mark.parametrize(
    'shape, drawn, box',
    [
        ((100, 120), [0.25, math.log(1.2)], (3, 4, 50, 60)),
        ((1, 1), [0.08, 0.0, 1.0, 0.0], (0, 0, 1, 1)),
        ((1, 1), [0.22, math.log(0.76), 0.22, -math.log(0.76), 1.0, 0.0], (0, 0, 1, 1)),
        ((20, 200), [1.0, math.log(4 / 3)] * 10, (0, 86, 20, 27)),
        ((200, 20), [1.0, 0.0] * 10, (86, 0, 27, 20)),
        ((1, 50), [1.0, 0.0] * 10, (0, 24, 1, 1)),
        ((30, 31), [1.0, 0.2] * 10, (0, 0, 30, 31)),
    ],
)
def test_random_crop_follows_torchvision(shape, drawn, box):
    image, (top, left, height, width) = noise(*shape), box
    rng = Scripted(uniform=drawn, integers=[top, left])
    np.testing.assert_array_equal(
        random_crop(image, rng), image[top : top + height, left : left + width]
    )
    assert rng.answers['uniform'] == [] and rng.asked[:2] == [
        (0.08, 1.0),
        (math.log(3 / 4), math.log(4 / 3)),
    ]


def test_random_crop_has_the_published_distribution():
    place = np.stack(np.mgrid[:200, :200], axis=-1)
    crops = [random_crop(place, np.random.default_rng(k)) for k in range(3000)]
    shapes = np.array([crop.shape[:2] for crop in crops])
    areas, aspects = shapes.prod(axis=1) / 40000, np.log(shapes[:, 1] / shapes[:, 0])
    assert 0.07 < areas.min() < 0.09 and areas.max() > 0.95 and 0.46 < areas.mean() < 0.54
    assert abs(aspects.mean()) < 0.02 and 0.28 < np.abs(aspects).max() < 0.31
    assert np.min([crop[0, 0] for crop in crops], axis=0).tolist() == [0, 0]
    assert np.max([crop[-1, -1] for crop in crops], axis=0).tolist() == [199, 199]
    assert (
        np.abs(np.mean([(crop[0, 0] + crop[-1, -1]) / 2 for crop in crops], axis=0) - 99.5).max()
        < 3
    )
