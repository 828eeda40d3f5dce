"""Benchmark of early exit (`bench infer --net msdnet`): does time follow the multiply-adds?"""

import argparse
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine import families, timing
from engine.config.config import Config
from engine.errors import UsageError
from engine.results import exit_thresholds
from scripts.bench.infer import parser, report

HEADERS = (
    'batch',
    'budget',
    'MAdds ratio',
    'time ratio',
    'time / MAdds',
    'full ms',
    'early ms',
    'other answers',
)


def parse_args(net: str, argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: A number is out of its range.
    """
    p = parser(net, rounds=3, rounds_help='of full and early exit in turn, over all images')
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
    counts = [*args.batches, args.rounds, args.images]
    if not all(0 < share <= 1 for share in args.budgets) or min(counts) < 1:
        raise UsageError(
            '--budgets must lie between 0 and 1; --batches, --images and --rounds be at least 1'
        )
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


def full_and_early(
    runner: Any, batches: Sequence[Any], thresholds: np.ndarray, rounds: int
) -> tuple[float, float]:
    """Milliseconds per batch of the full network and of early exit, which take turns.

    Args:
        runner: An ``EarlyExit``.
        batches: Each a list with one array of images.
        thresholds: [exits].
        rounds: Number of turns of each, of which the median is taken.
    """
    runs = {
        'full': functools.partial(run_all, runner, batches, None),
        'early': functools.partial(run_all, runner, batches, thresholds),
    }
    seconds = timing.median_seconds(runs, rounds)
    per_batch = 1e3 / len(batches)
    return per_batch * seconds['full'], per_batch * seconds['early']


def infer(net: str, argv: Sequence[str]) -> None:
    """Early exit at budgets against the full network, on random weights and images."""
    args = parse_args(net, argv)
    from engine.deployment.early_exit import EarlyExit
    from engine.evaluation.evaluators.exits import exit_madds
    from engine.graph.tower import Model

    model = Model(configuration(net, args.preset), data_format='NHWC')
    side = model.config.image_size
    _, layers = model.inspect()
    madds = exit_madds(model, layers, side)  # [exits]
    runner = EarlyExit(model, model.starting_values(), side, threads=args.threads)
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(args.images, side, side, 3), dtype=np.uint8)
    alone = answers_of_exits(runner, images, len(madds))
    rows = []
    for batch in args.batches:
        starts = range(0, len(images), batch)
        batches = [[images[start : start + batch]] for start in starts]
        for share in args.budgets:
            thresholds = exit_thresholds.solve(alone.confidence, madds, share * madds[-1])
            full, early = full_and_early(runner, batches, thresholds, args.rounds)
            labels, leaves = run_all(runner, batches, thresholds)
            expected = alone.labels[np.arange(len(labels)), leaves]
            other = int((labels != expected).sum())
            cost = float(madds[leaves].mean() / madds[-1])
            ratio = early / full
            rows.append((batch, share, cost, ratio, ratio / cost, full, early, other))
    report(net, HEADERS, rows, preset=args.preset)
