"""Images set aside: which ones, that training never sees them, and that a record wins."""

import numpy as np
import pytest

import imagenet_tf
from engine.config.cli import explicit, parse
from engine.config.config import Config
from engine.config.resolve import resolve
from engine.data import animals28
from engine.data.batches import TrainFlow
from engine.data.preprocessing import Preprocessing
from engine.data.sources import ArraySource
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.evaluation.evaluate import eval_flow
from engine.runs import holdout

IMAGES = 50
PREPROCESSING = Preprocessing('shift', 28, (28,), 'area', 'unit_rgb')
LINE = ['--net', 'msdnet', '--data', 'animals28', '--batch_size', '8']


@pytest.fixture
def dataset():
    """Image i is filled with i, and its label follows from it."""
    numbers = np.arange(IMAGES)
    images = np.broadcast_to(numbers[:, None, None], (IMAGES, 28, 28)).astype(np.uint8)
    train = ArraySource(images, numbers % 7)
    val = ArraySource(images[:3], numbers[:3])
    return Dataset('numbered', animals28.SPEC, tuple('abcdefg'), train, val)


def numbers(source):
    return [int(source.read(i)[0, 0, 0]) for i in range(len(source))]


@pytest.mark.parametrize(
    'images, count, seed', [(50, 10, 0), (50, 49, 3), (8000, 1000, 7), (2, 1, 0)]
)
def test_draw(images, count, seed):
    found = holdout.draw(images, count, seed)
    assert len(set(found.tolist())) == len(found) == count
    assert (np.diff(found) > 0).all() and found.min() >= 0 and found.max() < images
    np.testing.assert_array_equal(found, holdout.draw(images, count, seed))


def test_seed_and_count_decide_what_is_drawn():
    drawn = [tuple(holdout.draw(1000, 100, seed)) for seed in range(5)]
    assert len(set(drawn)) == 5
    assert not set(holdout.draw(1000, 99, 0).tolist()) <= set(drawn[0])
    counts = np.bincount(
        np.concatenate([holdout.draw(20, 5, seed) for seed in range(400)]), minlength=20
    )
    # 100 expected of each, with a deviation of 8.7.
    assert counts.min() > 60 and counts.max() < 140


@pytest.mark.parametrize('count', [IMAGES, IMAGES + 1])
def test_nothing_left_to_train_on(count, dataset):
    for call in (
        lambda: holdout.draw(IMAGES, count, 0),
        lambda: holdout.apply(dataset, Config.from_values(holdout=count), None),
    ):
        with pytest.raises(UsageError, match=f'--holdout {count}: .*{IMAGES} training images'):
            call()


@pytest.mark.parametrize('folder', [True, False])
def test_a_set_is_divided(folder, dataset, tmp_path):
    found = holdout.apply(
        dataset, Config.from_values(holdout=12, seed=4), tmp_path if folder else None
    )
    held = holdout.draw(IMAGES, 12, 4).tolist()
    assert numbers(found.holdout) == held == found.holdout.indices.tolist()
    assert numbers(found.train) == [i for i in range(IMAGES) if i not in held]
    for source in (found.train, found.holdout):
        np.testing.assert_array_equal(source.labels, np.array(numbers(source)) % 7)
    assert (found.val, found.classes, found.name) == (dataset.val, dataset.classes, 'numbered')
    assert dataset.holdout is None and len(dataset.train) == IMAGES


def test_nothing_is_set_aside_by_default(dataset, tmp_path):
    assert holdout.apply(dataset, Config.from_values(), tmp_path) is dataset


def test_training_batches_never_hold_them(dataset):
    found = holdout.apply(dataset, Config.from_values(holdout=18), None)
    flow = TrainFlow(found, PREPROCESSING, batch_size=8, seed=0, threads=0)
    assert len(flow) == 4
    # Shifting pads with black: the brightest pixel is the image's number.
    seen = {int(image.max()) for _, (images, _) in zip(range(40), flow) for image in images}
    assert seen == set(numbers(found.train)) and not seen & set(numbers(found.holdout))


@pytest.mark.parametrize('count', [0, 5])
def test_the_record_of_a_run_wins(count, dataset, tmp_path):
    """Imported runs have other images than the seed would draw."""
    holdout.write(tmp_path, np.array([3, 4, 40]), IMAGES)
    found = holdout.apply(dataset, Config.from_values(holdout=count), tmp_path)
    assert numbers(found.holdout) == [3, 4, 40]
    assert len(found.train) == IMAGES - 3 and not {3, 4, 40} & set(numbers(found.train))


@pytest.mark.parametrize('seed', [None, 6])
def test_what_is_recorded(seed, tmp_path):
    indices = holdout.draw(IMAGES, 9, 6)
    holdout.write(tmp_path / 'run', indices, IMAGES, seed)
    np.testing.assert_array_equal(holdout.read(tmp_path / 'run'), indices)
    with np.load(tmp_path / 'run' / holdout.FILE, allow_pickle=False) as arrays:
        assert (arrays['images'], arrays['seed']) == (IMAGES, -1 if seed is None else seed)
    assert [path.name for path in (tmp_path / 'run').iterdir()] == [holdout.FILE]


