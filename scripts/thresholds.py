"""Finds, for a budget, the confidence at which an image leaves a network with exits, or a cascade.

    python -m scripts.thresholds RUN --budget 60M   # mean multiply-adds of an image
    python -m scripts.thresholds RUN --latency 3ms  # mean time of an image that comes alone
    python -m scripts.thresholds RUN --sweep 20     # 20 budgets from the first exit to the last

    python -m scripts.thresholds RUN --cascade s96 s160 s224 --budget 600M   # sizes in turn
    python -m scripts.thresholds RUN --cascade auto --accuracy best-1%       # the best chain
    python -m scripts.thresholds RUN --cascade s28-b2 s28-b4 --bitops 5M     # precisions in turn

Thresholds are set on the hold-out images and checked on the validation images, both as
`imagenet_tf.py --eval` recorded them. MAdds count all exits that an image passes, each layer once;
images that stay longest pay for every exit, or, with --cascade, for every stage. What the points
say of these images is recorded when a first cascade is asked for: the network runs once.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UsageError, prefixed
from engine.files import write_json
from engine.quantities import quantity
from engine.results import cascade_search, chains, exit_thresholds, formats
from engine.results.exit_records import HOLDOUT, MADDS, MS, Exits, read_exits
from engine.results.exit_thresholds import ExitPolicy
from engine.results.formats import Column, Table
from engine.runs.folder import checkpoints
from scripts import add_format, cascades, noted, parser, status


def table(exits: Exits, policies: Sequence[ExitPolicy]) -> Table:
    """One row per budget: cost and accuracy by images, and where the last of these leave."""
    rows: list[list[Any]] = []
    for policy in policies:
        threshold = np.array(policy.thresholds)
        row: list[Any] = [policy.budget]
        for images in exits.images.values():
            top1, spent, share = exit_thresholds.dynamic(*images, threshold, exits.costs)
            row += [spent, top1]
        row.append(' '.join(f'{100 * part:.1f}' for part in share))
        rows.append(row)
    unit, millions = ('MAdds, M', 1e6) if exits.unit == MADDS else (exits.unit, 1.0)
    columns = [Column('budget', f'budget, {unit}', 2, millions)]
    for name in exits.images:
        field = name.replace(' ', '_').replace('-', '_')
        columns.append(Column(f'{field}_cost', f'{name} {unit}', 2, millions))
        columns.append(Column(f'{field}_top1', f'{name} top-1', 2))
    columns.append(Column('percent_by_exit', f'% by exit ({name})'))
    return Table('budgets', columns, rows)


def solved(exits: Exits, args: argparse.Namespace) -> list[tuple[float, np.ndarray]]:
    """Every budget that the flags ask for, with its thresholds [K].

    Raises:
        UsageError: A budget cannot be kept.
    """
    confidence = exits.images[HOLDOUT].confidence
    if args.sweep:
        return exit_thresholds.sweep(confidence, exits.costs, args.sweep)
    flag, text = '--budget', args.budget
    if args.latency:
        flag, text = '--latency', args.latency
    budget = quantity(flag, text)
    with prefixed(f'{flag} {text}: '):
        found = exit_thresholds.solve(confidence, exits.costs, budget)
    return [(budget, found)]


def to_policy(exits: Exits, budget: float, threshold: np.ndarray, source: str) -> ExitPolicy:
    """Thresholds with all that is known about them.

    Args:
        exits: Records on which they were set.
        budget: That was asked for, in the unit of the costs.
        threshold: [K] by exit.
        source: Checkpoint of the records.
    """
    images = exits.images[HOLDOUT]
    _, spent, _ = exit_thresholds.dynamic(*images, threshold, exits.costs)
    indices = tuple(range(len(threshold)))
    levels = tuple(threshold.tolist())
    return ExitPolicy(exits.size, indices, levels, budget, spent, exits.unit, source)


def run(args: argparse.Namespace) -> str:
    """Sets the thresholds, writes them, and says what they give.

    Raises:
        UsageError: There are no records of exits, or a budget cannot be kept.
    """
    if args.cascade:
        return cascades.run(args)
    _check_flags(args)
    cascades.check_sweep(args.sweep)
    unit = MS if args.latency else MADDS
    exits = read_exits(args.run, args.size, unit)
    out = cascades.output(args.out, args.run / 'exits' / file_name(args))
    *_, source = [str(args.run), *checkpoints(args.run).values()]
    policies = [to_policy(exits, *found, source) for found in solved(exits, args)]
    if args.sweep:
        write_json(out, list(map(dataclasses.asdict, policies)))
    else:
        policies[0].write(out)
    found = formats.render([table(exits, policies)], args.format)
    return noted(found, f'{out}: thresholds for {exits.size} pixels', args.format)


def _check_flags(args: argparse.Namespace) -> None:
    """Refuses flags of cascades without one.

    Raises:
        UsageError: one is given.
    """
    others = {
        '--bitops': args.bitops,
        '--accuracy': args.accuracy,
        '--combine': args.combine != chains.LAST,
        '--calibrate-confidence': args.calibrate_confidence,
        '--data': args.data,
    }
    for flag, given in others.items():
        if given:
            raise UsageError(f'{flag}: needs --cascade; exits have thresholds by budget')


def file_name(args: argparse.Namespace) -> str:
    """Of the thresholds, where ``--out`` names none."""
    size = f's{args.size}-' if args.size else ''
    budget = args.budget or args.latency or f'sweep{args.sweep}'
    return f'thresholds-{size}{budget}.json'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('thresholds', __doc__)
    p.add_argument('run', type=Path, metavar='RUN', help='run folder, with records of exits')
    kinds = p.add_mutually_exclusive_group(required=True)
    kinds.add_argument(
        '--budget', metavar='MADDS', help='mean multiply-adds of an image, such as 60M or 1.2G'
    )
    kinds.add_argument(
        '--bitops',
        metavar='BITOPS',
        help='of a cascade: mean multiply-adds of an image, each times the bits of its factors; '
        'stages ascend in them, as s28-b2 s28-b4 do',
    )
    kinds.add_argument(
        '--latency',
        metavar='TIME',
        help='mean time of an image, such as 3ms, by the times of exits that evaluation measured, '
        'or, of a cascade, of points that scripts.profile measured on this device',
    )
    kinds.add_argument(
        '--sweep', type=int, metavar='N', help='N budgets in multiply-adds over the whole range'
    )
    kinds.add_argument(
        '--accuracy', metavar='PERCENT', help='of a cascade: the cheapest, such as best-1%% or 94.5'
    )
    p.add_argument(
        '--cascade',
        nargs='+',
        metavar='POINT',
        help='operating points, cheapest first, each for images that the one before is not sure '
        f'of; `auto`: the best chain of at most {cascade_search.STAGES}',
    )
    p.add_argument(
        '--combine',
        choices=chains.COMBINES,
        default=chains.LAST,
        help='of a cascade: the latest stage answers, or the mean of all that ran',
    )
    p.add_argument(
        '--calibrate-confidence',
        action='store_true',
        help='of a cascade: a temperature for each point, fitted on the hold-out images',
    )
    p.add_argument('--data', help='of a cascade: default, that of the run')
    p.add_argument(
        '--size', type=int, metavar='PIXELS', help='default: the largest size with records'
    )
    p.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='default: RUN/exits/thresholds-<budget>.json, RUN/cascades/<chain>-<budget>.json',
    )
    add_format(p)
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('thresholds', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
