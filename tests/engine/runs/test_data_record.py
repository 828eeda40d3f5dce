"""data.json: the same data go on wherever they are, others are refused where they were."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from engine.data.datasets import open_dataset
from engine.data.identity import Identity
from engine.errors import UsageError
from engine.runs import data_record
from tests.engine.data.ilsvrc import BAD, make_tree


def found(root: Path, skip: str = '') -> Identity:
    return Identity(open_dataset(str(root), skip=skip))


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('record') / 'set'
    make_tree(root, train=4, odd={'truncated': BAD['truncated']}, edges=(24, 130))
    return root


@pytest.fixture
def data(tree, tmp_path) -> Path:
    """Data whose first training image is damaged."""
    shutil.copytree(tree, tmp_path / 'data')
    return tmp_path / 'data'


@pytest.fixture
def run(data, tmp_path) -> Path:
    """A run that began with them."""
    data_record.write(tmp_path / 'run', data_record.of(found(data)))
    return tmp_path / 'run'


def test_a_record_is_read_as_it_was_written(data, run):
    record = data_record.read(run)
    assert record == data_record.of(found(data))
    assert record.classes == ('n01440764', 'n01440766', 'n01440768')
    assert data_record.read(data) is None


def test_moved_data_go_on(data, run, tmp_path):
    before = data_record.read(run)
    data.rename(tmp_path / 'moved')
    data_record.check(run, found(tmp_path / 'moved'))
    assert data_record.read(run) == before


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    'part, why',
    [
        ('train', r'began with 12 training images; .* 12 or others .other content'),
        ('val', r'began with 6 validation images; .* 6 or others .other content'),
    ],
)
def test_other_data_at_the_same_place_are_refused(part, why, data, run):
    flip(sorted((data / part).rglob('*.JPEG'))[-1])
    with pytest.raises(UsageError, match=f'^--logdir {run}: .*{why}.* -a n for a new folder$'):
        data_record.check(run, found(data))


def test_another_class_is_refused_by_name(data, run):
    shutil.copytree(data / 'train' / 'n01440766', data / 'train' / 'n00000001')
    with pytest.raises(UsageError, match='other classes .only here: n00000001'):
        data_record.check(run, found(data))


def test_a_repaired_image_goes_on_if_it_was_seen_to_be_bad(data, run):
    bad = data / 'train' / 'n01440764' / 'n01440764_0.JPEG'
    data_record.note_bad(run, [str(bad.relative_to(data)), 'image that is not there'], found(data))
    data_record.check(run, found(data))
    shutil.copy(bad.with_name('n01440764_1.JPEG'), bad)
    data_record.check(run, found(data))
    flip(bad.with_name('n01440764_1.JPEG'))
    with pytest.raises(UsageError, match='training images; .*other content'):
        data_record.check(run, found(data))


def test_a_repaired_image_that_nobody_saw_is_other_data(data, run):
    bad = data / 'train' / 'n01440764' / 'n01440764_0.JPEG'
    shutil.copy(bad.with_name('n01440764_1.JPEG'), bad)
    with pytest.raises(UsageError, match='training images'):
        data_record.check(run, found(data))


def test_skip_lists_of_validation_images_may_change(data, run, tmp_path):
    names = [open_dataset(str(data)).val.name(i) for i in range(3)]
    for count in (1, 2, 3):
        (tmp_path / 'bad.txt').write_text('\n'.join(names[:count]))
        data_record.check(run, found(data, str(tmp_path / 'bad.txt')))
    part = data_record.of(found(data, str(tmp_path / 'bad.txt')))
    assert part != data_record.read(run)
    data_record.write(run, part)
    data_record.check(run, found(data))
    assert data_record.read(run) == part


def test_an_earlier_record_is_compared_and_completed(data, run):
    whole = data_record.read(run)
    earlier = {'training_images': whole.training_images, 'crc32': whole.crc32}
    (run / 'data.json').write_text(json.dumps(earlier))
    data_record.check(run, found(data))
    assert data_record.read(run) == whole
    (run / 'data.json').write_text(json.dumps({**earlier, 'crc32': 7}))
    with pytest.raises(UsageError, match='other names or labels'):
        data_record.check(run, found(data))


def test_a_folder_of_an_evaluation_records_what_is_evaluated(data, tmp_path):
    dataset = open_dataset(str(data))
    data_record.write(tmp_path / 'eval', data_record.of(Identity(dataset, trains=False)))
    flip(next((data / 'train').rglob('*.JPEG')))
    data_record.check(tmp_path / 'eval', found(data))
    val = dataclasses.replace(dataset, val=dataset.train)
    with pytest.raises(UsageError, match='6 validation images; .* 12 or others .other names'):
        data_record.check(tmp_path / 'eval', Identity(val, trains=False))
