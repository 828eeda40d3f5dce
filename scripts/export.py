"""Writes operating points of a run to a file for other programs, and checks what it answers.

    python -m scripts.export RUN --out net.onnx                        # all points in one ONNX file
    python -m scripts.export RUN --point w03 --out narrow.onnx         # one width of a DS-Net
    python -m scripts.export RUN --points dynamic --out choosing.onnx  # exits, gates choose
    python -m scripts.export RUN --cascade FILE --out cascade.onnx     # a size per image
    python -m scripts.export RUN --form int8 --snap --out fast.onnx    # for integer arithmetic
    python -m scripts.export RUN --out FOLDER                          # a SavedModel of TensorFlow
    python -m scripts.export RUN --out net.lqn                         # bit planes, for C
    python -m scripts.export net.lqn --bits-first 2 --out first.lqn    # its start: the 2-bit points
    python -m scripts.export net.lqn --point s28-b2 --out small.onnx   # a point of it
    python -m scripts.export --show net.onnx                           # its tables; --format

`--form packed`, the default of a name that ends in .onnx, stores low-bit kernels as codes, four of
2 bits in a byte, with their levels: a file of the size that the tables promise, which gives the
answers of evaluation. All points share the file; the input `point` chooses one by its place.
`--form int8` has layers of whole numbers of 8 bits, which OpenVINO computes in integers, and is for
runs whose levels are such (scripts.snap, or --snap on the way). `--form float` stores kernels in
float32, and `--form savedmodel` makes a folder with a signature for each point, which maps `images`
to `logits`; `serving_default` is the strongest.

The images of all are uint8 [N, side, side, 3] in BGR order as OpenCV reads them (of grey networks
[N, side, side, 1]), cut as evaluation cuts them; normalisation and resizing are in the file.
Evaluation images go through every runtime that is installed, and a file that answers differently is
not kept.

At an operating point every layer is executed for every image. `--points dynamic` writes the choices
that a network makes image by image: an ONNX file that takes one image, skips blocks, leaves at an
exit or takes a width as evaluation does, and says so in the output `executed`. `--cascade` writes a
chain of points of scripts.thresholds likewise, and `executed` is the stage that answered.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.deployment import forms, runtimes, texts
from engine.errors import UsageError
from engine.files import making
from engine.results import cascades, exit_thresholds, formats
from scripts import add_format, copies, export_file, parser, prune_gates, snap, status
from scripts.export_file import Differs

ALL, DYNAMIC = 'all', 'dynamic'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('export', __doc__)
    p.add_argument('run', metavar='RUN', nargs='?', help='run folder, or a checkpoint prefix in it')
    p.add_argument(
        '--point',
        '--points',
        dest='points',
        nargs='+',
        default=[ALL],
        metavar='POINT',
        help='operating points, as evaluation spells them, or dynamic; default: all',
    )
    p.add_argument(
        '--thresholds',
        type=Path,
        metavar='FILE',
        help='with --points dynamic: where images leave a network with exits, a file of '
        'scripts.thresholds; default: the one in RUN/exits',
    )
    p.add_argument(
        '--cascade',
        type=Path,
        metavar='FILE',
        help='in place of points: a chain of them, a file of scripts.thresholds --cascade',
    )
    p.add_argument('--out', type=Path, metavar='PATH', help='folder or file to make')
    p.add_argument('--form', choices=forms.FORMS, help=forms.texts())
    copies.checkpoint_flags(p)
    p.add_argument(
        '--verify',
        type=_count,
        default=500,
        metavar='N',
        help='evaluation images that the file is checked with, or all; default: 500',
    )
    p.add_argument('--data', help='where these images are; default: as the run recorded it')
    p.add_argument(
        '--bits-first',
        type=int,
        metavar='BITS',
        help='of a .lqn file the part alone that points of so many bits need; the rest can follow',
    )
    p.add_argument(
        '--no-preprocess',
        action='store_true',
        help="take images of the point's own size, whose height chooses it: float32, 0 to 255",
    )
    p.add_argument(
        '--snap',
        action='store_true',
        help=f'export RUN{snap.SUFFIX}, which is made first, see scripts.snap',
    )
    p.add_argument(
        '--prune-gates',
        type=float,
        metavar='SHARE',
        help=f'export RUN{prune_gates.SUFFIX}, which is made first, see scripts.prune_gates',
    )
    p.add_argument(
        '--show', type=Path, metavar='FILE', help='print what an exported file or folder holds'
    )
    add_format(p)
    args = p.parse_args(argv)
    makes = [value for value in (args.run, args.out) if value is not None]
    if len(makes) != (2 if args.show is None else 0):
        p.error('give RUN and --out PATH, or --show FILE alone')
    if args.show is None and args.format != formats.FORMATS[0]:
        p.error(f'--format {args.format}: only --show has it')
    return args


def _count(text: str) -> int:
    if text == ALL:
        return sys.maxsize
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} must be a number from 1 on, or {ALL}')
    return int(text)


def run(args: argparse.Namespace) -> str:
    """Exports, checks, and says what and where; or shows what a file holds.

    Raises:
        UsageError: There is no such run or point, or what it is to make exists.
    """
    if args.show is not None:
        return export_file.show(args.show, args.format)
    of_file = export_file.is_source(args.run)
    with making(args.out, '--out') as path:
        about = export_file.export(args, path) if of_file else export(args, path)
    return f'{args.out}: {about}, {export_file.size(args.out) / 1e3:.1f} kB'


def export(args: argparse.Namespace, path: Path) -> str:
    """Writes the points to a new file or folder, checks it, and says what it is.

    Raises:
        UsageError: There is no such run or point, or there are no images to check it with.
        Differs: It answers differently than evaluation, or a runtime cannot run it.
    """
    if args.prune_gates is not None:
        prune_gates.check_share(args.prune_gates, '--prune-gates')
    form = forms.asked(args.form, args.out)
    exporter = forms.exporter(form)
    cascade = _cascade(args, form, exporter)
    if args.no_preprocess:
        exporter.leave_resize()
    if args.bits_first is not None:
        exporter.cut(args.bits_first)
    exporter.cascade = cascade
    from engine.deployment import verification
    from scripts import export_run

    recorded = export_run.recorded(args, exporter)
    points = _settled(args, recorded, exporter)
    dataset = verification.opened(recorded, args.data)
    # TensorFlow is loaded from here on.
    source = export_run.source(args, recorded.prefix)
    if args.prune_gates is not None:
        points = _settled(args, source, exporter)  # fewer, where no gate is left
    images = verification.images(source, dataset, args.verify)
    exporter.write(source, points, path)
    try:
        found = verification.compare(exporter, path, source, points, images)
    except runtimes.CannotRun as error:
        raise Differs(f'{args.out} is not made: {error}') from error
    if found:
        labelled = images.labels is not None
        print(f'checked with {images.total} {images.what}')
        print(verification.table(found, labelled=labelled))
    wrong = [one for one in found if one.wrong > exporter.tolerated * one.images]
    if wrong:
        raise Differs(_difference(args, source, points, wrong))
    exporter.note(path, {'verified': texts.spell(verification.facts(found))})
    return f'{" ".join(points)} of {source.prefix}'


def _settled(args: argparse.Namespace, source: Any, exporter: forms.Exporter) -> list[str]:
    """The points that are exported of a checkpoint; its exporter gets the thresholds of exits.

    Args:
        args: the flags.
        source: the checkpoint, as its run folder describes it or read.
        exporter: of the form that is written.

    Raises:
        UsageError: the network or the form has no such points.
    """
    from engine.deployment import chaining

    if exporter.cascade is not None:
        points = [chaining.checked(source, exporter.cascade, f'--cascade {args.cascade}')]
    else:
        points = _points(args, source)
    choosing = source.config.network().choosing
    if not exporter.chooses and not choosing.keys().isdisjoint(points):
        raise UsageError(
            f'--points {" ".join(points)}: this format holds operating points alone; '
            '--out NAME.onnx can hold choices'
        )
    exporter.thresholds = _thresholds(args, source, points)
    return points


def _difference(
    args: argparse.Namespace, source: Any, points: Sequence[str], wrong: Sequence[Any]
) -> str:
    """Says where a file answers differently, and what would help.

    Args:
        args: the flags.
        source: the checkpoint.
        points: that were exported.
        wrong: ``verification.Comparison`` of those that answer differently.
    """
    from engine.deployment import snapping

    first = wrong[0]
    faulty = {one.point for one in wrong}
    right = [point for point in points if point not in faulty]
    remedy = f'; --points {" ".join(right)} would be' if right else ''
    if snapping.would_change(source):
        remedy += '; --snap has sums of whole numbers, which are the same in any order'
    return (
        f'{args.out} is not made: {first.runtime} answers {first.wrong} of {first.images} images '
        f'differently at {first.point}{remedy}'
    )


def _cascade(args: argparse.Namespace, form: str, exporter: forms.Exporter) -> Any:
    """The cascade to export; None where points are.

    Args:
        args: the flags.
        form: that is written.
        exporter: of this form.

    Raises:
        UsageError: It cannot be read, or other flags say what to export.
    """
    if args.cascade is None:
        return None
    place = f'--cascade {args.cascade}'
    if args.points != [ALL] or args.thresholds is not None:
        other = '--thresholds' if args.points == [ALL] else '--points'
        raise UsageError(f'{place}: says points and thresholds; leave {other} out')
    if args.snap or args.prune_gates is not None:
        other = '--snap' if args.snap else '--prune-gates'
        raise UsageError(
            f'{place}: was chosen for {args.run} as it is, and {other} changes it; leave {other} '
            'out, or choose a cascade for the copy'
        )
    if not exporter.chooses:
        raise UsageError(
            f'{place}: --form {form} holds operating points alone; --out NAME.onnx, in the forms '
            f'{", ".join(forms.onnx())}, can hold a cascade'
        )
    found = cascades.read(args.cascade)
    if len(found.points) == 1:
        raise UsageError(f'{place}: is one point; --points {found.name} writes it')
    return found


def _points(args: argparse.Namespace, source: Any) -> list[str]:
    """The points to export, in the order of the network.

    Args:
        args: the flags.
        source: the checkpoint.

    Raises:
        UsageError: One is not there.
    """
    from engine.graph import freeze

    known = freeze.points(source)
    choosing = list(source.config.network().choosing)
    if args.points == [ALL]:
        return known
    if args.points == [DYNAMIC]:
        if not choosing:
            raise UsageError(
                f'--points {DYNAMIC}: {source.prefix} makes no choice image by image; it has '
                f'{" ".join(known)}'
            )
        return choosing
    for point in args.points:
        if point not in (*known, *choosing):
            run = shlex.quote(args.run)
            raise UsageError(
                f'--point {point}: {source.prefix} has {" ".join([*known, *choosing])}; '
                f'python -m scripts.calibrate {run} makes statistics of other sizes and widths'
            )
    return [point for point in (*known, *choosing) if point in args.points]


def _thresholds(args: argparse.Namespace, source: Any, points: Sequence[str]) -> tuple[float, ...]:
    """Thresholds of the exits; none where these do not choose.

    Args:
        args: the flags.
        source: the checkpoint.
        points: to export.

    Raises:
        UsageError: There are none, those of several sizes, or some that are not used.
    """
    net = source.config.network()
    sizes = [net.choosing[point] for point in points if point in net.choosing]
    exits = {point.exit for point in net.points}
    if None in exits or not sizes:
        if args.thresholds is not None:
            raise UsageError(f'--thresholds {args.thresholds}: no exit chooses; leave it out')
        return ()
    if len(sizes) > 1:
        raise UsageError(
            f'--points {" ".join(points)}: thresholds are of one size; give one of them'
        )
    policy = exit_thresholds.policy(Path(source.prefix).parent, sizes[0], args.thresholds)
    if len(policy.thresholds) != len(exits):
        raise UsageError(
            f'--thresholds {args.thresholds}: has {len(policy.thresholds)} exits, the network '
            f'{len(exits)}'
        )
    return policy.thresholds


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``; 1 where the exported network answers differently."""
    try:
        return status('export', run, parse_args(argv))
    except Differs as differs:
        print(f'export: {differs}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
