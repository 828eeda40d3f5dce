"""What makes data the same: content, wherever it lies, and how much of it is looked at."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.data import identity
from engine.data.datasets import open_dataset
from engine.data.identity import Identity
from engine.data.sources import ArraySource, Relabelled, Subset, innermost
from scripts import pack_data
from tests.engine.data.ilsvrc import make_tree


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    """Three classes of four training and two validation images."""
    root = tmp_path_factory.mktemp('identity') / 'set'
    make_tree(root, train=4, edges=(24, 30))
    return root


@pytest.fixture
def copy(tree, tmp_path) -> Path:
    shutil.copytree(tree, tmp_path / 'elsewhere')
    return tmp_path / 'elsewhere'


def parts(root: Path) -> tuple:
    found = Identity(open_dataset(str(root)))
    return found.classes, found.train, found.val, found.whole_val


def test_moved_data_are_the_same(tree, copy):
    assert parts(copy) == parts(tree)


def test_a_packed_copy_is_the_same(tree, tmp_path):
    assert pack_data.main([str(tree), str(tmp_path / 'packed')]) == 0
    assert parts(tmp_path / 'packed') == parts(tree)


def change_a_byte(file: Path) -> None:
    """The same name, the same size."""
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)


def rename(file: Path) -> None:
    file.rename(file.with_name(f'other{file.suffix}'))


def to_another_class(file: Path) -> None:
    (other,) = [f for f in file.parent.parent.iterdir() if f.name.endswith('1440766')]
    file.rename(other / file.name)


@pytest.mark.parametrize('change', [change_a_byte, rename, to_another_class, Path.unlink])
def test_other_data_at_the_same_place_are_others(copy, change):
    before = parts(copy)
    change(sorted((copy / 'train').glob('*64/*'))[1])
    after = parts(copy)
    assert after[1] != before[1]
    assert after[2:] == before[2:]


def test_a_skip_list_leaves_all_validation_images_known(tree, tmp_path):
    whole = Identity(open_dataset(str(tree)))
    name = open_dataset(str(tree)).val.name(3)
    (tmp_path / 'bad.txt').write_text(name)
    part = Identity(open_dataset(str(tree), skip=str(tmp_path / 'bad.txt')))
    assert part.whole_val == whole.val != part.val
    assert part.train == whole.train


def test_one_image_makes_the_difference_of_its_fingerprint(copy):
    before = Identity(open_dataset(str(copy)))
    name = before._train.name(5)
    old = before.fingerprint_of(name), int(before.train.content, 16)
    change_a_byte(copy / name)
    after = Identity(open_dataset(str(copy)))
    new = after.fingerprint_of(name), int(after.train.content, 16)
    assert (new[1] - old[1]) % 2**64 == (new[0] - old[0]) % 2**64 != 0
    assert after.fingerprint_of('train/none.png') is None


def test_an_unreadable_image_is_no_reason_not_to_start(copy):
    name = open_dataset(str(copy)).train.name(0)
    (copy / name).unlink()
    (copy / name).symlink_to('/nowhere')
    assert Identity(open_dataset(str(copy))).train.images == 12


def test_a_large_set_is_known_by_a_sample(tree, copy, monkeypatch):
    """Names of all, sizes of some, bytes of few: and of the same ones in a copy."""
    source = open_dataset(str(tree)).train
    whole = identity.fingerprints(source)
    assert np.all(whole.contents) and np.all(whole.images)
    monkeypatch.setattr(identity, 'SIZED', 7)
    monkeypatch.setattr(identity, 'READ', 1000)
    some = identity.fingerprints(source)
    sized = np.flatnonzero(some.images)
    assert 0 < len(sized) < 12
    assert np.count_nonzero(some.contents) < len(sized)
    there = identity.fingerprints(open_dataset(str(copy)).train)
    np.testing.assert_array_equal(some.images, there.images)
    np.testing.assert_array_equal(whole.images, identity.fingerprints(source, whole=True).images)


def test_no_more_than_the_limits_are_looked_at():
    for count in (1, 50_000, 50_001, 1_281_167):
        share = identity._share(count, identity.SIZED)
        assert count / share <= identity.SIZED
        assert share == 1 or count / share > identity.SIZED / 2


def test_the_same_image_in_both_parts_is_found(copy):
    shutil.copy(sorted((copy / 'train').glob('*68/*'))[2], copy / 'val' / 'again.JPEG')
    labels = copy / 'meta' / 'val.txt'
    labels.write_text(f'{labels.read_text()}again.JPEG 2\n')
    dataset = open_dataset(str(copy))
    assert Identity(dataset).repeated() == [('train/n01440768/n01440768_2.JPEG', 'val/again.JPEG')]
    # What is not trained on does not matter.
    rest = Subset(dataset.train, np.flatnonzero(dataset.train.labels != 2))
    assert Identity(dataclasses.replace(dataset, train=rest)).repeated() == []


def test_innermost_sees_through_all_choices():
    source = ArraySource(np.zeros([6, 2, 2], np.uint8), np.arange(6))
    chosen = Subset(Relabelled(Subset(source, np.array([5, 3, 1, 0])), np.arange(4)), np.array([2]))
    whole, numbers = innermost(chosen)
    assert whole is source and numbers.tolist() == [1]
    assert chosen.labels.tolist() == [2]
