"""Benchmark of widths (`bench infer --net dsnet`): does time follow the multiply-adds?"""

import argparse
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from engine.config.config import Config
from engine.config.presets import PRESETS
from engine.errors import UsageError

HEADERS = ('batch', 'width', 'MAdds ratio', 'time ratio', 'time / MAdds', 'ms')


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog='bench infer --net dsnet')
    p.add_argument('--arch', default='mobilenetv1')
    p.add_argument('--size', type=int, default=224)
    p.add_argument(
        '--widths',
        type=int,
        nargs='+',
        default=[13, 8, 4, 0],
        help='the first is what others compare with',
    )
    p.add_argument('--batches', type=int, nargs='+', default=[1, 32])
    p.add_argument('--rounds', type=int, default=10, help='of all widths in turn')
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
    args = p.parse_args(argv)
    if min(*args.batches, args.rounds) < 1 or len(set(args.widths)) < 2:
        raise UsageError('--batches and --rounds must be at least 1, --widths two or more')
    return args


def infer(argv: Sequence[str]) -> None:
    """Widths against the widest one; a mixed batch against its groups."""
    args = parse_args(argv)
    from engine.graph.tower import Model
    from engine.timing import take_turns
    from nets import cost

    config = Config(
        **{
            **PRESETS['dsnet_mbv1_gate'].values,
            'arch': args.arch,
            'sizes': (args.size,),
            'image_size': args.size,
            'resize': 'area',
            'routes': tuple(sorted(args.widths)),
            'widths': tuple(sorted(args.widths)),
        }
    )
    config.check()
    model = Model(config, data_format='NHWC')
    _, layers = model.inspect()
    values, rows, mixed = model.starting_values(), [], {}
    points = {width: model.net.point(args.size, width) for width in args.widths}
    madds = {width: cost.madds(layers[str(point)]) for width, point in points.items()}
    widest = args.widths[0]
    for batch in args.batches:
        runs = callables(model, values, points, batch, args.threads)
        times = {
            name: float(np.median(taken)) for name, taken in take_turns(runs, args.rounds).items()
        }
        for width in args.widths:
            time, share = times[str(width)] / times[str(widest)], madds[width] / madds[widest]
            rows.append((batch, width, share, time, time / share, 1e3 * times[str(width)]))
        if 'mixed' in times:
            groups = sum(times[f'group {width}'] for width in args.widths)
            mixed[batch] = {
                'ms': 1e3 * times['mixed'],
                'groups_ms': 1e3 * groups,
                'ratio': times['mixed'] / groups,
            }
    print(tabulate(rows, headers=HEADERS, floatfmt='.3g'))
    for batch, found in mixed.items():
        print(
            f'mixed batch of {batch}: {found["ms"]:.1f} ms, '
            f'its groups {found["groups_ms"]:.1f} ms, '
            f'ratio {found["ratio"]:.3f}'
        )
    print(
        json.dumps(
            {
                'bench': 'infer',
                'net': 'dsnet',
                'arch': args.arch,
                'mixed': mixed,
                'rows': [dict(zip(HEADERS, map(float, row))) for row in rows],
            }
        )
    )


def callables(
    model: Any,
    values: Mapping[str, np.ndarray],
    points: Mapping[int, Any],
    batch: int,
    threads: int,
) -> dict[str, Callable[[], Any]]:
    """Every width for the whole batch; also a batch of all routes, and its groups alone."""
    from engine.graph.freeze import freeze, of_point
    from quant.backend import tf

    side = model.config.image_size
    images = np.random.default_rng(0).integers(256, size=(batch, side, side, 3), dtype=np.uint8)
    alone = {
        width: of_point(model, point, values).runs(threads)[0] for width, point in points.items()
    }
    found: dict[str, Callable[[], Any]] = {
        str(width): functools.partial(run, images) for width, run in alone.items()
    }
    if batch < len(points):
        return found
    routes = model.net.routes
    decisions = (np.arange(batch) * len(routes) // batch).astype('int32')

    def build() -> list[tuple[list[tf.Tensor], list[tf.Tensor]]]:
        feeds = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        chosen = tf.placeholder(tf.int32, [None])
        outputs = model.net.outputs(
            model.views(feeds), model.blocks(training=False), execution='group', decisions=chosen
        )
        return [([*feeds, chosen], [outputs.extras['dynamic']])]

    found['mixed'] = functools.partial(freeze(build, values).runs(threads)[0], images, decisions)
    return found | {
        f'group {width}': functools.partial(alone[width], images[decisions == routes.index(width)])
        for width in points
    }
