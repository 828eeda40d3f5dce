"""Batches: what they hold, that nothing but the seed and the step decides it, and that
threads end.
"""

import threading
import time
from itertools import count, islice

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.data import animals28
from engine.data.augment import eval_views, train_views
from engine.data.batches import EvalFlow, TrainFlow, ordered_map
from engine.data.datasets import open_dataset
from engine.data.preprocessing import Preprocessing
from engine.data.sources import ArraySource, BadImage
from engine.data.spec import Dataset
from engine.errors import UsageError
from tests.engine.data.ilsvrc import BAD, make_tree

TRAIN, VAL = 23, 11


@pytest.fixture(scope='module')
def dataset() -> Dataset:
    """Noise; the label of an image is its number, so that a batch tells which images it holds."""
    pixels = np.random.default_rng(0).integers(256, size=(TRAIN + VAL, 16, 16, 3), dtype=np.uint8)
    return Dataset(
        'numbered',
        animals28.SPEC,
        tuple(map(str, range(TRAIN))),
        ArraySource(pixels[:TRAIN], np.arange(TRAIN)),
        ArraySource(pixels[TRAIN:], np.arange(VAL)),
    )


def views_of(size, augmentation='shift'):
    """One view of this edge."""
    return Preprocessing(augmentation, size, (size,), 'area', 'unit_rgb')


def antialiased(sizes, augmentation):
    return Preprocessing(augmentation, max(sizes), sizes, 'antialias', 'unit_rgb')


SMALL = views_of(16)
FILES = views_of(32, 'area_crop')


def train(dataset, preprocessing=SMALL, *, batches, batch_size=5, seed=3, threads=0, **options):
    flow = TrainFlow(
        dataset, preprocessing, batch_size=batch_size, seed=seed, threads=threads, **options
    )
    return list(islice(flow, batches))


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, expected_batch in zip(batches, expected):
        for array, expected_array in zip(batch, expected_batch, strict=True):
            np.testing.assert_array_equal(array, expected_array)


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith('decode')]


def test_form_and_length(dataset):
    images, labels = train(dataset, batches=1)[0]
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == (
        (5, 16, 16, 3),
        np.uint8,
        (5,),
        np.int32,
    )
    assert len(TrainFlow(dataset, SMALL, batch_size=5, seed=0, threads=0)) == 4
    assert train(dataset, batches=1, batch_size=TRAIN)[0][0].shape == (TRAIN, 16, 16, 3)


