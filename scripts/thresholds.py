"""Thresholds for a budget: at which confidence an image leaves a network with exits, and at which exit.

    python -m scripts.thresholds RUN --budget 60M       # at most 60 million multiply-adds per image on average
    python -m scripts.thresholds RUN --latency 3ms      # likewise in time, as measured for one image at a time
    python -m scripts.thresholds RUN --sweep 20         # 20 budgets from the first exit to the last

Thresholds are set on the hold-out images and checked on the validation images, both as `imagenet_tf.py --eval` recorded
them. MAdds count all exits that an image passes, each layer once; images that stay longest pay for every exit.
"""

import argparse
import dataclasses
import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from engine.errors import UsageError
from engine.quantities import quantity
from engine.results import exit_thresholds
from engine.runs.folder import checkpoints, write_json
from nets import cost
from nets.points import Point
from scripts import status

MEASURED = 'batch1_ms'
EVALUATE = 'imagenet_tf.py --eval -ec RUN writes it'


@dataclasses.dataclass(frozen=True)
class Exits:
    """What evaluation recorded about the exits at one input size.

    Attributes:
        size: pixels.
        costs: [K] by exit, of all that is computed up to it.
        unit: of the costs.
        images: by name, hold-out first: confidence [N, K] and whether the prediction is right [N, K].
    """

    size: int
    costs: np.ndarray
    unit: str
    images: Mapping[str, tuple[np.ndarray, np.ndarray]]


def recorded_size(run: Path, size: int | None) -> int:
    """The size that was asked for, or the largest one that has records."""
    found = sorted(
        (
            int(m[1])
            for path in (run / 'exits').glob('s*.npz')
            if (m := re.fullmatch(r's(\d+)', path.stem))
        ),
        reverse=True,
    )
    if not found:
        raise UsageError(
            f'{run}/exits: no records of exits (s<size>.npz); {EVALUATE} for a network with exits and a '
            'hold-out set'
        )
    if size is not None and size not in found:
        raise UsageError(f'--size {size}: {run}/exits has records of {" ".join(map(str, found))}')
    return size or found[0]


