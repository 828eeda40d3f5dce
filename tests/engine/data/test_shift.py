"""Shift: every offset, repeated borders, and images of the size that stay as they are."""

import numpy as np
import pytest

from engine.data.augment import eval_views, train_views
from engine.data.shift import shift
from tests.engine.data.pictures import coordinates, noise


def train_view(image, augment, size, rng):
    (view,) = train_views(image, augment, [size], rng, antialias=False)
    return view


def eval_view(image, augment, size):
    (view,) = eval_views(image, augment, [size], antialias=False)
    return view


@pytest.mark.parametrize('pixels', [0, 1, 3])
def test_shift_takes_every_offset_and_repeats_the_border(pixels):
    image = coordinates(9, 11)
    seen = set()
    for k in range(600):
        moved = shift(image, pixels, np.random.default_rng(k)).astype(int)
        down, right = 4 - moved[4, 5, 0], 5 - moved[4, 5, 1]
        rows, columns = np.clip(np.arange(9) - down, 0, 8), np.clip(np.arange(11) - right, 0, 10)
        np.testing.assert_array_equal(moved, image[np.ix_(rows, columns)])
        seen.add((int(down), int(right)))
    span = range(-pixels, pixels + 1)
    assert seen == {(down, right) for down in span for right in span}


@pytest.mark.parametrize('size', [28, 32])
def test_small_sets_are_not_resized(size):
    image = noise(size, size)
    np.testing.assert_array_equal(eval_view(image, 'shift', size), image)
    colours = set(map(tuple, image.reshape(-1, 3)))
    largest = {28: 3, 32: 4}[size]
    moves = set()
    for k in range(300):
        view = train_view(image, 'shift', size, np.random.default_rng(k))
        assert set(map(tuple, view.reshape(-1, 3))) <= colours
        rows = train_view(coordinates(size, size), 'shift', size, np.random.default_rng(k))[
            ..., 0
        ].astype(int)
        moves.add(int(rows[size // 2, 0]) - size // 2)
    assert moves == set(range(-largest, largest + 1))


def test_shift_recipe_averages_when_it_shrinks():
    image = noise(28, 28)
    expected = image.reshape(14, 2, 14, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(eval_view(image, 'shift', 14) - expected).max() <= 0.5
    assert train_view(image, 'shift', 14, np.random.default_rng(0)).shape == (14, 14, 3)
    assert eval_view(noise(28, 40), 'shift', 56).shape == (56, 56, 3)
