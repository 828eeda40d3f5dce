"""Every layout gives the same images and labels, in an order that is always the same."""

import numpy as np
import pytest

from engine.data import layouts
from engine.data.batches import TrainFlow
from engine.data.datasets import open_dataset
from engine.data.layouts.layout import described
from engine.data.preprocessing import Preprocessing
from engine.errors import UsageError
from tests.engine.data.layouts import makers
from tests.engine.data.layouts.makers import CLASSES, MAKERS, TRAIN, VAL


def colours(source, part):
    """Labels and RGB of all images, in the order of their labels and colours."""
    found = []
    for i in range(len(source)):
        image = source.read(i)
        assert image.shape == (32, 40, 3) and (image == image[0, 0]).all()
        found.append((int(source.labels[i]), tuple(int(value) for value in image[0, 0, ::-1])))
    return sorted(found)


def expected(part, count):
    found = []
    for label in range(len(CLASSES)):
        found += [(label, makers.colour(part, label, number)) for number in range(count)]
    return sorted(found)


@pytest.mark.parametrize('name', MAKERS)
def test_all_give_the_same(tmp_path, name):
    MAKERS[name](tmp_path)
    dataset = open_dataset(str(tmp_path))
    assert dataset.layout == name
    assert dataset.line().startswith(
        f'data {dataset.name}: {name}, 3 classes, 12 training and 6 validation images'
    )
    named = {'TFRecord shards': ('1', '2', '3'), 'WebDataset shards': ('0', '1', '2')}
    named['arrays of an .npz file'] = ('0', '1', '2')
    assert dataset.classes == named.get(name, CLASSES)
    assert colours(dataset.train, 'train') == expected('train', TRAIN)
    assert colours(dataset.val, 'val') == expected('val', VAL)
    names = [dataset.train.name(i) for i in range(12)] + [dataset.val.name(i) for i in range(6)]
    again = open_dataset(str(tmp_path))
    assert names == [again.train.name(i) for i in range(12)] + [again.val.name(i) for i in range(6)]
    assert (dataset.spec.augmentation, dataset.spec.image_size) == ('shift', 32)


@pytest.mark.parametrize('train, val', [('training', 'validation'), ('train', 'test')])
def test_other_names_of_the_parts(tmp_path, train, val):
    makers.tree(tmp_path, train, val)
    dataset = open_dataset(str(tmp_path))
    assert colours(dataset.val, 'val') == expected('val', VAL)


def test_a_test_set_beside_is_left_alone(tmp_path):
    makers.tree(tmp_path)
    makers.tree(tmp_path, 'train', 'test')
    assert (
        open_dataset(str(tmp_path))
        .line()
        .endswith('test/ is left alone: val/ is what is validated on')
    )


@pytest.mark.parametrize('make', [makers.tsv, makers.two_tables])
def test_further_tables(tmp_path, make):
    make(tmp_path)
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == CLASSES
    assert colours(dataset.val, 'val') == expected('val', VAL)


def test_files_are_data_too(tmp_path):
    makers.arrays(tmp_path / 'arrays')
    makers.table(tmp_path / 'table')
    for path in (tmp_path / 'arrays' / 'set.npz', tmp_path / 'table' / 'labels.csv'):
        assert colours(open_dataset(str(path)).val, 'val') == expected('val', VAL)


def test_the_images_of_kaggle_may_be_named_themselves(tmp_path):
    makers.kaggle(tmp_path)
    dataset = open_dataset(str(tmp_path / 'ILSVRC' / 'Data' / 'CLS-LOC'))
    assert dataset.layout == "Kaggle's ILSVRC"


@pytest.mark.parametrize('name', ['TFRecord shards', 'WebDataset shards'])
def test_training_resumes_in_the_middle_of_shards(tmp_path, name):
    MAKERS[name](tmp_path)
    views = Preprocessing('shift', 32, (32,), 'area', 'unit_rgb')
    flow = {'batch_size': 4, 'seed': 3, 'threads': 0}
    whole = []
    for batch, _ in zip(TrainFlow(open_dataset(str(tmp_path)), views, **flow), range(7)):
        whole.append(batch)
    rest = TrainFlow(open_dataset(str(tmp_path)), views, start_step=5, **{**flow, 'threads': 2})
    for batch, there in zip(rest, whole[5:]):
        for array, before in zip(batch, there):
            np.testing.assert_array_equal(array, before)
    # Shuffled over all shards: the first pass has each image once, not shard by shard.
    seen = [tuple(image[0, 0]) for images, _ in whole[:3] for image in images]
    assert len(set(seen)) == 12


def refusal(root):
    with pytest.raises(UsageError) as caught:
        open_dataset(str(root))
    return str(caught.value)


def test_what_is_none_says_what_was_looked_for_and_found(tmp_path):
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'a.mp4').write_bytes(b'')
    message = refusal(tmp_path)
    for layout in layouts.LAYOUTS:
        assert layout.wanted in message
    assert '; found 1 folders (docs/), 1 files .mp4, looked for ' in message
    assert described(tmp_path / 'a.mp4') == 'a file of 0 bytes'


