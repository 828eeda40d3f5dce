"""What the exits of a network are worth: answers per image, measured time, budgets, a picture."""

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate
from tensorpack.utils.utils import get_tqdm

from engine.data.datasets import Dataset
from engine.deployment.early_exit import EarlyExit
from engine.errors import UsageError
from engine.evaluation.evaluate import Score, eval_flow, evaluate
from engine.figures import available, new_figure
from engine.graph.tower import Model
from engine.results import exit_thresholds
from engine.runs.folder import replacing, write_json
from engine.timing import median_seconds
from nets import cost

BATCHES = (1, 32)
BUDGETS = 12
ROUNDS = 12


class Answered(NamedTuple):
    """Answers of all exits at one size, shallowest first.

    Attributes:
        confidence: [N, K] float64 logarithm of the probability of the answer.
        right: [N, K] bool.
    """

    confidence: np.ndarray
    right: np.ndarray


@dataclasses.dataclass(frozen=True)
class Exits:
    """The exits of one size.

    Attributes:
        size: pixels.
        points: spellings of the operating points, shallowest first.
        madds: multiply-adds up to each exit, all earlier exits included.
        test: answers for the validation images.
        holdout: answers for the images that thresholds are set by; None without.
        ms: measured milliseconds up to each exit, by batch size.
    """

    size: int
    points: list[str]
    madds: np.ndarray
    test: Answered
    holdout: Answered | None
    ms: dict[int, list[float]]

    @property
    def anytime(self) -> np.ndarray:
        """Percent right of each exit on its own."""
        return 100 * self.test.right.mean(axis=0)

    @functools.cached_property
    def budgeted(self) -> list[tuple[float, float, float]]:
        """(budget, multiply-adds, percent right) on validation images, by hold-out thresholds."""
        if self.holdout is None:
            return []
        found = []
        for limit, thresholds in exit_thresholds.sweep(
            self.holdout.confidence, self.madds, BUDGETS
        ):
            accuracy, spent, _ = exit_thresholds.dynamic(*self.test, thresholds, self.madds)
            found.append((limit, spent, accuracy))
        return found


def report(
    model: Model,
    layers: Mapping[str, Sequence[cost.LayerRecord]],
    result: Score,
    values: Mapping[str, np.ndarray],
    dataset: Dataset,
    folder: Path,
    *,
    threads: int,
) -> str:
    """Measures, writes ``exits/`` into the run folder and tells what it found."""
    held = None
    if dataset.holdout is not None:
        (held,) = evaluate(
            model, values, dataclasses.replace(dataset, val=dataset.holdout), threads=threads
        )
    lines, latency = [], dict[str, dict[str, float]]()
    for size in model.net.sizes:
        found = _exits(
            model, layers, size, result, held, _milliseconds(model, values, dataset, size)
        )
        write(folder, found)
        latency |= {
            point: {f'batch{batch}_ms': ms[k] for batch, ms in found.ms.items()}
            for k, point in enumerate(found.points)
        }
        lines.append(text(found))
        if draw(found, folder / 'exits' / f's{size}.png'):
            lines.append(str(folder / 'exits' / f's{size}.png'))
    write_json(folder / 'exits' / 'latency.json', latency)
    return '\n'.join(lines)


def read_policy(model: Model, file: str) -> exit_thresholds.Policy:
    """The thresholds in ``file``.

    Raises:
        UsageError: the file cannot be read, or is about another network.
    """
    if not model.answers:
        raise UsageError(f'--thresholds {file}: --net {model.config.net} has no exits')
    policy = exit_thresholds.read_policy(Path(file))
    if policy.size not in model.net.sizes or policy.exits != tuple(range(model.net.exits)):
        raise UsageError(
            f'--thresholds {file}: is for size {policy.size} and exits '
            f'{" ".join(map(str, policy.exits))}; the network has sizes '
            f'{" ".join(map(str, model.net.sizes))} and {model.net.exits} exits, from 0 on'
        )
    return policy


def evaluate_policy(
    model: Model,
    values: Mapping[str, np.ndarray],
    dataset: Dataset,
    policy: exit_thresholds.Policy,
    layers: Mapping[str, Sequence[cost.LayerRecord]],
    folder: Path,
    *,
    name: str,
    threads: int,
) -> str:
    """Runs the validation images with real early exit by ``policy``, and again to the end.

    Writes ``exits/<name>-measured.json`` into the run folder and tells what it found.
    """
    madds = exit_madds(model, layers, policy.size)
    runner = EarlyExit(model, values, policy.size)
    rows, record = [], {}
    for way, thresholds in (('early exit', policy.thresholds), ('all exits', None)):
        right, leaves, seconds = _run(runner, model, dataset, thresholds, threads)
        share = np.bincount(leaves, minlength=len(madds)) / len(leaves)
        rows.append(
            (
                way,
                100 * right,
                float(share @ madds) / 1e6,
                len(leaves) / seconds,
                ' '.join(f'{100 * part:.0f}' for part in share),
            )
        )
        record[way] = dict(
            zip(
                ('top1', 'madds', 'images_per_second', 'shares'),
                (100 * right, float(share @ madds), len(leaves) / seconds, share.tolist()),
            )
        )
    path = folder / 'exits' / f'{name}-measured.json'
    write_json(path, record | {'thresholds': dataclasses.asdict(policy), 'images': len(leaves)})
    table = tabulate(
        rows, headers=('', 'top-1', 'M multiply-adds', 'images/s', '% by exit'), floatfmt='.2f'
    )
    return f'{table}\n{path}'


