"""Choosing an operating point by budget, over run folders. Pure Python and numpy.

The choices are every operating point that was evaluated with its own statistics, gates as they were
measured, and thresholds of exits for twenty budgets over the range of each size.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from engine.errors import UsageError
from engine.results import (
    cascade_records,
    conditions,
    exit_records,
    exit_thresholds,
    pareto,
    profiles,
    records,
    tables,
)
from engine.results.choice import Choice
from engine.results.costs import Layers
from engine.results.exit_records import HOLDOUT, MADDS, VALIDATION
from nets import cost
from nets.points import Point

POLICIES = 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of cost and accuracy. None is no limit.

    Attributes:
        madds: Mean multiply-adds of an image.
        ms: Milliseconds of one image alone.
        weight_bytes: Of the packed weights.
        top1: Least percent right.
        bit_ops: Multiply-adds of an image, each times the bits of its factors.
    """

    madds: float | None = None
    ms: float | None = None
    weight_bytes: float | None = None
    top1: float | None = None
    bit_ops: float | None = None

    def excess(self, choice: Choice) -> float:
        """Factor by which a choice breaks the limit that it breaks most; at most 1 if it keeps all.

        A cost that was not measured keeps no limit.
        """
        factors = [0.0]
        for name in ('madds', 'ms', 'weight_bytes', 'bit_ops'):
            limit, value = getattr(self, name), getattr(choice, name)
            if limit is not None:
                factors.append(math.inf if value is None else value / limit)
        if self.top1:
            factors.append(self.top1 / max(choice.top1, 1e-9))
        return max(factors)


def choices(folder: Path, device: str | None = None) -> list[Choice]:
    """All choices of a run.

    Args:
        folder: Its path.
        device: Name of the one that milliseconds are taken of, empty for none; by default as
            ``profiles.device_of`` says.

    Raises:
        UsageError: It is no run folder, or nothing has been evaluated.
    """
    if device is None:
        device = profiles.device_of([folder])
    run = tables.read_run(folder, str(folder), device)
    found = []
    known = bool(run.config.get('data'))
    for row in run.rows:
        own = row.bn == row.point
        if own and row.madds is not None and not row.is_ensemble:
            found.append(
                Choice(
                    str(folder),
                    row.point,
                    row.top1,
                    row.madds,
                    row.weight_bytes,
                    row.ms,
                    conditions=row.conditions,
                    data='' if known else row.data,
                    device=device,
                    bit_ops=row.bit_ops,
                )
            )
    for size in exit_records.recorded_sizes(folder):
        rows = [row for row in run.rows if Point.within(row.point).size == size]
        first = (rows or run.rows)[0]
        data = '' if known else first.data
        for choice in policies(folder, size, device):
            found.append(dataclasses.replace(choice, conditions=first.conditions, data=data))
    return [*found, *_cascades(folder, run, known, device)]


def _cascades(folder: Path, run: tables.Run, known: bool, device: str) -> list[Choice]:
    """The cascades that were chosen for a run.

    Args:
        folder: Of the run.
        run: What was evaluated of it.
        known: Whether the run knows its data.
        device: Name of the one that milliseconds are taken of; empty for none.
    """
    found = []
    for row in cascade_records.recorded(folder, device):
        cascade = row.cascade
        judged = cascade.validation
        same = [one for one in run.rows if one.images in (None, judged.images)]
        if not same:
            continue
        stored = _stored_bytes(records.read_layers(folder), cascade.points)
        found.append(
            Choice(
                str(folder),
                cascade.name,
                judged.top1,
                row.madds,
                stored,
                row.ms,
                shares=judged.shares,
                stored=row.stored,
                conditions=same[0].conditions,
                data='' if known else same[0].data,
                device=device,
            )
        )
    return found