def read_images(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Confidence and right answers by name; the validation images only if they are there."""
    try:
        with np.load(path) as arrays:
            found = {
                name: (arrays[f'{start}confidence'], arrays[f'{start}right'])
                for name, start in (('hold-out', ''), ('validation', 'test_'))
                if not start or f'{start}confidence' in arrays
            }
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'{path}: no readable record of exits ({error}); {EVALUATE}') from error
    for name, (confidence, right) in found.items():
        if confidence.ndim != 2 or confidence.shape != right.shape or not len(confidence):
            raise UsageError(
                f'{path}: {name} confidence {list(confidence.shape)}, right {list(right.shape)}: expected '
                'images x exits in both'
            )
        if not np.isfinite(confidence).all():
            raise UsageError(
                f'{path}: {name} confidence is not finite everywhere: the network has diverged'
            )
    return found


def read_json(path: Path, hint: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f'{path}: cannot be read ({error}); {hint}') from error


def read_costs(run: Path, points: Sequence[str], unit: str) -> np.ndarray:
    """[K] float64: multiply-adds, or measured milliseconds of one image, up to each point."""
    if unit == 'ms':
        path, hint = (
            run / 'exits' / 'latency.json',
            '--latency needs measured times; --budget does not',
        )
        times = read_json(path, hint)
        found = [times.get(point, {}).get(MEASURED) for point in points]
    else:
        path, hint = run / 'layers.json', EVALUATE
        layers = cost.from_json(read_json(path, hint))
        found = [
            cost.madds(cost.cumulative(layers, point)) if point in layers else None
            for point in points
        ]
    if missing := [point for point, value in zip(points, found) if value is None]:
        raise UsageError(f'{path}: has no cost of {" ".join(missing)}; {hint}')
    return np.array(found, np.float64)


def read_exits(run: Path, size: int | None, unit: str) -> Exits:
    """Records of a run.

    Raises:
        UsageError: they are not there, or damaged.
    """
    size = recorded_size(run, size)
    images = read_images(run / 'exits' / f's{size}.npz')
    points = [str(Point(size=size, exit=k)) for k in range(images['hold-out'][0].shape[1])]
    return Exits(size, read_costs(run, points, unit), unit, images)


def readable(value: float, unit: str) -> str:
    return f'{value / 1e6:.2f} M' if unit == 'MAdds' else f'{value:.3g} ms'


def table(exits: Exits, policies: Sequence[exit_thresholds.Policy]) -> str:
    """One row per budget: cost and accuracy of the hold-out images and of the others, and where those last leave."""
    rows = []
    for policy in policies:
        threshold, row = np.array(policy.thresholds), [readable(policy.budget, exits.unit)]
        for confidence, right in exits.images.values():
            top1, spent, share = exit_thresholds.dynamic(confidence, right, threshold, exits.costs)
            row += [readable(spent, exits.unit), f'{top1:.2f}']
        rows.append([*row, ' '.join(f'{100 * part:.1f}' for part in share)])
    headers = [f'{name} {what}' for name in exits.images for what in (exits.unit, 'top-1')]
    return tabulate(
        rows,
        headers=['budget', *headers, f'% by exit ({list(exits.images)[-1]})'],
        disable_numparse=True,
        colalign=('right',) * (len(headers) + 1) + ('left',),
    )


def solved(args: argparse.Namespace) -> tuple[Exits, list[exit_thresholds.Policy]]:
    """The records that were read, and thresholds for each budget.

    Raises:
        UsageError: there are no records, or a budget cannot be kept.
    """
    flag, text = ('--latency', args.latency) if args.latency else ('--budget', args.budget)
    wanted = quantity(flag, text) if text else None
    exits = read_exits(args.run, args.size, 'ms' if args.latency else 'MAdds')
    confidence, right = exits.images['hold-out']
    try:
        found = (
            exit_thresholds.sweep(confidence, exits.costs, args.sweep)
            if wanted is None
            else [(wanted, exit_thresholds.solve(confidence, exits.costs, wanted))]
        )
    except UsageError as error:
        raise UsageError(f'{flag} {text}: {error}') from error
    source = list(checkpoints(args.run).values())[-1:] or [str(args.run)]
    return exits, [
        exit_thresholds.Policy(
            exits.size,
            tuple(range(len(threshold))),
            tuple(threshold.tolist()),
            asked,
            exit_thresholds.dynamic(confidence, right, threshold, exits.costs)[1],
            exits.unit,
            source[0],
        )
        for asked, threshold in found
    ]


def run(args: argparse.Namespace) -> str:
    """Sets the thresholds, writes them, and says what they give."""
    if args.sweep is not None and args.sweep < 2:
        raise UsageError(
            f'--sweep {args.sweep}: at least 2 budgets, for the first exit and the last'
        )
    exits, policies = solved(args)
    size = f's{args.size}-' if args.size else ''
    name = args.budget or args.latency or f'sweep{args.sweep}'
    out = args.out or args.run / 'exits' / f'thresholds-{size}{name}.json'
    if args.sweep:
        write_json(out, [dataclasses.asdict(policy) for policy in policies])
    else:
        policies[0].write(out)
    return f'{table(exits, policies)}\n\n{out}: thresholds for {exits.size} pixels'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog='python -m scripts.thresholds',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument('run', type=Path, metavar='RUN', help='run folder with records of exits')
    kinds = p.add_mutually_exclusive_group(required=True)
    kinds.add_argument(
        '--budget', metavar='MADDS', help='mean multiply-adds of an image, such as 60M or 1.2G'
    )
    kinds.add_argument('--latency', metavar='TIME', help='mean time of an image, such as 3ms')
    kinds.add_argument(
        '--sweep', type=int, metavar='N', help='N budgets in multiply-adds over the whole range'
    )
    p.add_argument(
        '--size', type=int, metavar='PIXELS', help='default: the largest size with records'
    )
    p.add_argument(
        '--out', type=Path, metavar='FILE', help='default: RUN/exits/thresholds-<budget>.json'
    )
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('thresholds', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
