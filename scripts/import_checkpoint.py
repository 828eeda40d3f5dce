"""Turns a published checkpoint into a run folder that `imagenet_tf.py --eval -ec RUN` scores.

    python -m scripts.import_checkpoint model_best.pth.tar --out RUN --data /data/ILSVRC2012

Takes the PyTorch files of RS-Nets (float), SAN, ConvNet-AIG, MSDNet, DS-Net and torchvision's
ResNets, the Torch7 file (model.t7) of the original MSDNet - read without PyTorch or Torch, tensors
only - and the TensorFlow checkpoints of RS-Nets (quantized). Input rule, sizes, architecture and
bits are inferred and recorded. A plain ResNet is a start for gates: `imagenet_tf.py --net aig
--load RUN`.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.errors import UsageError
from engine.files import making
from engine.quantities import counted
from nets.dsnet import STAGES
from scripts import parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('import_checkpoint', __doc__)
    p.add_argument(
        'file',
        metavar='FILE',
        help='file of PyTorch, Torch7, safetensors; prefix or folder of a TensorFlow checkpoint',
    )
    p.add_argument('--out', type=Path, required=True, metavar='RUN', help='run folder to make')
    p.add_argument('--data', default='', help='data set that --eval will use; else give it there')
    p.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='input sizes by position (default: 224 192 160 128 96; 224 or 32 where there is one)',
    )
    p.add_argument('--arch', help='architecture, if the file does not name it')
    p.add_argument(
        '--allow',
        nargs='+',
        default=[],
        metavar='REGEX',
        help='names, published or ours, that may lack a counterpart',
    )
    p.add_argument(
        '--stage',
        choices=STAGES,
        help='of a DS-Net: gate imports its gate too (default: supernet)',
    )
    p.add_argument(
        '--index',
        type=Path,
        metavar='FILE',
        help='index.pth of MSDNet: its last images were held out of training',
    )
    p.add_argument(
        '--holdout',
        type=int,
        metavar='IMAGES',
        help='how many of --index (default: 5000 of CIFAR, 50000 of ImageNet)',
    )
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Imports, and says what was found.

    Raises:
        UsageError: The file cannot be imported, or the folder exists.
    """
    if args.holdout is not None and args.index is None:
        raise UsageError(
            f'--holdout {args.holdout}: needs --index, which tells which images they are'
        )
    with making(args.out, '--out') as folder:
        name, about = imported_into(folder, args)
    return f'{args.out / name}: {about}'


def imported_into(folder: Path, args: argparse.Namespace) -> tuple[str, str]:
    """Makes the run folder; the name of its checkpoint, and what was found.

    Raises:
        UsageError: The file cannot be imported.
    """
    from engine.data import datasets
    from engine.importers import msdnet, pytorch
    from engine.runs import checkpoint, holdout

    held = msdnet.read_holdout(args.index, args.holdout) if args.index else None
    imported = pytorch.read(
        args.file, sizes=args.sizes, arch=args.arch, allow=args.allow, stage=args.stage
    )
    data = datasets.located(datasets.named(args.data).data)
    config = imported.config.replacing(
        data=data,
        dataset=datasets.recorded_name(data, imported.config.classes),
        holdout=len(held[0]) if held else 0,
    )
    prefix = pytorch.write(dataclasses.replace(imported, config=config), folder)
    if held:
        holdout.write(folder, *held)
    count = len(imported.values.keys() - {checkpoint.POINTS})
    sizes = ' '.join(map(str, config.sizes))
    network = f'{config.net} {config.arch}, mode {config.mode}, sizes {sizes}'
    quantized = f'W{config.qw}A{config.qa}, {counted(config.classes, "class")}'
    unused = f'not used by the network: {counted(len(imported.skipped), "published tensor")}'
    about = f'{network}, {quantized}; {counted(count, "variable")}, {unused}'
    return Path(prefix).name, about


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('import_checkpoint', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
