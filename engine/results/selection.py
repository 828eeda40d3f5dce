"""Choosing an operating point by budget, over the run folders that are there. Pure Python and numpy.

What can be chosen: every operating point that was evaluated with its own statistics, gates as they were measured, and
thresholds of exits for twenty budgets over the range of each size.
"""

import dataclasses
import math
import shlex
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from engine.errors import UsageError
from engine.results import exit_thresholds, tables
from nets import cost
from nets.points import Point

POLICIES = 20


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to run a network.

    Attributes:
        run: its run folder.
        point: spelling of the operating point, or of the size whose exits a policy is about.
        top1: percent right on the validation images.
        madds: mean multiply-adds of an image.
        weight_bytes: of the packed weights; None if unknown.
        ms: milliseconds of one image alone; None if not measured.
        policy: thresholds of the exits, or None.
        shares: with a policy, of the validation images, by the exit where they leave.
    """

    run: str
    point: str
    top1: float
    madds: float
    weight_bytes: int | None
    ms: float | None = None
    policy: exit_thresholds.Policy | None = None
    shares: tuple[float, ...] = ()

    @property
    def commands(self) -> list[str]:
        """What evaluates it."""
        run = shlex.quote(self.run)
        start = f'python imagenet_tf.py --eval -ec {run}'
        if self.policy is not None:
            asked = math.ceil(self.policy.budget)  # rounded down, the first exit could not be paid
            return [
                f'python -m scripts.thresholds {run} --budget {asked} --size {self.policy.size}',
                f'{start} --thresholds {run}/exits/thresholds-s{self.policy.size}-{asked}.json',
            ]
        if self.point.endswith(tables.DYNAMIC):
            return [start]
        point = Point.parse(self.point)
        size = f' -es {point.size}' if point.size else ''
        return [f'{start}{size}' + (f' -ew {point.width}' if point.width is not None else '')]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a choice may cost, and must reach. None is no limit.

    Attributes:
        madds: mean multiply-adds of an image.
        ms: milliseconds of one image alone.
        weight_bytes: of the packed weights.
        top1: least percent right.
    """

    madds: float | None = None
    ms: float | None = None
    weight_bytes: float | None = None
    top1: float | None = None

    def excess(self, choice: Choice) -> float:
        """By what factor a choice breaks the limit that it breaks most; at most 1 if it keeps all. A cost that was not
        measured keeps none.
        """
        pairs = (
            (choice.madds, self.madds),
            (choice.ms, self.ms),
            (choice.weight_bytes, self.weight_bytes),
        )
        costs = [
            math.inf if value is None else value / limit
            for value, limit in pairs
            if limit is not None
        ]
        return max([*costs, *([self.top1 / max(choice.top1, 1e-9)] if self.top1 else []), 0.0])


def choices(folder: Path) -> list[Choice]:
    """All choices of a run.

    Raises:
        UsageError: it is no run folder, or nothing has been evaluated.
    """
    run = tables.read_run(folder, str(folder))
    found = [
        Choice(str(folder), row.point, row.top1, row.madds, row.weight_bytes, row.ms)
        for row in run.rows
        if row.bn == row.point
        and row.madds is not None
        and not row.point.startswith(tables.ENSEMBLE)
    ]
    layers = tables.read_layers(folder)
    for path in sorted((folder / 'exits').glob('s*.npz')):
        found += _policies(folder, path, layers)
    return found


def best(found: Sequence[Choice], limits: Limits) -> Choice:
    """The most accurate choice within the limits, of all if there are none; with a limit on accuracy alone, the one of
    least multiply-adds.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    kept = [choice for choice in found if limits.excess(choice) <= 1]
    if not kept:
        nearest = min(
            found,
            key=lambda choice: (limits.excess(choice), -choice.top1, choice.madds),
            default=None,
        )
        if nearest is None or limits.excess(nearest) == math.inf:
            raise UsageError(
                'nothing to choose from: no evaluated point has such a cost; for --latency run '
                'scripts.profile first'
            )
        raise UsageError(f'no choice keeps the limits; the nearest is {describe(nearest)}')
    if limits.top1 is not None and limits == Limits(top1=limits.top1):
        return min(kept, key=lambda choice: choice.madds)
    return max(kept, key=lambda choice: (choice.top1, -choice.madds))


def pareto(found: Iterable[Choice]) -> list[Choice]:
    """Choices that no other beats or equals in both multiply-adds and accuracy, cheapest first."""
    front: list[Choice] = []
    for choice in sorted(found, key=lambda choice: (choice.madds, -choice.top1)):
        if not front or choice.top1 > front[-1].top1:
            front.append(choice)
    return front


def describe(choice: Choice) -> str:
    """One line of text."""
    parts = [
        f'{choice.run} at {choice.point}' + (' with exit thresholds' if choice.policy else ''),
        f'top-1 {choice.top1:.2f} %',
        f'{choice.madds / 1e6:.2f} M multiply-adds',
    ]
    parts += [f'{choice.ms:.2f} ms'] if choice.ms is not None else []
    parts += (
        [f'{choice.weight_bytes / 1e6:.3g} MB of weights']
        if choice.weight_bytes is not None
        else []
    )
    return ', '.join(parts)


def _policies(folder: Path, path: Path, layers: tables.Layers) -> list[Choice]:
    """Thresholds set on the hold-out images and scored on the validation images, over the range of budgets."""
    try:
        with np.load(path) as arrays:
            if 'confidence' not in arrays or 'test_confidence' not in arrays:
                return []
            held, test, right = (
                arrays['confidence'],
                arrays['test_confidence'],
                arrays['test_right'],
            )
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f'{path}: no readable record of exits ({error}); `imagenet_tf.py --eval -ec {folder}` writes '
            'it anew'
        ) from error
    size, exits = int(path.stem[1:]), range(held.shape[1])
    points = [str(Point(size=size, exit=k)) for k in exits]
    costs = np.array([cost.madds(cost.cumulative(layers, point)) for point in points], np.float64)
    stored = cost.weight_bytes(
        {layer.name: layer for point in points for layer in layers[point]}.values()
    )
    times = tables.profile(folder)
    ms = np.array([times.get(point, {}).get('batch1_ms', math.nan) for point in points])
    found = []
    for asked, thresholds in exit_thresholds.sweep(held, costs, POLICIES):
        top1, spent, share = exit_thresholds.dynamic(test, right, thresholds, costs)
        policy = exit_thresholds.Policy(
            size, tuple(exits), tuple(thresholds.tolist()), asked, spent, 'MAdds', str(folder)
        )
        mean = float(share @ ms)
        found.append(
            Choice(
                str(folder),
                f's{size}',
                top1,
                spent,
                stored,
                None if math.isnan(mean) else mean,
                policy,
                tuple(share.tolist()),
            )
        )
    return found
