"""Turns a published checkpoint into a run folder that `imagenet_tf.py --eval -ec RUN` scores.

    python -m scripts.import_checkpoint model_best.pth.tar --out train_log/rsnet18 --data /data/ILSVRC2012

Takes the PyTorch files of RS-Nets (float), SAN, ConvNet-AIG and torchvision's ResNets - read without PyTorch, tensors
only - and the TensorFlow checkpoints of RS-Nets (quantized). Input rule, sizes, architecture and bits are inferred and
recorded. A plain ResNet is a start for gates: `imagenet_tf.py --net aig --load RUN`.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.errors import UsageError


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog='python -m scripts.import_checkpoint', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('file', metavar='FILE', help='*.pth.tar, or the prefix or folder of a TensorFlow checkpoint')
    p.add_argument('--out', type=Path, required=True, metavar='RUN', help='run folder to make')
    p.add_argument('--data', default='', help='data set that --eval will use; else give it there')
    p.add_argument('--sizes', type=int, nargs='+', metavar='PIXELS',
                   help='input sizes by position (default: 224 192 160 128 96; 224 or 32 where there is one)')
    p.add_argument('--arch', help='architecture, if the file does not name it')
    p.add_argument('--allow', nargs='+', default=[], metavar='REGEX',
                   help='names, published or ours, that may lack a counterpart')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Imports, and says what was found."""
    if args.out.exists():
        raise UsageError(f'--out {args.out}: exists; choose a new folder')
    from engine import importer
    imported = importer.read(args.file, sizes=args.sizes, arch=args.arch, allow=args.allow)
    imported = dataclasses.replace(imported, config=dataclasses.replace(imported.config, data=args.data))
    prefix = importer.write(imported, args.out)
    config = imported.config
    return (f'{prefix}: {config.net} {config.arch}, mode {config.mode}, sizes {" ".join(map(str, config.sizes))}, '
            f'W{config.qw}A{config.qa}, {config.classes} classes; {len(imported.values)} variables, '
            f'{len(imported.skipped)} published tensors are not used by the network')


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 for bad input."""
    args = parse_args(argv)
    try:
        print(run(args))
    except UsageError as error:
        print(f'import_checkpoint: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
