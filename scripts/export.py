"""Writes one operating point to a file: its own weights as constants, none of the others.

    python -m scripts.export RUN --point w03 --out FOLDER   # s160 of an RS-Net, s28-x1 of an MSDNet

`--form` chooses the format; by default it is a SavedModel, whose signature `serving_default` maps
`images`, uint8 [N, H, H, 3] in BGR order as OpenCV reads them, to `logits`. Low-bit weights are
stored with the values that they stand for, in float32.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.deployment import forms
from engine.errors import UsageError
from engine.files import making
from engine.optimization.averages import WEIGHTS
from scripts import parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('export', __doc__)
    p.add_argument('run', metavar='RUN', help='run folder, or a checkpoint prefix in one')
    p.add_argument('--point', required=True, help='operating point, as evaluation spells it')
    p.add_argument('--out', type=Path, required=True, metavar='PATH', help='folder or file to make')
    p.add_argument('--form', choices=forms.FORMS, default='savedmodel', help=forms.texts())
    p.add_argument('-ep', '--epoch', type=int, help='checkpoint of this epoch; default: the last')
    p.add_argument(
        '--weights',
        choices=WEIGHTS,
        default='raw',
        help='those that were trained, or their averages (--model-ema)',
    )
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Exports, and says what and where.

    Raises:
        UsageError: There is no such point, or what it is to make exists.
    """
    with making(args.out, '--out') as folder:
        about = export(args, folder)
    size = 0
    for path in (args.out, *args.out.rglob('*')):
        if path.is_file():
            size += path.stat().st_size
    return f'{args.out}: {about}, {size / 1e3:.1f} kB'


def export(args: argparse.Namespace, path: Path) -> str:
    """Writes the point to a new file or folder, and says what it is.

    Raises:
        UsageError: There is no such run or point.
    """
    from engine.graph import freeze
    from engine.runs import checkpoint

    prefix = checkpoint.find(args.run, args.epoch, 'RUN')
    source = checkpoint.read(prefix, flag='RUN', weights=args.weights)
    if source.config is None:
        raise UsageError(
            f'{args.run}: no config.json there; import it first with scripts/import_checkpoint.py'
        )
    known = freeze.points(source)
    if args.point not in known:
        run = shlex.quote(args.run)
        raise UsageError(
            f'--point {args.point}: {source.prefix} has {" ".join(known)}; '
            f'python -m scripts.calibrate {run} makes statistics of other sizes and widths'
        )
    forms.write(args.form, freeze.named(source, args.point), path)
    return f'{args.point} of {source.prefix}'


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('export', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
