"""Benchmark of early exit (`bench infer --net msdnet`): does time follow the multiply-adds?"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from engine.config.config import Config
from engine.config.presets import PRESETS
from engine.errors import UsageError

HEADERS = (
    'batch',
    'budget',
    'MAdds ratio',
    'time ratio',
    'time / MAdds',
    'full ms',
    'early ms',
    'other answers',
)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog='bench infer --net msdnet')
    p.add_argument(
        '--preset',
        default='msd_imagenet4',
        choices=[name for name in PRESETS if name.startswith('msd_')],
    )
    p.add_argument(
        '--budgets',
        type=float,
        nargs='+',
        default=[0.25, 0.5, 0.75],
        help='of the full multiply-adds',
    )
    p.add_argument('--batches', type=int, nargs='+', default=[1, 32])
    p.add_argument(
        '--images', type=int, default=64, help='random images, over which a budget is met'
    )
    p.add_argument(
        '--rounds', type=int, default=3, help='of full and early exit in turn, over all images'
    )
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
    args = p.parse_args(argv)
    if (
        not all(0 < share <= 1 for share in args.budgets)
        or min(*args.batches, args.rounds, args.images) < 1
    ):
        raise UsageError(
            '--budgets must lie between 0 and 1; --batches, --images and --rounds be at least 1'
        )
    return args


def infer(argv: Sequence[str]) -> None:
    """Early exit at budgets against the full network, on random weights and images."""
    args = parse_args(argv)
    from engine.deployment.early_exit import EarlyExit
    from engine.evaluation.evaluators.exits import exit_madds
    from engine.graph.tower import Model
    from engine.results import exit_thresholds
    from engine.timing import take_turns

    config = Config(**PRESETS[args.preset].values)
    (side,) = config.sizes
    model = Model(dataclasses.replace(config, image_size=side, resize='area'), data_format='NHWC')
    _, layers = model.inspect()
    madds = exit_madds(model, layers, side)
    runner = EarlyExit(model, model.starting_values(), side, threads=args.threads)
    images = np.random.default_rng(0).integers(
        256, size=(args.images, side, side, 3), dtype=np.uint8
    )
    labels, confidence = map(
        np.transpose,
        zip(
            *(
                runner.predict(
                    [images],
                    [exit_thresholds.NEVER] * k + [exit_thresholds.ALWAYS] * (len(madds) - k),
                )[:2]
                for k in range(len(madds))
            )
        ),
    )
    rows = []
    for batch in args.batches:
        parts = [[images[start : start + batch]] for start in range(0, len(images), batch)]
        for share in args.budgets:
            thresholds = exit_thresholds.solve(confidence, madds, share * madds[-1])
            runs = {
                name: functools.partial(_all, runner, parts, limits)
                for name, limits in (('full', None), ('early', thresholds))
            }
            times = take_turns(runs, args.rounds)
            answers, _, leaves = map(np.concatenate, zip(*runs['early']()))
            other = int((answers != labels[np.arange(len(labels)), leaves]).sum())
            ratio = float(madds[leaves].mean() / madds[-1])
            full, early = (
                1e3 * float(np.median(times[name])) / len(parts) for name in ('full', 'early')
            )
            rows.append(
                (batch, share, ratio, early / full, early / full / ratio, full, early, other)
            )
    print(tabulate(rows, headers=HEADERS, floatfmt='.3g'))
    print(
        json.dumps(
            {
                'bench': 'infer',
                'net': 'msdnet',
                'preset': args.preset,
                'rows': [dict(zip(HEADERS, map(float, row))) for row in rows],
            }
        )
    )


def _all(runner, parts, thresholds):
    return [runner.predict(part, thresholds) for part in parts]
