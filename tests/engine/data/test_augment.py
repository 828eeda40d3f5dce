"""Views: exact against independent computations where they are exact, by counting where they are random."""

import math

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.data.augment import (
    Extra,
    area_crop,
    centre_crop,
    eval_views,
    lighting,
    mirror,
    random_crop,
    shift,
    train_views,
)
from engine.data.randaugment import parse, random_erasing

SIZES = (40, 32, 17, 1)


class Scripted:
    """Stands in for a generator and answers with fixed numbers."""

    def __init__(self, *, uniform=(), random=(), integers=(), normal=()):
        self.answers = {
            'uniform': list(uniform),
            'random': list(random),
            'integers': list(integers),
            'normal': list(normal),
        }
        self.ranges = []

    def uniform(self, low, high):
        self.ranges.append((low, high))
        return self.answers['uniform'].pop(0)

    def random(self):
        return self.answers['random'].pop(0)

    def integers(self, high):
        self.ranges.append(high)
        return self.answers['integers'].pop(0)

    def normal(self, *, scale, size):
        assert (scale, size) == (0.1, 3)
        return np.array(self.answers['normal'])


def train_view(image, augment, size, rng):
    (view,) = train_views(image, augment, [size], rng, antialias=False)
    return view


def eval_view(image, augment, size):
    (view,) = eval_views(image, augment, [size], antialias=False)
    return view


def scaled(image: np.ndarray, width: int, height: int, method: int = Image.BILINEAR) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), method))


