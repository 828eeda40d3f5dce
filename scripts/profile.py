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

import numpy as np
from tabulate import tabulate

from engine.errors import UsageError
from scripts import status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog='python -m scripts.profile',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument('run', type=Path, metavar='RUN')
    p.add_argument(
        '--batch', type=int, default=32, help='images of the larger batch (default %(default)s)'
    )
    p.add_argument('--rounds', type=int, default=15)
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Measures, writes, tells."""
    if args.batch < 2 or args.rounds < 1 or args.threads < 0:
        raise UsageError(
            f'--batch {args.batch} --rounds {args.rounds} --threads {args.threads}: '
            'at least 2, 1 and 0'
        )
    if not (args.run / 'config.json').exists():
        raise UsageError(
            f'{args.run}: is no run folder (no config.json in it), and times are written into it'
        )
    from engine.deployment.predictor import Predictor
    from engine.runs.folder import write_json
    from engine.timing import take_turns

    predictor = Predictor(args.run, threads=args.threads)
    side, rng = predictor.config.image_size, np.random.default_rng(0)
    found: dict[str, dict[str, float]] = {point: {} for point in predictor.points}
    for batch in (1, args.batch):
        images = rng.integers(256, size=(batch, side, side, 3), dtype=np.uint8)
        times = take_turns(
            {
                point: functools.partial(predictor.predict, images, point=point)
                for point in predictor.points
            },
            args.rounds,
        )
        for point, seconds in times.items():
            low, median, high = np.percentile(seconds, (25, 50, 75)).tolist()
            found[point] |= {
                f'batch{batch}_ms': 1e3 * median,
                f'batch{batch}_iqr': 1e3 * (high - low),
            }
    write_json(
        args.run / 'profile.json',
        {'threads': args.threads, 'rounds': args.rounds, 'batch': args.batch, 'points': found},
    )
    headers = ('point', 'ms alone', 'spread', f'ms, batch of {args.batch}', 'spread', 'images/s')
    rows = [
        (point, *row.values(), 1e3 * args.batch / row[f'batch{args.batch}_ms'])
        for point, row in found.items()
    ]
    return tabulate(rows, headers=headers, floatfmt='.2f') + f'\n{args.run / "profile.json"}'


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('profile', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
