"""Data that cannot be right are refused when they are opened; what may be a mistake is said."""

import dataclasses

import numpy as np
import pytest

from engine.data import checks
from engine.data.identity import Identity
from engine.data.sources import ArraySource, Subset
from engine.data.spec import Dataset, DatasetSpec
from engine.errors import UsageError

IMAGES = np.random.default_rng(0).integers(256, size=(6, 8, 8, 3), dtype=np.uint8)


def data(train, val=(0, 1, 2), *, images=IMAGES, classes=('cat', 'dog', 'owl')) -> Dataset:
    """A data set with these labels."""
    spec = DatasetSpec('made', lambda folder, size: None, 'made')
    others = 255 - IMAGES
    return Dataset(
        'made', spec, classes, ArraySource(images, train), ArraySource(others[: len(val)], val)
    )


WHOLE = (0, 0, 1, 1, 2, 2)


@pytest.mark.parametrize(
    'train, val, message',
    [
        ((0, 0, 1, 1, 2, 3), (0, 1, 2), 'train: 1 label outside of the 3 classes, .* 3 of'),
        ((0, 0, 1, 1, 2, -1), (0, 1, 2), 'train: 1 label outside .* -1 of image 5'),
        (WHOLE, (0, 7, 9), 'val: 2 labels outside of the 3 classes, .* 7 of image 1'),
        ((1, 1, 2, 2, 3, 3), (1, 2, 3), 'train: .* expected 0 to 2. They seem to count from 1'),
    ],
)
def test_labels_outside_of_the_classes(train, val, message):
    with pytest.raises(UsageError, match=f'--data made: {message}'):
        checks.check(data(train, val))


def test_labels_that_are_no_whole_numbers():
    with pytest.raises(UsageError, match='labels are float64, such as 0.5; expected whole'):
        ArraySource(IMAGES, [0.5] * 6)


@pytest.mark.parametrize(
    'images, message',
    [
        (IMAGES / 255, 'images are float64, from 0 to 1; expected uint8, from 0 to 255'),
        (IMAGES.astype(np.float32), 'images are float32, from 0 to 255; expected uint8'),
        (IMAGES.astype(np.int64), 'images are int64'),
        (IMAGES // 255, 'images hold nothing but 0 and 1, which are all black'),
    ],
)
def test_images_that_would_be_black(images, message):
    with pytest.raises(UsageError, match=f'--data made: train: {message}'):
        checks.check(data(WHOLE, images=images))


def test_good_data_pass():
    found = data(WHOLE)
    checks.check(found)
    checks.check_trainable(found)
    assert list(checks.notes(found, Identity(found))) == []


@pytest.mark.parametrize('classes', [('cat',), ('cat', 'dog', 'owl')])
def test_one_class_is_nothing_to_learn(classes):
    with pytest.raises(UsageError, match='all training images are of one class, cat: .* two'):
        checks.check_trainable(data((0,) * 6, (0,), classes=classes))


def test_one_class_that_a_skip_list_leaves():
    found = data(WHOLE)
    part = dataclasses.replace(found, train=Subset(found.train, np.array([2, 3])))
    with pytest.raises(UsageError, match='one class, dog'):
        checks.check_trainable(part)


@pytest.mark.parametrize(
    'train, val, said',
    [
        ((0, 0, 1, 1, 1, 1), (0, 1), ['train has no images of owl', 'val has no images of owl']),
        (WHOLE, (0, 2), ['val has no images of dog']),
        (
            (0, 0, 1, 1, 1, 1),
            (0, 1, 2),
            ['train has no images of owl', 'val has images of owl, which train lacks'],
        ),
    ],
)
def test_classes_without_images_are_said(train, val, said):
    found = data(train, val)
    lines = list(checks.notes(found, Identity(found)))
    assert len(lines) == len(said)
    for line, part in zip(lines, said):
        assert line.startswith(f'--data made: {part}')


def test_images_in_both_parts_are_said():
    found = data(WHOLE)
    both = dataclasses.replace(found, val=ArraySource(IMAGES[[4, 4]], [0, 1]))
    *_, line = checks.notes(both, Identity(both))
    said = '2 validation images also among training images, such as image 0, which is image 4'
    assert said in line
