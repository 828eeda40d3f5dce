"""Benchmark of gates (`bench infer --net aig`): is skipping as fast as the multiply-adds say?"""

import argparse
import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from engine.errors import UsageError

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


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog='bench infer --net aig')
    p.add_argument('--arch', default='resnet50')
    p.add_argument('--size', type=int, default=224)
    p.add_argument(
        '--rates',
        type=float,
        nargs='+',
        default=[0.4, 0.5, 0.6, 0.7, 1.0],
        help='share of images whose gate is open, the same for all blocks',
    )
    p.add_argument('--batches', type=int, nargs='+', default=[1, 32])
    p.add_argument(
        '--rounds', type=int, default=10, help='of all-on and dynamic in turn, each with new gates'
    )
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
    return p.parse_args(argv)


def gates(rng: np.random.Generator, blocks: int, batch: int, rate: float) -> np.ndarray:
    """[blocks, batch] 0 / 1: in every block a random choice of ``rate`` of the images."""
    if batch == 1:
        return (rng.random((blocks, 1)) < rate).astype('float32')
    order = np.argsort(rng.random((blocks, batch)), axis=1)
    return (order < round(rate * batch)).astype('float32')


def build(net: Any, batch: int, size: int, threads: int) -> tuple[dict[str, Any], Any]:
    """Callables on (decisions) by name - all, skipping, masked - and the layer records."""
    from nets.layers.blocks import Blocks
    from quant import Policy
    from quant.backend import tf

    images = tf.get_variable(
        'images',
        initializer=np.random.default_rng(0)
        .standard_normal((batch, size, size, 3))
        .astype('float32'),
        trainable=False,
    )
    decisions = tf.placeholder(tf.float32, [len(net.blocks), batch])
    session = tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads))
    runs, layers = {}, None
    for name, execution in (('skipping', 'skip'), ('all', 'all'), ('masked', 'mask')):
        blocks = Blocks(Policy(), net.points, training=False, padding=net.padding)
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            outputs = net.outputs({size: images}, blocks, decisions=decisions, execution=execution)
        heads = [value for key, value in outputs.extras.items() if key.startswith('gate_logits')]
        # The heads of the gates run as they would if they decided.
        runs[name] = session.make_callable(
            [outputs.logits[net.points[0]], *(head.op for head in heads)], [decisions]
        )
        layers = layers or blocks.layers[str(net.points[0])]
    session.run(tf.global_variables_initializer())
    return runs, layers


def infer(argv: Sequence[str]) -> None:
    """Dynamic against all-on inference with gates set by hand."""
    args = parse_args(argv)
    if not all(0 <= rate <= 1 for rate in args.rates) or min(*args.batches, args.rounds, 1) < 1:
        raise UsageError('--rates must lie between 0 and 1, --batches and --rounds be at least 1')
    import nets
    from engine.timing import take_turns
    from nets import cost
    from quant.backend import new_graph

    try:
        net = nets.create('aig', arch=args.arch, mode='pytorch', sizes=(args.size,), classes=1000)
    except ValueError as error:
        raise UsageError(f'--arch {args.arch}: {error}') from error
    rng, rows = np.random.default_rng(0), []
    for batch in args.batches:
        with new_graph():
            runs, layers = build(net, batch, args.size, args.threads)
            everything = cost.madds(layers)
            for rate in args.rates:
                chosen = [gates(rng, len(net.blocks), batch, rate) for _ in range(args.rounds)]
                turns = {name: iter([chosen[0], *chosen]) for name in ('all', 'skipping')}
                times = take_turns(
                    {name: functools.partial(_turn, runs[name], turns[name]) for name in turns},
                    args.rounds,
                )
                worst = max(
                    float(np.abs(runs['skipping'](c)[0] - runs['masked'](c)[0]).max())
                    for c in chosen[:3]
                )
                share = np.mean(chosen, axis=(0, 2))
                madds = cost.expected_madds(layers, dict(zip(net.blocks, share))) / everything
                ratio = sum(times['skipping']) / sum(times['all'])
                rows.append(
                    (
                        batch,
                        rate,
                        madds,
                        ratio,
                        ratio / madds,
                        *(1e3 * np.median(times[name]) for name in ('all', 'skipping')),
                        worst,
                    )
                )
    print(tabulate(rows, headers=HEADERS, floatfmt='.3g'))
    print(
        json.dumps(
            {
                'bench': 'infer',
                'net': 'aig',
                'arch': args.arch,
                'rows': [dict(zip(HEADERS, map(float, row))) for row in rows],
            }
        )
    )


def _turn(run: Any, decisions: Any) -> None:
    run(next(decisions))
