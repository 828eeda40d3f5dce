"""Evaluation of the exits of a network: answers per image, measured time, budgets, a picture."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from engine import arrays, figures
from engine.deployment.early_exit import EarlyExit
from engine.evaluation.evaluate import Score, evaluate, first_images
from engine.evaluation.evaluators.evaluator import Evaluation, Scored
from engine.evaluation.figures import DPI
from engine.files import write_json
from engine.graph.tower import Model
from engine.results import exit_thresholds
from engine.timing import median_seconds
from nets import cost
from nets.points import Point

# Images that are timed together.
BATCHES = (1, 32)
ROUNDS = 12

# Budgets of the table, over the range from the first exit to the last.
BUDGETS = 12

Layers = Mapping[str, Sequence[cost.LayerRecord]]


class PerImage(NamedTuple):
    """Answers of all exits at one size for N images, shallowest exit first.

    Attributes:
        confidence: [N, exits] float64 logarithm of the probability of the answer.
        right: [N, exits] bool.
    """

    confidence: np.ndarray
    right: np.ndarray


class Budgeted(NamedTuple):
    """Thresholds for a budget, judged on the validation images.

    Attributes:
        budget: mean multiply-adds of an image that were allowed.
        madds: mean multiply-adds that were spent.
        top1: percent right.
    """

    budget: float
    madds: float
    top1: float


@dataclasses.dataclass(frozen=True)
class ExitRecord:
    """The exits of one size, at one precision.

    Attributes:
        size: pixels.
        points: spellings of the operating points, shallowest first.
        madds: [exits] multiply-adds up to each exit, all earlier exits included.
        test: answers for the validation images.
        holdout: answers for the images that thresholds are set by; None without.
        ms: measured milliseconds up to each exit, by batch size.
    """

    size: int
    points: list[str]
    madds: np.ndarray
    test: PerImage
    holdout: PerImage | None
    ms: dict[int, list[float]]

    @property
    def name(self) -> str:
        """Spelling of what its points have in common."""
        return str(dataclasses.replace(Point.parse(self.points[0]), exit=None))

    @property
    def anytime(self) -> np.ndarray:
        """Percent right of each exit on its own."""
        return 100 * self.test.right.mean(axis=0)

    @functools.cached_property
    def budgeted(self) -> list[Budgeted]:
        """Results of thresholds set on the hold-out, over the range of budgets.

        None without a hold-out.
        """
        if self.holdout is None:
            return []
        found = []
        policies = exit_thresholds.sweep(self.holdout.confidence, self.madds, BUDGETS)
        for budget, thresholds in policies:
            top1, spent, _ = exit_thresholds.dynamic(*self.test, thresholds, self.madds)
            found.append(Budgeted(budget, spent, top1))
        return found


class Exits:
    """Evaluator of networks with exits."""

    def report(self, evaluation: Evaluation) -> str:
        """Writes ``exits/s<size>.npz``, a picture of each size, and ``exits/latency.json``.

        The former two for each precision.
        """
        if evaluation.borrowed:
            return 'statistics are borrowed: answers by exit are not recorded'
        folder = evaluation.folder / 'exits'
        lines: list[str] = []
        latency: dict[str, dict[str, float]] = {}
        held = _holdout_score(evaluation)
        every = [str(point) for point in evaluation.model.net.points]
        for part in evaluation.parts():
            for size in part.model.net.sizes:
                columns = [every.index(point) for point in _points(part.model, size)]
                found = _record(part, size, columns, held)
                write(part.folder, found)
                latency |= _latency(found)
                lines += [text(found), *map(str, draw(found, folder / f'{found.name}.png'))]
        write_json(folder / 'latency.json', latency)
        return '\n'.join(lines)

    def monitor(self, scored: Scored) -> dict[str, float]:
        """Nothing: exits are measured when a training has ended."""
        return {}


def write(folder: Path, found: ExitRecord) -> None:
    """Writes ``exits/s<size>.npz``, which ``scripts.thresholds`` reads."""
    values = {'test_confidence': found.test.confidence, 'test_right': found.test.right}
    if found.holdout is not None:
        values |= {'confidence': found.holdout.confidence, 'right': found.holdout.right}
    path = folder / 'exits' / f'{found.name}.npz'
    arrays.write(path, values, compressed=True)


def text(found: ExitRecord) -> str:
    """Tables of exits and budgets."""
    rows = []
    for k, point in enumerate(found.points):
        times = [ms[k] for ms in found.ms.values()]
        rows.append((point, found.anytime[k], found.madds[k] / 1e6, *times))
    timed = [f'ms, batch {batch}' for batch in found.ms]
    headers = ('exit', 'top-1', 'M multiply-adds', *timed)
    exits = tabulate(rows, floatfmt='.2f', headers=headers)
    if found.holdout is None:
        return f'{exits}\nno budgets: thresholds need images set aside in training (--holdout)'
    spent = [(row.budget / 1e6, row.madds / 1e6, row.top1) for row in found.budgeted]
    budgets = tabulate(spent, floatfmt='.2f', headers=('budget, M', 'spent, M', 'top-1'))
    return f'{exits}\n{budgets}'


def draw(found: ExitRecord, path: Path) -> list[Path]:
    """Draws top-1 over multiply-adds and over measured time.

    Returns the files: none without matplotlib.
    """
    if not figures.available():
        return []
    picture = figures.new_figure(9, 4)
    left, right = picture.subplots(1, 2, sharey=True)
    _draw_madds(found, left)
    for batch, ms in found.ms.items():
        right.plot(np.array(ms) / batch, found.anytime, 'o-', label=f'batch {batch}')
    right.set(xlabel='measured ms per image', title='each exit')
    for axes in (left, right):
        figures.legend_below(axes, gap=0.2, columns=2)
        axes.grid(alpha=0.3)
    picture.savefig(path, dpi=DPI)
    return [path]


def exit_madds(model: Model, layers: Layers, size: int) -> np.ndarray:
    """Multiply-adds of an image up to each exit, all earlier exits included.

    Args:
        model: the network.
        layers: layer records by spelling of the operating point.
        size: input size in pixels.

    Returns:
        [exits] float64.
    """
    madds = [cost.madds(cost.cumulative(layers, point)) for point in _points(model, size)]
    return np.array(madds, np.float64)


def _draw_madds(found: ExitRecord, axes: Any) -> None:
    axes.plot(found.madds / 1e6, found.anytime, 'o-', label='each exit (anytime)')
    if found.budgeted:
        spent = [row.madds / 1e6 for row in found.budgeted]
        top1 = [row.top1 for row in found.budgeted]
        axes.plot(spent, top1, 's-', label='budgeted batch')
    axes.set(xlabel='million multiply-adds per image', ylabel='top-1, %', title=found.name)


def _points(model: Model, size: int) -> list[str]:
    """Spellings of the operating points of a size, shallowest first."""
    return [str(point) for point in reversed(model.net.points) if point.size == size]


def _holdout_score(evaluation: Evaluation) -> Score | None:
    dataset = evaluation.dataset
    if dataset.holdout is None:
        return None
    held = dataclasses.replace(dataset, val=dataset.holdout)
    (score,) = evaluate(evaluation.model, evaluation.values, held, threads=evaluation.threads)
    return score


def _record(
    evaluation: Evaluation, size: int, columns: Sequence[int], held: Score | None
) -> ExitRecord:
    """The exits of one size.

    Args:
        evaluation: of one precision.
        size: pixels.
        columns: of the exits in what is kept of every image, shallowest first.
        held: score on the hold-out images; None without these.
    """
    model = evaluation.model
    holdout = None if held is None else _columns(held, columns)
    return ExitRecord(
        size,
        _points(model, size),
        exit_madds(model, evaluation.layers, size),
        _columns(evaluation.score, columns),
        holdout,
        _milliseconds(evaluation, size),
    )


def _columns(score: Score, columns: Sequence[int]) -> PerImage:
    confidence, right = score.per_image['confidence'], score.per_image['right']
    return PerImage(confidence[:, columns], right[:, columns] > 0)


def _latency(found: ExitRecord) -> dict[str, dict[str, float]]:
    """Measured milliseconds by point and name of the batch size."""
    latency = {}
    for k, point in enumerate(found.points):
        latency[point] = {f'batch{batch}_ms': ms[k] for batch, ms in found.ms.items()}
    return latency


def _milliseconds(evaluation: Evaluation, size: int) -> dict[int, list[float]]:
    """Median time up to each exit with real early exit, by batch size; the exits take turns."""
    model = evaluation.model
    runner = EarlyExit(evaluation.source, size)
    found = {}
    for batch in BATCHES:
        images = first_images(model.config, evaluation.dataset, batch)
        times = median_seconds(_stops(runner, images, model.net.exits), ROUNDS)
        found[batch] = [1e3 * seconds for seconds in times.values()]
    return found


def _stops(runner: EarlyExit, images: Sequence[np.ndarray], exits: int) -> dict[str, Any]:
    """Callables by exit that leave with all images there."""
    stops = {}
    for k in range(exits):
        thresholds = [exit_thresholds.NEVER] * k + [exit_thresholds.ALWAYS] * (exits - k)
        stops[str(k)] = functools.partial(runner.predict, images, thresholds)
    return stops
