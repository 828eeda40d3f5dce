"""Scaling benchmark: what a training step costs as one thing grows; is that linear?

Input sizes, bits, depth, towers on the CPU, exits of MSDNet, routes of DS-Net's gate. Every value
has a process of its own; those of one sweep take turns, step by step. A straight line is fitted to
each cost: over the number itself, and the time of a step over its multiply-adds where these differ.
"""

import argparse
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from engine.config import hardware
from scripts import check_counts, parser
from scripts.bench import train, turns

HEADERS = ('n', 'MMAdds', 'ops', 'build s', 'first step s', 'CPU ms', 'ms', 'MB')


class Line(NamedTuple):
    """A straight line through measured values.

    Attributes:
        start: its value at 0.
        slope: per unit.
        departure: of the value that is furthest from it, as a share of that value.
        where: x of that value.
    """

    start: float
    slope: float
    departure: float
    where: float

    def __str__(self) -> str:
        line = f'{self.start:.4g} + {self.slope:.4g} x'
        return f'{line}, furthest {self.departure:+.1%} at {self.where:.4g}'


class Setting(NamedTuple):
    """Settings of the sweeps: small networks on small images, or those of ImageNet.

    Attributes:
        resnet: flags of the ResNet of most sweeps.
        size: edge of its images, pixels.
        step: pixels between its sizes where there are several.
        batch: images of a step, of a tower.
        msdnet: flags of the MSDNet.
        dsnet: flags of the DS-Net.
    """

    resnet: str
    size: int
    step: int
    batch: int
    msdnet: str
    dsnet: str

    def one_size(self, towers: int = 1) -> str:
        """Flags of the ResNet at its largest size, with a batch for every tower."""
        return f'{self.resnet} --batch_size {self.batch * towers} --sizes {self.size} --no-kd'


QUICK = Setting(
    resnet='--data animals28 --arch resnet8 --mode preact',
    size=28,
    step=2,
    batch=32,
    msdnet='--preset demo-msdnet --stepmode even',
    dsnet='--preset demo-dsnet-gate',
)
WHOLE = Setting(
    resnet='--data fake --arch resnet18 --mode preact',
    size=224,
    step=16,
    batch=8,
    msdnet='--preset msd_imagenet4 --data fake',
    dsnet='--preset dsnet_mbv1_gate --data fake',
)
W2A2 = '--qw 2 --qa 2'


class Sweep(NamedTuple):
    """One thing that grows.

    Attributes:
        what: in words.
        whole: numbers of it, ascending.
        quick: those of ``--quick``.
        flags: of a number in a setting.
    """

    what: str
    whole: tuple[int, ...]
    quick: tuple[int, ...]
    flags: Callable[[int, Setting], str]

    def commands(self, quick: bool) -> dict[int, str]:
        """Flags of imagenet_tf.py, by number."""
        numbers, setting = self.whole, WHOLE
        if quick:
            numbers, setting = self.quick, QUICK
        return {number: self.flags(number, setting) for number in numbers}


def of_sizes(number: int, setting: Setting) -> str:
    """Flags of that many sizes."""
    edges = [str(setting.size - setting.step * k) for k in range(number)]
    kd = '--kd' if number > 1 else '--no-kd'
    base = f'{setting.resnet} --batch_size {setting.batch}'
    return f'{base} {W2A2} --sizes {" ".join(edges)} {kd}'


def of_bits(number: int, setting: Setting) -> str:
    """Flags of one size at that many bits."""
    return f'{setting.one_size()} --qw {number} --qa {number}'


def of_depth(number: int, setting: Setting) -> str:
    """Flags of one size at that depth."""
    return f'{setting.one_size()} {W2A2} --arch resnet{number}'


def of_towers(number: int, setting: Setting) -> str:
    """Flags of that many towers with a batch each."""
    devices = ','.join(map(str, range(number)))
    return f'{setting.one_size(number)} {W2A2} --gpu {devices}'


def of_exits(number: int, setting: Setting) -> str:
    """Flags of an MSDNet with that many exits, two layers apart."""
    base = f'{setting.msdnet} --batch_size {setting.batch}'
    return f'{base} {W2A2} --nBlocks {number} --step 2 --base 2'


def of_routes(number: int, setting: Setting) -> str:
    """Flags of a DS-Net whose gate chooses among that many widths."""
    widths = ' '.join(map(str, range(number)))
    return f'{setting.dsnet} --batch_size {setting.batch} --routes {widths}'


