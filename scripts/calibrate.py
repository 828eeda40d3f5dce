"""Calibrates batch normalisation for input sizes: afterwards `--eval -ec RUN -es 208` has statistics of its own.

    python -m scripts.calibrate RUN --sizes 208 176 --images 2000

Statistics are stored beside the checkpoint (model-<step>.calibrated.npz), which itself is not changed.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence

from engine.config import check_sizes
from engine.errors import UsageError


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog='python -m scripts.calibrate', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('run', metavar='RUN', help='run folder, or a checkpoint prefix in one')
    p.add_argument('--sizes', type=int, nargs='+', required=True, metavar='PIXELS')
    p.add_argument('--images', type=int, default=2000, help='training images to use (default %(default)s)')
    p.add_argument('--average', choices=('pooled', 'images'), default='pooled',
                   help='statistics of all values together (default), or, as published, the mean over batches weighted '
                   'by their images')
    p.add_argument('-ep', '--epoch', type=int, help='checkpoint of this epoch; default: the last')
    p.add_argument('--data', help='default: that of the run')
    p.add_argument('--batch-size', type=int, help='default: that of the run')
    p.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='decoding threads')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Calibrates, stores, and says where."""
    check_sizes(tuple(args.sizes))
    from engine import calibrate, checkpoint
    from engine.datasets import open_dataset
    source = checkpoint.read(checkpoint.find(args.run, args.epoch, 'RUN'), flag='RUN')
    if source.config is None:
        raise UsageError(f'{args.run}: no config.json there; import it first with scripts/import_checkpoint.py')
    changes = {'sizes': tuple(sorted(args.sizes, reverse=True)), 'data': args.data, 'batch_size': args.batch_size}
    config = dataclasses.replace(source.config, **{key: value for key, value in changes.items() if value is not None})
    if not config.data:
        raise UsageError(f'{args.run}: was imported without a data set; give --data')
    dataset = open_dataset(config.data, size=config.image_size)
    for flag, value in (('--images', args.images), ('--batch-size', config.batch_size)):
        if not 2 <= value <= len(dataset.train):
            raise UsageError(f'{flag} {value}: must lie between 2 and the {len(dataset.train)} training images')
    values = calibrate.calibrate(config, source, dataset, images=args.images, average=args.average,
                                 workers=args.workers)
    path = checkpoint.write_calibrated(source.prefix, values)
    return (f'{path}: statistics of {args.images} images for sizes {" ".join(map(str, config.sizes))}; '
            f'score them with imagenet_tf.py --eval -ec {args.run} -es {" ".join(map(str, config.sizes))}')


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 for bad input."""
    args = parse_args(argv)
    try:
        print(run(args))
    except UsageError as error:
        print(f'calibrate: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; nothing was stored', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