def test_batch_is_the_function_of_seed_and_step_that_is_documented(dataset):
    for step, (images, labels) in enumerate(train(dataset, batches=9)):
        number, batch = divmod(step, TRAIN // 5)
        indices = np.random.default_rng([3, number]).permutation(TRAIN)[5 * batch : 5 * batch + 5]
        np.testing.assert_array_equal(labels, indices)
        for image, index in zip(images, indices):
            rng = np.random.default_rng([3, number, index])
            (view,) = train_views(dataset.train.read(index), 'shift', [16], rng, antialias=False)
            np.testing.assert_array_equal(image, view)


def test_a_pass_holds_every_image_once(dataset):
    whole = np.concatenate([labels for _, labels in train(dataset, batches=TRAIN, batch_size=1)])
    np.testing.assert_array_equal(np.sort(whole), np.arange(TRAIN))
    first, second = np.split(np.concatenate([labels for _, labels in train(dataset, batches=8)]), 2)
    assert len(set(first)) == len(set(second)) == 20
    assert list(first) != list(second)


def test_views_change_from_pass_to_pass(dataset):
    first, second = (
        dict(zip(labels, images)) for images, labels in train(dataset, batches=2, batch_size=TRAIN)
    )
    assert sum(np.array_equal(first[k], second[k]) for k in range(TRAIN)) < TRAIN / 2


def test_stream_does_not_depend_on_the_threads(dataset):
    expected = train(dataset, batches=13)
    for threads in (1, 3):
        assert_same(train(dataset, batches=13, threads=threads), expected)
    assert not np.array_equal(train(dataset, batches=1, seed=4)[0][0], expected[0][0])


@pytest.mark.parametrize('start', [1, 3, 4, 10])
@pytest.mark.parametrize('threads', [0, 3])
def test_resumed_stream_goes_on_exactly(dataset, start, threads):
    expected = train(dataset, batches=start + 6)[start:]
    assert_same(train(dataset, batches=6, start_step=start, threads=threads), expected)


def test_start_step_decodes_nothing_that_came_before(dataset, monkeypatch):
    read = []
    monkeypatch.setattr(ArraySource, 'read', lambda self, i: read.append(i) or self.images[i])
    train(dataset, batches=1, start_step=10_003)
    assert len(read) == 5


def test_iterating_again_starts_again(dataset):
    flow = TrainFlow(dataset, SMALL, batch_size=5, seed=3, threads=2)
    flow.reset_state()
    assert_same(list(islice(flow, 3)), list(islice(flow, 3)))


@pytest.mark.parametrize('batch_size', [1, 4, 11, 50])
@pytest.mark.parametrize('threads', [0, 3])
def test_eval_holds_every_image_once_in_order(dataset, batch_size, threads):
    flow = EvalFlow(dataset, SMALL, batch_size=batch_size, threads=threads)
    batches = list(flow)
    assert len(batches) == len(flow) == -(-VAL // batch_size)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), np.arange(VAL))
    np.testing.assert_array_equal(
        np.concatenate([images for images, _ in batches]), dataset.val.images
    )
    assert batches[0][1].dtype == np.int32 and len(batches[-1][1]) == (VAL - 1) % batch_size + 1


@pytest.mark.parametrize('augment', ['area_crop', 'shift'])
@pytest.mark.parametrize('sizes', [(16,), (12, 16, 7)])
def test_antialiased_batches_hold_every_size(dataset, augment, sizes):
    preprocessing = antialiased(sizes, augment)
    expected = train(dataset, preprocessing, batches=7)
    for threads in (1, 3):
        assert_same(train(dataset, preprocessing, batches=7, threads=threads), expected)
    assert_same(train(dataset, preprocessing, batches=3, start_step=4, threads=2), expected[4:])
    *images, labels = expected[1]
    assert [(array.shape, array.dtype) for array in images] == [
        ((5, size, size, 3), np.uint8) for size in sizes
    ]
    for place, index in enumerate(labels):
        views = train_views(
            dataset.train.read(index),
            augment,
            sizes,
            np.random.default_rng([3, 0, index]),
            antialias=True,
        )
        assert_same([[array[place] for array in images]], [views])
    batches = list(EvalFlow(dataset, preprocessing, batch_size=4, threads=2))
    for index in range(VAL):
        views = eval_views(dataset.val.read(index), augment, sizes, antialias=True)
        assert_same([[array[index % 4] for array in batches[index // 4][:-1]]], [views])
    np.testing.assert_array_equal(np.concatenate([batch[-1] for batch in batches]), np.arange(VAL))


def test_jpeg_folder(tmp_path):
    rng = np.random.default_rng(0)
    shapes = [(375, 500), (500, 375), (64, 48), (120, 1000)]
    for part, label, k in [
        (part, label, k) for part in ('train', 'val') for label in 'ab' for k in range(4)
    ]:
        folder = tmp_path / part / label
        folder.mkdir(parents=True, exist_ok=True)
        small = rng.integers(256, size=(8, 8) if k == 2 else (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(
            str(folder / f'{k}.{"png" if k == 3 else "JPEG"}'), cv2.resize(small, shapes[k][::-1])
        )
    folder, preprocessing = open_dataset(str(tmp_path), size=64), views_of(64, 'area_crop')
    options = {'batches': 5, 'batch_size': 3, 'seed': 1}
    inline = train(folder, preprocessing, **options)
    assert inline[0][0].shape == (3, 64, 64, 3)
    assert_same(train(folder, preprocessing, **options, threads=3), inline)
    flow = EvalFlow(folder, preprocessing, batch_size=3, threads=3)
    images = np.concatenate([images for images, _ in flow])
    for i, image in enumerate(images):
        np.testing.assert_array_equal(
            [image], eval_views(folder.val.read(i), 'area_crop', [64], antialias=False)
        )
    (tmp_path / 'val' / 'b' / '1.JPEG').write_bytes(b'')
    with pytest.raises(UsageError, match='val/b/1.JPEG is empty'):
        list(flow)
    assert decoders() == []


@pytest.fixture(scope='module')
def damaged(tmp_path_factory) -> Dataset:
    """24 training images, of which every bad kind is one."""
    root = tmp_path_factory.mktemp('damaged')
    make_tree(root, train=8, odd=BAD)
    return open_dataset(str(root), size=32)


class Log:
    def __init__(self, monkeypatch):
        self.lines = []
        monkeypatch.setattr(
            'engine.data.batches.logger.warning', lambda form, *args: self.lines.append(form % args)
        )


def test_bad_images_are_replaced_and_named_once(damaged, monkeypatch):
    log = Log(monkeypatch)
    bad = [i for i in range(24) if not readable(damaged, i)]
    assert len(bad) == len(BAD) == 8
    batches = train(damaged, FILES, batches=9, batch_size=8, max_bad=0.5)
    assert sorted(log.lines) == sorted(set(log.lines)) and len(log.lines) == 8
    for i in bad:
        assert sum(damaged.train.name(i) in line for line in log.lines) == 1
    for step, (images, labels) in enumerate(batches):
        number, batch = divmod(step, 3)
        planned = np.random.default_rng([3, number]).permutation(24)[8 * batch : 8 * batch + 8]
        for index, image, label in zip(planned, images, labels):
            shown, attempt = index, 0
            while shown in bad:
                attempt += 1
                shown = np.random.default_rng([3, number, index, attempt]).integers(24)
            (view,) = train_views(
                damaged.train.read(shown),
                'area_crop',
                [32],
                np.random.default_rng([3, number, index]),
                antialias=False,
            )
            np.testing.assert_array_equal(image, view)
            assert label == damaged.train.labels[shown]


def readable(dataset, i):
    try:
        dataset.train.read(i)
    except BadImage:
        return False
    return True


@pytest.mark.parametrize('threads', [0, 3])
def test_replacements_survive_resuming(damaged, threads):
    options = {'preprocessing': FILES, 'batch_size': 5, 'max_bad': 1}
    expected = train(damaged, batches=11, **options)[5:]
    assert_same(train(damaged, batches=6, start_step=5, threads=threads, **options), expected)


@pytest.mark.parametrize('threads', [0, 3])
@pytest.mark.parametrize('admitted', [0, 3, 7])
def test_too_many_bad_images_stop_the_run(damaged, threads, admitted, monkeypatch):
    log = Log(monkeypatch)
    with pytest.raises(UsageError) as caught:
        train(
            damaged,
            FILES,
            batches=3,
            batch_size=8,
            max_bad=(admitted + 0.5) / 24,
            threads=threads,
        )
    message = str(caught.value)
    assert (
        f'of 24 training images cannot be decoded, --max_bad {(admitted + 0.5) / 24:g} '
        f'admits {admitted};' in message
    )
    named = [line.split('; another')[0] for line in log.lines]
    assert len(named) <= admitted and all(name in message for name in named)
    assert message.count('--data: train/') > admitted
    train(damaged, FILES, batches=6, batch_size=8, max_bad=8 / 24, threads=threads)


def test_set_of_bad_images_only_ends(tmp_path):
    make_tree(tmp_path, classes=2, train=1, odd={'empty': BAD['empty'], 'html': BAD['html']})
    with pytest.raises(BadImage):
        train(open_dataset(str(tmp_path), size=32), FILES, batches=1, batch_size=1, max_bad=1)


@pytest.mark.parametrize(
    'image, found',
    [
        (np.random.default_rng(0).random([20, 20, 3]), r'float64 \[20, 20, 3\], from 0.* to 0\.9'),
        (np.zeros([20, 20, 3], np.int64), 'int64'),
        (np.zeros([20, 20], np.uint8), r'uint8 \[20, 20\]'),
        (np.zeros([20, 20, 4], np.uint8), r'uint8 \[20, 20, 4\]'),
    ],
)
def test_images_of_another_kind_are_refused(dataset, image, found, monkeypatch):
    """TensorFlow would take them for bytes: those of 0 to 1 are black then."""
    monkeypatch.setattr(ArraySource, 'read', lambda self, i: image)
    for batches in (
        TrainFlow(dataset, SMALL, batch_size=5, seed=3, threads=0),
        EvalFlow(dataset, SMALL, batch_size=5, threads=2),
    ):
        with pytest.raises(UsageError, match=f'--data: image [0-9]+ is {found}'):
            next(iter(batches))


def test_images_that_are_all_black_are_found_before_the_first_step(dataset, monkeypatch):
    monkeypatch.setattr(ArraySource, 'read', lambda self, i: np.ones([20, 20, 3], np.uint8))
    with pytest.raises(UsageError, match='the pixels of all images of the first batch are 0 or 1'):
        train(dataset, batches=1)
    monkeypatch.setattr(
        ArraySource, 'read', lambda self, i: np.full([20, 20, 3], 2 * (i == 3), np.uint8)
    )
    train(dataset, batches=1, batch_size=TRAIN)


@pytest.mark.parametrize('threads', [0, 3])
def test_evaluation_names_a_bad_image_or_goes_without_it(tmp_path, threads):
    make_tree(tmp_path / 'set', train=1)
    name = 'val/ILSVRC2012_val_00000004.JPEG'
    (tmp_path / 'set' / name).write_bytes(BAD['truncated'](Image.new('RGB', (400, 300))))
    flow = {'preprocessing': FILES, 'batch_size': 4, 'threads': threads}
    with pytest.raises(UsageError, match=f'--data: {name} is not a complete image'):
        list(EvalFlow(open_dataset(str(tmp_path / 'set'), size=32), **flow))
    (tmp_path / 'bad.txt').write_text(name)
    rest = EvalFlow(
        open_dataset(str(tmp_path / 'set'), size=32, skip=str(tmp_path / 'bad.txt')), **flow
    )
    assert [len(labels) for _, labels in rest] == [4, 1]


def test_threads_share_a_batch_and_stay_two_batches_ahead(dataset, monkeypatch):
    seen, done = set(), []

    def read(self, i):
        seen.add(threading.current_thread().name)
        time.sleep(0.002)
        done.append(i)
        return self.images[i]

    monkeypatch.setattr(ArraySource, 'read', read)
    batches = iter(TrainFlow(dataset, SMALL, batch_size=12, seed=0, threads=4))
    next(batches)
    assert len(seen) == 4 and len(done) < 24
    time.sleep(0.3)
    assert len(done) <= 3 * 12
    batches.close()


def test_closing_ends_the_threads(dataset):
    batches = iter(TrainFlow(dataset, SMALL, batch_size=5, seed=0, threads=3))
    next(batches)
    assert decoders()
    batches.close()
    assert decoders() == []
    list(EvalFlow(dataset, SMALL, batch_size=2, threads=3))
    assert decoders() == []


def test_ordered_map_keeps_the_order_and_reads_only_a_little_ahead():
    taken = []

    def numbers():
        for number in count():
            taken.append(number)
            yield number

    def slow_when_even(number):
        time.sleep(0.01 * (number % 2 == 0))
        return number

    results = ordered_map(slow_when_even, numbers(), threads=3)
    assert list(islice(results, 10)) == list(range(10))
    assert len(taken) <= 10 + 3 + 1
    results.close()


def test_ordered_map_raises_in_place():
    results = ordered_map(lambda number: 1 // (number - 2), range(9), threads=2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert decoders() == []


@pytest.mark.parametrize(
    'change, message',
    [
        (
            {'batch_size': 24},
            '--batch_size 24 is larger than the training set of numbered: give at most 23',
        ),
        ({'batch_size': 0}, '--batch_size is 0, expected at least 1'),
        ({'seed': -1}, '--seed is -1, expected at least 0'),
        ({'start_step': -1}, 'start_step is -1, expected at least 0'),
        ({'max_bad': -0.1}, '--max_bad is -0.1, expected at least 0'),
        ({'threads': -1}, '--threads is -1, expected at least 0'),
    ],
)
def test_train_refusals(dataset, change, message):
    with pytest.raises(UsageError, match=message):
        TrainFlow(dataset, SMALL, **{'batch_size': 5, 'seed': 0, 'threads': 0, **change})


@pytest.mark.parametrize(
    'change, message',
    [
        ({'batch_size': 0}, '--batch_size is 0'),
        ({'threads': -1}, '--threads is -1'),
    ],
)
def test_eval_refusals(dataset, change, message):
    with pytest.raises(UsageError, match=message):
        EvalFlow(dataset, SMALL, **{'batch_size': 5, 'threads': 0, **change})