def write(folder: Path, found: Exits) -> None:
    """``exits/s<size>.npz``, what ``scripts.thresholds`` reads."""
    arrays = {'test_confidence': found.test.confidence, 'test_right': found.test.right}
    if found.holdout is not None:
        arrays |= {'confidence': found.holdout.confidence, 'right': found.holdout.right}
    with (
        replacing(folder / 'exits' / f's{found.size}.npz') as temporary,
        temporary.open('wb') as stream,
    ):
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def text(found: Exits) -> str:
    """Tables of exits and budgets."""
    rows = [
        (point, found.anytime[k], found.madds[k] / 1e6, *(ms[k] for ms in found.ms.values()))
        for k, point in enumerate(found.points)
    ]
    tables = [
        tabulate(
            rows,
            floatfmt='.2f',
            headers=(
                'exit',
                'top-1',
                'M multiply-adds',
                *(f'ms, batch {batch}' for batch in found.ms),
            ),
        )
    ]
    if found.holdout is None:
        return tables[0] + '\nno budgets: thresholds need images set aside in training (--holdout)'
    rows = [(limit / 1e6, spent / 1e6, accuracy) for limit, spent, accuracy in found.budgeted]
    return '\n'.join(
        [*tables, tabulate(rows, floatfmt='.2f', headers=('budget, M', 'spent, M', 'top-1'))]
    )


def draw(found: Exits, path: Path) -> bool:
    """Top-1 over multiply-adds and over measured time; False without matplotlib."""
    if not available():
        return False
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot(found.madds / 1e6, found.anytime, 'o-', label='each exit (anytime)')
    if found.budgeted:
        left.plot(
            *np.array([(spent / 1e6, top1) for _, spent, top1 in found.budgeted]).T,
            's-',
            label='budgeted batch',
        )
    left.set(xlabel='million multiply-adds per image', ylabel='top-1, %', title=f'{found.size} px')
    left.legend(loc='lower right')
    for batch, ms in found.ms.items():
        right.plot(np.array(ms) / batch, found.anytime, 'o-', label=f'batch {batch}')
    right.set(xlabel='measured ms per image', title='each exit')
    right.legend(loc='lower right')
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return True


def _points(model: Model, size: int) -> list[str]:
    return [str(point) for point in reversed(model.net.points) if point.size == size]


def exit_madds(
    model: Model, layers: Mapping[str, Sequence[cost.LayerRecord]], size: int
) -> np.ndarray:
    """[K] float64: multiply-adds of an image up to each exit, all earlier exits included."""
    return np.array(
        [cost.madds(cost.cumulative(layers, point)) for point in _points(model, size)], np.float64
    )


def _exits(
    model: Model,
    layers: Mapping[str, Sequence[cost.LayerRecord]],
    size: int,
    result: Score,
    held: Score | None,
    ms: dict[int, list[float]],
) -> Exits:
    points = _points(model, size)
    columns = [[str(point) for point in model.net.points].index(point) for point in points]

    def answered(score: Score) -> Answered:
        confidence, right = score.answers
        return Answered(confidence[:, columns], right[:, columns] > 0)

    return Exits(
        size,
        points,
        exit_madds(model, layers, size),
        answered(result),
        answered(held) if held else None,
        ms,
    )


def _milliseconds(
    model: Model, values: Mapping[str, np.ndarray], dataset: Dataset, size: int
) -> dict[int, list[float]]:
    """Median time up to each exit with real early exit, by batch size; the exits take turns."""
    runner, found = EarlyExit(model, values, size), {}
    exits = model.net.exits
    for batch in BATCHES:
        count = min(batch, len(dataset.val))
        *images, _ = next(iter(eval_flow(model.config, dataset, 0, batch_size=count)))
        runs = {}
        for k in range(exits):
            thresholds = [exit_thresholds.NEVER] * k + [exit_thresholds.ALWAYS] * (exits - k)
            runs[str(k)] = functools.partial(runner.predict, images, thresholds)
        seconds = median_seconds(runs, ROUNDS)
        found[batch] = [1e3 * taken for taken in seconds.values()]
    return found


def _run(
    runner: EarlyExit,
    model: Model,
    dataset: Dataset,
    thresholds: Sequence[float] | None,
    threads: int,
) -> tuple[float, np.ndarray, float]:
    """Share of right answers, exit of every image, and seconds that the network took."""

    flow, hits, leaves, seconds = eval_flow(model.config, dataset, threads), [], [], 0.0
    with get_tqdm(total=len(flow), unit='batch', desc='early exit') as bar:
        for *images, labels in flow:
            started = time.perf_counter()
            answers = runner.predict(images, thresholds)
            seconds += time.perf_counter() - started
            hits.append(answers.labels == labels)
            leaves.append(answers.exits)
            bar.update()
    return float(np.concatenate(hits).mean()), np.concatenate(leaves), seconds
