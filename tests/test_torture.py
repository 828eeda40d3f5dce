"""Trainings that are killed at any moment, and whose disk fills at any byte: slow proofs.

The data move between the attempts. The figures of ``docs/reliability.md`` are printed:
``pytest -m slow -s tests/test_torture.py``.
"""

import functools
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.runs.folder import checkpoints
from quant.backend import tf
from tests.paths import ROOT

STEPS = 4
FLAGS = shlex.split(
    '--arch resnet8 --mode preact --sizes 12 --batch-size 8 --threads 1 --lr 0.05 '
    f'--steps-per-epoch {STEPS}'
)
# With one thread, the sums of a convolution are the same every time.
ENVIRONMENT = {'TF_NUM_INTRAOP_THREADS': '1', 'TF_CPP_MIN_LOG_LEVEL': '2', 'PYTHONUNBUFFERED': '1'}
# What the progress bar of the first epoch shows when the training begins.
FIRST_STEP = f'/{STEPS}['
# Starts of the names of files that are being written, as they appear in the run folder.
BEST = ('.saving.best', '.best.json.')
OTHERS = ('.saving.model', '.stats.json.', '.s12.json.')


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """A folder of images in three classes that can be told apart."""
    folder = tmp_path_factory.mktemp('data') / 'images'
    rng = np.random.default_rng(0)
    for part, count in (('train', 20), ('val', 6)):
        for k, name in enumerate(('ant', 'bee', 'cat')):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
                image[..., k] += 100
                cv2.imwrite(str(place / f'{i}.png'), image)
    return folder


def command(run: Path, data: Path, epochs: int) -> list[str]:
    program = [sys.executable, str(ROOT / 'imagenet_tf.py')]
    return [*program, *FLAGS, '--epochs', str(epochs), '--data', str(data), '--logdir', str(run)]


def start(run: Path, data: Path, epochs: int, limit: Callable[[], None] | None = None):
    with open(f'{run}.txt', 'w') as log:
        return subprocess.Popen(
            command(run, data, epochs),
            env=os.environ | ENVIRONMENT,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,
        )


def output(run: Path) -> str:
    return Path(f'{run}.txt').read_text()


def finish(run: Path, data: Path, epochs: int) -> None:
    assert start(run, data, epochs).wait() == 0, output(run)


def moved(data: Path, attempt: int) -> Path:
    """The same folder under another name."""
    other = data.with_name(f'images-{attempt}')
    return data.rename(other)


def values(prefix: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(prefix))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if 'queue_size' not in name}


def assert_same(found: Path, expected: Path, epochs: int) -> None:
    """Everything that a run leaves but its times and paths."""
    for name in (f'model-{epochs * STEPS}', 'best'):
        ours, theirs = values(found / name), values(expected / name)
        assert ours.keys() == theirs.keys()
        different = [key for key in ours if not np.array_equal(ours[key], theirs[key])]
        assert different == [], name
    for name in ('stats.json', 'best.json'):
        assert json.loads((found / name).read_text()) == json.loads((expected / name).read_text())
    left = [path.name for path in found.rglob('.*') if not path.name.startswith('.lock')]
    assert left == [], 'half files'


def kill_after(process: subprocess.Popen, seconds: float) -> str:
    time.sleep(seconds)
    process.kill()
    process.wait()
    return f'{seconds:.1f} s after the start'


def kill_in_training(process: subprocess.Popen, run: Path, seconds: float) -> str:
    while process.poll() is None and FIRST_STEP not in output(run):
        time.sleep(0.01)
    kill_after(process, seconds)
    return f'{seconds:.1f} s after the first step'


def kill_while_writing(process: subprocess.Popen, run: Path, kind: str) -> str:
    """Kills it as soon as a file of this kind is being written; the second, of what is frequent."""
    wanted = 1 if kind in BEST else 2
    seen: set[str] = set()
    while process.poll() is None:
        names = []
        for folder in (run, run / 'eval'):
            if folder.is_dir():
                names += os.listdir(folder)
        here = {name for name in names if name.startswith(kind)}
        if here - seen:
            seen |= here
            wanted -= 1
            if not wanted:
                process.kill()
                process.wait()
        seen &= here
    return f'while {kind}* is written'


