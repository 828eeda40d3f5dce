"""Benchmark of gates (`bench infer --net aig`): is skipping as fast as the multiply-adds say?"""

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import nets
from engine import timing
from engine.errors import UsageError
from nets import cost
from scripts.bench.infer import parser, report

HEADERS = (
    'batch',
    'rate',
    'MAdds ratio',
    'time ratio',
    'time / MAdds',
    'all-on ms',
    'dynamic ms',
    'largest error',
)

# Rounds whose logits are compared with those of the masked simulation.
CHECKED = 3


def parse_args(net: str, argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: A number is out of its range.
    """
    p = parser(net, rounds=10, rounds_help='of all-on and dynamic in turn, each with new gates')
    p.add_argument('--arch', default='resnet50')
    p.add_argument('--size', type=int, default=224)
    p.add_argument(
        '--rates',
        type=float,
        nargs='+',
        default=[0.4, 0.5, 0.6, 0.7, 1.0],
        help='share of images whose gate is open, the same for all blocks',
    )
    args = p.parse_args(argv)
    if not all(0 <= rate <= 1 for rate in args.rates) or min(*args.batches, args.rounds) < 1:
        raise UsageError('--rates must lie between 0 and 1, --batches and --rounds be at least 1')
    return args


def draw_gates(rng: np.random.Generator, blocks: int, batch: int, rate: float) -> np.ndarray:
    """Gates that are open for a share of the images, chosen at random in every block.

    Args:
        rng: Source of chance.
        blocks: Number of blocks.
        batch: Number of images; the gates of one image alone are open by chance.
        rate: The share.

    Returns:
        [blocks, batch] float32 of 0 and 1.
    """
    if batch == 1:
        return (rng.random((blocks, 1)) < rate).astype('float32')
    order = np.argsort(rng.random((blocks, batch)), axis=1)
    return (order < round(rate * batch)).astype('float32')


class Ways(NamedTuple):
    """Ways to compute a batch: callables of gates [blocks, batch] that give logits [batch, K].

    Attributes:
        skipping: Leaves the bodies of closed gates out.
        everything: Computes all bodies and all of their use.
        masked: Computes all bodies and multiplies them by the gates.
    """

    skipping: Callable[[np.ndarray], Any]
    everything: Callable[[np.ndarray], Any]
    masked: Callable[[np.ndarray], Any]


def build(net: Any, batch: int, size: int, threads: int) -> tuple[Ways, list[cost.LayerRecord]]:
    """Ways to compute a batch of random images in the default graph, and the layer records.

    Args:
        net: A network with gates.
        batch: Number of images.
        size: Input size in pixels.
        threads: Of one operation; 0 takes all cores.
    """
    from nets.layers.blocks import Blocks
    from quant import Policy, backend
    from quant.backend import tf

    pixels = np.random.default_rng(0).standard_normal((batch, size, size, 3))
    images = tf.get_variable('images', initializer=pixels.astype('float32'), trainable=False)
    decisions = tf.placeholder(tf.float32, [len(net.blocks), batch])
    session = backend.session(config=tf.ConfigProto(intra_op_parallelism_threads=threads))
    (point,) = net.points
    runs = []
    for execution in ('skip', 'all', 'mask'):
        blocks = Blocks(Policy(), net.points, training=False, padding=net.padding)
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            outputs = net.outputs({size: images}, blocks, decisions=decisions, execution=execution)
        fetches = [outputs.logits[point]]
        # The heads of the gates run as they would if they decided.
        for name, value in outputs.extras.items():
            if name.startswith('gate_logits'):
                fetches.append(value.op)
        runs.append(session.make_callable(fetches, [decisions]))
    session.run(tf.global_variables_initializer())
    return Ways(*runs), blocks.layers[str(point)]


def compare(ways: Ways, gates: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Wall seconds of skipping and of everything by round; they take turns.

    Args:
        ways: See ``build``.
        gates: [blocks, batch] of every round.
    """
    runs = {}
    for name in ('skipping', 'everything'):
        # One more call warms up.
        turns = iter([gates[0], *gates])
        runs[name] = functools.partial(_next, getattr(ways, name), turns)
    return timing.take_turns(runs, len(gates))


def _next(run: Callable[[np.ndarray], Any], gates: Iterator[np.ndarray]) -> None:
    run(next(gates))


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
    times = compare(ways, gates)
    worst = largest_error(ways, gates)
    ratio = sum(times['skipping']) / sum(times['everything'])
    everything_ms = 1e3 * float(np.median(times['everything']))
    skipping_ms = 1e3 * float(np.median(times['skipping']))
    return madds, ratio, ratio / madds, everything_ms, skipping_ms, worst


def infer(net: str, argv: Sequence[str]) -> None:
    """Dynamic against all-on inference with gates set by hand.

    Raises:
        UsageError: There is no such architecture, or a number is out of its range.
    """
    args = parse_args(net, argv)
    from quant.backend import new_graph

    try:
        network = nets.create(net, arch=args.arch, mode='pytorch', sizes=(args.size,), classes=1000)
    except ValueError as error:
        raise UsageError(f'--arch {args.arch}: {error}') from error
    rng = np.random.default_rng(0)
    rows = []
    for batch in args.batches:
        with new_graph():
            ways, layers = build(network, batch, args.size, args.threads)
            for rate in args.rates:
                gates = []
                for _ in range(args.rounds):
                    gates.append(draw_gates(rng, len(network.blocks), batch, rate))
                open_share = dict(zip(network.blocks, np.mean(gates, axis=(0, 2))))
                madds = cost.expected_madds(layers, open_share) / cost.madds(layers)
                rows.append((batch, rate, *measured(ways, gates, madds)))
    report(net, HEADERS, rows, arch=args.arch)
