"""Benchmark of early exit (`bench infer --net msdnet`): does time follow the multiply-adds?

The static network has the last exit alone and is served as by ``Predictor``. Early exit answers a
batch at once, or lets those that stay wait for others until a batch is full.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine import families, timing
from engine.config.config import Config
from engine.errors import UsageError
from engine.results import exit_thresholds
from scripts.bench.infer import flags, report, worked

HEADERS = (
    'batch',
    'budget',
    'MAdds ratio',
    'time ratio',
    'time / MAdds',
    'queued / MAdds',
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


class Milliseconds(NamedTuple):
    """Milliseconds per batch.

    Attributes:
        static: Of the network with the last exit alone.
        early: Of early exit, batch by batch.
        queued: Of early exit, with a queue in front of every stage.
    """

    static: float
    early: float
    queued: float


def times(
    static: Callable[..., Any],
    runner: Any,
    batches: Sequence[Any],
    thresholds: np.ndarray,
    rounds: int,
) -> Milliseconds:
    """Times of ways that take turns.

    Args:
        static: Of images: the logits of the last exit.
        runner: An ``EarlyExit``.
        batches: Each a list with one array of images.
        thresholds: [exits].
        rounds: Number of turns of each, of which the median is taken.
    """
    runs: dict[str, Callable[[], Any]] = {
        'static': functools.partial(_run_static, static, batches),
        'early': functools.partial(run_all, runner, batches, thresholds),
        'queued': functools.partial(queued, runner, batches, thresholds),
    }
    seconds = timing.median_seconds(runs, rounds)
    return Milliseconds(**{name: 1e3 * taken / len(batches) for name, taken in seconds.items()})


def _run_static(static: Callable[..., Any], batches: Sequence[Any]) -> None:
    for (images,) in batches:
        static(images)


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
    from engine.deployment import trace
    from engine.deployment.early_exit import EarlyExit
    from engine.deployment.tensorflow_backend import serving
    from engine.deployment.tf_graph import graph_of
    from engine.evaluation.evaluators.exits import exit_madds
    from engine.graph.tower import Model

    model = Model(configuration(net, args.preset), data_format='NHWC')
    source, layers = worked(model.config)
    side = model.config.image_size
    madds = exit_madds(model, layers, side)  # [exits]
    runner = EarlyExit(model, source.values, side, threads=args.threads)
    last = str(model.net.points[0])
    static = serving(graph_of(trace.of_points(source, [last]), [last]), args.threads)
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
            taken = times(static, runner, batches, chosen, args.rounds)
            labels, leaves = run_all(runner, batches, chosen)
            expected = alone.labels[np.arange(len(labels)), leaves]
            other = int((labels != expected).sum())
            cost = float(madds[leaves].mean() / madds[-1])
            rows.append((batch, share, *compared(taken, cost), *taken, other))
    report(net, HEADERS, rows, preset=args.preset)


def compared(taken: Milliseconds, cost: float) -> tuple[float, ...]:
    """The columns of ``HEADERS`` from the multiply-adds to those over them.

    Args:
        taken: by both ways of early exit, and by the static network.
        cost: multiply-adds of early exit, as a share of the static network's.
    """
    early = taken.early / taken.static
    queued = taken.queued / taken.static
    return cost, early, early / cost, queued / cost
