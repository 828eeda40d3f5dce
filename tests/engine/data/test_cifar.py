"""The CIFAR archives: pixels and labels as they are meant, no code run, and what a run
calls them.
"""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.data import cifar
from engine.data import folder as image_folder
from engine.data.datasets import named, open_dataset
from tests.engine.data.test_datasets import refusal


def cifar_rows(count: int, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, 3072), dtype=np.uint8)


def write_pickle(path: Path, content: dict, *, as_bytes: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    keyed = {key.encode() if as_bytes else key: value for key, value in content.items()}
    path.write_bytes(pickle.dumps(keyed, protocol=4))


def make_cifar10(folder: Path, *, as_bytes: bool = True) -> Path:
    for k in range(1, 6):
        write_pickle(
            folder / f'data_batch_{k}',
            {'data': cifar_rows(4, seed=k), 'labels': [k, 0, 9, 3]},
            as_bytes=as_bytes,
        )
    write_pickle(
        folder / 'test_batch',
        {'data': cifar_rows(3, seed=9), 'labels': [1, 2, 3]},
        as_bytes=as_bytes,
    )
    write_pickle(
        folder / 'batches.meta',
        {'label_names': [f'name{k}'.encode() for k in range(10)]},
        as_bytes=as_bytes,
    )
    return folder


@pytest.mark.parametrize('as_bytes', [True, False])
def test_cifar10(tmp_path, as_bytes):
    folder = make_cifar10(tmp_path / 'cifar-10-batches-py', as_bytes=as_bytes)
    for data in (f'cifar10:{tmp_path}', f'cifar10:{folder}', str(tmp_path), str(folder)):
        dataset = open_dataset(data)
        assert (dataset.name, dataset.spec) == ('cifar10', cifar.SPECS['cifar10'])
        assert (len(dataset.train), len(dataset.val), dataset.classes[9]) == (20, 3, 'name9')
    np.testing.assert_array_equal(dataset.train.labels[:8], [1, 0, 9, 3, 2, 0, 9, 3])
    row, image = cifar_rows(4, seed=2)[1], dataset.train.read(5)
    for y, x in ((0, 0), (3, 31), (17, 4)):
        red, green, blue = (row[plane * 1024 + y * 32 + x] for plane in range(3))
        assert image[y, x].tolist() == [blue, green, red]


@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
def test_binary_archives(tmp_path, name):
    binary = cifar.BINARIES[name]
    folder = tmp_path / binary.folder
    folder.mkdir()
    for number, file in enumerate((*binary.train, binary.val)):
        labels = np.full((2, binary.labels), 200, np.uint8)
        labels[:, -1] = [number, 3]
        (folder / file).write_bytes(np.hstack([labels, cifar_rows(2, seed=number)]).tobytes())
    classes = [f'name{k}' for k in range(10 if name == 'cifar10' else 100)]
    (folder / binary.meta).write_text('\n'.join([*classes, '']))
    for data in (f'{name}:{tmp_path}', str(folder)):
        dataset = open_dataset(data)
        assert (dataset.name, dataset.classes) == (name, tuple(classes))
        assert dataset.val.labels.tolist() == [len(binary.train), 3]
        row, image = cifar_rows(2, seed=0)[1], dataset.train.read(1)
        assert image[17, 4].tolist() == [row[plane * 1024 + 17 * 32 + 4] for plane in (2, 1, 0)]
    path = folder / binary.val
    path.write_bytes(path.read_bytes()[:-5])
    assert f'{path} has' in refusal(f'{name}:{tmp_path}')


def test_an_archive_that_is_packed_is_named(tmp_path):
    (tmp_path / 'cifar-10-python.tar.gz').write_bytes(b'')
    assert refusal(f'cifar10:{tmp_path}').endswith('; unpack cifar-10-python.tar.gz first')


def test_cifar100_uses_the_fine_labels(tmp_path):
    for name, count in (('train', 6), ('test', 2)):
        write_pickle(
            tmp_path / 'cifar-100-python' / name,
            {
                'data': cifar_rows(count, seed=1),
                'fine_labels': [99] * count,
                'coarse_labels': [1] * count,
            },
        )
    write_pickle(tmp_path / 'cifar-100-python' / 'meta', {'fine_label_names': [b'x'] * 100})
    dataset = open_dataset(f'cifar100:{tmp_path}', size=28)
    assert (len(dataset.train), len(dataset.val), len(dataset.classes)) == (6, 2, 100)
    assert set(dataset.train.labels) == {99}


def test_cifar_without_batches(tmp_path):
    assert 'no batches; expected data_batch_1, data_batch_2' in refusal(f'cifar10:{tmp_path}')
    (make_cifar10(tmp_path) / 'data_batch_4').unlink()
    assert f'in {tmp_path} or {tmp_path}/cifar-10-batches-py' in refusal(f'cifar10:{tmp_path}')


class Harmful:
    """Pickled, it would run code when it is read."""

    def __reduce__(self):
        return sys.exit, (3,)


def test_harmful_and_broken_pickles(tmp_path):
    batch = make_cifar10(tmp_path) / 'test_batch'
    write_pickle(batch, {'data': Harmful(), 'labels': [1]})
    assert 'sys.exit is not admitted' in refusal(tmp_path)
    batch.write_bytes(b'\x80\x04 broken')
    assert f'{batch} is not a pickled dict with data, labels' in refusal(tmp_path)
    write_pickle(batch, {'data': cifar_rows(3, seed=1)})
    assert f'{batch} is not a pickled dict with data, labels' in refusal(tmp_path)
    write_pickle(batch, {'data': cifar_rows(3, seed=1), 'labels': [1]})
    assert 'data has shape (3, 3072), expected (1, 3072)' in refusal(tmp_path)


@pytest.mark.parametrize('protocol', range(6))
def test_every_protocol(tmp_path, protocol):
    batch = make_cifar10(tmp_path) / 'test_batch'
    content = {b'data': cifar_rows(3, seed=9), b'labels': [1, 2, 3]}
    batch.write_bytes(pickle.dumps(content, protocol))
    val = open_dataset(str(tmp_path)).val
    assert list(val.labels) == [1, 2, 3]
    expected = content[b'data'][2].reshape(3, 32, 32)[::-1].transpose(1, 2, 0)
    np.testing.assert_array_equal(val.read(2), expected)


RING: list = []
RING.append(RING)
DEEP: list = []
for _ in range(60):
    DEEP = [DEEP, DEEP]


@pytest.mark.parametrize(
    'change',
    [
        {'labels': [[1], [1, 2]]},
        {'labels': [1.0, 2.0, 3.0]},
        {'labels': [1, 2, 2**70]},
        {'labels': ['1', '2', '3']},
        {'labels': DEEP},
        {'labels': RING},
        {'labels': 5},
        {'labels': {}},
        {'labels': np.ones((3, 1), int)},
        {'data': [[0] * 3072] * 3},
        {'data': DEEP},
        {'data': b'x' * 9216},
        {'data': np.zeros((3, 3072), 'f4')},
        {'data': np.zeros((3, 3072), object)},
    ],
)
def test_other_things_than_images_and_labels(tmp_path, change):
    batch = make_cifar10(tmp_path) / 'test_batch'
    write_pickle(batch, {'data': cifar_rows(3, seed=9), 'labels': [1, 2, 3], **change})
    assert str(batch) in refusal(tmp_path)


@pytest.mark.parametrize('names', [5, 'abc', [1, 2], [[b'a']], {}, DEEP])
def test_names_that_are_none(tmp_path, names):
    meta = make_cifar10(tmp_path) / 'batches.meta'
    write_pickle(meta, {'label_names': names})
    assert 'is no list of names' in refusal(tmp_path)


def test_a_plain_folder_is_recorded_as_what_it_is(tmp_path):
    """It is then known wherever the folder has gone since."""
    batches = make_cifar10(tmp_path / 'some' / 'cifar-10-batches-py')
    for place in (batches, batches.parent):
        assert named(str(place)) == (cifar.SPECS['cifar10'], str(place), f'cifar10:{place}')
        assert open_dataset(str(place)).spec == cifar.SPECS['cifar10']
    for other in ('', 'fake', 'animals28', str(tmp_path), f'cifar10:{batches}', 'cifar100:nowhere'):
        assert named(other).data == other
    assert named('cifar100:nowhere').spec == cifar.SPECS['cifar100']
    assert named(str(tmp_path)).spec == image_folder.FOLDER