@pytest.mark.slow
def test_killed_20_times_with_moving_data(data, tmp_path):
    epochs = 160
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    began = time.monotonic()
    process = start(whole, data, epochs)
    while process.poll() is None and FIRST_STEP not in output(whole):
        time.sleep(0.01)
    start_up = time.monotonic() - began
    assert process.wait() == 0, output(whole)
    epoch = (time.monotonic() - began - start_up) / epochs
    rng = np.random.default_rng(1)
    early = [('start', seconds) for seconds in rng.uniform(0, start_up, 7)]
    # All of them together take less than the run has.
    late = [('training', seconds) for seconds in rng.uniform(0, 12 * epoch, 8)]
    plans = [*early, *late, *((kind, 0.0) for kind in OTHERS)]
    plans = [plans[i] for i in rng.permutation(len(plans))]
    # The best checkpoint is written while the accuracy grows.
    plans[:0] = [(kind, 0.0) for kind in BEST]
    resumed = 0
    for attempt, (moment, seconds) in enumerate(plans):
        data = moved(data, attempt)
        process = start(run, data, epochs)
        if moment == 'start':
            how = kill_after(process, float(seconds))
        elif moment == 'training':
            how = kill_in_training(process, run, float(seconds))
        else:
            how = kill_while_writing(process, run, moment)
        assert process.returncode == -signal.SIGKILL, f'{how}: {process.returncode} {output(run)}'
        step = max(checkpoints(run), default=0) if run.exists() else 0
        resumed += 'resuming at step' in output(run)
        print(f'kill {attempt + 1}: {how}, newest checkpoint {step}', flush=True)
    data = moved(data, len(plans))
    finish(run, data, epochs)
    assert_same(run, whole, epochs)
    print(
        f'{len(plans)} of {len(plans)} kills survived, {resumed} attempts had resumed; digits equal'
    )


def limit_files(size: int) -> None:
    """No file of the process may grow beyond so many bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture(scope='module')
def short(data, tmp_path_factory) -> Path:
    """A run of three epochs that nobody disturbed."""
    run = tmp_path_factory.mktemp('short') / 'run'
    finish(run, next(data.parent.iterdir()), 3)
    return run


@pytest.mark.slow
def test_files_that_cannot_grow(data, short, tmp_path):
    """10 limits at a random byte of a file."""
    largest = max(path.stat().st_size for path in short.iterdir())
    rng = np.random.default_rng(2)
    said: Counter[str] = Counter()
    for trial in range(10):
        run = tmp_path / f'run{trial}'
        size = int(rng.integers(0, largest + 1))
        here = next(data.parent.iterdir())
        status = start(run, here, 3, functools.partial(limit_files, size)).wait()
        check_full(run, status)
        said[f'status {status}'] += 1
        finish(run, here, 3)
        assert_same(run, short, 3)
    print('limits of the size of a file: 10 of 10 resumable;', dict(said))


def check_full(run: Path, status: int) -> None:
    """Checks that a run on a full disk said so."""
    text = output(run)
    assert status in (0, 2), text
    assert 'Traceback' not in text
    if status == 2:
        assert re.search(r'error: .*(No space left|File too large|cannot be written)', text), text


@pytest.mark.slow
def test_a_disk_that_fills(data, short, tmp_path):
    """10 file systems that end at a random byte."""
    needed = sum(path.stat().st_size for path in short.rglob('*'))
    rng = np.random.default_rng(3)
    disk = tmp_path / 'disk'
    disk.mkdir()
    said: Counter[str] = Counter()
    for trial in range(10):
        size = int(rng.integers(8 << 10, needed))
        options = ['-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(disk)]
        if subprocess.run(['mount', *options], capture_output=True).returncode:
            pytest.skip('needs the right to mount a file system')
        try:
            run, here = disk / 'run', next(data.parent.iterdir())
            with open(tmp_path / f'{trial}.txt', 'w') as log:
                status = subprocess.run(
                    command(run, here, 3),
                    env=os.environ | ENVIRONMENT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                ).returncode
            text = (tmp_path / f'{trial}.txt').read_text()
            assert status in (0, 2) and 'Traceback' not in text, text
            said[f'status {status}'] += 1
            subprocess.run(['mount', '-o', 'remount,size=100m', str(disk)], check=True)
            finish(run, here, 3)
            assert_same(run, short, 3)
        finally:
            subprocess.run(['umount', str(disk)], check=True)
    print('full disks: 10 of 10 resumable;', dict(said))
