"""Runs that are killed, terminated, or damaged, and what the same command makes of them."""

import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imagenet_tf
from engine.data import datasets
from engine.data.sources import ArraySource, BadImage
from engine.data.spec import Dataset
from engine.runs.folder import checkpoints
from engine.training import callbacks, trainers
from tests.checkpoints import values

STEPS, EPOCHS = 6, 3
FLAGS = shlex.split(
    '--data animals28 --arch resnet8 --mode preact --sizes 12 --batch-size 8 --epochs '
    f'{EPOCHS} --steps-per-epoch {STEPS} --threads 0'
)
EVERY = 50  # one of so many validation images


def few_images() -> Dataset:
    """The embedded set with one of ``EVERY`` validation images."""
    whole = datasets.open_dataset('animals28')
    images = np.stack([whole.val.read(i) for i in range(0, len(whole.val), EVERY)])
    return dataclasses.replace(whole, val=ArraySource(images, whole.val.labels[::EVERY]))


def train(run: Path, flags: list, hurt: Callable[[], None]) -> None:
    """The program, in a process of its own that calls ``hurt`` before."""
    hurt()
    # With one thread, the sums of a convolution are the same every time.
    os.environ |= {'TF_NUM_INTRAOP_THREADS': '1', 'TF_CPP_MIN_LOG_LEVEL': '2'}
    with open(f'{run}.txt', 'w') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    few = few_images()
    datasets.open_dataset = lambda *_, **__: few
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(imagenet_tf.main([str(flag) for flag in [*FLAGS, *flags, '--logdir', run]]))


# Processes that start where everything is imported already.
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['tests.engine.training.test_fault', 'engine.training.train'])


def kill_before_rename(to: Path) -> None:
    """Lets the process kill itself when a complete file is about to get this name."""

    def hook(event: str, args: tuple) -> None:
        if event == 'os.rename' and str(args[1]) == str(to):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def signal_after_step(number: int, step: int, delay: float = 0) -> None:
    """Lets the process send itself a signal after so many steps, within its callbacks or later."""
    run_step, steps = trainers.OneTower.run_step, itertools.count(1)

    def run(self: Any) -> None:
        run_step(self)
        if next(steps) == step:
            threading.Timer(delay, os.kill, (os.getpid(), number)).start() if delay else os.kill(
                os.getpid(), number
            )

    trainers.OneTower.run_step = run


def refuse_evaluation() -> None:
    """Lets every evaluation find an image that cannot be decoded."""

    def score(*_: Any) -> None:
        raise BadImage('val/a.JPEG is empty')

    callbacks.score = score


def start(run: Path, *flags, hurt: Callable[[], None] = int) -> Any:
    Path(f'{run}.txt').unlink(missing_ok=True)
    process = SERVER.Process(target=train, args=(run, list(flags), hurt))
    process.start()
    return process


def output(run: Path) -> str:
    log = Path(f'{run}.txt')
    return log.read_text() if log.exists() else ''


def log(run: Path) -> str:
    file = run / 'log.log'
    return file.read_text() if file.exists() else ''


def finish(run: Path, *flags) -> str:
    process = start(run, *flags)
    process.join()
    assert process.exitcode == 0, output(run)
    return output(run)


def wait_for(process: Any, there: Callable[[], bool]) -> None:
    while process.exitcode is None and not there():
        time.sleep(0.005)


def history(run: Path) -> list[dict]:
    """Metrics by epoch."""
    return json.loads((run / 'stats.json').read_text())


def assert_same(found: Path, expected: Path, epochs: int = EPOCHS) -> None:
    """Everything that a run leaves but its times."""
    for prefix in (f'model-{epochs * STEPS}', 'best'):
        ours, theirs = values(found / prefix), values(expected / prefix)
        assert ours.keys() == theirs.keys()
        assert [
            name
            for name, value in ours.items()
            if 'queue_size' not in name and not np.array_equal(value, theirs[name])
        ] == []
    assert history(found) == history(expected)
    assert json.loads((found / 'best.json').read_text()) == json.loads(
        (expected / 'best.json').read_text()
    )
    assert not list(found.glob('.*'))
    assert [step for step in checkpoints(found) if step % STEPS] == []


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    """The run that nobody disturbed."""
    run = tmp_path_factory.mktemp('whole') / 'run'
    finish(run)
    return run


@pytest.mark.slow
def test_killed_twice(whole, tmp_path):
    """Between the checkpoint of an epoch and its record, and while the next one is written."""
    run = tmp_path / 'run'
    for unnamed in (run / 'stats.json', run / f'model-{2 * STEPS}.index'):
        process = start(run, hurt=functools.partial(kill_before_rename, unnamed))
        process.join()
        assert process.exitcode == -signal.SIGKILL, output(run)
    assert list(checkpoints(run)) == [STEPS, 2 * STEPS - 1]
    assert f'resuming at step {2 * STEPS - 1}\n' in finish(run)
    assert_same(run, whole)


