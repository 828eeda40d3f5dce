"""Benchmark of gates (`bench infer --net aig`): is skipping as fast as the multiply-adds say?

The static network has no gates and is served in the same way: the folded program of ``Predictor``.
It is also computed by the graph of evaluation, unfolded, for comparison.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import nets
from engine import timing
from engine.config.config import Config
from engine.errors import UsageError
from nets import cost
from quant import backend
from scripts import check_counts
from scripts.bench.infer import (
    RATIOS,
    flags,
    milliseconds,
    ratios,
    report,
    served,
    static,
    told,
    unfolded,
    worked,
)

if TYPE_CHECKING:
    from engine.runs.checkpoint import Checkpoint

HEADERS = ('batch', 'rate', *RATIOS, 'static ms', 'dynamic ms', 'largest error')

# Rounds whose logits are compared with those of the masked simulation.
CHECKED = 3


def parse_args(net: str, argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: A number is out of its range.
    """
    p = flags(
        net, __doc__, rounds=10, rounds_help='of static and dynamic in turn, each with new gates'
    )
    p.add_argument('--arch', default='resnet50')
    p.add_argument('--size', type=int, default=224)
    p.add_argument(
        '--rates',
        type=float,
        nargs='+',
        default=[0.4, 0.5, 0.6, 0.7, 1.0],
        help='chance of a gate to be open, the same for all blocks',
    )
    args = p.parse_args(argv)
    check_counts(args, 'batches', 'rounds')
    for rate in args.rates:
        if not 0 <= rate <= 1:
            raise UsageError(f'--rates {rate:g}: must be from 0 to 1')
    return args


def draw_gates(rng: np.random.Generator, blocks: int, batch: int, rate: float) -> np.ndarray:
    """Gates that are open by chance: their number varies from block to block, as that of real ones.

    Args:
        rng: Source of chance.
        blocks: Number of blocks.
        batch: Number of images.
        rate: Chance to be open.

    Returns:
        [blocks, batch] bool.
    """
    return rng.random((blocks, batch)) < rate


class Ways(NamedTuple):
    """Ways to compute a batch of random images, as ``Predictor`` does.

    Attributes:
        skipping: Of gates [blocks, batch]: logits [batch, K], closed bodies left out.
        static: The logits with every body computed, and no gate.
        unfolded: The same by the graph of evaluation.
        masked: Of gates, the logits with every body computed and multiplied by its gate.
    """

    skipping: Callable[[np.ndarray], Any]
    static: Callable[[], Any]
    unfolded: Callable[[], Any]
    masked: Callable[[np.ndarray], Any]


def build(source: Checkpoint, images: np.ndarray, threads: int) -> Ways:
    """Ways to compute a batch.

    Args:
        source: A network with gates.
        images: uint8 [batch, H, H, 3].
        threads: Of one operation; 0 takes all cores.
    """
    from engine.deployment import trace
    from engine.deployment.tf_graph import graph_of

    assert source.config is not None
    network = source.config.network()
    point = str(network.points[0])
    (name,) = network.choosing
    batch = 1 if len(images) == 1 else None
    frozen = graph_of(trace.of_points(source, [name]), [name], batch=batch)
    skipping = served(told(frozen), threads)
    masked = _masked(source, threads)

    def skip(gates: np.ndarray) -> Any:
        return skipping(images, *gates.astype(np.int64))

    def simulate(gates: np.ndarray) -> Any:
        return masked(images, gates.astype(np.float32))

    whole = functools.partial(static(source, point, threads), images)
    plain = functools.partial(unfolded(source, point, threads), images)
    return Ways(skip, whole, plain, simulate)