def noise(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def coordinates(height: int, width: int) -> np.ndarray:
    """Blue is the row, green the column, red a constant."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


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
    assert rng.ranges == [(0.08, 1.0), (0.75, 1.333), 100 - height + 1, 120 - width + 1]


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
    # Rectangles that do not fit are drawn again, so that the mean is a little below that of U(0.08, 1) = 0.54.
    assert 0.46 < np.mean(fractions) < 0.56


@pytest.mark.parametrize('height, width', [(1, 1), (1, 500), (3, 2)])
def test_tiny_images_survive(height, width):
    for k in range(50):
        view = train_view(noise(height, width), 'area_crop', 16, np.random.default_rng(k))
        assert view.shape == (16, 16, 3) and view.dtype == np.uint8
    assert eval_view(noise(height, width), 'area_crop', 16).shape == (16, 16, 3)
    assert eval_view(noise(height, width), 'shift', 16).shape == (16, 16, 3)


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


def test_mirror_half_of_the_time():
    image = noise(4, 5)
    flipped = 0
    for k in range(2000):
        result = mirror(image, np.random.default_rng(k))
        is_flipped = np.array_equal(result, image[:, ::-1])
        assert is_flipped or np.array_equal(result, image)
        flipped += is_flipped
    assert abs(flipped - 1000) < 4 * (2000 / 4) ** 0.5


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


@pytest.mark.parametrize('augment', ['area_crop', 'shift'])
@pytest.mark.parametrize('sizes', [(32,), (32, 20, 7)])
def test_views_depend_on_the_generator_only_and_spare_the_image(augment, sizes):
    image = noise(32, 32)
    image.flags.writeable = False
    draws = [
        train_views(image, augment, sizes, np.random.default_rng(k), antialias=len(sizes) > 1)
        for k in (1, 1, 2)
    ]
    for size, first, again, other in zip(sizes, *draws, strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert first.shape == (size, size, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(image, noise(32, 32))


@pytest.mark.parametrize(
    'augment, height, width',
    [
        ('area_crop', 75, 100),
        ('area_crop', 100, 66),
        ('area_crop', 32, 32),
        ('area_crop', 9, 14),
        ('area_crop', 1, 1),
        ('area_crop', 1, 90),
        ('area_crop', 200, 3),
        ('shift', 40, 40),
    ],
)
def test_antialiased_views_are_cut_first_and_scaled_once_per_size(augment, height, width):
    image = noise(height, width)
    for k in range(40):
        rng = np.random.default_rng(k)
        crop = random_crop(image, rng) if augment == 'area_crop' else shift(image, 5, rng)
        for size, view in zip(
            SIZES, train_views(image, augment, SIZES, np.random.default_rng(k), antialias=True)
        ):
            expected = scaled(crop, size, size)
            np.testing.assert_array_equal(
                view, expected[:, ::-1] if rng.random() < 0.5 else expected
            )


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
    assert rng.answers['uniform'] == [] and rng.ranges[:2] == [
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


@pytest.mark.parametrize('augment', ['area_crop', 'shift'])
def test_sizes_share_the_place_but_not_the_mirror(augment):
    draws = [
        train_views(
            coordinates(64, 64), augment, (32, 24, 16), np.random.default_rng(k), antialias=True
        )
        for k in range(1000)
    ]
    means = np.array([[view.mean(axis=(0, 1)) for view in views] for views in draws])
    assert np.ptp(means, axis=1).max() < 1 and np.ptp(means[:, 0], axis=0)[:2].min() > 2
    flips = np.array([[view[0, 0, 1] > view[0, -1, 1] for view in views] for views in draws])
    halves = [
        *flips.mean(axis=0),
        *(np.mean(flips[:, i] == flips[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))),
    ]
    assert np.abs(np.array(halves) - 0.5).max() < 4 * 0.5 / 1000**0.5


@pytest.mark.parametrize(
    'height, width', [(375, 500), (500, 333), (300, 300), (97, 301), (1, 60), (2, 1), (256, 341)]
)
def test_antialiased_validation(height, width):
    image, sizes = noise(height, width), (224, 192, 160, 97, 96, 1)
    for size, view in zip(
        sizes, eval_views(image, 'area_crop', sizes, antialias=True), strict=True
    ):
        short = int(size / 0.875)
        whole = (
            scaled(image, short, int(short * height / width))
            if width < height
            else scaled(image, int(short * width / height), short)
        )
        top, left = (int(round((edge - size) / 2.0)) for edge in whole.shape[:2])
        np.testing.assert_array_equal(view, whole[top : top + size, left : left + size])
    small = noise(28, 28)
    for size, view in zip(
        (28, 20, 40), eval_views(small, 'shift', (28, 20, 40), antialias=True), strict=True
    ):
        np.testing.assert_array_equal(view, scaled(small, size, size))
    assert [view.shape for view in eval_views(image, 'shift', (5, 3), antialias=True)] == [
        (5, 5, 3),
        (3, 3, 3),
    ]


@pytest.mark.parametrize(
    'augment, height, width', [('area_crop', 75, 100), ('area_crop', 9, 14), ('shift', 40, 40)]
)
def test_cubic_views_draw_one_filter_for_all_sizes(augment, height, width):
    image, drawn = noise(height, width), []
    for k in range(60):
        rng = np.random.default_rng(k)
        crop = random_crop(image, rng) if augment == 'area_crop' else shift(image, 5, rng)
        drawn.append(Image.BICUBIC if rng.random() < 0.5 else Image.BILINEAR)
        views = train_views(
            image, augment, SIZES, np.random.default_rng(k), antialias=True, cubic=True
        )
        for size, view in zip(SIZES, views):
            expected = scaled(crop, size, size, drawn[-1])
            np.testing.assert_array_equal(
                view, expected[:, ::-1] if rng.random() < 0.5 else expected
            )
    assert 15 < drawn.count(Image.BICUBIC) < 45


@pytest.mark.parametrize('height, width', [(375, 500), (500, 333), (97, 301), (256, 341)])
def test_cubic_validation_takes_the_shortest_edge_to_256_and_cuts_224(height, width):
    image = noise(height, width)
    (view,) = eval_views(image, 'area_crop', [224], antialias=True, cubic=True)
    whole = (
        scaled(image, 256, int(256 * height / width), Image.BICUBIC)
        if width < height
        else scaled(image, int(256 * width / height), 256, Image.BICUBIC)
    )
    top, left = (round((edge - 224) / 2) for edge in whole.shape[:2])
    np.testing.assert_array_equal(view, whole[top : top + 224, left : left + 224])
    (small,) = eval_views(image, 'shift', [20], antialias=True, cubic=True)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    np.testing.assert_array_equal(
        small, scaled(image[top : top + side, left : left + side], 20, 20, Image.BICUBIC)
    )


@pytest.mark.parametrize(
    'extra', [Extra(parse('rand-m9-mstd0.5'), 0.3), Extra(parse('rand')), Extra(None, 1.0), Extra()]
)
@pytest.mark.parametrize(
    'augment, antialias', [('area_crop', True), ('area_crop', False), ('shift', True)]
)
def test_extra_augmentation_comes_last_and_draws_the_same_for_every_size(augment, antialias, extra):
    image, sizes = noise(50, 50), (40, 24) if antialias else (40,)
    for k in range(20):
        rng = np.random.default_rng(k)
        plain = train_views(image, augment, sizes, rng, antialias=antialias)
        seed = rng.integers(2**63)
        views = train_views(
            image, augment, sizes, np.random.default_rng(k), antialias=antialias, extra=extra
        )
        for view, expected in zip(views, plain, strict=True):
            chance = np.random.default_rng(seed)
            expected = extra.randaugment(expected, chance) if extra.randaugment else expected
            expected = (
                random_erasing(expected, extra.erasing, chance) if extra.erasing else expected
            )
            np.testing.assert_array_equal(view, expected)


def test_extra_augmentation_differs_from_image_to_image():
    image, extra = np.full((40, 40, 3), 90, np.uint8), Extra(None, 1.0)
    views = [
        train_views(image, 'shift', [40, 20], np.random.default_rng(k), antialias=True, extra=extra)
        for k in range(40)
    ]
    places = np.array(
        [
            [np.argwhere((view != 90).all(axis=-1)).mean(axis=0) / len(view) for view in pair]
            for pair in views
        ]
    )
    assert np.abs(places[:, 0] - places[:, 1]).max() < 0.08
    assert np.ptp(places[:, 0], axis=0).min() > 0.3


def test_a_filter_without_antialias_is_refused():
    for make in (
        lambda: train_views(
            noise(8, 8), 'shift', [8], np.random.default_rng(0), antialias=False, cubic=True
        ),
        lambda: eval_views(noise(8, 8), 'area_crop', [8], antialias=False, cubic=True),
    ):
        with pytest.raises(ValueError, match='cubic without antialias'):
            make()


def test_unknown_recipe():
    with pytest.raises(ValueError, match="augment is 'none', expected 'area_crop' or 'shift'"):
        train_view(noise(8, 8), 'none', 8, np.random.default_rng(0))
    with pytest.raises(ValueError, match="augment is 'none'"):
        eval_view(noise(8, 8), 'none', 8)
    for augment in ('area_crop', 'shift'):
        with pytest.raises(ValueError, match='too many values'):
            eval_views(noise(8, 8), augment, (8, 4), antialias=False)


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('height, width', [(1, 40_000), (40_000, 1)])
def test_lines_are_seen_by_their_middle(height, width, antialias):
    image = np.zeros((height, width, 3), np.uint8)
    middle = image[
        max(0, height // 2 - 64) : height // 2 + 64, max(0, width // 2 - 64) : width // 2 + 64
    ]
    middle[:] = 200
    (view,) = eval_views(image, 'area_crop', [224], antialias=antialias)
    assert view.shape == (224, 224, 3) and (view == 200).all()
    assert (
        train_views(image, 'area_crop', [224], np.random.default_rng(0), antialias=antialias)[
            0
        ].shape
        == view.shape
    )
