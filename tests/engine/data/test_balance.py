"""Classes drawn alike: how often, in which order, and from where a run goes on."""

import numpy as np
import pytest

from engine.data.balance import balanced, class_weights, is_uneven
from engine.data.batches import TrainFlow
from engine.data.folder import FOLDER
from engine.data.preprocessing import Preprocessing
from engine.data.sources import ArraySource
from engine.data.spec import Dataset

LABELS = np.array([0] * 30 + [1] * 5 + [3] * 12)


@pytest.mark.parametrize('seed', range(4))
def test_classes_are_as_frequent(seed):
    numbers, again = balanced(LABELS, np.random.default_rng(seed))
    counts = np.bincount(LABELS[numbers], minlength=4)
    assert len(numbers) == 47 and counts[2] == 0 and set(counts[[0, 1, 3]]) == {15, 16}
    for label in (0, 1, 3):
        of_class = numbers[LABELS[numbers] == label]
        times = np.bincount(of_class, minlength=47)[label == LABELS]
        assert times.max() - times.min() <= 1
    for number in np.unique(numbers):
        assert sorted(again[numbers == number]) == list(range((numbers == number).sum()))


def test_what_is_uneven():
    assert is_uneven(LABELS) and not is_uneven(np.array([0, 0, 2])) and is_uneven(np.arange(7) // 6)


@pytest.mark.parametrize('labels', [LABELS, np.arange(7), np.zeros(5, int)])
def test_weights_of_classes(labels):
    weights = np.array(class_weights(labels, 8))
    counts = np.bincount(labels, minlength=8)
    totals = counts * weights
    assert weights[labels].mean() == pytest.approx(1)
    np.testing.assert_allclose(totals[counts > 0], totals.max())
    assert not weights[counts == 0].any()


def flow(**more):
    rng = np.random.default_rng(1)
    source = ArraySource(rng.integers(256, size=(47, 16, 16, 3), dtype=np.uint8), LABELS)
    dataset = Dataset('made', FOLDER, tuple('abcd'), source, source)
    views = Preprocessing('shift', 16, (16,), 'area', 'unit_rgb')
    return TrainFlow(dataset, views, **{'batch_size': 8, 'seed': 5, 'threads': 0, **more})


def take(count, **more):
    return [batch for batch, _ in zip(flow(**more), range(count))]


def test_a_run_goes_on_where_it_was():
    whole = take(12, balance=True)
    for batch, there in zip(take(5, balance=True, start_step=7, threads=2), whole[7:]):
        for array, before in zip(batch, there):
            np.testing.assert_array_equal(array, before)
    labels = np.concatenate([labels for _, labels in whole[:5]])
    counts = np.bincount(labels, minlength=4)
    assert counts[1] >= 10 and counts[0] <= 16


def test_an_image_that_is_there_again_looks_different():
    images = [image for batch, _ in take(5, balance=True) for image in batch]
    labels = [label for _, labels in take(5, balance=True) for label in labels]
    rare = [image.tobytes() for image, label in zip(images, labels) if label == 1]
    # Of 5 images, in any of 50 ways each.
    assert len(rare) > 10 and len(set(rare)) > 8


def test_without_it_nothing_changes():
    """As every image was drawn before there was a choice."""
    order = np.random.default_rng([5, 0]).permutation(47)
    (_, labels), *_ = take(1)
    np.testing.assert_array_equal(labels, LABELS[order[:8]])
