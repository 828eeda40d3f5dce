"""Peers benchmark: our float training step beside PyTorch's and Keras 3's, in float32 and bfloat16.

The same preact ResNet-18 three times: jobs of five sizes with distillation and of one size. Every
framework has a process of its own, with its own peak of memory; they take turns, step by step.
Keras 3 comes with TensorFlow, PyTorch is looked for in the environment of ``--python``.
"""

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from engine.config import hardware
from engine.config.config import Config
from engine.errors import UsageError
from scripts import check_counts, parser
from scripts.bench import train, turns
from scripts.bench.peer_job import DTYPES

OURS = 'ours'
NETWORK = shlex.split('--data fake --arch resnet18 --mode preact --qw 32 --qa 32')
SIZES = 5
INSTALL = """make an environment for PyTorch:
    python3 -m venv peers-env
    peers-env/bin/pip install torch numpy --index-url https://download.pytorch.org/whl/cpu
    python -m scripts.bench peers --python peers-env/bin/python"""

HEADERS = (
    'sizes',
    'type',
    'who',
    'CPU ms',
    'ms',
    'MB',
    'first step s',
    'x CPU',
    'of the middle half',
    'x time',
    'x MB',
)


class Peer(NamedTuple):
    """Another framework.

    Attributes:
        module: that serves its step.
        package: that it needs.
        flags: of the module.
        elsewhere: whether it runs in the Python that ``--python`` names.
    """

    module: str
    package: str
    flags: tuple[str, ...] = ()
    elsewhere: bool = False


TORCH, KERAS = 'scripts.bench.peer_torch', 'scripts.bench.peer_keras'
PEERS = {
    'torch': Peer(TORCH, 'torch', elsewhere=True),
    'torch-compile': Peer(TORCH, 'torch', ('--compile',), elsewhere=True),
    'keras': Peer(KERAS, 'keras'),
    'keras-xla': Peer(KERAS, 'keras', ('--compile',)),
}
DEFAULT = ['torch', 'torch-compile', 'keras']


