"""Every layout gives the same images and labels, in an order that is always the same."""

import numpy as np
import pytest

from engine.data import layouts
from engine.data.batches import TrainFlow
from engine.data.datasets import open_dataset
from engine.data.layouts import shards
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


@pytest.mark.parametrize('place', ['.', 'ILSVRC', 'ILSVRC/Data', 'ILSVRC/Data/CLS-LOC'])
def test_every_folder_of_kaggle_may_be_named(place, tmp_path):
    makers.kaggle(tmp_path)
    dataset = open_dataset(str(tmp_path / place))
    assert dataset.layout == "Kaggle's ILSVRC"
    assert colours(dataset.val, 'val') == expected('val', VAL)


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
    assert '; found 1 folder (docs/), 1 file .mp4, looked for ' in message
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
        ('path,label\na.png\n', 'line 2: has only 1 column'),
        ('path,label\na.png,\n', 'line 2: a path, label or split is empty'),
        ('path,label\nb.png,x\n', '1 of 1 image not found'),
        ('a.png,x\na.png,y\n', 'a.png is listed twice, in lines 1 and 2'),
        ('path,label,split\na.png,x,train\nc.png,y,val\n', 'these labels are of no class'),
        ('path,label,split\na.png,x,train\na.png,x,val\n', '1 file listed for training and'),
        ('path,label,split\na.png,x,train\n./a.png,x,val\n', '1 file listed for training and'),
        ('a.png,x\n./a.png,y\n', 'a.png is listed twice, in lines 1 and 2'),
        ('a.png,"x\n\nz"\nc.png\n', 'line 4: has only 1 column'),
        ('a.png,"x\nc.png,y\n', 'line 2: unexpected end of data; a quote may be left open'),
        ('a.png,"x\n' + 9 * 2**14 * 'c.png,y\n', 'field limit (131072); a quote may be left open'),
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


def test_a_table_of_paths_that_cannot_be(tmp_path):
    (tmp_path / 'labels.csv').write_text(f'a.png,x\n{"b" * 300}/b.png,x\n')
    assert 'cannot be listed: File name too long' in refusal(tmp_path)


def test_an_empty_text_tells_no_class(tmp_path):
    content = b''
    for label in (1, 2):
        values = {'image/encoded': makers.png('train', label, 0), 'image/class/synset': b''}
        content += makers.record(makers.example({**values, 'image/class/label': label}))
    for name in ('train-0-of-1', 'val-0-of-1'):
        makers.put(tmp_path / name, content)
    assert open_dataset(str(tmp_path)).classes == ('1', '2')


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


PAIR = [('a.png', makers.png('train', 0, 0)), ('a.cls', b'0')]


@pytest.mark.parametrize(
    'members, headers, message',
    [
        ([*PAIR, ('a.mask.png', b'')], {}, 'these images have one label, as KEY ends at the first'),
        ([PAIR[0], ('a.cls', b'0' * 5000)], {}, 'is no complete tar archive (a.cls is too long)'),
        ([('a' * 5000 + '.png', b''), *PAIR], {}, 'is too long'),
        (PAIR, {'GNU.sparse.map': 'x,y'}, 'is no complete tar archive'),
        (PAIR, {'GNU.sparse.map': '0,5', 'GNU.sparse.size': f'{2**60}'}, 'a.png is not all there'),
        (PAIR, {'size': f'{2**80}'}, 'a.png is not all there'),
    ],
)
def test_bad_archives(tmp_path, members, headers, message):
    for name in ('train.tar', 'val.tar'):
        makers.archive(tmp_path / name, members, **headers)
    found = refusal(tmp_path)
    assert message in found and 'train.tar' in found


def test_an_image_that_is_added_again_replaces_the_first(tmp_path):
    for name in ('train.tar', 'val.tar'):
        makers.archive(tmp_path / name, [('a.png', b'old'), *PAIR])
    train = open_dataset(str(tmp_path)).train
    assert [train.stored(i) for i in range(len(train))] == [PAIR[0][1]]


def test_archives_beside_class_folders_are_left_alone(tmp_path):
    makers.tree(tmp_path)
    makers.archive(tmp_path / 'ILSVRC2012_img_train.tar', [('n01440764.tar', b'')])
    makers.archive(tmp_path / 'train' / 'apple.tar', [('a.JPEG', b'')])
    assert open_dataset(str(tmp_path)).layout == 'class folders in train/ and val/'


def test_a_shard_that_is_a_dangling_link(tmp_path):
    (tmp_path / 'train.tar').symlink_to(tmp_path / 'gone')
    assert 'train.tar' in refusal(tmp_path)


def test_a_solution_that_is_listed_twice(tmp_path):
    makers.kaggle(tmp_path)
    path = tmp_path / 'LOC_val_solution.csv'
    path.write_text(path.read_text() + 'val00,bird 1 2 3 4\n')
    assert 'has 7 lines for the 6 images' in refusal(tmp_path)


@pytest.mark.parametrize(
    'made, message',
    [
        ({'a': np.zeros(3)}, 'no images and labels; it has a, expected one .npz'),
        (
            {'images': np.zeros((3, 8, 8), np.uint8), 'labels': np.zeros(2, int)},
            'images uint8 [3, 8, 8] and labels int64 [2]; expected images',
        ),
        (
            {
                'x_train': np.full((2, 8, 8), 9, np.uint8),
                'y_train': np.arange(2),
                'x_test': np.full((2, 8, 8), 9, np.uint8),
                'y_test': np.array([1, 5]),
            },
            'test: these labels are of no class of the 2 that training images have: 5',
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
        (
            {'images': np.zeros((3, 0, 8, 3), np.uint8), 'labels': np.zeros(3, int)},
            'images uint8 [3, 0, 8, 3] and labels int64 [3]; expected images',
        ),
        (
            {'images': np.ones((3, 8, 8), bool), 'labels': np.zeros(3, int)},
            'images bool [3, 8, 8] and labels int64 [3]; expected images uint8',
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
    for path in kept:
        path.write_bytes(b'damaged')
    assert len(open_dataset(str(tmp_path / 'set')).train) == 12
    # As are lists of shards that have changed since, or of another form.
    for path in (tmp_path / 'set').glob('train-*'):
        before = shards._kept(path.parent, [path.name])
        path.write_bytes(2 * path.read_bytes())
        assert shards._kept(path.parent, [path.name]) != before
    monkeypatch.setattr(shards, '_FORM', shards._FORM + 1)
    assert len(open_dataset(str(tmp_path / 'set')).train) == 24


def test_names_and_labels_may_be_bytes(tmp_path):
    images = np.random.default_rng(0).integers(2, 256, size=(6, 9, 9), dtype=np.uint8)
    parts = {'x_train': images[:4], 'x_test': images[4:]}
    labels = np.array(['caf\u00e9'.encode(), b'dog', b'dog', b'dog', b'dog', 'caf\u00e9'.encode()])
    np.savez(tmp_path / 'set.npz', **parts, y_train=labels[:4], y_test=labels[4:])
    dataset = open_dataset(str(tmp_path))
    assert (dataset.classes, dataset.val.labels.tolist()) == (('caf\u00e9', 'dog'), [1, 0])
    numbers = np.arange(6) % 2
    names = np.array([b'cat', b'dog'])
    np.savez(tmp_path / 'set.npz', **parts, y_train=numbers[:4], y_test=numbers[4:], names=names)
    assert open_dataset(str(tmp_path)).classes == ('cat', 'dog')
