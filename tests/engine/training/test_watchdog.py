"""A training says for what it waits; one that hangs ends when it gets a signal."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tensorpack import DataFlow

from engine.data.sources import ArraySource
from engine.graph.loaders import KeepsError
from engine.training import watchdog as module
from engine.training.watchdog import Noted, Watchdog
from tests.paths import ROOT


class Batches(DataFlow):
    """Batches, the third of which never comes before ``come`` is set."""

    def __init__(self):
        self.come = threading.Event()

    def __iter__(self):
        yield [np.zeros(1)]
        yield [np.zeros(1)]
        self.come.wait(20)
        yield [np.zeros(1)]


@pytest.fixture
def quick(monkeypatch):
    """Short limits; the numbers of signals with which the process would have ended."""
    monkeypatch.setattr(module, 'PATIENCE', 0.1)
    monkeypatch.setattr(module, 'HANGS', 0.5)
    monkeypatch.setattr(module, 'GRACE', 0.1)
    ended = []
    monkeypatch.setattr(module, 'leave', ended.append)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield ended
    signal.signal(signal.SIGTERM, before)


def test_what_is_waited_for_is_said(quick, capsys):
    source = Batches()
    flow = KeepsError(source, 10)
    with Watchdog(flow, towers=2).watching():
        time.sleep(1.3)
        assert 'waiting for a step of 2 towers' in capsys.readouterr().out
        thread = threading.Thread(target=lambda: [batch for _, batch in zip(range(3), flow)])
        thread.start()
        time.sleep(1.3)
        source.come.set()
        thread.join()
    assert 'waiting for training images (the next batch)' in capsys.readouterr().out
    assert quick == []


def test_the_image_that_is_being_read_is_named():
    class Slow(ArraySource):
        def name(self, i: int) -> str:
            return f'train/{i}\n.jpg'

    source = Slow(np.zeros([9, 2, 2, 3], np.uint8), np.zeros(9, np.int64))

    reading, named = threading.Event(), threading.Event()
    space = {'__name__': 'engine.data.sources', 'reading': reading, 'named': named}
    exec('def read(self, i):\n    reading.set()\n    named.wait(20)\n', space)
    thread = threading.Thread(target=space['read'], args=(source, 7))
    thread.start()
    assert reading.wait(20)
    found = module._images()
    named.set()
    thread.join()
    assert found == [r"'train/7\n.jpg'"]


@pytest.mark.parametrize('progress', [True, False])
def test_a_signal_ends_what_hangs_and_nothing_else(progress, quick, capfd):
    watchdog = Watchdog(KeepsError(Batches(), 10), towers=1)
    flow = Noted(Batches(), watchdog)
    with watchdog.watching():
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(20):
            time.sleep(0.1)
            if progress:
                next(iter(flow))
    assert quick[:1] == ([] if progress else [signal.SIGTERM])
    told = 'ending without a checkpoint of this step' in capfd.readouterr().err
    assert told is not progress


def test_a_long_step_is_no_hang(quick):
    watchdog = Watchdog(KeepsError(Batches(), 10), towers=1)
    watchdog._longest = 9.0
    with watchdog.watching():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.5)
    assert quick == []


def test_without_a_signal_nothing_ends(quick):
    with Watchdog(KeepsError(Batches(), 10), towers=1).watching():
        time.sleep(1.5)
    assert quick == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='cannot choose a core')
@pytest.mark.parametrize('gpu', ['0', '0,1', '0,1,2'])
def test_towers_on_one_core_train(gpu, tmp_path):
    flags = ['--data', 'animals28', '--sizes', '16', '12', '--width', '.25', '--epochs', '1']
    flags += ['--steps-per-epoch', '3', '--batch-size', '6', '--gpu', gpu]
    line = [sys.executable, 'imagenet_tf.py', *flags]
    done = subprocess.run(
        [*line, '--logdir', str(tmp_path / 'run')],
        cwd=ROOT,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        timeout=300,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
