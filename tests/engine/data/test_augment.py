"""Views of training and evaluation: exact against independent computations, random by counting."""

import re

import numpy as np
import pytest
from PIL import Image

from engine.data import augment as augmentations
from engine.data.area_crop import random_crop
from engine.data.augment import Extra, eval_views, train_views
from engine.data.erasing import random_erasing
from engine.data.opencv import cv2
from engine.data.randaugment import parse
from engine.data.shift import shift
from tests.engine.data.pictures import coordinates, noise, scaled

SIZES = (40, 32, 17, 1)


def train_view(image, augment, size, rng):
    (view,) = train_views(image, augment, [size], rng, antialias=False)
    return view


def eval_view(image, augment, size):
    (view,) = eval_views(image, augment, [size], antialias=False)
    return view


@pytest.mark.parametrize('height, width', [(1, 1), (1, 500), (3, 2)])
def test_tiny_images_survive(height, width):
    for k in range(50):
        view = train_view(noise(height, width), 'area_crop', 16, np.random.default_rng(k))
        assert view.shape == (16, 16, 3) and view.dtype == np.uint8
    assert eval_view(noise(height, width), 'area_crop', 16).shape == (16, 16, 3)
    assert eval_view(noise(height, width), 'shift', 16).shape == (16, 16, 3)


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
        views = train_views(image, augment, SIZES, np.random.default_rng(k), antialias=True)
        for size, view in zip(SIZES, views, strict=True):
            expected = scaled(crop, size, size)
            np.testing.assert_array_equal(
                view, expected[:, ::-1] if rng.random() < 0.5 else expected
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
    with pytest.raises(
        ValueError, match="'cutout': unknown; there are area_crop, shift, shift_only, none"
    ):
        train_view(noise(8, 8), 'cutout', 8, np.random.default_rng(0))
    with pytest.raises(ValueError, match="'cutout': unknown"):
        eval_view(noise(8, 8), 'cutout', 8)
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


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('share', [0.5, 1.0])
def test_evaluation_keeps_a_share_of_the_shortest_edge(antialias, share):
    image = np.random.default_rng(3).integers(256, size=(60, 90, 3), dtype=np.uint8)
    rule = f'area_crop:{share}'
    (found,) = eval_views(image, rule, [40], antialias=antialias)
    edge = round(40 / share)
    bilinear = Image.Resampling.BILINEAR
    if antialias:
        scaled = np.asarray(Image.fromarray(image).resize((edge * 3 // 2, edge), bilinear))
    else:
        scaled = cv2.resize(image, (edge * 3 // 2, edge), interpolation=cv2.INTER_CUBIC)
    top, left = (edge - 40) // 2, (edge * 3 // 2 - 40) // 2
    np.testing.assert_array_equal(found, scaled[top : top + 40, left : left + 40])
    assert f'/ {share:g})' in augmentations.eval_rule(rule, 40, antialias=antialias)
    # Training is that of any share.
    for seed in range(3):
        views = []
        for name in ('area_crop', rule):
            rng = np.random.default_rng(seed)
            views.append(train_views(image, name, [40], rng, antialias=antialias)[0])
        np.testing.assert_array_equal(*views)


@pytest.mark.parametrize('sizes, antialias', [([40], False), ([40, 24], True)])
@pytest.mark.parametrize('shape', [(60, 90), (31, 20)])
def test_without_augmentation_training_sees_what_evaluation_sees(shape, sizes, antialias):
    image = noise(*shape)
    rng = np.random.default_rng(0)
    views = train_views(image, 'none', sizes, rng, antialias=antialias)
    for view, expected in zip(views, eval_views(image, 'none', sizes, antialias=antialias)):
        np.testing.assert_array_equal(view, expected)


@pytest.mark.parametrize('antialias', [False, True])
def test_without_mirror(antialias):
    """A picture that is dark on the left stays so, shifted or not."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 255
    for seed in range(12):
        for name in ('shift_only', 'none'):
            rng = np.random.default_rng(seed)
            (view,) = train_views(image, name, [32], rng, antialias=antialias)
            assert view[:, :8].max() == 0 and view[:, 24:].min() == 255
            if name == 'none':
                np.testing.assert_array_equal(view, image)
    assert augmentations.evaluated_as('none') == 'shift'
    assert augmentations.evaluated_as('shift_only') == 'shift'
    assert augmentations.evaluated_as('area_crop:0.9') == 'area_crop:0.9'


@pytest.mark.parametrize(
    'text, message',
    [
        ('cutout', 'unknown; there are area_crop, shift, shift_only, none'),
        ('shift:0.5', 'shift has no share to keep'),
        ('imagenet:', 'the share must be a number from 0.1 to 1'),
        ('area_crop:1.1', 'the share must be a number from 0.1 to 1'),
        ('area_crop:nan', 'the share must be a number from 0.1 to 1'),
    ],
)
def test_wrong_names(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        augmentations.parse(text)
