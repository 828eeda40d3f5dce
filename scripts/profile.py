"""Measures how long one inference takes at every operating point of a run, on this machine.

    python -m scripts.profile RUN                     # one image alone, and batches of 32
    python -m scripts.profile RUN --batch 8 --threads 1

Writes RUN/profile-DEVICE.json: median and spread over the rounds, in which the points take turns
after one call of each for warming up. scripts.choose and the tables read it; times of other devices
have files of their own.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine import processor, timing
from engine.errors import UsageError
from engine.files import writable, write_json
from engine.results import formats
from engine.results.formats import Column, Table
from engine.results.profiles import Device
from scripts import add_format, noted, parser, status

# What computes at every operating point of a run.
BACKEND = 'tensorflow'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('profile', __doc__)
    p.add_argument('run', type=Path, metavar='RUN')
    p.add_argument(
        '--batch', type=int, default=32, help='images of the larger batch (default %(default)s)'
    )
    p.add_argument('--rounds', type=int, default=15)
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
    add_format(p)
    return p.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Checks the flags.

    Raises:
        UsageError: A number is too small, or there is no run folder.
    """
    if args.batch < 2 or args.rounds < 1 or args.threads < 0:
        raise UsageError(
            f'--batch {args.batch} --rounds {args.rounds} --threads {args.threads}: '
            'at least 2, 1 and 0'
        )
    if not (args.run / 'config.json').exists():
        raise UsageError(
            f'{args.run}: is no run folder (no config.json in it), and times are written into it'
        )


def measure(predictor: Any, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median and spread of the milliseconds of a batch, by operating point.

    Args:
        predictor: Of the run.
        batch: Number of random images.
        rounds: Measured calls of every point; the points take turns.
    """
    side = predictor.config.image_size
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(batch, side, side, 3), dtype=np.uint8)
    runs = {}
    for point in predictor.points:
        runs[point] = functools.partial(predictor.predict, images, point=point)
    found = {}
    for point, seconds in timing.take_turns(runs, rounds).items():
        low, median, high = np.percentile(seconds, (25, 50, 75)).tolist()
        found[point] = {
            f'batch{batch}_ms': 1e3 * median,
            f'batch{batch}_iqr': 1e3 * (high - low),
        }
    return found


def this_device(threads: int) -> Device:
    """The device that measures; its threads are counted where they were left open."""
    from engine.runs import environment

    gpu, *_ = (*environment.gpus(), '')
    return Device(processor.name(), gpu, threads or processor.cores(), BACKEND)


def run(args: argparse.Namespace) -> str:
    """Measures, writes, tells."""
    check(args)
    device = this_device(args.threads)
    path = writable(args.run / device.file)
    from engine.deployment.predictor import Predictor

    predictor = Predictor(args.run, threads=args.threads)
    alone = measure(predictor, 1, args.rounds)
    together = measure(predictor, args.batch, args.rounds)
    points = {}
    for point, times in alone.items():
        points[point] = times | together[point]
    rows = []
    for point, times in points.items():
        images_per_second = 1e3 * args.batch / times[f'batch{args.batch}_ms']
        rows.append((point, *times.values(), images_per_second))
    about = {
        'device': dataclasses.asdict(device),
        'threads': args.threads,
        'rounds': args.rounds,
        'batch': args.batch,
        'points': points,
    }
    write_json(path, about)
    table = Table('points', columns(args.batch), rows)
    return noted(formats.render([table], args.format), f'{path}: on {device.name}', args.format)


def columns(batch: int) -> list[Column]:
    """Of the table, for batches of so many images beside one image alone."""
    return [
        Column('point', 'point'),
        Column('batch1_ms', 'ms alone', 2),
        Column('batch1_iqr', 'spread', 2),
        Column(f'batch{batch}_ms', f'ms, batch of {batch}', 2),
        Column(f'batch{batch}_iqr', 'spread', 2),
        Column('images_per_second', 'images/s', 2),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('profile', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
