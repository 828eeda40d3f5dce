"""Makes a copy of a run whose levels are small whole numbers times a scale, and evaluates it.

    python -m scripts.snap RUN                       # makes RUN-snapped
    python -m scripts.snap RUN --out RUN2 --weights ema
    python -m scripts.export RUN-snapped --form int8 --out net.onnx

Integer arithmetic computes whole numbers. The nearest levels that are some are put in place of
those that were learned, and that network is evaluated and shipped; the run itself is not changed.
Weights get whole numbers up to 127 for each output channel, activations up to 255 for each tensor.
At 2 bits that changes next to nothing; at 3 and 4 bits train with --snap-epochs.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from engine.errors import UsageError
from engine.files import in_shell, making
from engine.optimization.averages import WEIGHTS
from engine.results.records import read_score
from scripts import parser, status

# End of the name of the folder that is made.
SUFFIX = '-snapped'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('snap', __doc__)
    p.add_argument('run', metavar='RUN', help='run folder, or a checkpoint prefix in it')
    p.add_argument(
        '--out', type=Path, metavar='RUN2', help=f'run folder to make; default: RUN{SUFFIX}'
    )
    p.add_argument('-ep', '--epoch', type=int, help='checkpoint of this epoch; default: the last')
    p.add_argument(
        '--weights',
        choices=WEIGHTS,
        default='raw',
        help='those that were trained, or their averages (--model-ema)',
    )
    p.add_argument('--data', help='evaluation images; default: as the run recorded it')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Snaps, evaluates, and says how accurate both are.

    Raises:
        UsageError: There is no such run, it has no levels to snap, or the folder exists.
    """
    from engine.runs import checkpoint

    prefix = checkpoint.find(args.run, args.epoch, 'RUN')
    folder = Path(prefix).parent
    out = args.out or default(folder)
    made = make(prefix, out, weights=args.weights)
    evaluate(out, data=args.data)
    return f'{accuracies(folder, out, args.weights, "snapped")}\n{made}'


def default(folder: Path) -> Path:
    """The folder beside a run folder that its snapped copy gets."""
    folder = folder.resolve()
    return folder.with_name(f'{folder.name}{SUFFIX}')


def make(prefix: str, out: Path, *, weights: str) -> str:
    """Makes the run folder, and says what changed.

    Args:
        prefix: of the checkpoint.
        out: the folder.
        weights: as of ``--weights``.

    Raises:
        UsageError: It has no levels to snap, or the folder exists.
    """
    from engine.deployment import snapping
    from engine.importers import copying
    from engine.runs import checkpoint

    with making(out, '--out') as folder:
        found = snapping.snapped(checkpoint.read(prefix, flag='RUN', weights=weights))
        made = Path(copying.write(found.source, folder)).name
    return (
        f'{out / made}: {found.variables} variables with levels snapped, by at most '
        f'{100 * found.moved:.2f} % of the largest entry'
    )


def evaluate(folder: Path, *, data: str | None) -> None:
    """Evaluates a run folder at the points that it was trained at, and at those calibrated.

    Raises:
        UsageError: Its data are not there.
    """
    from engine.config.cli import parse
    from engine.evaluation.command import run_evaluation
    from engine.runs import checkpoint

    source = checkpoint.read(checkpoint.find(str(folder), None, 'RUN'), flag='RUN')
    if not (data or (source.config and source.config.data)):
        print(f'{folder}: not evaluated, it knows of no data; --data names some')
        return
    flags = ['--eval', '-ec', str(folder)]
    if data:
        flags += ['--data', data]
    run_evaluation(parse(flags))
    calibrated = [str(size) for size in source.sizes if size not in source.trained]
    if calibrated:
        run_evaluation(parse([*flags, '-es', *calibrated]))


def accuracies(before: Path, after: Path, weights: str, change: str) -> str:
    """Top-1 of two run folders at every point, as their records have it; empty without any.

    Args:
        before: folder of the run.
        after: of its changed copy.
        weights: of the run that were changed.
        change: what was done to them, for the head of the table.
    """
    own = before / 'eval'
    if weights != 'raw':
        own = own / weights
    rows = []
    for path in sorted((after / 'eval').glob('*.json')):
        trained = None
        with contextlib.suppress(UsageError):
            trained = read_score(own / path.name).top1
        rows.append([path.stem, trained, read_score(path).top1])
    if not rows:
        return ''
    if any(row[1] is None for row in rows):
        print(f'imagenet_tf.py --eval -ec {in_shell(before)} evaluates the run itself')
    headers = ['point', 'top-1, as trained', f'top-1, {change}']
    return tabulate(rows, headers, floatfmt='.2f', missingval='-')


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('snap', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
