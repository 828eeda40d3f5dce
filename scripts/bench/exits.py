"""Benchmark of early exit (`bench infer --net msdnet`): does time follow the multiply-adds?

The static network has the last exit alone and is served as by ``Predictor``. Early exit answers a
batch at once, or lets those that stay wait for others until a batch is full.
"""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine import families, timing
from engine.config.config import Config
from engine.errors import UsageError
from engine.results import exit_thresholds
from nets import cost
from quant import backend
from scripts import check_counts
from scripts.bench.infer import (
    RATIOS,
    flags,
    milliseconds,
    ratios,
    report,
    static,
    unfolded,
    worked,
)

HEADERS = (
    'batch',
    'budget',
    *RATIOS,
    'queued / MAdds',
    'queued CPU / MAdds',
    'queued CPU / MAdds, unfolded',
    'static ms',
    'early ms',
    'queued ms',
    'other answers',
)


def parse_args(net: str, argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: A number is out of its range.
    """
    p = flags(
        net,
        __doc__,
        rounds=3,
        rounds_help='of static, early exit and its queue in turn, over all images',
    )
    presets = families.get(net).presets
    p.add_argument('--preset', default='msd_imagenet4', choices=tuple(presets))
    p.add_argument(
        '--budgets',
        type=float,
        nargs='+',
        default=[0.25, 0.5, 0.75],
        help='of the full multiply-adds',
    )
    p.add_argument(
        '--images', type=int, default=64, help='random images, over which a budget is met'
    )
    args = p.parse_args(argv)
    check_counts(args, 'batches', 'rounds', 'images')
    for share in args.budgets:
        if not 0 < share <= 1:
            raise UsageError(f'--budgets {share:g}: must be above 0 and at most 1')
    return args


class Alone(NamedTuple):
    """Answers of every exit to every image.

    Attributes:
        labels: [images, exits].
        confidence: [images, exits].
    """

    labels: np.ndarray
    confidence: np.ndarray


def answers_of_exits(runner: Any, images: np.ndarray, exits: int) -> Alone:
    """Runs all images to each of the exits.

    Args:
        runner: An ``EarlyExit``.
        images: uint8 [images, H, H, 3].
        exits: Number of exits.
    """
    labels, confidence = [], []
    for exit in range(exits):
        found = runner.predict([images], exit_thresholds.only_exit(exit, exits))
        labels.append(found.labels)
        confidence.append(found.confidence)
    return Alone(np.stack(labels, axis=1), np.stack(confidence, axis=1))


def run_all(
    runner: Any, batches: Sequence[Any], thresholds: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels [images] and exits [images] of all batches.

    Args:
        runner: An ``EarlyExit``.
        batches: Each a list with one array of images.
        thresholds: [exits]; None for the last exit.
    """
    labels, exits = [], []
    for images in batches:
        found = runner.predict(images, thresholds)
        labels.append(found.labels)
        exits.append(found.exits)
    return np.concatenate(labels), np.concatenate(exits)


def configuration(net: str, preset: str) -> Config:
    """A preset, at its own size: its images are not cropped from larger ones."""
    values = dict(families.get(net).presets[preset].values)
    (values['image_size'],) = values['sizes']
    values['resize'] = 'area'
    return Config.from_values(**values)


def times(
    whole: Mapping[str, Callable[..., Any]],
    runner: Any,
    batches: Sequence[Any],
    thresholds: np.ndarray,
    rounds: int,
) -> dict[str, list[timing.Taken]]:
    """Times of ways that take turns, over all batches.

    Args:
        whole: The last exit's logits of images, by way.
        runner: An ``EarlyExit``.
        batches: Each a list with one array of images.
        thresholds: [exits].
        rounds: Number of turns of each.
    """
    runs: dict[str, Callable[[], Any]] = {
        'early': functools.partial(run_all, runner, batches, thresholds),
        'queued': functools.partial(queued, runner, batches, thresholds),
    }
    for way, run in whole.items():
        runs[way] = functools.partial(_run_static, run, batches)
    return timing.costs_by_turns(runs, rounds)


def _run_static(whole: Callable[..., Any], batches: Sequence[Any]) -> None:
    for (images,) in batches:
        whole(images)


def queued(runner: Any, batches: Sequence[Any], thresholds: np.ndarray) -> Any:
    """Answers to all batches, as of ``Queue``.

    Args:
        runner: An ``EarlyExit``.
        batches: Each a list with one array of images.
        thresholds: [exits].
    """
    from engine.deployment.stages import Queue

    queue = Queue(runner, thresholds.tolist(), len(batches[0][0]))
    for images in batches:
        queue.add(images)
    return queue.finish()


def infer(net: str, argv: Sequence[str]) -> None:
    """Early exit at budgets against the static network, on random weights and images."""
    args = parse_args(net, argv)
    from engine.deployment.early_exit import EarlyExit
    from engine.evaluation.evaluators.exits import exit_madds
    from engine.graph.tower import Model

    backend.pool(args.threads)
    model = Model(configuration(net, args.preset), data_format='NHWC')
    source, layers = worked(model.config)
    side = model.config.image_size
    madds = exit_madds(model, layers, side)  # [exits]
    runner = EarlyExit(source, side, threads=args.threads)
    last = str(model.net.points[0])
    static_madds = cost.madds(layers[last])  # without the exits before it
    whole = {
        'static': static(source, last, args.threads),
        'unfolded': unfolded(source, last, args.threads),
    }
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(args.images, side, side, 3), dtype=np.uint8)
    alone = answers_of_exits(runner, images, len(madds))
    thresholds = {}
    for share in args.budgets:
        thresholds[share] = exit_thresholds.solve(alone.confidence, madds, share * madds[-1])
    rows = []
    for batch in args.batches:
        starts = range(0, len(images), batch)
        batches = [[images[start : start + batch]] for start in starts]
        for share, chosen in thresholds.items():
            costs = times(whole, runner, batches, chosen, args.rounds)
            labels, leaves = run_all(runner, batches, chosen)
            expected = alone.labels[np.arange(len(labels)), leaves]
            other = int((labels != expected).sum())
            spent = float(madds[leaves].mean() / static_madds)
            rows.append((batch, share, *_cells(costs, spent, len(batches)), other))
    report(net, HEADERS, rows, preset=args.preset)


def _cells(costs: Mapping[str, list[timing.Taken]], spent: float, batches: int) -> list[float]:
    """Times of early exit and its queue, as shares of multiply-adds and by batch, see ``HEADERS``.

    Args:
        costs: times of all ways, over all batches.
        spent: multiply-adds of early exit, as a share of the static network's.
        batches: number of batches.
    """
    _, _, *waiting = ratios(costs, 'queued', spent)
    cells = [*ratios(costs, 'early', spent), *waiting]
    for way in ('static', 'early', 'queued'):
        cells.append(milliseconds(costs, way) / batches)
    return cells
