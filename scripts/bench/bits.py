"""Bits benchmark: a training step over several precisions, against one of each of them alone.

What is one network in the former are as many networks in the latter, with codes of their own. All
take turns, each in a process of its own.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from engine.config import hardware
from engine.config.config import Config
from engine.console import followed
from engine.errors import UsageError
from quant import specs
from quant.precision import Precision
from scripts import check_counts, parser
from scripts.bench import train, turns

DEFAULTS = shlex.split(
    '--preset demo --sizes 28 20 12 --batch_size 32 --bits 4 3 2 '
    '--weight-quantizer "lq(nested=True)"'
)
JOINT = 'joint'
HEADERS = ('step', 'CPU s', 'wall s', 'MB', 'ops')


class Ratio(NamedTuple):
    """CPU of a joint step over the mean of those of its precisions, by rounds.

    Attributes:
        median: of the rounds.
        lower, upper: between which the middle half lies.
    """

    median: float
    lower: float
    upper: float


def alone(spec: str) -> str:
    """The spec of a quantizer in a network of one precision.

    >>> alone('lq(bits=(4, 2), nested=True, decay=0.5)'), alone('adabits'), alone('')
    ('lq(decay=0.5)', 'adabits', '')
    """
    if spec in ('', specs.FLOAT):
        return spec
    name, options = specs.split(spec)
    for option in ('bits', 'nested', 'precisions'):
        options.pop(option, None)
    return specs.with_options(name, options) if options else name


def individual(config: Config, precision: Precision) -> Config:
    """The configuration of a network that has one of the precisions alone."""
    return config.replacing(
        bits=(),
        used_bits=(),
        qw=precision.weights,
        qa=precision.activations,
        quantizer=alone(config.quantization.quantizer),
        weight_quantizer=alone(config.quantization.weight_quantizer),
        activation_quantizer=alone(config.quantization.activation_quantizer),
    )


def configs(flags: Sequence[str]) -> dict[str, Config]:
    """Configurations by name: the joint one, and that of each of its precisions.

    Raises:
        UsageError: there are no precisions.
    """
    config = train.configuration(DEFAULTS, flags)
    if not config.quantization.precisions:
        raise UsageError('--qw, --qa: give --bits 4 3 2, whose step is compared with those of each')
    found = {JOINT: config}
    for precision in config.quantization.precisions:
        name = f'W{precision.weights}A{precision.activations}'
        found[name] = individual(config, precision)
    return found


def ratio(costs: Mapping[str, Sequence[turns.Step]]) -> Ratio:
    """How often a joint step costs one of its precisions, round by round, see ``Ratio``."""
    each = []
    for name, steps in costs.items():
        if name != JOINT:
            each.append([step.cpu_s for step in steps])
    means = np.mean(each, axis=0)  # [rounds]
    ratios = [step.cpu_s for step in costs[JOINT]] / means
    lower, median, upper = np.quantile(ratios, (0.25, 0.5, 0.75))
    return Ratio(float(median), float(lower), float(upper))


def bits(argv: Sequence[str]) -> None:
    """Measures, and prints a table and a line of JSON.

    Raises:
        UsageError: there is nothing to measure.
    """
    p = parser('bench bits', __doc__, 'for the network, which is the demo at sizes 28 20 12')
    p.add_argument('--steps', type=int, default=20, help='measured steps of each; default 20')
    args, flags = p.parse_known_args(argv)
    check_counts(args, 'steps')
    chosen = configs(flags)
    processes = {}
    for name, config in followed(chosen.items(), 'starting', len(chosen), 'processes'):
        processes[name] = train.start(config)
    costs = turns.by_turns(processes, args.steps)
    table = []
    for name, steps in costs.items():
        cpu, wall, peak = np.transpose(steps)  # [rounds] each
        ops = processes[name].about['graph_ops']
        values = name, float(np.median(cpu)), float(np.median(wall)), float(peak.max()), ops
        table.append(dict(zip(HEADERS, values)))
    found = ratio(costs)
    print(tabulate([list(row.values()) for row in table], HEADERS, floatfmt='.3f'))
    print(
        f'CPU of a joint step / mean of one of each: {found.median:.2f} '
        f'({found.lower:.2f} to {found.upper:.2f})'
    )
    print(f'{hardware.line()}; load {os.getloadavg()[0]:.2f}')
    config = chosen[JOINT]
    about = {'bench': 'bits', 'config': config.name, 'batch_size': config.batch_size}
    print(json.dumps({**about, 'steps': args.steps, 'rows': table, 'ratio': found._asdict()}))
