"""Finds the best operating point within a budget among run folders, and the command that runs it.

    python -m scripts.choose RUN... --madds 300M
    python -m scripts.choose RUN... --ms 5ms --memory 2MB --device h100
    python -m scripts.choose RUN... --ms 5ms --backend native
    python -m scripts.choose RUN... --min-top1 70        # the cheapest that is as accurate
    python -m scripts.choose RUN... [--format csv]       # all that nothing beats in every column

Thresholds of exits and measured gates are among the choices. Times are those that scripts.profile
has measured, on one device: this one, or --device. Runs on other data, or with differently
prepared images, are compared among themselves; folders that hold records but no checkpoint are left
out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.quantities import quantity
from engine.results import choice_table, formats, profiles, selection
from engine.results.choice import Choice
from engine.results.selection import Limits
from scripts import add_format, parser, status


class _Spelled(argparse.Action):
    """Stores the value of a flag of two names, and in ``DEST_flag`` the name that was typed."""

    def __call__(self, _: Any, namespace: argparse.Namespace, value: Any, flag: Any = None) -> None:
        """Stores both."""
        setattr(namespace, self.dest, value)
        setattr(namespace, f'{self.dest}_flag', flag)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('choose', __doc__)
    p.add_argument('runs', type=Path, nargs='+', metavar='RUN', help='run folder, evaluated')
    p.add_argument('--madds', metavar='N', help='mean multiply-adds of an image, such as 300M')
    p.add_argument(
        '--bitops',
        metavar='N',
        help='of an image, float layers with their 32 bits: multiply-adds times the bits of weight '
        'and activation, such as 20G',
    )
    text = 'of one image alone, such as 5ms'
    p.add_argument('--latency', '--ms', action=_Spelled, metavar='TIME', help=text)
    p.set_defaults(latency_flag='--latency')
    p.add_argument(
        '--device',
        default='',
        metavar='NAME',
        help='whose times count: part of its name as scripts.profile has it; default: this one',
    )
    p.add_argument(
        '--backend',
        default='',
        choices=('tensorflow', 'native'),
        help='what ran when times were taken; default: tensorflow, unless --device names another',
    )
    p.add_argument('--memory', metavar='BYTES', help='of the packed weights, such as 2MB')
    p.add_argument('--min-top1', type=float, metavar='PERCENT', help='least accuracy, such as 70')
    add_format(p)
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """The choice with its commands, or the front; of each condition of measurement apart.

    Raises:
        UsageError: Nothing keeps the limits.
    """
    if args.min_top1 is not None and not 0 <= args.min_top1 <= 100:
        raise UsageError(f'--min-top1 {args.min_top1:g}: must be 0 to 100, in percent')
    groups = selection.comparable(selection.choices_of(args.runs, device_of(args)))
    limits = Limits(
        _limit('--madds', args.madds),
        _limit(args.latency_flag, args.latency),
        _limit('--memory', args.memory),
        args.min_top1,
        _limit('--bitops', args.bitops),
    )
    found: list[Sequence[Choice]] = []
    parts = []
    refusals = []
    for conditions, choices in groups.items():
        try:
            chosen = recommended(choices, limits)
            found.append(chosen)
            part = told(chosen, limits, args.format)
        except UsageError as error:
            part = f'{asked(args)}: {error}'
            refusals.append(part)
        parts.append(f'{conditions}\n{part}' if len(groups) > 1 else part)
    if len(refusals) == len(groups):
        raise UsageError('\n'.join(parts))
    left_out = []
    for folder in args.runs:
        if not selection.has_checkpoint(folder):
            left_out.append(f'{folder}: records without a checkpoint, left out')
    if args.format in formats.DATA:
        for line in (*refusals, *left_out):
            print(line, file=sys.stderr)
        return formats.render(list(map(choice_table.table, found)), args.format)
    return '\n\n'.join([*parts, *left_out])


def asked(args: argparse.Namespace) -> str:
    """The limits as they were typed."""
    typed = {
        '--madds': args.madds,
        '--bitops': args.bitops,
        args.latency_flag: args.latency,
        '--memory': args.memory,
    }
    parts = [f'{flag} {value}' for flag, value in typed.items() if value]
    if args.min_top1 is not None:
        parts.append(f'--min-top1 {args.min_top1:g}')
    return ' '.join(parts)


def device_of(args: argparse.Namespace) -> str:
    """Name of the device whose times are compared; empty if none is.

    Raises:
        UsageError: Times are asked for, and it is not clear of which device.
    """
    device = profiles.device_of(args.runs, args.device, args.backend)
    if args.latency and not device:
        known: dict[str, None] = {}
        for folder in args.runs:
            known.update(dict.fromkeys(profiles.read(folder)))
        if known:
            raise UsageError(
                f'{args.latency_flag} {args.latency}: give --device, or --backend; '
                f'{profiles.listed(list(known))}'
            )
    return device


def recommended(found: Sequence[Choice], limits: Limits) -> list[Choice]:
    """The best of comparable choices, or without limits their front, cheapest first.

    Raises:
        UsageError: Nothing keeps the limits.
    """
    if limits == Limits():
        return selection.front(found)
    return [selection.best(found, limits)]


def told(found: Sequence[Choice], limits: Limits, style: str) -> str:
    """The best choice with the commands that run it, or the table of a front.

    Args:
        found: What is recommended.
        limits: Within which.
        style: One of ``formats.FORMATS``.
    """
    if limits == Limits() or style != 'text':
        return formats.render([choice_table.table(found)], style)
    (chosen,) = found
    lines = [chosen.describe()]
    for command in chosen.commands:
        lines.append(f'    {command}')
    return '\n'.join(lines)


def _limit(flag: str, text: str | None) -> float | None:
    return quantity(flag, text) if text else None


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('choose', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
