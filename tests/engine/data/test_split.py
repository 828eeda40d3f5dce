"""Images without a validation part are divided by class, the same every time, and without leaks."""

import numpy as np
import pytest

from engine.data import split
from engine.data.datasets import open_dataset
from engine.data.identity import Identity
from engine.data.sources import ArraySource
from engine.data.split import Split
from engine.errors import UsageError
from tests.engine.data.layouts import makers


def names(source):
    return {source.name(i) for i in range(len(source))}


def test_a_folder_of_classes_is_divided(tmp_path):
    makers.one_folder(tmp_path)
    with pytest.raises(UsageError, match=r'class folders, but no validation.*--val-split 0\.1'):
        open_dataset(str(tmp_path))
    dataset = open_dataset(str(tmp_path), split=Split(1 / 3))
    assert np.bincount(dataset.val.labels).tolist() == [2, 2, 2]
    assert np.bincount(dataset.train.labels).tolist() == [4, 4, 4]
    assert not names(dataset.train) & names(dataset.val)
    again = open_dataset(str(tmp_path), split=Split(1 / 3))
    assert names(dataset.val) == names(again.val)
    others = [names(open_dataset(str(tmp_path), split=Split(1 / 3, k)).val) for k in range(1, 5)]
    assert any(other != names(dataset.val) for other in others)
    # Another share is other data, though the folder is the same.
    wider = Identity(open_dataset(str(tmp_path), split=Split(0.5)))
    narrow = Identity(dataset)
    assert wider.val != narrow.val and wider.whole_val != narrow.whole_val


def test_equal_images_stay_on_one_side():
    rng = np.random.default_rng(4)
    images = rng.integers(256, size=(60, 8, 8), dtype=np.uint8)
    images[30:45] = images[:15]  # of the same class, and some of another one
    labels = np.arange(60) % 3
    for seed in range(5):
        train, val = split.divided(ArraySource(images, labels), Split(0.3, seed), ('a', 'b', 'c'))
        assert len(train) + len(val) == 60
        there = {train.stored(i) for i in range(len(train))}
        assert not any(val.stored(i) in there for i in range(len(val)))
        assert np.bincount(val.labels).max() <= 6 and np.bincount(val.labels).min() >= 4


def test_files_of_equal_bytes_stay_on_one_side(tmp_path):
    for label in range(2):
        for number in range(6):
            # Each picture twice in its class.
            content = makers.png('train', label, number // 2)
            makers.put(tmp_path / f'c{label}' / f'{number}.png', content)
    dataset = open_dataset(str(tmp_path), split=Split(0.3))
    assert np.bincount(dataset.val.labels).tolist() == [2, 2]
    assert not Identity(dataset, whole=True).repeated()


def test_nothing_but_copies(tmp_path):
    for label in range(2):
        for number in range(10):
            makers.put(tmp_path / f'c{label}' / f'{number}.png', makers.png('train', label, 0))
    with pytest.raises(UsageError, match=r'--val-split 0\.1: no image can be set aside'):
        open_dataset(str(tmp_path), split=Split(0.1))


def test_a_class_too_small_is_named(tmp_path):
    makers.one_folder(tmp_path)
    makers.put(tmp_path / 'dog' / 'a.png', makers.png('train', 0, 0))
    with pytest.raises(UsageError, match='--val-split 0.2: class dog has 1 image, too few'):
        open_dataset(str(tmp_path), split=Split(0.2))


def test_own_validation_images_are_kept(tmp_path):
    makers.tree(tmp_path)
    dataset = open_dataset(str(tmp_path), split=Split(0.2))
    assert len(dataset.val) == 6
    assert dataset.line().endswith('validation images of its own, which --val-split 0.2 leaves')
