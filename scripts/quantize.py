"""Quantizes a float run without training, and evaluates it: the baseline of all quantizers.

    python -m scripts.quantize RUN --qw 8 --qa 8                      # makes RUN-w8a8-mse
    python -m scripts.quantize RUN --qw 4 --qa 8 --method percentile --out RUN2

Weights get one step for each output channel; the range of activations is observed on training
images, layer after layer. Stem and classifier stay float. The run itself is not changed; the new
one can be exported, and training can go on from it with `imagenet_tf.py --load RUN2`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.config import hardware
from engine.files import making
from quant.affine import METHODS
from scripts import copies, parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('quantize', __doc__)
    p.add_argument('run', metavar='RUN', help='run folder, or a checkpoint prefix in it')
    p.add_argument('--qw', type=int, default=32, metavar='BITS', help='of weights; 32 is float')
    p.add_argument('--qa', type=int, default=32, metavar='BITS', help='of activations; likewise')
    p.add_argument(
        '--method',
        choices=METHODS,
        default='mse',
        help='what ranges are observed by: extremes, percentile, least squared error (default)',
    )
    p.add_argument(
        '--out', type=Path, metavar='RUN2', help='run folder to make; default: RUN-w8a8-mse'
    )
    p.add_argument(
        '--images', type=int, help='training images to observe (default 512, or all there are)'
    )
    p.add_argument('-ep', '--epoch', type=int, help='checkpoint of this epoch; default: the last')
    p.add_argument('--data', help='default: that of the run')
    p.add_argument('--threads', type=int, default=os.cpu_count() or 1, help='decoding threads')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Quantizes, evaluates, and says how accurate both runs are.

    Raises:
        UsageError: There is no such float run or data, or the folder exists.
    """
    hardware.check_threads(args.threads)
    from engine.evaluation.quantize import Asked, quantize_run
    from engine.runs import checkpoint

    before = Path(checkpoint.find(args.run, args.epoch, 'RUN')).parent

    bits = f'w{args.qw}a{args.qa}'
    out = args.out or copies.default(before, f'-{bits}-{args.method}')
    asked = Asked(args.qw, args.qa, f'affine(method={args.method!r})')
    with making(out, '--out') as folder:
        prefix = quantize_run(
            args.run,
            folder,
            asked,
            images=args.images,
            epoch=args.epoch,
            data=args.data,
            threads=args.threads,
        )
    copies.evaluate(out, data=args.data)
    table = copies.accuracies(before, out, 'raw', bits)
    return f'{table}\n{out / Path(prefix).name}: {bits} by {args.method}, nothing trained'


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('quantize', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
