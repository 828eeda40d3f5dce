"""Choosing an operating point by budget, over run folders. Pure Python and numpy.

The choices are every operating point that was evaluated with its own statistics, gates as they were
measured, and thresholds of exits for twenty budgets over the range of each size.
"""

import dataclasses
import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from engine.errors import UsageError
from engine.files import in_shell
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
from engine.results.cascades import Cascade, Stored
from engine.results.chains import LAST
from engine.results.costs import Layers
from engine.results.exit_records import HOLDOUT, MADDS, VALIDATION
from nets import cost
from nets.points import DYNAMIC, Point

POLICIES = 20


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to run a network.

    Attributes:
        run: Its run folder.
        point: Spelling of the operating point, or of the size whose exits a policy is about.
        top1: Percent right on the validation images.
        madds: Mean multiply-adds of an image.
        weight_bytes: Of the packed weights; None if unknown.
        ms: Milliseconds of one image alone; None if not measured on the device.
        policy: Thresholds of the exits, or None.
        stored: A cascade and its file, or None; of a file of many, a command comes first that
            writes one alone.
        shares: With a policy, of the validation images, by the exit where they leave.
        conditions: What it was measured on: choices of other conditions are not compared.
        data: What evaluation has to be given as ``--data``; empty where the run knows it.
        device: That ``ms`` were measured on.
        bit_ops: Mean multiply-adds of an image, each times the bits of its factors; None where
            images take different ways.
    """

    run: str
    point: str
    top1: float
    madds: float
    weight_bytes: int | None
    ms: float | None = None
    policy: exit_thresholds.Policy | None = None
    shares: tuple[float, ...] = ()
    stored: Stored | None = None
    conditions: str = dataclasses.field(default='', compare=False)
    data: str = dataclasses.field(default='', compare=False)
    device: str = dataclasses.field(default='', compare=False)
    bit_ops: float | None = dataclasses.field(default=None, compare=False)

    @property
    def cascade(self) -> Cascade | None:
        """A chain of points with thresholds, or None."""
        return self.stored.cascade if self.stored is not None else None

    @property
    def commands(self) -> list[str]:
        """Command lines that evaluate it."""
        run = in_shell(self.run)
        evaluate = f'python imagenet_tf.py --eval -ec {run}'
        if self.data:
            evaluate += f' --data {shlex.quote(self.data)}'
        if self.policy is not None:
            size = self.policy.size
            # Rounded down, the first exit could not be paid.
            asked = math.ceil(self.policy.budget)
            file = f'{run}/exits/thresholds-s{size}-{asked}.json'
            return [
                f'python -m scripts.thresholds {run} --budget {asked} --size {size}',
                f'{evaluate} --thresholds {file}',
            ]
        if self.stored is not None:
            return self._cascaded(self.stored, run, evaluate)
        if self.point.endswith(DYNAMIC):
            return [evaluate]
        point = Point.parse(self.point)
        if point.size is not None:
            evaluate += f' -es {point.size}'
        if point.width is not None:
            evaluate += f' -ew {point.width}'
        if point.bits is not None:
            evaluate += f' -eb {point.bits}'
        return [evaluate]

    def _cascaded(self, stored: Stored, run: str, evaluate: str) -> list[str]:
        """Commands that evaluate a cascade, chosen once more alone where its file holds many.

        Args:
            stored: The cascade.
            run: Its run folder, as a shell takes it.
            evaluate: Command that evaluates the run.
        """
        if not stored.of_sweep:
            return [f'{evaluate} --cascade {in_shell(stored.file)}']
        cascade = stored.cascade
        # Rounded down, its first stage could not be paid.
        asked = math.ceil(cascade.holdout.cost)
        file = stored.file.with_name(f'{self.point}-{asked}-{cascade.combine}.json')
        flags = [f'--cascade {" ".join(cascade.points)}', f'--budget {asked}']
        if cascade.combine != LAST:
            flags.append(f'--combine {cascade.combine}')
        if cascade.calibration:
            flags.append('--calibrate-confidence')
        flags.append(f'--out {in_shell(file)}')
        return [
            f'python -m scripts.thresholds {run} {" ".join(flags)}',
            f'{evaluate} --cascade {in_shell(file)}',
        ]

    @property
    def kind(self) -> str:
        """How images pass, where they do not all end at one point."""
        if self.policy is not None:
            return 'exit thresholds'
        return 'cascade' if self.cascade is not None else ''

    def describe(self) -> str:
        """One line of text."""
        how = f' with {self.kind}' if self.policy else ''
        if self.cascade is not None:
            how = f' as a {self.kind}'
        parts = [
            f'{self.run} at {self.point}{how}',
            f'top-1 {self.top1:.2f} %',
            f'{self.madds / 1e6:.2f} M multiply-adds',
        ]
        if self.ms is not None:
            where = f' on {self.device}' if self.device else ''
            parts.append(f'{self.ms:.2f} ms{where}')
        if self.weight_bytes is not None:
            parts.append(f'{self.weight_bytes / 1e6:.3g} MB of weights')
        return ', '.join(parts)


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
    """What a choice costs: of precisions of one point, fewer bits are cheaper."""
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
        policy = exit_thresholds.Policy(
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
