"""Training-step benchmark: a configuration against the same in float.

With ``--bf16`` bfloat16 against float32, with ``--recompute`` against the same that keeps all.

The configuration is ResNet-18 at W2A2, five sizes, batch 8, where flags do not say otherwise. Each
of the two runs in a process of its own, so that each has its own peak memory; they take turns, step
by step.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from engine.config import hardware
from engine.config.cli import explicit, parse
from engine.config.config import Config
from engine.config.resolve import resolve
from engine.console import followed
from engine.errors import UsageError
from nets import cost
from quant import QuantizationOptions
from scripts import check_counts, parser
from scripts.bench import turns

DEFAULTS = shlex.split('--data fake -d 18 --mode preact --qw 2 --qa 2 --batch_size 8 --kd')


def random_batch(config: Config, names: Sequence[str]) -> list[Any]:
    """Variables of random images uint8 [N, H, H, 3] of every view, and of labels [N].

    Args:
        config: Configuration.
        names: Of the variables.
    """
    from quant.backend import tf

    values = []
    for side in config.preprocessing.view_sizes:
        shape = [config.batch_size, side, side, config.preprocessing.channels]
        values.append(tf.random.uniform(shape, 0, 256, tf.int32, seed=1))
    values.append(tf.random.uniform([config.batch_size], 0, config.classes, tf.int32, seed=2))
    variables = []
    for name, value in zip(names, values):
        variables.append(tf.get_variable(f'bench/{name}', initializer=value, trainable=False))
    return variables


class Built(NamedTuple):
    """A training step.

    Attributes:
        step: runs it.
        madds: multiply-adds of an image that goes forward through all operating points.
        exchanged: bytes of statistics of quantizers that are added over machines.
    """

    step: Callable[[], Any]
    madds: int
    exchanged: int


def step_graph(config: Config) -> Built:
    """One training step on random images, built in the default graph."""
    from engine.graph.sessions import session_config
    from engine.graph.tower import Model
    from quant.backend import tf
    from quant.updates import refit

    model = Model(config, data_format=hardware.native_format())
    batch = random_batch(config, model.feeds)
    tf.train.get_or_create_global_step()
    loss = tower_loss(model, batch)
    # As tensorpack's trainers ask for gradients.
    ungated = tf.train.Optimizer.GATE_NONE
    train = model.optimizer().minimize(
        loss, gate_gradients=ungated, colocate_gradients_with_ops=True
    )
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    exchanged: list[tf.Tensor] = []

    def add(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        exchanged.extend(tensors)
        return tensors

    refits = refit([blocks.quantization for blocks in model.towers], add=add)
    session = tf.Session(config=session_config(config, len(config.gpu)))
    session.run(tf.global_variables_initializer())
    step = session.make_callable(tf.group(train, *updates, *refits))
    layers = model.towers[0].layers.values()
    # A layer that several points share is one record.
    records = {id(record): record for records in layers for record in records}
    sizes = [tensor.shape.num_elements() * tensor.dtype.size for tensor in exchanged]
    return Built(step, cost.madds(records.values()), sum(sizes))


def tower_loss(model: Any, batch: Sequence[Any]) -> Any:
    """Mean loss of all towers, of which each takes its part of a batch of variables."""
    from tensorpack.tfutils.tower import TrainTowerContext

    from quant.backend import tf

    towers = len(model.config.gpu)
    parts = []
    for variable in batch:
        parts.append(tf.split(variable.read_value(), towers))
    losses = []
    for index in range(towers):
        *images, labels = [part[index] for part in parts]
        name = f'tower{index}' if index else ''
        with TrainTowerContext(name, index=index, total=towers):
            pixels = [tf.cast(image, tf.uint8) for image in images]
            losses.append(model.build_graph(*pixels, labels))
    return tf.add_n(losses) / towers


def configuration(*flags: Sequence[str]) -> Config:
    """The configuration that flags of imagenet_tf.py name; later ones win."""
    given: dict[str, Any] = {}
    for some in flags:
        given |= explicit(parse(some))
    config, _, _ = resolve(given)
    return config


def start(config: Config) -> turns.Process:
    """The process that takes training steps of a configuration, see ``own_step``."""
    return turns.Process('scripts.bench.own_step', [json.dumps(config.to_json())])


def measure(configs: Mapping[str, Config], steps: int) -> dict[str, dict[str, float]]:
    """Medians of CPU and wall seconds of a step, and the costs of starting, by name.

    Args:
        configs: Configurations by name; they take turns.
        steps: Measured steps of each.
    """
    processes = {}
    for name, config in followed(configs.items(), 'starting', len(configs), 'processes'):
        processes[name] = start(config)
    costs = turns.by_turns(processes, steps)
    found = {}
    for name, taken in costs.items():
        cpu, wall, peak = np.transpose(taken)  # [steps] each
        about = processes[name].about
        found[name] = {
            'cpu_s': float(np.median(cpu)),
            'wall_s': float(np.median(wall)),
            'graph_ops': about['graph_ops'],
            'build_s': about['build_s'],
            'first_step_s': about['first_step_s'],
            'peak_rss_mb': float(peak.max()),
        }
    return found


def pair(argv: Sequence[str]) -> dict[str, Config]:
    """The configuration that flags name, and what it is compared with, by what tells them apart.

    Raises:
        UsageError: They are the same.
    """
    config = configuration(DEFAULTS, argv)
    if config.recompute != 'none':
        return {config.recompute: config, 'all kept': config.replacing(recompute='none')}
    if config.bf16:
        return {'bf16': config, 'float32': config.replacing(bf16=False)}
    plain = config.replacing(**vars(QuantizationOptions()))
    if config.quantization.to_policy() == plain.quantization.to_policy():
        raise UsageError(
            '--qw 32 --qa 32: there is nothing to compare with float; --bf16 compares with float32'
        )
    return {'quantized': config, 'float': plain}


def train(argv: Sequence[str]) -> None:
    """Training step: quantized against float, or what a flag changes against what it is without.

    Raises:
        UsageError: there is nothing to measure or to compare.
    """
    p = parser('bench train', __doc__, 'for the configuration')
    p.add_argument('--steps', type=int, default=10, help='measured steps; default 10')
    args, flags = p.parse_known_args(argv)
    check_counts(args, 'steps')
    configs = pair(flags)
    found = measure(configs, args.steps)
    ours, other = found
    ratios = {key: found[ours][key] / value for key, value in found[other].items()}
    rows = []
    for name, row in (*found.items(), ('ratio', ratios)):
        rows.append([name, *row.values()])
    print(tabulate(rows, headers=['', *ratios], floatfmt='.3f'))
    record: dict[str, Any] = {
        'bench': 'train',
        'config': configs[ours].name,
        'batch_size': configs[ours].batch_size,
        'steps': args.steps,
        'ratio': round(ratios['cpu_s'], 4),
    }
    record.update(rounded(found[ours]))
    for key, value in rounded(ratios).items():
        record[f'{key}_ratio'] = value
    record[other] = rounded(found[other])
    print(json.dumps(record))


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Four decimals of each."""
    return {key: round(value, 4) for key, value in values.items()}
