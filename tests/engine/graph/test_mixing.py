"""Mixup and CutMix: images and labels are mixed alike, and all chance comes from the seed."""

import numpy as np
import pytest

from engine.data.mixing import MixingOptions
from engine.graph.mixing import mixed
from quant.backend import tf

COUNT = 64


def batch(side):
    """Images of one value each, which tells how they were mixed: 0 or 200, by turns."""
    images = np.zeros((COUNT, side, side, 3), np.uint8)
    images[::2] = 200
    return images


LABELS = np.arange(COUNT, dtype=np.int32)
OTHERS = np.roll(LABELS, -1)


def mix(run, seed, **options):
    images = [tf.constant(batch(side)) for side in (20, 11)]
    found, labels = mixed(
        images, tf.constant(LABELS), MixingOptions(**options), tf.constant(seed, tf.int32)
    )
    assert [one.dtype for one in found] == [tf.uint8] * 2
    return run([found, tuple(labels)])


def own_share(labels):
    """The share of the image itself, as labels say it."""
    main, other, share = labels
    np.testing.assert_array_equal(np.sort([main, other], 0), np.sort([LABELS, OTHERS], 0))
    assert share.min() >= 0.5 and share.max() <= 1
    return np.where(main == LABELS, share, 1 - share)


@pytest.mark.parametrize('alpha', [0.05, 1.0, 8.0])
def test_mixup(run, alpha):
    images, labels = mix(run, [3, 5], mixup=alpha)
    share = own_share(labels)
    first, second = batch(1)[:, 0, 0, 0].astype(float), np.roll(batch(1)[:, 0, 0, 0], -1)
    expected = share * first + (1 - share) * second
    for found in images:
        assert (found == found[:, :1, :1, :1]).all()
        assert np.abs(found[:, 0, 0, 0] - expected).max() <= 0.5 + 1e-3
    # Beta(a, a) has mean 1/2 and variance 1 / (8 a + 4).
    deviation = np.sqrt(1 / (8 * alpha + 4))
    assert abs(share.mean() - 0.5) < 4 * deviation / np.sqrt(COUNT)
    assert 0.7 < share.std() / deviation < 1.3


def test_cutmix(run):
    images, labels = mix(run, [3, 5], cutmix=1.0)
    share = own_share(labels)
    assert share.std() > 0.1
    base = batch(1)  # [N, 1, 1, 3]
    for found in images:
        side = found.shape[1]
        foreign = (found != base).all(-1)  # [N, side, side]
        assert (
            (found == base[:, None, None, None]) | (found == 200 - base[:, None, None, None])
        ).all()
        for k in range(COUNT):
            rows, columns = foreign[k].any(1), foreign[k].any(0)
            # A box, whose area is that of the labels but for its edges.
            np.testing.assert_array_equal(foreign[k], np.outer(rows, columns))
            height, width = rows.sum() / side, columns.sum() / side
            assert abs(height * width - (1 - share[k])) < 2.5 / side


def test_a_seed_is_all_that_chance_comes_from(run):
    options = {'mixup': 0.4, 'cutmix': 1.0}
    kinds = set()
    for step in range(12):
        images, labels = mix(run, [7, step], **options)
        again, labels_again = mix(run, [7, step], **options)
        for one, other in zip([*images, *labels], [*again, *labels_again]):
            np.testing.assert_array_equal(one, other)
        boxes = set(np.unique(images[0])) <= {0, 200}
        kinds.add(boxes)
    assert kinds == {True, False}
    other, _ = mix(run, [8, 0], **options)
    first, _ = mix(run, [7, 0], **options)
    assert not np.array_equal(other[0], first[0])


def test_alone_an_image_stays(run):
    images, labels = mixed(
        [tf.constant(batch(8)[:1])],
        tf.constant([4]),
        MixingOptions(mixup=1.0),
        tf.constant([0, 0]),
    )
    found, label = run([images[0], labels.main])
    np.testing.assert_array_equal(found, batch(8)[:1])
    assert label.tolist() == [4]
