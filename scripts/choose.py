"""The best operating point within a budget, over all run folders given, and the commands that evaluate it.

    python -m scripts.choose RUN... --madds 300M
    python -m scripts.choose RUN... --latency 5ms --memory 2MB
    python -m scripts.choose RUN... --min-top1 70        # the cheapest that is as accurate
    python -m scripts.choose RUN...                      # all that no other beats in both accuracy and multiply-adds

Thresholds of exits and measured gates are among the choices. Latency needs scripts.profile before.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from engine.quantities import quantity
from engine.results import selection
from scripts import status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog='python -m scripts.choose',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument('runs', type=Path, nargs='+', metavar='RUN')
    p.add_argument('--madds', metavar='N', help='mean multiply-adds of an image, such as 300M')
    p.add_argument('--latency', metavar='TIME', help='of one image alone, such as 5ms')
    p.add_argument('--memory', metavar='BYTES', help='of the packed weights, such as 2MB')
    p.add_argument('--min-top1', type=float, metavar='PERCENT')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """The choice with its commands, or the front."""
    found = [one for folder in args.runs for one in selection.choices(folder)]
    madds, ms, size = (
        quantity(flag, text) if text else None
        for flag, text in (
            ('--madds', args.madds),
            ('--latency', args.latency),
            ('--memory', args.memory),
        )
    )
    limits = selection.Limits(madds, ms, size, args.min_top1)
    if limits == selection.Limits():
        front = selection.pareto(found)
        return tabulate(
            [
                (
                    one.run,
                    one.point,
                    'thresholds' if one.policy else '',
                    one.top1,
                    one.madds / 1e6,
                    one.ms,
                    one.weight_bytes and one.weight_bytes / 1e3,
                )
                for one in front
            ],
            floatfmt='.2f',
            headers=('run', 'point', '', 'top-1', 'M multiply-adds', 'ms', 'kB of weights'),
        )
    chosen = selection.best(found, limits)
    return '\n'.join(
        [selection.describe(chosen), *(f'    {command}' for command in chosen.commands)]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('choose', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
