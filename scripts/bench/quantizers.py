"""Time of every quantizer: alone against a ReLU, and in a training step against float.

Forward and backward pass, with the statistics and the refit that a training step has. All take
turns in one process, so that what slows the machine down slows all of them; a ratio is the median
over the rounds.
"""

import argparse
import itertools
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from engine import timing
from engine.config.config import Config
from engine.console import followed
from engine.errors import UsageError
from engine.graph import step_functions
from quant import QuantizationOptions, native, specs
from scripts import check_bits, check_counts, parser
from scripts.bench.train import configuration, step_graph

# A small ResNet on small images.
NETWORK = shlex.split('--data animals28 --sizes 28 --no-kd --batch_size 32')

# [N, H, W, C] of activations and [k, k, I, O] of weights: of the middle of ResNet-18, batch 8.
SHAPES = {
    step_functions.ACTIVATIONS: (8, 28, 28, 128),
    step_functions.WEIGHTS: (3, 3, 256, 256),
}

HEADERS = (
    'quantizer',
    'of',
    'CPU ms',
    'ms',
    'x CPU',
    'of the middle half',
    'x ms',
    'native CPU ms',
    'native x CPU',
)

# What the others are compared with.
RELU, FLOAT = 'relu', 'float'

# End of the spelling of a quantizer in one operation.
NATIVE = ' native'


class Case(NamedTuple):
    """A quantizer in one of its uses.

    Attributes:
        spec: of the quantizer.
        what: ``weights`` or ``activations``.
    """

    spec: str
    what: str

    def __str__(self) -> str:
        return f'{self.spec} {self.what}'


def parse_args(argv: Sequence[str]) -> tuple[argparse.Namespace, Config]:
    """The flags, and the network of the training step in float.

    Raises:
        UsageError: A number is out of range, or the network is quantized.
    """
    p = parser('bench quantizers', __doc__, 'for the network of the training step')
    p.add_argument(
        '--bits', type=int, nargs='+', help='those that a method has (default: 2 4 8, quick: 2)'
    )
    p.add_argument('--rounds', type=int, help='default: 21, quick: 5')
    p.add_argument('--names', nargs='+', choices=specs.names(), help='default: all')
    p.add_argument('--quick', action='store_true', help='2 bits, few rounds')
    args, flags = p.parse_known_args(argv)
    known_bits = [2] if args.quick else [2, 4, 8]
    args.bits = args.bits or known_bits
    if args.rounds is None:
        args.rounds = 5 if args.quick else 21
    check_counts(args, 'rounds')
    check_bits(args.bits)
    config = configuration(NETWORK, flags)
    if config.quantization.to_policy() != QuantizationOptions().to_policy():
        raise UsageError('the network is to be in float; --bits and --names say what is tried')
    return args, config


def cases(names: Sequence[str], bits: Sequence[int]) -> list[Case]:
    """Uses of quantizers, at these bits or, where a method has none of them, at its own.

    Args:
        names: of quantizers.
        bits: to try.
    """
    found: dict[Case, None] = {}
    for name in names:
        own = []
        for number in bits:
            own += served(f'{name}(bits={number})')
        for case in own or served(name):
            found[case] = None
    return list(found)


def served(spec: str) -> list[Case]:
    """Uses of one quantizer; none if it has no such bits."""
    try:
        halves = step_functions.served(spec)
    except ValueError:
        return []
    parsed = specs.parse(spec)
    assert parsed is not None
    return [Case(specs.spelled(parsed), half) for half in halves]


def alone(wanted: Sequence[Case], rounds: int) -> dict[str, list[timing.Taken]]:
    """Times of quantizers, and of a ReLU of either tensor, by their spelling.

    Args:
        wanted: quantizers.
        rounds: measured calls of each.
    """
    from quant.backend import new_graph, tf
    from quant.updates import starts

    with new_graph(), tf.Session() as session:
        tensors = {}
        for what, shape in SHAPES.items():
            draw = tf.random.normal([2, *shape], seed=1)
            tensors[what] = tf.get_variable(what, initializer=draw, trainable=False)
        fetches: dict[str, Any] = {}
        begin: list[Any] = []
        for what, pair in tensors.items():
            fetches[f'{RELU} {what}'] = _passes(pair, tf.nn.relu)
        for case, ending in itertools.product(wanted, endings()):
            scope = f'case{len(fetches)}'
            with tf.variable_scope(scope), native.using(ending == NATIVE):
                towers: list[Any] = []
                one = _passes(tensors[case.what], _quantized(case, towers), towers, scope)
                fetches[f'{case}{ending}'] = one
                begin += starts(towers).values()
        # Steps of weights start from these.
        session.run([pair.initializer for pair in tensors.values()])
        session.run(tf.global_variables_initializer())
        for start in begin:
            session.run(start)
        runs = {name: session.make_callable(op) for name, op in fetches.items()}
        return timing.costs_by_turns(runs, rounds)


def _quantized(case: Case, towers: list[Any]) -> Callable[[Any], Any]:
    """A function that applies a quantizer, and adds its tower to a list."""

    def apply(x: Any) -> Any:
        tower, y = step_functions.applied(case.spec, case.what, x)
        towers.append(tower)
        return y

    return apply