def test_image_zero_and_any_integer_type_can_be_held_out(tmp_path):
    for indices in (np.array([0, 3]), np.array([0, 200], np.uint8)):
        holdout.write(tmp_path, indices, 300)
        np.testing.assert_array_equal(holdout.read(tmp_path), indices)


def test_no_record(tmp_path):
    assert holdout.read(tmp_path) is None and holdout.read(tmp_path / 'nowhere') is None


def truncated(path):
    path.write_bytes(path.read_bytes()[:200])


def flipped(path):
    """A stored value of another checksum."""
    data = bytearray(path.read_bytes())
    data[data.index(np.array([3, 4], np.int64).tobytes())] ^= 255
    path.write_bytes(bytes(data))


DAMAGE = {
    'empty': lambda path: path.write_bytes(b''),
    'text': lambda path: path.write_text('3 4 40'),
    'truncated': truncated,
    'flipped': flipped,
    'without indices': lambda path: np.savez(path, images=IMAGES),
    'one array': lambda path: np.save(path.open('wb'), np.arange(3)),
    'objects': lambda path: np.savez(path, indices=np.array([{}, None]), images=IMAGES),
    'folder': lambda path: path.unlink() or path.mkdir(),
    'fractions': lambda path: np.savez(path, indices=np.array([1.5, 2]), images=IMAGES),
    'negative': lambda path: np.savez(path, indices=np.array([-1, 2]), images=IMAGES),
    'table': lambda path: np.savez(path, indices=np.array([[1, 2], [3, 4]]), images=IMAGES),
}


@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_named(damage, dataset, tmp_path):
    holdout.write(tmp_path, np.array([3, 4, 40]), IMAGES)
    damage(tmp_path / holdout.FILE)
    with pytest.raises(UsageError, match='holdout.npz: (damaged|cannot be read)') as caught:
        holdout.apply(dataset, Config.from_values(), tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_training_draws_them_again(dataset, tmp_path, capsys):
    config = Config.from_values(holdout=12, seed=4)
    drawn = holdout.apply(dataset, config, None)
    path = tmp_path / holdout.FILE
    path.write_bytes(b'damaged')
    found = holdout.apply(dataset, config, tmp_path, anew=True)
    assert numbers(found.holdout) == numbers(drawn.holdout)
    assert 'holdout.npz: damaged' in capsys.readouterr().out
    (aside,) = tmp_path.iterdir()
    assert aside.read_bytes() == b'damaged'
    holdout.write(tmp_path, np.array([3, 4, 40]), IMAGES)
    found = holdout.apply(dataset, config, tmp_path, anew=True)
    assert numbers(found.holdout) == [3, 4, 40]
    # Without the number of them, nobody knows which they were.
    path.write_bytes(b'damaged')
    with pytest.raises(UsageError, match='holdout.npz: damaged'):
        holdout.apply(dataset, Config.from_values(), tmp_path, anew=True)


@pytest.mark.parametrize('images', [IMAGES - 1, IMAGES + 1])
def test_a_record_of_other_data(images, dataset, tmp_path):
    holdout.write(tmp_path, np.array([3, 5]), images)
    with pytest.raises(
        UsageError, match=f'numbered.*{IMAGES} training images; the run set 2 of {images} aside'
    ):
        holdout.apply(dataset, Config.from_values(), tmp_path)


@pytest.mark.parametrize(
    'flags, steps',
    [
        ([], 1000),
        (['--holdout', '100'], 987),
        (['--holdout', '7992'], 1),
        (['--holdout', '100', '--steps_per_epoch', '5'], 5),
    ],
)
def test_an_epoch_is_a_pass_over_what_is_left(flags, steps):
    config, dataset, _ = resolve(explicit(parse([*LINE, *flags])))
    assert len(dataset.train) == 8000 and config.steps_per_epoch == steps


@pytest.mark.parametrize(
    'count, parts',
    [
        ('8000', '--holdout 8000|8000 training images'),
        ('9000', '--holdout 9000|8000 training images'),
        ('7995', '--batch_size 8|only 5 training images'),
        ('-1', '--holdout -1|at least 0'),
    ],
)
def test_refused_before_anything_is_written(count, parts, tmp_path, capsys):
    assert imagenet_tf.main([*LINE, '--holdout', count, '--logdir', str(tmp_path / 'run')]) == 2
    message = capsys.readouterr().err
    assert [part for part in parts.split('|') if part not in message] == [] and list(
        tmp_path.iterdir()
    ) == []


@pytest.mark.parametrize('flag', [False, True])
def test_what_is_scored(flag, dataset):
    config = Config.from_values(holdout=10, score_holdout=flag, sizes=(28,))
    config = config.replacing(
        image_size=28, augmentation='shift', resize='area', inputs='unit_rgb', mode='preact'
    )
    apart = holdout.apply(dataset, config, None)
    batches = eval_flow(config, apart, 0)
    labels = np.concatenate([batch[-1] for batch in batches])
    expected = apart.holdout if flag else apart.val
    np.testing.assert_array_equal(labels, expected.labels)


def test_nothing_to_score(tmp_path, capsys):
    line = [*LINE, '--score_holdout', '--logdir', str(tmp_path / 'run')]
    assert imagenet_tf.main(line) == 2
    assert '--score_holdout: there are no such images; give --holdout' in capsys.readouterr().err
