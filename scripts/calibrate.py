"""Calibrates batch normalisation for input sizes, or for the widths of a slimmable network.

    python -m scripts.calibrate RUN --sizes 208 176 --images 2000   # then: --eval -ec RUN -es 208
    python -m scripts.calibrate RUN                                 # a DS-Net: all its widths

Statistics are stored beside the checkpoint (model-<step>.calibrated.npz), which is not changed.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from engine.config import hardware
from engine.config.config import check_distinct, check_sizes
from engine.quantities import counted
from scripts import parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('calibrate', __doc__)
    p.add_argument('run', metavar='RUN', help='run folder, or a checkpoint prefix in one')
    p.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='input sizes; of a slimmable network by default those of the run',
    )
    p.add_argument(
        '--widths',
        type=int,
        nargs='+',
        metavar='WIDTH',
        help='of a slimmable network; default: all',
    )
    p.add_argument(
        '--bits',
        type=int,
        nargs='+',
        metavar='BITS',
        help='of a network of several precisions: those of these bits of weights, which need not '
        'have been trained; default: those of the run',
    )
    p.add_argument(
        '--images', type=int, help='training images to use (default 2000, or all there are)'
    )
    p.add_argument(
        '--average',
        choices=('pooled', 'images'),
        default='pooled',
        help='statistics of all values together (default), or, as published, the mean over batches '
        'weighted by their images',
    )
    p.add_argument('-ep', '--epoch', type=int, help='checkpoint of this epoch; default: the last')
    p.add_argument('--data', help='default: that of the run')
    p.add_argument('--batch-size', type=int, help='default: that of the run')
    p.add_argument('--threads', type=int, default=os.cpu_count() or 1, help='decoding threads')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Calibrates, stores, and says where."""
    if args.sizes:
        check_sizes(tuple(args.sizes))
    check_distinct('--widths', args.widths or ())
    check_distinct('--bits', args.bits or ())
    hardware.check_threads(args.threads)
    from engine.evaluation import calibrate

    path, points, count = calibrate.calibrate_run(
        args.run,
        sizes=args.sizes,
        widths=args.widths,
        bits=args.bits,
        images=args.images,
        average=args.average,
        epoch=args.epoch,
        data=args.data,
        batch_size=args.batch_size,
        threads=args.threads,
    )
    calibrated = ' '.join(points)
    command = f'imagenet_tf.py --eval -ec {shlex.quote(args.run)}'
    if args.sizes:
        sizes = ' '.join(map(str, args.sizes))
        calibrated = f'sizes {sizes}'
        command += f' -es {sizes}'
    if args.bits:
        calibrated = ' '.join(points)
        command += f' -eb {" ".join(map(str, args.bits))}'
    images = counted(count, 'image')
    return f'{path}: statistics of {images} for {calibrated}; score them with {command}'


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('calibrate', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
