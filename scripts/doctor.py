"""Checks whether this machine and its environment can train, and says in plain words what is wrong.

    python -m scripts.doctor            # half a minute
    python -m scripts.doctor --quick    # without what is timed

Versions, processor, memory and disk, TensorFlow and the GPUs that it finds, how fast images are
read, the compiled quantizers, and the step of a small training. TensorFlow is first loaded in a
process of its own: where that fails or crashes, this says so. Exit status 0: nothing is wrong; 1:
something is, and the line says what to do.
"""

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from engine import chatter, processor
from engine.config import overview
from engine.quantities import counted
from engine.runs import environment
from engine.version import __version__
from scripts import parser, status

# Versions that everything was tried with, see pyproject.toml.
NEEDED = {
    'tensorflow': '2.21',
    'tensorpack': '0.11',
    'numpy': '',
    'opencv-python-headless': '',
    'pillow': '',
    'tabulate': '',
    'tqdm': '',
}
OLDEST_PYTHON = (3, 10)
INSTALL = 'python -m pip install -e . in the checkout installs what is needed'

# Bytes below which a training of large images may not find its place.
LITTLE_MEMORY, LITTLE_DISK = 2e9, 2e9

# Seconds that TensorFlow may take to be loaded.
PATIENCE = 300

# Seconds in which images are read.
READING = 3.0

# What the training step is tried with.
STEP = {'preset': 'demo', 'qw': 2, 'qa': 2}

PROGRAM = """
import json
import tensorflow as tf
found = [d.name for d in tf.config.list_physical_devices('GPU')]
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    four = float(session.run(tf.constant(2.0) * 2))
print('@' + json.dumps({'gpus': found, 'four': four}))
"""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        subject: what it is about.
        text: what was found.
        wrong: what is wrong with it and what to do; empty where nothing is.
    """

    subject: str
    text: str
    wrong: str = ''

    def line(self) -> str:
        """The finding in words."""
        if not self.wrong:
            return f'ok     {self.subject}: {self.text}'
        return f'WRONG  {self.subject}: {self.text}\n       {self.wrong}'


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('doctor', __doc__)
    p.add_argument('--quick', action='store_true', help='leave out what is timed')
    return p.parse_args(argv)


def python_version(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter."""
    text = '.'.join(map(str, version))
    wrong = ''
    if version[:2] < OLDEST_PYTHON:
        wrong = f'needs Python {".".join(map(str, OLDEST_PYTHON))} or newer: make a new environment'
    return Finding('Python', text, wrong)


def packages(versions: Callable[[str], str] = importlib.metadata.version) -> Finding:
    """Versions of the packages that must be installed."""
    shown, faults = [f'switchable-nets {__version__}'], []
    for name, wanted in NEEDED.items():
        try:
            found = versions(name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(f'{name} is missing')
            continue
        shown.append(f'{name} {found}')
        if wanted and not f'{found}.'.startswith(f'{wanted}.'):
            faults.append(f'{name} is {found}, tried was {wanted}')
    wrong = f'{"; ".join(faults)}: {INSTALL}' if faults else ''
    return Finding('packages', ', '.join(shown), wrong)


def source() -> Finding:
    """The checkout."""
    commit, changed = environment.checkout()
    text = commit or 'no checkout of git'
    if changed:
        text += ', with changes'
    return Finding('source', text)


def cpu() -> Finding:
    """The processor."""
    features = ' '.join(processor.features()) or 'no vector instructions that we know'
    text = f'{processor.name()}, {counted(processor.cores(), "core")}, {features}'
    wrong = ''
    if not chatter.runs_tensorflow():
        wrong = 'has no AVX, which TensorFlow is built of: it ends with "illegal instruction" here'
    return Finding('processor', text, wrong)


def available_memory(meminfo: Path = Path('/proc/meminfo')) -> int:
    """Bytes that programs could still get; all of the machine's where the system does not say."""
    try:
        found = re.search(r'MemAvailable:\s+(\d+) kB', meminfo.read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else processor.memory_bytes()


def memory(free: int) -> Finding:
    """Memory.

    Args:
        free: bytes of it.
    """
    text = f'{overview.scaled(free)}B free of {overview.scaled(processor.memory_bytes())}B'
    wrong = ''
    if free < LITTLE_MEMORY:
        wrong = (
            f'less than {overview.scaled(LITTLE_MEMORY)}B: small images train, large ones want a '
            'smaller --batch_size or fewer --sizes; --dry-run says what a training takes'
        )
    return Finding('memory', text, wrong)


def disk(folder: Path) -> Finding:
    """Room for runs."""
    free = shutil.disk_usage(folder).free
    text = f'{overview.scaled(free)}B free in {folder.resolve()}'
    wrong = ''
    if free < LITTLE_DISK:
        wrong = f'less than {overview.scaled(LITTLE_DISK)}B: give --logdir on another disk'
    elif not os.access(folder, os.W_OK):
        wrong = 'nothing can be written here: give --logdir elsewhere'
    return Finding('disk', text, wrong)


def tensorflow(program: str = PROGRAM) -> tuple[Finding, list[str]]:
    """TensorFlow in a process of its own, and the GPUs that it finds."""
    command = [sys.executable, '-c', program]
    variables = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '1'}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, env=variables
        )
    except subprocess.TimeoutExpired:
        wrong = 'is another process using all memory or the GPU?'
        return Finding('TensorFlow', f'not loaded after {PATIENCE} seconds', wrong), []
    found = re.search(r'^@(.*)$', done.stdout, re.MULTILINE)
    if found is None or done.returncode:
        return Finding('TensorFlow', _how_it_ended(done.returncode), _why(done.stderr)), []
    answer = json.loads(found[1])
    return Finding('TensorFlow', 'is loaded and computes'), answer['gpus']


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f'cannot be loaded: the process ended by {signal.Signals(-code).name}'
    return f'cannot be loaded: exit status {code}'


