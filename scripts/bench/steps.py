"""Steps benchmark: a training step at several bits and in bfloat16, against float of either type.

All take turns, each in a process of its own with its own peak of memory. A processor that does not
multiply bfloat16 takes over ten times as long for it, so that there only ``--bf16`` asks for it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from engine.config import hardware
from engine.config.config import Config
from quant import QuantizationOptions
from scripts import check_bits, check_counts, parser
from scripts.bench import train

FLOAT, BFLOAT = 'float', 'float bf16'
HEADERS = ('step', 'CPU s', 'MB', 'x float', 'x float bf16', 'MB x float', 'ops', 'first step s')


def configs(flags: Sequence[str], bits: Sequence[int], *, bf16: bool) -> dict[str, Config]:
    """Configurations by name: float and all bits; float and the first bits in bfloat16.

    Args:
        flags: of the network, which is that of ``bench train`` by default.
        bits: of weights and activations.
        bf16: whether there are any in bfloat16.
    """
    config = train.configuration(train.DEFAULTS, flags)
    plain = config.replacing(**vars(QuantizationOptions()))
    found = {FLOAT: plain}
    for number in bits:
        found[f'W{number}A{number}'] = plain.replacing(qw=number, qa=number)
    if bf16:
        found[BFLOAT] = plain.replacing(bf16=True)
        found[f'W{bits[0]}A{bits[0]} bf16'] = plain.replacing(qw=bits[0], qa=bits[0], bf16=True)
    return found


def rows(found: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Rows of the table, see ``HEADERS``, from what ``train.measure`` gives.

    The ratio to float in bfloat16 is None where that was not measured.
    """
    table = []
    for name, costs in found.items():
        over_bfloat = None
        if BFLOAT in found:
            over_bfloat = costs['cpu_s'] / found[BFLOAT]['cpu_s']
        values = (
            name,
            costs['cpu_s'],
            costs['peak_rss_mb'],
            costs['cpu_s'] / found[FLOAT]['cpu_s'],
            over_bfloat,
            costs['peak_rss_mb'] / found[FLOAT]['peak_rss_mb'],
            costs['graph_ops'],
            costs['first_step_s'],
        )
        table.append(dict(zip(HEADERS, values)))
    return table


def steps(argv: Sequence[str]) -> None:
    """Measures, and prints a table and a line of JSON.

    Raises:
        UsageError: a number is out of range.
    """
    p = parser('bench steps', __doc__, 'for the network, which is that of bench train by default')
    p.add_argument('--bits', type=int, nargs='+', default=[2, 4, 8], help='1 to 8; default: 2 4 8')
    p.add_argument('--steps', type=int, default=6, help='measured steps of each; default 6')
    p.add_argument(
        '--bf16',
        action='store_true',
        default=bool(hardware.bfloat16()),
        help='bfloat16, too, whatever this processor has',
    )
    args, flags = p.parse_known_args(argv)
    check_counts(args, 'steps')
    check_bits(args.bits)
    chosen = configs(flags, args.bits, bf16=args.bf16)
    table = rows(train.measure(chosen, args.steps))
    print(tabulate([list(row.values()) for row in table], HEADERS, floatfmt='.3f'))
    print(f'{hardware.line()}; load {os.getloadavg()[0]:.2f}')
    first = chosen[FLOAT]
    about = {'bench': 'steps', 'config': first.name, 'batch_size': first.batch_size}
    print(json.dumps({**about, 'steps': args.steps, 'rows': table}))