class Job(NamedTuple):
    """The step that all of them do.

    Attributes:
        sizes: edges in pixels, the largest first; several are distilled.
        batch: images.
        dtype: of the activations, one of ``DTYPES``.
    """

    sizes: tuple[int, ...]
    batch: int
    dtype: str

    def config(self) -> Config:
        """Our configuration of it."""
        flags = [*NETWORK, '--sizes', *map(str, self.sizes), '--batch_size', str(self.batch)]
        flags += ['--image_size', str(self.sizes[0])]
        flags.append('--kd' if len(self.sizes) > 1 else '--no-kd')
        if self.dtype == 'bf16':
            flags.append('--bf16')
        return train.configuration(flags)

    def start(self, name: str, python: str) -> turns.Process:
        """The process of a peer.

        Args:
            name: one of ``PEERS``.
            python: interpreter of what is installed elsewhere.
        """
        peer = PEERS[name]
        arguments = ['--batch', str(self.batch), '--dtype', self.dtype, *peer.flags]
        arguments += ['--sizes', *map(str, self.sizes)]
        if peer.elsewhere:
            return turns.Process(peer.module, arguments, python)
        return turns.Process(peer.module, arguments, environment={'KERAS_BACKEND': 'tensorflow'})


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: a number is out of range, or a Python that was named lacks PyTorch.
    """
    p = parser('bench peers', f'{__doc__}\nFirst {INSTALL}')
    multiplied = DTYPES if hardware.bfloat16() else DTYPES[:1]
    p.add_argument('--python', help='interpreter that has PyTorch')
    p.add_argument(
        '--size', type=int, default=224, help='the largest, a multiple of 7; default 224'
    )
    p.add_argument('--batch', type=int, default=8, help='images of a step; default 8')
    p.add_argument('--rounds', type=int, default=10, help='measured steps of each; default 10')
    p.add_argument(
        '--dtypes',
        nargs='+',
        choices=DTYPES,
        default=list(multiplied),
        help='default: both; f32 alone where the processor does not multiply bfloat16',
    )
    p.add_argument(
        '--jobs',
        type=int,
        nargs='+',
        default=[SIZES, 1],
        help='numbers of sizes, 1 to 5; default: 5 1',
    )
    p.add_argument(
        '--peers',
        nargs='+',
        choices=tuple(PEERS),
        default=DEFAULT,
        help=f'default: {" ".join(DEFAULT)}',
    )
    p.add_argument('--cores', type=int, help='that all run on; default: those that there are')
    args = p.parse_args(argv)
    check_counts(args, 'batch', 'rounds', 'jobs')
    if max(args.jobs) > SIZES:
        raise UsageError(f'--jobs {max(args.jobs)}: there are {SIZES} sizes')
    if args.size % 7 or args.size < 42:
        raise UsageError(f'--size {args.size}: must be a multiple of 7, at least 42')
    cores = len(os.sched_getaffinity(0))
    if args.cores is not None and not 1 <= args.cores <= cores:
        raise UsageError(f'--cores {args.cores}: expected 1 to {cores}')
    args.peers = available(args.peers, args.python)
    return args


def available(names: Sequence[str], python: str | None) -> list[str]:
    """Those of the peers that can run; says of others what to do.

    Args:
        names: of ``PEERS``.
        python: what ``--python`` names.

    Raises:
        UsageError: the Python that was named is none or lacks what is to run in it.
    """
    found = []
    said = set()
    for name in names:
        peer = PEERS[name]
        interpreter = sys.executable
        if peer.elsewhere and python:
            interpreter = python
        if has(interpreter, peer.package):
            found.append(name)
            continue
        message = f'{interpreter} has no package {peer.package}; {INSTALL}'
        if peer.elsewhere and python:
            raise UsageError(f'--python {message}')
        if message not in said:
            print(f'without {peer.package}: {message}', file=sys.stderr)
        said.add(message)
    return found


def has(python: str, package: str) -> bool:
    """Whether an interpreter finds a package.

    Raises:
        UsageError: it is no interpreter.
    """
    code = f'import importlib.util; print(importlib.util.find_spec({package!r}) is not None)'
    try:
        done = subprocess.run([python, '-c', code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f'--python {python}: is no Python that runs ({error})') from error
    return done.stdout.strip() == 'True'


def edges(largest: int, number: int) -> tuple[int, ...]:
    """That many edges in pixels, as 224, 192, 160, 128, 96 stand to each other."""
    step = largest // 7
    return tuple(largest - step * k for k in range(number))


@contextlib.contextmanager
def on_cores(number: int | None) -> Iterator[None]:
    """A block whose processes run on that many cores, or on all that there are."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measured(job: Job, peers: Sequence[str], python: str, rounds: int) -> list[dict[str, Any]]:
    """A row of the table for us and for every peer, see ``HEADERS``.

    Args:
        job: what is done.
        peers: names of those that do it.
        python: interpreter of what is installed elsewhere.
        rounds: measured steps of each.
    """
    processes = {OURS: train.start(job.config())}
    for name in peers:
        try:
            processes[name] = job.start(name, python)
        except turns.Ended as error:
            print(f'{name} cannot do it here: {error}', file=sys.stderr)
    costs = turns.by_turns(processes, rounds)
    rows = []
    for name, taken in costs.items():
        row = {'sizes': len(job.sizes), 'type': job.dtype, 'who': name}
        row.update(compared(taken, costs[OURS]))
        about = processes[name].about
        row['first step s'] = about['first_step_s']
        row['version'] = about['version']
        row['parameters'] = about['parameters']
        rows.append(row)
    return rows


def compared(taken: Sequence[turns.Step], ours: Sequence[turns.Step]) -> dict[str, Any]:
    """Medians of the costs of a step, and of their ratios to ours in the same round."""
    cpu, wall, memory = np.transpose(taken)  # [rounds] each
    cpu_ratio, wall_ratio, memory_ratio = np.transpose(taken) / np.transpose(ours)
    low, middle, high = np.percentile(cpu_ratio, (25, 50, 75))
    return {
        'CPU ms': 1e3 * float(np.median(cpu)),
        'ms': 1e3 * float(np.median(wall)),
        'MB': float(memory[-1]),
        'x CPU': float(middle),
        'of the middle half': f'{low:.3f}-{high:.3f}',
        'x time': float(np.median(wall_ratio)),
        'x MB': float(memory_ratio[-1]),
    }


def peers(argv: Sequence[str]) -> None:
    """Measures, and prints a table and a line of JSON."""
    args = parse_args(argv)
    python = args.python or sys.executable
    rows: list[dict[str, Any]] = []
    with on_cores(args.cores):
        for number in args.jobs:
            for dtype in args.dtypes:
                job = Job(edges(args.size, number), args.batch, dtype)
                rows += measured(job, args.peers, python, args.rounds)
    table = [[row[name] for name in HEADERS] for row in rows]
    print(f'preact ResNet-18, {args.size} pixels, batch {args.batch}; x: its cost over ours')
    print(tabulate(table, HEADERS, floatfmt='.4g'))
    print(f'{hardware.line()}; load {os.getloadavg()[0]:.2f}')
    print(json.dumps(record(args, rows)))


def record(args: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The line of JSON."""
    rounded = []
    for row in rows:
        values = {}
        for name, value in row.items():
            values[name] = round(value, 4) if isinstance(value, float) else value
        rounded.append(values)
    return {
        'bench': 'peers',
        'size': args.size,
        'batch': args.batch,
        'rounds': args.rounds,
        'rows': rounded,
    }
