"""Training-step benchmark: a configuration against the same in float, or bfloat16 against float32.

Each of the two runs in a process of its own, so that each has its own peak memory; they take turns,
step by step.
"""

import argparse
import dataclasses
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from engine.config.config import FLOAT_BITS, Config
from engine.errors import UsageError
from imagenet_tf import explicit, parse, resolve

TRAIN = [
    '--data',
    'fake',
    '-d',
    '18',
    '--mode',
    'preact',
    '--qw',
    '2',
    '--qa',
    '2',
    '--batch_size',
    '8',
    '--kd',
]


def step_graph(config: Config) -> tuple[Any, int]:
    """A session and a callable that runs one training step on random images, and the number of
    graph ops.
    """
    from tensorpack.tfutils.tower import TrainTowerContext

    from engine.graph.tower import Model
    from quant.backend import tf
    from quant.scope import refit

    model = Model(config, data_format='NHWC')
    images = [
        tf.random.uniform([config.batch_size, side, side, 3], 0, 256, tf.int32, seed=1)
        for side in config.preprocessing.view_sizes
    ]
    labels = tf.random.uniform([config.batch_size], 0, config.classes, tf.int32, seed=2)
    batch = [
        tf.get_variable(f'bench/{name}', initializer=value, trainable=False)
        for name, value in zip(model.feeds, [*images, labels])
    ]
    tf.train.get_or_create_global_step()
    with TrainTowerContext(''):
        cost = model.build_graph(
            *(tf.cast(pixels, tf.uint8) for pixels in batch[:-1]), batch[-1].read_value()
        )
    train = model.optimizer().minimize(cost)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS) + refit(
        [blocks.quantization for blocks in model.towers]
    )
    session = tf.Session(config=tf.ConfigProto(allow_soft_placement=True))
    session.run(tf.global_variables_initializer())
    fetches = tf.group(train, *updates)
    return lambda: session.run(fetches), len(tf.get_default_graph().get_operations())


def serve(config: Config, pipe: Connection) -> None:
    """Runs one step whenever asked; answers with CPU seconds, wall seconds and peak
    memory in MB.
    """
    step, ops = step_graph(config)
    step()
    pipe.send(ops)
    while pipe.recv():
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pipe.send((time.process_time() - cpu, time.perf_counter() - wall, peak))


def measure(configs: dict[str, Config], steps: int) -> dict[str, dict[str, float]]:
    """Median CPU and wall seconds of a step, graph ops and peak memory, by name; the configurations
    take turns.
    """
    context = multiprocessing.get_context('spawn')
    pipes = {}
    for name, config in configs.items():
        pipes[name], other = context.Pipe()
        context.Process(target=serve, args=(config, other), daemon=True).start()
    ops = {name: pipe.recv() for name, pipe in pipes.items()}
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in configs}
    for _ in tqdm(range(steps), unit='round'):
        for name, pipe in pipes.items():
            pipe.send(True)
            rows[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return {
        name: {
            'cpu_s': statistics.median(r[0] for r in got),
            'wall_s': statistics.median(r[1] for r in got),
            'graph_ops': ops[name],
            'peak_rss_mb': max(r[2] for r in got),
        }
        for name, got in rows.items()
    }


def train(argv: Sequence[str]) -> None:
    """Training step: quantized against float, or bfloat16 against float32."""
    p = argparse.ArgumentParser(prog='bench train', add_help=False, allow_abbrev=False)
    p.add_argument('--steps', type=int, default=10)
    own, rest = p.parse_known_args(argv)
    given = explicit(parse(TRAIN)) | explicit(parse(rest))
    config, _, _ = resolve({key: value for key, value in given.items() if value is not None})
    plain = dataclasses.replace(
        config, **{'bf16': False} if config.bf16 else {'qw': FLOAT_BITS, 'qa': FLOAT_BITS}
    )
    if config == plain:
        raise UsageError(
            '--qw 32 --qa 32: there is nothing to compare with float; --bf16 compares with float32'
        )
    ours, other = ('bf16', 'float32') if config.bf16 else ('quantized', 'float')
    found = measure({ours: config, other: plain}, own.steps)
    ratios = {key: found[ours][key] / found[other][key] for key in found[other]}
    print(
        tabulate(
            [[name, *row.values()] for name, row in (found | {'ratio': ratios}).items()],
            headers=['', *ratios],
            floatfmt='.3f',
        )
    )
    print(
        json.dumps(
            {
                'bench': 'train',
                'config': config.name,
                'batch_size': config.batch_size,
                'steps': own.steps,
                'ratio': round(ratios['cpu_s'], 4),
                **{key: round(value, 4) for key, value in found[ours].items()},
                **{f'{key}_ratio': round(value, 4) for key, value in ratios.items()},
                other: {key: round(value, 4) for key, value in found[other].items()},
            }
        )
    )