def test_a_bad_image_in_the_evaluation_costs_no_epoch(whole, tmp_path):
    run = tmp_path / 'run'
    process = start(run, hurt=refuse_evaluation)
    process.join()
    assert process.exitcode == 2 and 'imagenet_tf.py: error: val/a.JPEG is empty\n' in output(run)
    assert list(checkpoints(run)) == [STEPS - 1]
    assert f'resuming at step {STEPS - 1}\n' in finish(run)
    assert_same(run, whole)


@pytest.mark.parametrize(
    'number, status, word',
    [
        (signal.SIGTERM, 143, 'terminated'),
        pytest.param(signal.SIGINT, 130, 'interrupted', marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_after_the_step(number, status, word, whole, tmp_path):
    run = tmp_path / 'run'
    step = STEPS + 2
    process = start(run, hurt=functools.partial(signal_after_step, number, step))
    process.join()
    assert process.exitcode == status and max(checkpoints(run)) == step
    assert f'{word}; the same command resumes at step {step}\n' in output(run)
    assert f'resuming at step {step}\n' in finish(run)
    assert_same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_evaluation(number, whole, tmp_path):
    run = tmp_path / 'run'
    process = start(run)
    wait_for(process, lambda: ') finished' in log(run))
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert list(checkpoints(run)) == [STEPS] and len(history(run)) == 1
    finish(run)
    assert_same(run, whole)


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(whole, tmp_path):
    run = tmp_path / 'run'
    process = start(run)
    wait_for(process, lambda: ') finished' in log(run))
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.01)
    process.join()
    assert process.exitcode == 130
    assert 'resumes from the last checkpoint' in output(run)
    finish(run)
    assert_same(run, whole)


@pytest.mark.slow
def test_killed_at_20_random_moments(tmp_path):
    """Each within two epochs after the start, or two later: in steps, evaluations and saving."""
    epochs = 50
    flags = ['--epochs', epochs, '--qw', 2, '--qa', 2]
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    process = start(whole, *flags)
    wait_for(process, lambda: ') finished' in log(whole))
    began = time.time()
    process.join()
    epoch, rng, killed = (time.time() - began) / (epochs - 1), np.random.default_rng(0), []
    for _ in range(20):
        process = start(
            run,
            *flags,
            hurt=functools.partial(
                signal_after_step,
                signal.SIGKILL,
                rng.integers(1, 2 * STEPS + 1),
                2 * epoch * rng.random(),
            ),
        )
        process.join()
        assert process.exitcode == -signal.SIGKILL, f'complete after {len(killed)} kills'
        killed.append(max(checkpoints(run), default=0))
        print('newest checkpoint at each kill:', killed, flush=True)
    assert len(set(killed)) > 3
    finish(run, *flags)
    assert_same(run, whole, epochs)


@pytest.mark.slow
@pytest.mark.parametrize('optimizer', ['adamw', 'lamb'])
def test_optimizers_and_averages_go_on(optimizer, tmp_path, monkeypatch):
    """Interrupted within an epoch; the averages are evaluated, and again from the checkpoint."""
    flags = ['--epochs', 2, '--optimizer', optimizer, '--lr', 0.001, '--model-ema', 0.8]
    straight, run = tmp_path / 'straight', tmp_path / 'run'
    finish(straight, *flags)
    step = STEPS + 2
    hurt = functools.partial(signal_after_step, signal.SIGTERM, step)
    process = start(run, *flags, hurt=hurt)
    process.join()
    assert process.exitcode == 143 and max(checkpoints(run)) == step
    assert f'resuming at step {step}\n' in finish(run, *flags)
    assert_same(run, straight, 2)
    state = values(run / f'model-{2 * STEPS}')
    assert {name.rpartition('/')[2] for name in state} >= {'m', 'v'}
    averages = {name: value for name, value in state.items() if name.startswith('model_ema/')}
    of_weights = [state[name.removeprefix('model_ema/')] for name in averages]
    assert any((value != raw).any() for value, raw in zip(averages.values(), of_weights))
    accuracy = {}
    for folder in ('eval', 'eval/ema'):
        accuracy[folder] = json.loads((run / folder / 's12.json').read_text())['top1']
    last = history(run)[-1]
    assert accuracy == {'eval': last['val/top1/s12'], 'eval/ema': last['val-ema/top1/s12']}
    shutil.rmtree(run / 'eval')
    few = few_images()
    monkeypatch.setattr(datasets, 'open_dataset', lambda *_, **__: few)
    for weights in ('raw', 'ema'):
        assert imagenet_tf.main(['--eval', '-ec', str(run), '--weights', weights]) == 0
    for folder, expected in accuracy.items():
        assert json.loads((run / folder / 's12.json').read_text())['top1'] == expected
