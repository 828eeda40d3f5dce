"""Runs that are killed, terminated, or find their folder damaged, and what the same command makes of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.run import checkpoints
from quant.backend import tf

ROOT = Path(imagenet_tf.__file__).parent
STEPS, EPOCHS, HOLDOUT = 6, 3, 200
FLAGS = ['--data', 'animals28', '--arch', 'resnet8', '--mode', 'preact', '--sizes', '16', '12', '--kd', '--qw', '2', '--qa', '2',
         '--batch-size', '8', '--epochs', str(EPOCHS), '--steps-per-epoch', str(STEPS), '--workers', '0']

# The whole program on 40 validation images; with one thread for the sums of a convolution, the same sums every time.
PROGRAM = '''
import sys
sys.path.insert(0, {root!r})
import dataclasses, signal
import numpy as np
import imagenet_tf
from engine.datasets import ArraySource
whole = imagenet_tf.open_dataset
def few(*args, **kwargs):
    dataset = whole(*args, **kwargs)
    every = range(0, len(dataset.val), 50)
    images = np.stack([dataset.val.read(i) for i in every])
    return dataclasses.replace(dataset, val=ArraySource(images, dataset.val.labels[::50]))
imagenet_tf.open_dataset = few
signal.signal(signal.SIGTERM, imagenet_tf.terminate)
sys.exit(imagenet_tf.main(sys.argv[1:]))
'''.format(root=str(ROOT))


def start(run: Path, *flags: str) -> subprocess.Popen:
    environment = os.environ | {'TF_NUM_INTRAOP_THREADS': '1', 'TF_CPP_MIN_LOG_LEVEL': '2'}
    return subprocess.Popen([sys.executable, '-c', PROGRAM, *FLAGS, '--logdir', str(run), *flags],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(run: Path) -> str:
    process = start(run)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return output


def wait_for(process: subprocess.Popen, there: Callable[[], bool]) -> None:
    while process.poll() is None and not there():
        time.sleep(0.005)


def values(prefix) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def history(run: Path) -> list[dict]:
    """What was recorded by epoch, but for the state of the queue, which is no part of what is computed."""
    rows = json.loads((run / 'stats.json').read_text())
    return [{key: value for key, value in row.items() if 'queue_size' not in key} for row in rows]


def assert_same(found: Path, expected: Path) -> None:
    """Everything that a run leaves but its times."""
    last = f'model-{EPOCHS * STEPS}'
    ours, theirs = values(found / last), values(expected / last)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if 'queue_size' not in name and not np.array_equal(ours[name], theirs[name])] == []
    assert history(found) == history(expected)
    assert json.loads((found / 'best.json').read_text()) == json.loads((expected / 'best.json').read_text())
    ours, theirs = values(found / 'best'), values(expected / 'best')
    assert [name for name in theirs if not np.array_equal(ours[name], theirs[name])] == []
    assert not list(found.glob('.*'))
    assert sorted(checkpoints(found)) == [STEPS * epoch for epoch in range(1, EPOCHS + 1)]


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    """The run that nobody disturbed."""
    run = tmp_path_factory.mktemp('whole') / 'run'
    finish(run)
    return run