def test_a_link_in_a_circle_is_named(tmp_path):
    makers.tree(tmp_path)
    (tmp_path / 'train' / 'loop').symlink_to(tmp_path / 'train' / 'loop')
    assert f'{tmp_path}/train/loop is a link that leads nowhere, or in a circle' in refusal(
        tmp_path
    )


def test_two_forms_of_a_name_are_refused(tmp_path):
    makers.tree(tmp_path)
    makers.put(tmp_path / 'train' / makers.OTHER_FORM / 'a.png', b'')
    assert 'train has two classes caf' in refusal(tmp_path)


@pytest.mark.parametrize(
    'text, message',
    [
        ('path,label\n', 'lists no training images'),
        ('width,height\n3,4\n', "its first line is 'width,height'. Expected titles such as path"),
        ('path,label,split\na.png,x,fold1\n', "line 2: split 'fold1' is unknown; expected train"),
        ('path,label\na.png\n', 'line 2: has 1 columns only'),
        ('path,label\na.png,\n', 'line 2: a path, label or split is empty'),
        ('path,label\nb.png,x\n', '1 of 1 images are not there'),
        ('a.png,x\na.png,y\n', 'a.png is listed twice, in lines 1 and 2'),
        ('path,label,split\na.png,x,train\nc.png,y,val\n', 'these labels are of no class'),
        ('path,label,split\na.png,x,train\na.png,x,val\n', '1 files are listed for training and'),
    ],
)
def test_bad_tables(tmp_path, text, message):
    for name in ('a.png', 'c.png'):
        makers.put(tmp_path / name, makers.png('train', 0, 0))
    (tmp_path / 'labels.csv').write_text(text)
    found = refusal(tmp_path)
    assert message in found and 'labels.csv' in found


@pytest.mark.parametrize(
    'damage, message',
    [
        (lambda content: content[:-9], 'is cut: its last record needs 9 bytes more'),
        (lambda content: content + b'abc', 'is cut: its last record'),
        (lambda content: b'\1' + content[1:], 'differs from its checksum'),
        (lambda content: makers.record(b'\x08\1'), 'the record at byte 12 is no Example'),
        (
            lambda content: makers.record(makers.example({'image/class/label': 3})),
            'has no image/encoded',
        ),
        (
            lambda content: makers.record(makers.example({'image/encoded': b'x'})),
            'has no image/class/label',
        ),
        (lambda content: b'', 'there are no images in'),
    ],
)
def test_bad_records(tmp_path, damage, message):
    makers.tfrecords(tmp_path)
    for path in tmp_path.glob('train-*'):
        path.write_bytes(damage(path.read_bytes()))
    assert message in refusal(tmp_path)


def test_a_label_that_only_validation_images_have(tmp_path):
    makers.tfrecords(tmp_path)
    content = makers.record(makers.example({'image/class/label': 7, 'image/encoded': b'x'}))
    (tmp_path / 'validation-00000-of-00002').write_bytes(content)
    assert 'these labels are of no class of the 3 that training images have: 7' in refusal(tmp_path)


def test_archives_without_labels_and_cut_ones(tmp_path):
    makers.webdataset(tmp_path)
    path = tmp_path / 'train' / 'set-000000.tar'
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'train00.cls', b'train00.xyz'))
    assert 'set-000000.tar' in refusal(tmp_path)
    path.write_bytes(whole[:700])
    assert 'set-000000.tar is no complete tar archive' in refusal(tmp_path)


@pytest.mark.parametrize(
    'made, message',
    [
        ({'a': np.zeros(3)}, 'no images and labels; it has a, expected one .npz'),
        (
            {'images': np.zeros((3, 8, 8), np.uint8), 'labels': np.zeros(2, int)},
            'images [3, 8, 8] and labels [2]; expected images',
        ),
        (
            {
                'x_train': np.full((2, 8, 8), 9, np.uint8),
                'y_train': np.arange(2),
                'x_test': np.full((2, 8, 8), 9, np.uint8),
                'y_test': np.array([1, 5]),
            },
            'test has labels 5, which training images lack',
        ),
        (
            {
                'x_train': np.full((2, 8, 8, 3), 0.5, np.float32),
                'y_train': np.arange(2),
                'x_test': np.full((2, 8, 8, 3), 0.5, np.float32),
                'y_test': np.arange(2),
            },
            'images are float32, from 0.5 to 0.5; expected uint8',
        ),
    ],
)
def test_bad_arrays(tmp_path, made, message):
    np.savez(tmp_path / 'set.npz', **made)
    assert message in refusal(tmp_path)


def test_a_list_of_shards_is_kept_and_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr('engine.data.layouts.shards.KEPT', 1)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    makers.tfrecords(tmp_path / 'set')
    first = open_dataset(str(tmp_path / 'set')).train
    kept = sorted((tmp_path / 'cache' / 'switchable-nets').iterdir())
    assert len(kept) == 2
    monkeypatch.setattr('engine.data.layouts.tfrecord.records', None)
    again = open_dataset(str(tmp_path / 'set')).train
    assert (again.files, again.labels.tolist()) == (first.files, first.labels.tolist())
    np.testing.assert_array_equal(again.read(5), first.read(5))
    monkeypatch.undo()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    kept[0].write_bytes(b'damaged')
    assert len(open_dataset(str(tmp_path / 'set')).train) == 12
