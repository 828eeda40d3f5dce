"""Trainings whose data fail: a bad image is one line, a fault of the data thread ends the run."""

import types

import numpy as np
import pytest

import imagenet_tf
from engine.data.batches import TrainFlow
from engine.data.opencv import cv2
from engine.errors import UsageError
from engine.runs import failure
from engine.training import train

CONFIG = types.SimpleNamespace(epochs=2, steps_per_epoch=5)


def end(error: BaseException | None, *, step: int = 3, reason: str = '') -> None:
    """Ends a training after ``step``."""
    trainer = types.SimpleNamespace(loop=types.SimpleNamespace(global_step=step))
    train._check_end(
        CONFIG,
        trainer,
        types.SimpleNamespace(error=error),
        types.SimpleNamespace(reason=reason),
        types.SimpleNamespace(failure=None),
    )


@pytest.mark.parametrize('error', [ValueError('views differ'), MemoryError(), None])
def test_a_fault_of_the_data_thread_ends_the_run(error):
    """Not as bad input (status 2): status 1, with its cause."""
    with pytest.raises(RuntimeError, match='no more data at step 3') as caught:
        end(error)
    assert repr(error) in str(caught.value)
    assert caught.value.__cause__ is error


def test_bad_data_end_the_run_as_bad_input():
    with pytest.raises(UsageError, match='training stopped at step 3: 5 of 9 images'):
        end(UsageError('5 of 9 images'))
    with pytest.raises(UsageError, match='training stopped at step 10: loss is nan'):
        end(None, step=10, reason='loss is nan')
    end(None, step=10)


@pytest.fixture
def folder(tmp_path):
    """Two classes of four pictures, of which one is cut off."""
    rng = np.random.default_rng(0)
    for part in ('train', 'val'):
        for name in ('cat', 'dog'):
            place = tmp_path / 'set' / part / name
            place.mkdir(parents=True)
            for k in range(4):
                image = rng.integers(256, size=(20, 20, 3), dtype=np.uint8)
                assert cv2.imwrite(str(place / f'{part}{k}.png'), image)
    bad = tmp_path / 'set' / 'train' / 'cat' / 'train2.png'
    bad.write_bytes(bad.read_bytes()[:-200])
    return tmp_path / 'set'


RUN = '--arch resnet8 --mode preact --sizes 16 --batch-size 4 --schedule cosine --threads 2'
LENGTH = '--epochs 2 --steps-per-epoch 4'


def test_a_bad_image_is_one_line_and_is_counted(folder, tmp_path, capfd, caplog):
    flags = [*RUN.split(), *LENGTH.split(), '--data', str(folder)]
    logdir = ['--logdir', str(tmp_path / 'run')]
    assert imagenet_tf.main([*flags, '--max-bad', '0.2', *logdir]) == 0
    out, err = capfd.readouterr()
    assert [line for line in caplog.messages if 'train/cat/train2.png' in line] == [
        '--data: train/cat/train2.png is not a complete image; repair it or put it on the list of '
        '--skip-list; another image takes its place'
    ]
    lines = [line for line in (out + err).splitlines() if 'train/cat/train2.png' in line]
    warned, counted = sorted(lines, reverse=True)
    assert warned.startswith('warning: --data: train/cat/train2.png is not a complete image')
    assert counted.startswith('1 of 8 training images could not be decoded')


@pytest.mark.slow
def test_a_run_without_enough_good_images_prints_no_traceback(folder, tmp_path, capfd):
    flags = [*RUN.split(), *LENGTH.split(), '--data', str(folder)]
    assert imagenet_tf.main([*flags, '--logdir', str(tmp_path / 'run')]) == 2
    out, err = capfd.readouterr()
    lines = [line for line in (out + err).splitlines() if 'train/cat/train2.png' in line]
    told = [line for line in lines if not line.startswith('warning: ')]
    assert len(told) == 1
    reason = '1 of 8 training images cannot be decoded, --max_bad 0.001 admits 0'
    assert reason in err and reason in failure.read(tmp_path / 'run')
    assert 'Traceback' not in out + err


@pytest.mark.slow
def test_a_fault_of_ours_is_no_bad_input(folder, tmp_path, monkeypatch, capfd):
    """The program ends by this exception, whose status is 1."""

    def fail(self, planned):
        raise ZeroDivisionError('a fault of ours')

    monkeypatch.setattr(TrainFlow, '_read', fail)
    flags = [*RUN.split(), *LENGTH.split(), '--data', str(folder)]
    with pytest.raises(RuntimeError, match='no more data at step 0: .*a fault of ours'):
        imagenet_tf.main([*flags, '--logdir', str(tmp_path / 'run')])
    assert 'Traceback' not in ''.join(capfd.readouterr())