SWEEPS = {
    'sizes': Sweep('input sizes', tuple(range(1, 9)), (1, 2, 4, 8), of_sizes),
    'bits': Sweep('bits of weights and activations', tuple(range(1, 9)), (1, 2, 4, 8), of_bits),
    'depth': Sweep('depth', (18, 34, 50, 101, 152), (8, 20, 32, 56), of_depth),
    'towers': Sweep('towers on the CPU', (1, 2, 3, 4), (1, 2, 4), of_towers),
    'exits': Sweep('exits of MSDNet', tuple(range(2, 9)), (2, 4, 6), of_exits),
    'routes': Sweep("routes of DS-Net's gate", (2, 4, 6, 8, 10, 12, 14), (2, 4, 8), of_routes),
}


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: a number is out of range.
    """
    p = parser('bench scaling', __doc__)
    p.add_argument('--quick', action='store_true', help='small networks, fewer values')
    p.add_argument(
        '--only', nargs='+', choices=tuple(SWEEPS), default=list(SWEEPS), help='default: all'
    )
    p.add_argument('--rounds', type=int, default=5, help='measured steps of each; default 5')
    args = p.parse_args(argv)
    check_counts(args, 'rounds')
    return args


def measured(commands: Mapping[int, str], rounds: int) -> list[dict[str, float]]:
    """A row for every value, see ``HEADERS``.

    Args:
        commands: flags of imagenet_tf.py by value.
        rounds: measured steps of each.
    """
    processes = {}
    for number, flags in commands.items():
        processes[str(number)] = train.start(train.configuration(shlex.split(flags)))
    rows = []
    for name, taken in turns.by_turns(processes, rounds).items():
        cpu, wall, memory = np.transpose(taken)  # [rounds] each
        about = processes[name].about
        row = {
            'n': int(name),
            'MMAdds': about['madds'] / 1e6,
            'ops': about['graph_ops'],
            'build s': about['build_s'],
            'first step s': about['first_step_s'],
            'CPU ms': 1e3 * float(np.median(cpu)),
            'ms': 1e3 * float(np.median(wall)),
            'MB': float(memory[-1]),
            'parameters': about['parameters'],
            'exchanged bytes': about['exchanged'],
        }
        rows.append(row)
    return rows


def fitted(x: Sequence[float], y: Sequence[float]) -> Line:
    """The straight line of least squares through values at x, of which at least two differ."""
    slope, start = np.polyfit(x, y, 1)
    line = start + slope * np.asarray(x)
    departures = 1 - line / np.asarray(y)
    worst = int(np.argmax(np.abs(departures)))
    return Line(float(start), float(slope), float(departures[worst]), float(x[worst]))


def lines(rows: Sequence[Mapping[str, float]]) -> dict[str, Line]:
    """Lines through the costs of a sweep, by the cost and what it is fitted over."""
    n = [row['n'] for row in rows]
    madds = [row['MMAdds'] for row in rows]
    found = {}
    for cost in HEADERS[2:]:
        y = [row[cost] for row in rows]
        x, over = n, 'n'
        if cost in ('CPU ms', 'ms') and len(set(madds)) > 1:
            x, over = madds, 'MMAdds'
        found[f'{cost} over {over}'] = fitted(x, y)
    return found


def scaling(argv: Sequence[str]) -> None:
    """Measures, and prints a table and the fits of every sweep, and a line of JSON."""
    args = parse_args(argv)
    sweeps: dict[str, Any] = {}
    for name in args.only:
        sweep = SWEEPS[name]
        commands = sweep.commands(args.quick)
        *_, largest = commands.values()
        rows = measured(commands, args.rounds)
        found = lines(rows)
        print(f'\n{sweep.what}: {largest}')
        print(tabulate([[row[key] for key in HEADERS] for row in rows], HEADERS, floatfmt='.4g'))
        for about, line in found.items():
            print(f'{about}: {line}')
        sweeps[name] = {
            'rows': rows,
            'lines': {about: line._asdict() for about, line in found.items()},
        }
    print(f'{hardware.line()}; load {os.getloadavg()[0]:.2f}')
    record = {'bench': 'scaling', 'quick': args.quick, 'rounds': args.rounds, 'sweeps': sweeps}
    print(json.dumps(record))