def _masked(source: Checkpoint, threads: int) -> Callable[..., Any]:
    """A callable of images and of gates [blocks, batch], by the graph of evaluation."""
    from engine.graph import freeze
    from quant.backend import tf

    assert source.config is not None
    name, *_ = source.config.network().choosing
    model, values = freeze.choosing_model(source, name)
    network = model.net

    def build() -> list[freeze.Part]:
        feeds = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        gates = tf.placeholder(tf.float32, [len(network.blocks), None])
        blocks, views = model.blocks(training=False), model.views(feeds)
        outputs = network.outputs(views, blocks, decisions=gates, execution='mask')
        return [freeze.Part([*feeds, gates], [outputs.logits[network.points[0]]])]

    (run,) = freeze.freeze(build, values).runs(threads)
    return run


def compare(ways: Ways, gates: Sequence[np.ndarray]) -> dict[str, list[timing.Taken]]:
    """Times of skipping and of the static network by round; they take turns.

    Args:
        ways: See ``build``.
        gates: [blocks, batch] of every round.
    """
    # One more call warms up.
    turns = iter([gates[0], *gates])
    runs: dict[str, Callable[[], Any]] = {
        'skipping': functools.partial(_next, ways.skipping, turns),
        'static': ways.static,
        'unfolded': ways.unfolded,
    }
    return timing.costs_by_turns(runs, len(gates))


def _next(run: Callable[[np.ndarray], Any], gates: Iterator[np.ndarray]) -> None:
    run(next(gates))


def warm(ways: Ways, blocks: int, batch: int) -> None:
    """Runs every number of open gates once: what computes so many images is made at first sight.

    Args:
        ways: See ``build``.
        blocks: Number of blocks.
        batch: Number of images.
    """
    for count in range(batch + 1):
        ways.skipping(np.tile(np.arange(batch) < count, (blocks, 1)))


def largest_error(ways: Ways, gates: Sequence[np.ndarray]) -> float:
    """Largest difference of a logit between skipping and the masked simulation."""
    errors = []
    for chosen in gates[:CHECKED]:
        difference = ways.skipping(chosen)[0] - ways.masked(chosen)[0]  # [batch, classes]
        errors.append(float(np.abs(difference).max()))
    return max(errors)


def measured(ways: Ways, gates: Sequence[np.ndarray], madds: float) -> tuple[float, ...]:
    """The columns of HEADERS from the multiply-adds on.

    Args:
        ways: See ``build``.
        gates: [blocks, batch] of every round.
        madds: What is executed of all multiply-adds, as a share.
    """
    costs = compare(ways, gates)
    worst = largest_error(ways, gates)
    found = ratios(costs, 'skipping', madds)
    return *found, milliseconds(costs, 'static'), milliseconds(costs, 'skipping'), worst


def infer(net: str, argv: Sequence[str]) -> None:
    """Skipping against the static network, both served as by ``Predictor``, with gates by chance.

    Raises:
        UsageError: There is no such architecture, or a number is out of its range.
    """
    args = parse_args(net, argv)
    values = {'net': net, 'arch': args.arch, 'mode': 'pytorch', 'sizes': (args.size,)}
    try:
        nets.create(net, arch=args.arch, mode='pytorch', sizes=(args.size,), classes=1000)
    except ValueError as error:
        raise UsageError(f'--arch {args.arch}: {error}') from error
    backend.pool(args.threads)
    config = Config.from_values(**values, image_size=args.size, resize='area', classes=1000)
    network = config.network()
    source, records = worked(config)
    layers = records[str(network.points[0])]
    rng = np.random.default_rng(0)
    rows = []
    for batch in args.batches:
        images = rng.integers(256, size=(batch, args.size, args.size, 3), dtype=np.uint8)
        ways = build(source, images, args.threads)
        warm(ways, len(network.blocks), batch)
        for rate in args.rates:
            gates = []
            for _ in range(args.rounds):
                gates.append(draw_gates(rng, len(network.blocks), batch, rate))
            open_share = dict(zip(network.blocks, np.mean(gates, axis=(0, 2))))
            madds = cost.expected_madds(layers, open_share) / cost.madds(layers)
            rows.append((batch, rate, *measured(ways, gates, madds)))
    report(net, HEADERS, rows, arch=args.arch)
