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
from engine.config.cli import explicit, parse
from engine.config.config import Config
from engine.config.resolve import resolve
from engine.errors import UsageError
from scripts.bench import train, turns

# Of --quick: a small network on small images; else those of ImageNet.
SMALL = '--data animals28 --arch resnet8 --mode preact --batch_size 32'
LARGE = '--data fake --arch resnet18 --mode preact --batch_size 8'
W2A2 = '--qw 2 --qa 2'
DEPTHS = {True: (8, 20, 32, 56), False: (18, 34, 50, 101, 152)}

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


class Sweep(NamedTuple):
    """One thing that grows.

    Attributes:
        what: in words.
        values: numbers of it, ascending.
        quick: those of ``--quick``.
        flags: of a number, and whether it is quick.
    """

    what: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    flags: Callable[[int, bool], str]


def network(quick: bool) -> str:
    """Flags of the network that most sweeps vary."""
    return SMALL if quick else LARGE


def of_sizes(number: int, quick: bool) -> str:
    """Flags of that many sizes, one step apart."""
    largest, step = (28, 2) if quick else (224, 16)
    edges = [str(largest - step * k) for k in range(number)]
    kd = '--kd' if number > 1 else '--no-kd'
    return f'{network(quick)} {W2A2} --sizes {" ".join(edges)} {kd}'


def of_bits(number: int, quick: bool) -> str:
    """Flags of one size at that many bits."""
    return f'{network(quick)} --sizes {28 if quick else 224} --no-kd --qw {number} --qa {number}'


def of_depth(number: int, quick: bool) -> str:
    """Flags of one size at that depth."""
    base = network(quick)
    return f'{base} --arch resnet{number} --sizes {28 if quick else 224} --no-kd {W2A2}'


def of_towers(number: int, quick: bool) -> str:
    """Flags of that many towers with a batch each."""
    base = f'{network(quick)} --sizes {28 if quick else 224} --no-kd {W2A2}'
    batch = (32 if quick else 8) * number
    return f'{base} --batch_size {batch} --gpu {",".join(map(str, range(number)))}'


def of_exits(number: int, quick: bool) -> str:
    """Flags of an MSDNet with that many exits, two layers apart."""
    if quick:
        base = '--preset demo-msdnet --stepmode even --batch_size 32'
    else:
        base = '--preset msd_imagenet4 --data fake --batch_size 8'
    return f'{base} {W2A2} --nBlocks {number} --step 2 --base 2'


def of_routes(number: int, quick: bool) -> str:
    """Flags of a DS-Net whose gate chooses among that many widths."""
    if quick:
        base = '--preset demo-dsnet-gate --batch_size 32'
    else:
        base = '--preset dsnet_mbv1_gate --data fake --batch_size 8'
    return f'{base} --routes {" ".join(map(str, range(number)))}'


SWEEPS = {
    'sizes': Sweep('input sizes', tuple(range(1, 9)), (1, 2, 4, 8), of_sizes),
    'bits': Sweep('bits of weights and activations', tuple(range(1, 9)), (1, 2, 4, 8), of_bits),
    'depth': Sweep('depth', DEPTHS[False], DEPTHS[True], of_depth),
    'towers': Sweep('towers on the CPU', (1, 2, 3, 4), (1, 2, 4), of_towers),
    'exits': Sweep('exits of MSDNet', tuple(range(2, 9)), (2, 4, 6), of_exits),
    'routes': Sweep("routes of DS-Net's gate", (2, 4, 6, 8, 10, 12, 14), (2, 4, 8), of_routes),
}


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: a number is out of range.
    """
    p = argparse.ArgumentParser(
        prog='bench scaling',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument('--quick', action='store_true', help='small networks, fewer values')
    p.add_argument('--only', nargs='+', choices=tuple(SWEEPS), default=list(SWEEPS))
    p.add_argument('--rounds', type=int, default=5)
    args = p.parse_args(argv)
    if args.rounds < 1:
        raise UsageError(f'--rounds {args.rounds}: must be at least 1')
    return args


def configuration(flags: str) -> Config:
    """The configuration that flags name."""
    given = explicit(parse(shlex.split(flags)))
    config, _, _ = resolve({key: value for key, value in given.items() if value is not None})
    return config


def measured(sweep: Sweep, quick: bool, rounds: int) -> list[dict[str, float]]:
    """A row for every value, see ``HEADERS``.

    Args:
        sweep: what grows.
        quick: whether the networks are small.
        rounds: measured steps of each.
    """
    processes = {}
    for number in sweep.quick if quick else sweep.values:
        processes[str(number)] = train.start(configuration(sweep.flags(number, quick)))
    abouts = {name: process.about for name, process in processes.items()}
    rows = []
    for name, taken in turns.by_turns(processes, rounds).items():
        cpu, wall, memory = np.transpose(taken)  # [rounds] each
        about = abouts[name]
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
    record: dict[str, Any] = {'bench': 'scaling', 'quick': args.quick, 'rounds': args.rounds}
    for name in args.only:
        sweep = SWEEPS[name]
        rows = measured(sweep, args.quick, args.rounds)
        found = lines(rows)
        print(f'\n{sweep.what}: {sweep.flags(int(rows[-1]["n"]), args.quick)}')
        print(tabulate([[row[key] for key in HEADERS] for row in rows], HEADERS, floatfmt='.4g'))
        for about, line in found.items():
            print(
                f'{about}: {line.start:.4g} + {line.slope:.4g} x, furthest '
                f'{line.departure:+.1%} at {line.where:.4g}'
            )
        record[name] = {
            'rows': rows,
            'lines': {about: line._asdict() for about, line in found.items()},
        }
    print(f'{hardware.line()}; load {os.getloadavg()[0]:.2f}')
    print(json.dumps(record))
