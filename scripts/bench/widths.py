"""Benchmark of widths (`bench infer --net dsnet`): does time follow the multiply-adds?"""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine import families, timing
from engine.config.config import Config
from engine.errors import UsageError
from nets import cost
from quant import backend
from scripts import check_counts
from scripts.bench.infer import (
    RATIOS,
    Costs,
    flags,
    milliseconds,
    over,
    ratios,
    report,
    served,
    static,
    told,
    unfolded,
    worked,
)

# A network of many widths with a gate for them.
PRESET = 'dsnet_mbv1_gate'

HEADERS = ('batch', 'width', *RATIOS, 'ms')


def parse_args(net: str, argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: A number is out of its range.
    """
    p = flags(net, __doc__, rounds=10, rounds_help='of all widths in turn')
    p.add_argument('--arch', default='mobilenetv1')
    p.add_argument('--size', type=int, default=224)
    p.add_argument(
        '--widths',
        type=int,
        nargs='+',
        default=[13, 8, 4, 0],
        help='the first is what others compare with',
    )
    args = p.parse_args(argv)
    check_counts(args, 'batches', 'rounds')
    if len(set(args.widths)) < 2:
        named = ' '.join(map(str, args.widths))
        raise UsageError(f'--widths {named}: give two or more, which are compared')
    return args


def configuration(arch: str, size: int, widths: Sequence[int]) -> Config:
    """A DS-Net with a gate that chooses among widths.

    Args:
        arch: Architecture.
        size: Input size in pixels.
        widths: Indices of sub-networks.
    """
    values = families.presets()[PRESET].values
    chosen = tuple(sorted(widths))
    own = {
        'arch': arch,
        'sizes': (size,),
        'image_size': size,
        'resize': 'area',
        'routes': chosen,
        'widths': chosen,
    }
    config = Config.from_values(**{**values, **own})
    config.check()
    return config


def infer(net: str, argv: Sequence[str]) -> None:
    """Widths against the widest one; a mixed batch against its groups."""
    args = parse_args(net, argv)
    backend.pool(args.threads)
    source, layers = worked(configuration(args.arch, args.size, args.widths))
    network = source.config.network()
    points, madds = {}, {}
    for width in args.widths:
        points[width] = str(network.point(args.size, width))
        madds[width] = cost.madds(layers[points[width]])
    rows = []
    lines = []
    mixed: dict[int, dict[str, float]] = {}
    for batch in args.batches:
        runs = callables(source, points, batch, args.threads)
        costs = timing.costs_by_turns(runs, args.rounds)
        rows.extend(width_rows(batch, args.widths, costs, madds))
        if 'mixed' in costs:
            mixed[batch] = against_groups(costs, args.widths)
            lines.append(mixed_line(batch, mixed[batch]))
    report(net, HEADERS, rows, *lines, arch=args.arch, mixed=mixed)


def width_rows(
    batch: int, widths: Sequence[int], costs: Costs, madds: Mapping[int, float]
) -> list[tuple[float, ...]]:
    """Rows of the table for one batch size.

    Args:
        batch: Number of images.
        widths: Others are compared with the first.
        costs: For a batch, by what ran.
        madds: By width.
    """
    whole = {**costs, 'static': costs[str(widths[0])]}
    rows: list[tuple[float, ...]] = []
    for width in widths:
        found = ratios(whole, str(width), madds[width] / madds[widths[0]])
        rows.append((batch, width, *found, milliseconds(costs, str(width))))
    return rows


def against_groups(costs: Costs, widths: Sequence[int]) -> dict[str, float]:
    """A mixed batch against its groups: milliseconds of both, and ratios of wall and CPU time."""
    together = []
    for taken in zip(*(costs[f'group {width}'] for width in widths), strict=True):
        cpu = sum(one.cpu_s for one in taken)
        together.append(timing.Taken(cpu, sum(one.wall_s for one in taken)))
    both = {'mixed': costs['mixed'], 'groups': together}
    ratio = over(both, 'mixed', 'groups')
    return {
        'ms': milliseconds(both, 'mixed'),
        'groups_ms': milliseconds(both, 'groups'),
        'ratio': ratio.wall_s,
        'cpu_ratio': ratio.cpu_s,
    }


def mixed_line(batch: int, found: Mapping[str, float]) -> str:
    """The line below the table for a mixed batch, from ``against_groups``."""
    return (
        f'mixed batch of {batch}: {found["ms"]:.1f} ms, '
        f'its groups {found["groups_ms"]:.1f} ms, ratio {found["ratio"]:.3f}, '
        f'of CPU time {found["cpu_ratio"]:.3f}'
    )


def callables(
    source: Any, points: Mapping[int, str], batch: int, threads: int
) -> dict[str, Callable[[], Any]]:
    """Alternatives that take turns: every width, by its index, for a whole batch of random images.

    With an image for each width, also a batch of all widths (``mixed``), and its groups alone. All
    are served as by ``Predictor``.

    Args:
        source: A network with a gate.
        points: Operating points by width.
        batch: Number of images.
        threads: Of one operation; 0 takes all cores.
    """
    from engine.deployment import trace
    from engine.deployment.tf_graph import graph_of

    side = source.config.image_size
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(batch, side, side, 3), dtype=np.uint8)
    alone = {}
    for width, point in points.items():
        alone[width] = static(source, point, threads)
    found: dict[str, Callable[[], Any]] = {}
    for width, run in alone.items():
        found[str(width)] = functools.partial(run, images)
    widest, *_ = points.values()
    found['unfolded'] = functools.partial(unfolded(source, widest, threads), images)
    if batch < len(points):
        return found
    network = source.config.network()
    (name,) = network.choosing
    routes = network.routes
    # Positions in the routes.
    decisions = (np.arange(batch) * len(routes) // batch).astype(np.int64)  # [batch]
    choosing = told(graph_of(trace.of_points(source, [name]), [name]))
    found['mixed'] = functools.partial(served(choosing, threads), images, decisions)
    for width, run in alone.items():
        group = images[decisions == routes.index(width)]
        found[f'group {width}'] = functools.partial(run, group)
    return found