def _why(errors: str) -> str:
    lines = [line for line in chatter.without_chatter(errors).splitlines() if line.strip()]
    said = lines[-1].strip() if lines else 'it says nothing'
    return f'{said}: {INSTALL}'


def gpu(found: list[str], *, loaded: bool) -> Finding:
    """GPUs.

    Args:
        found: those that TensorFlow finds.
        loaded: whether it could be loaded.
    """
    if found:
        return Finding('GPU', f'{len(found)}: {" ".join(found)}')
    if not chatter.has_driver():
        return Finding('GPU', 'none, no driver of NVIDIA: training is on the CPU')
    if not loaded or chatter.hides_gpus():
        return Finding('GPU', 'not looked for')
    wrong = (
        'there is a driver of NVIDIA, but TensorFlow finds no GPU: python -m pip install '
        "'tensorflow[and-cuda]==2.21.*' brings its libraries; nvidia-smi says whether the driver "
        'works'
    )
    return Finding('GPU', 'none', wrong)


def native_operations() -> Finding:
    """The compiled operations of quantizers."""
    from quant import native
    from quant.native.build import compiler

    if native.is_built():
        return Finding('compiled quantizers', f'built ({native.library().name})')
    if compiler() is None:
        text = 'not built, no C++ compiler: plain operations are used, which take longer'
    else:
        text = 'not built: python -m quant.native.build makes quantizers faster on the CPU'
    return Finding('compiled quantizers', text)


def reading() -> Finding:
    """How fast images are decoded and augmented, by all cores."""
    import numpy as np

    from engine.data.augment import named
    from engine.data.opencv import cv2

    rng = np.random.default_rng(0)
    small = rng.integers(256, size=(18, 24, 3), dtype=np.uint8)
    picture = cv2.resize(small, (500, 375), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode('.jpg', noisy, [cv2.IMWRITE_JPEG_QUALITY, 92])
    end = time.perf_counter() + READING
    cv2.setNumThreads(1)
    crop = named('area_crop')

    def read(seed: int) -> int:
        """How many images a thread reads."""
        own = np.random.default_rng(seed)
        count = 0
        while time.perf_counter() < end:
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
            assert image is not None
            crop.train_view(image, 224, own)
            count += 1
        return count

    with ThreadPoolExecutor(processor.cores()) as threads:
        images = sum(threads.map(read, range(processor.cores())))
    speed = images / READING
    text = (
        f'{speed:.0f} images/s of 500x375 and {len(encoded) // 1000} kB, decoded and cropped to 224'
    )
    return Finding('reading of images', text)


def step() -> Finding:
    """The step of a small training, and what the process takes."""
    from engine.config import hardware
    from engine.config.resolve import resolve
    from engine.graph import sessions
    from engine.training import measuring

    config, dataset, _ = resolve(STEP)
    data_format, threads = hardware.prepare(config, dataset)
    config = sessions.settled(config)
    found = measuring.measure(config, dataset, {}, data_format=data_format, threads=threads)
    speed = config.batch_size / found.step_seconds
    text = (
        f'{1e3 * found.step_seconds:.0f} ms (ResNet-8, W2A2, five sizes, {config.batch_size} '
        f'images), {speed:.0f} images/s; peak memory {overview.scaled(found.peak_bytes)}B'
    )
    return Finding('training step', text)


def tried(subject: str, look: Callable[[], Finding]) -> Finding:
    """A finding, also of what fails.

    Args:
        subject: of the finding.
        look: makes it.
    """
    try:
        return look()
    except Exception as error:
        return Finding(subject, 'fails', f'{type(error).__name__}: {error}'.splitlines()[0])


def findings(*, quick: bool) -> Iterator[Finding]:
    """Everything that is looked at, one after the other.

    Args:
        quick: leaves out what is timed.
    """
    yield python_version()
    yield packages()
    yield source()
    yield cpu()
    yield memory(available_memory())
    yield disk(Path())
    loaded, gpus = tensorflow()
    yield loaded
    yield gpu(gpus, loaded=not loaded.wrong)
    if not quick:
        yield tried('reading of images', reading)
    if loaded.wrong:
        return
    yield tried('compiled quantizers', native_operations)
    if not quick:
        yield tried('training step', step)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, 1 where something is wrong, else see ``scripts.status``."""
    wrong: list[Finding] = []

    def run(args: argparse.Namespace) -> str:
        """The findings, as they come, and how many are wrong."""
        for finding in findings(quick=args.quick):
            print(finding.line(), flush=True)
            if finding.wrong:
                wrong.append(finding)
        if not wrong:
            return 'nothing is wrong'
        return f'wrong: {", ".join(finding.subject for finding in wrong)}'

    return status('doctor', run, parse_args(argv)) or int(bool(wrong))


if __name__ == '__main__':
    sys.exit(main())