def choices_of(folders: Sequence[Path], device: str = '') -> list[Choice]:
    """All choices of several runs that hold a checkpoint, see ``choices``.

    Args:
        folders: Their paths.
        device: Name of the one that milliseconds are taken of; empty for none.

    Raises:
        UsageError: None does, or one is no run folder, or nothing has been evaluated.
    """
    found: list[Choice] = []
    kept = 0
    for folder in folders:
        own = choices(folder, device)
        if has_checkpoint(folder):
            found += own
            kept += 1
    if not kept:
        names = ' '.join(map(str, folders))
        raise UsageError(
            f'{names}: records without a checkpoint, so that nothing can be run; give the run '
            'folders that were evaluated'
        )
    return found


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, and not only records of one that lies elsewhere."""
    return any(folder.glob('model-*.index'))


def comparable(found: Iterable[Choice]) -> dict[str, list[Choice]]:
    """Choices by what they were measured on."""
    return conditions.comparable(found, lambda choice: choice.conditions)


def best(found: Sequence[Choice], limits: Limits) -> Choice:
    """The most accurate choice within the limits.

    Without any limit that is the most accurate of all; with a limit on accuracy alone it is the one
    of least multiply-adds.

    Raises:
        UsageError: There is none; the message names the nearest.
    """
    kept = [choice for choice in found if limits.excess(choice) <= 1]
    if not kept:
        raise UsageError(_nothing(found, limits))
    if limits.top1 is not None and limits == Limits(top1=limits.top1):
        return min(kept, key=_work)
    return max(kept, key=lambda choice: (choice.top1, *[-spent for spent in _work(choice)]))


def _work(choice: Choice) -> tuple[float, float]:
    """Cost by which choices are ordered: of precisions of one point, fewer bits are cheaper."""
    return choice.madds, choice.bit_ops or 0.0


def _nothing(found: Sequence[Choice], limits: Limits) -> str:
    """Why nothing keeps the limits."""
    measured = [choice for choice in found if limits.excess(choice) < math.inf]
    if not measured:
        return (
            'nothing to choose from: no evaluated point has such a cost; for times run '
            'scripts.profile first'
        )
    nearest = min(measured, key=lambda choice: (limits.excess(choice), -choice.top1, choice.madds))
    return f'no choice keeps the limits; the nearest is {nearest.describe()}'


def front(found: Iterable[Choice]) -> list[Choice]:
    """Choices that no other beats or equals in accuracy and in every cost, cheapest first."""
    return pareto.front(
        found,
        costs=lambda choice: (choice.madds, choice.weight_bytes, choice.ms),
        accuracy=lambda choice: choice.top1,
    )


def policies(folder: Path, size: int, device: str) -> list[Choice]:
    """Thresholds set on the hold-out images and scored on the validation images, by budget.

    Args:
        folder: run folder with records of exits.
        size: of the input, in pixels.
        device: name of the one that milliseconds are taken of; empty for none.

    Raises:
        UsageError: a record is missing or damaged.
    """
    images = exit_records.read_images(folder, size)
    if not images.keys() >= {HOLDOUT, VALIDATION}:
        return []
    held, test = images[HOLDOUT], images[VALIDATION]
    exits = held.confidence.shape[1]
    points = exit_records.points_of(size, exits)
    madds = exit_records.read_madds(folder, points)
    weight_bytes = _stored_bytes(records.read_layers(folder), points)
    times = profiles.times_of(folder, device)
    ms = np.array([times.get(point, math.nan) for point in points])  # [exits]
    found = []
    for asked, thresholds in exit_thresholds.sweep(held.confidence, madds, POLICIES):
        top1, spent, share = exit_thresholds.dynamic(*test, thresholds, madds)
        policy = exit_thresholds.ExitPolicy(
            size, tuple(range(exits)), tuple(thresholds.tolist()), asked, spent, MADDS, str(folder)
        )
        mean = float(share @ ms)
        known = None if math.isnan(mean) else mean
        shares = tuple(share.tolist())
        found.append(
            Choice(
                str(folder),
                f's{size}',
                top1,
                spent,
                weight_bytes,
                known,
                policy,
                shares,
                device=device,
            )
        )
    return found


def _stored_bytes(layers: Layers, points: Sequence[str]) -> int:
    """Bytes of the weights of several operating points, each layer once."""
    every: list[cost.LayerRecord] = []
    for point in points:
        every += layers[point]
    return cost.weight_bytes(cost.stored(every))