def _passes(
    pair: Any, apply: Callable[[Any], Any], towers: Sequence[Any] = (), scope: str = ''
) -> list[Any]:
    """Fetches that go forward and backward: of what nobody fetches, TensorFlow computes nothing.

    Args:
        pair: variable of the values and of the upstream gradient.
        apply: the function, which may add its tower to ``towers``.
        towers: of quantizers.
        scope: of the variables that get a gradient, too.
    """
    from quant.backend import tf
    from quant.updates import refit

    x, upstream = tf.unstack(pair.read_value())
    y = apply(x)
    trained = []
    if scope:
        trained = tf.trainable_variables(f'{scope}/')
    gradients = tf.gradients(y, [x, *trained], upstream)
    found = [gradient for gradient in gradients if gradient is not None]
    updates = refit(towers) if towers else []
    return [y, *found, *updates]


def steps(config: Config, wanted: Sequence[Case]) -> dict[str, Callable[[], Any]]:
    """Callables that run a training step with each of some quantizers, and in float, by spelling.

    Args:
        config: of the network in float.
        wanted: quantizers.
    """
    from quant.backend import new_graph

    configs = {FLOAT: config}
    for case in wanted:
        options = QuantizationOptions(weight_quantizer=case.spec)
        if case.what == step_functions.ACTIVATIONS:
            options = QuantizationOptions(activation_quantizer=case.spec)
        for ending in endings():
            how = 'require' if ending == NATIVE else 'off'
            configs[f'{case}{ending}'] = config.replacing(**vars(options), native=how)
    runs = {}
    for name, one in followed(configs.items(), 'building', len(configs), 'networks'):
        with new_graph():
            runs[name] = step_graph(one).step
    return runs


def endings() -> list[str]:
    """Endings of the spellings of what is measured of each quantizer."""
    from quant.backend import has_gpu

    if native.is_built() and not has_gpu():
        return ['', NATIVE]
    return ['']


def row(case: Case, found: Mapping[str, Sequence[timing.Taken]], beside: str) -> list[Any]:
    """A row of a table, see ``HEADERS``.

    Args:
        case: the quantizer.
        found: what was taken by round, by spelling.
        beside: what it is compared with.
    """
    own, other = found[str(case)], found[beside]
    in_one: list[Any] = [None, None]
    if f'{case}{NATIVE}' in found:
        native_cpu, _ = np.transpose(found[f'{case}{NATIVE}'])  # [rounds] each
        other_cpu, _ = np.transpose(other)
        in_one = [1e3 * float(np.median(native_cpu)), float(np.median(native_cpu / other_cpu))]
    cpu, wall = np.transpose(own)  # [rounds] each
    cpu_ratio, wall_ratio = np.transpose(own) / np.transpose(other)
    low, middle, high = np.percentile(cpu_ratio, (25, 50, 75))
    return [
        case.spec,
        case.what,
        1e3 * float(np.median(cpu)),
        1e3 * float(np.median(wall)),
        float(middle),
        f'{low:.3g}-{high:.3g}',
        float(np.median(wall_ratio)),
        *in_one,
    ]


def quantizers(argv: Sequence[str]) -> None:
    """Measures, and prints two tables and a line of JSON."""
    args, config = parse_args(argv)
    wanted = cases(args.names or specs.names(), args.bits)
    load = os.getloadavg()[0]
    found = alone(wanted, args.rounds)
    rows_alone = []
    for case in wanted:
        rows_alone.append(row(case, found, f'{RELU} {case.what}'))
    few = cases(args.names or specs.names(), args.bits[:1])
    found = timing.costs_by_turns(steps(config, few), args.rounds)
    rows_step = [row(case, found, FLOAT) for case in few]
    shapes = ', '.join(f'{what} {list(shape)}' for what, shape in SHAPES.items())
    print(f'Alone, {shapes}, against a ReLU of the same')
    print(tabulate(rows_alone, HEADERS, floatfmt='.3g'))
    milliseconds = 1e3 * float(np.median([taken.cpu_s for taken in found[FLOAT]]))
    print(f'\nIn a training step of {config.name}, against {milliseconds:.3g} ms of CPU in float')
    print(tabulate(rows_step, HEADERS, floatfmt='.3g'))
    print(f'load {load:.2f} before, {os.getloadavg()[0]:.2f} after, {os.cpu_count()} cores')
    print(json.dumps(record(config, args.rounds, rows_alone, rows_step)))


def record(
    config: Config, rounds: int, alone: Sequence[list[Any]], step: Sequence[list[Any]]
) -> Mapping[str, Any]:
    """The line of JSON.

    Args:
        config: of the network.
        rounds: measured.
        alone: rows of quantizers by themselves.
        step: rows of quantizers in a training step.
    """
    return {
        'bench': 'quantizers',
        'config': config.name,
        'batch_size': config.batch_size,
        'shapes': SHAPES,
        'rounds': rounds,
        'load': os.getloadavg()[0],
        'alone': [dict(zip(HEADERS, values)) for values in alone],
        'step': [dict(zip(HEADERS, values)) for values in step],
    }
