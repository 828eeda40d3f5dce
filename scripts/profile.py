"""Measures how long one inference takes at every operating point of a run, on this machine.

    python -m scripts.profile RUN                     # one image alone, and batches of 32
    python -m scripts.profile RUN --batch 8 --threads 1

Writes RUN/profile.json: median and spread over the rounds, in which the points take turns after one
call of each for warming up. scripts.choose and the tables read it.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from engine import timing
from engine.errors import UsageError
from engine.files import writable, write_json
from scripts import parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('profile', __doc__)
    p.add_argument('run', type=Path, metavar='RUN')
    p.add_argument(
        '--batch', type=int, default=32, help='images of the larger batch (default %(default)s)'
    )
    p.add_argument('--rounds', type=int, default=15)
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
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


def run(args: argparse.Namespace) -> str:
    """Measures, writes, tells."""
    check(args)
    path = writable(args.run / 'profile.json')
    from engine.deployment.predictor import Predictor

    predictor = Predictor(args.run, threads=args.threads)
    alone = measure(predictor, 1, args.rounds)
    together = measure(predictor, args.batch, args.rounds)
    points = {}
    for point, times in alone.items():
        points[point] = times | together[point]
    about = {'threads': args.threads, 'rounds': args.rounds, 'batch': args.batch}
    rows = []
    for point, times in points.items():
        images_per_second = 1e3 * args.batch / times[f'batch{args.batch}_ms']
        rows.append((point, *times.values(), images_per_second))
    headers = ('point', 'ms alone', 'spread', f'ms, batch of {args.batch}', 'spread', 'images/s')
    print(tabulate(rows, headers=headers, floatfmt='.2f'))
    write_json(path, about | {'points': points})
    return str(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('profile', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
