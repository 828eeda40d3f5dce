"""The best operating point within a budget, over all run folders given, and how to evaluate it.

    python -m scripts.choose RUN... --madds 300M
    python -m scripts.choose RUN... --latency 5ms --memory 2MB
    python -m scripts.choose RUN... --min-top1 70        # the cheapest that is as accurate
    python -m scripts.choose RUN...                      # all that none beats in accuracy and MAdds

Thresholds of exits and measured gates are among the choices. Latency needs scripts.profile before.
Runs of other data, or of differently prepared images, are chosen from apart; folders that hold
records but no checkpoint are left out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from engine.errors import UsageError
from engine.quantities import quantity
from engine.results import selection
from scripts import parser, status

HEADERS = ('run', 'point', '', 'top-1', 'M multiply-adds', 'ms', 'kB of weights')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('choose', __doc__)
    p.add_argument('runs', type=Path, nargs='+', metavar='RUN')
    p.add_argument('--madds', metavar='N', help='mean multiply-adds of an image, such as 300M')
    p.add_argument('--latency', metavar='TIME', help='of one image alone, such as 5ms')
    p.add_argument('--memory', metavar='BYTES', help='of the packed weights, such as 2MB')
    p.add_argument('--min-top1', type=float, metavar='PERCENT')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """The choice with its commands, or the front; of each condition of measurement apart.

    Raises:
        UsageError: Nothing keeps the limits.
    """
    groups = selection.comparable(selection.choices_of(args.runs))
    limits = selection.Limits(
        _limit('--madds', args.madds),
        _limit('--latency', args.latency),
        _limit('--memory', args.memory),
        args.min_top1,
    )
    parts = []
    refusals = []
    for conditions, found in groups.items():
        try:
            part = recommended(found, limits)
        except UsageError as error:
            part = str(error)
            refusals.append(error)
        parts.append(f'{conditions}\n{part}' if len(groups) > 1 else part)
    if len(refusals) == len(groups):
        raise UsageError('\n'.join(parts))
    for folder in args.runs:
        if not selection.has_checkpoint(folder):
            parts.append(f'{folder}: records without a checkpoint, left out')
    return '\n\n'.join(parts)


def recommended(found: Sequence[selection.Choice], limits: selection.Limits) -> str:
    """The best of comparable choices with the commands that run it, or their front.

    Raises:
        UsageError: Nothing keeps the limits.
    """
    if limits == selection.Limits():
        return front_table(found)
    chosen = selection.best(found, limits)
    lines = [chosen.describe()]
    for command in chosen.commands:
        lines.append(f'    {command}')
    return '\n'.join(lines)


def _limit(flag: str, text: str | None) -> float | None:
    return quantity(flag, text) if text else None


def front_table(found: Sequence[selection.Choice]) -> str:
    """Table of the choices that no other beats, cheapest first."""
    rows = []
    for choice in selection.front(found):
        with_exits = 'thresholds' if choice.policy else ''
        kilobytes = choice.weight_bytes and choice.weight_bytes / 1e3
        millions = choice.madds / 1e6
        rows.append(
            (choice.run, choice.point, with_exits, choice.top1, millions, choice.ms, kilobytes)
        )
    return tabulate(rows, floatfmt='.2f', headers=HEADERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('choose', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
