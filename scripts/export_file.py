"""What scripts.export does with files that it wrote: shows them, and makes others of them."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.deployment import forms, interpreter, native_reader, runtimes, texts, verification
from engine.deployment.native_reader import NativeFile
from engine.deployment.program import PointProgram, Program
from engine.deployment.program_export import INTERPRETED, OfProgram
from engine.deployment.verification import Comparison
from engine.errors import UsageError
from engine.results import formats
from engine.results.formats import Column, Table
from scripts import noted

_SECTIONS = (
    Column('bits', 'planes for bits'),
    Column('points', 'points that can run with them'),
    Column('end', 'bytes up to their end'),
    Column('there', 'there'),
)
# Flags that ask for another checkpoint or other images than a file was made of.
_OF_RUNS = ('thresholds', 'cascade', 'epoch', 'data', 'no_preprocess', 'snap', 'prune_gates')


class Differs(Exception):
    """An exported network that answers differently, or that a runtime does not take."""


def is_source(run: str) -> bool:
    """Whether what is exported is a file with all that its points need, in bit planes."""
    path = Path(run)
    return forms.default(path) == 'native' and not path.is_dir()


def export(args: argparse.Namespace, path: Path) -> str:
    """Makes a file of points of a .lqn file, checks it, and says what it is.

    Args:
        args: the flags of scripts.export.
        path: to make.

    Raises:
        UsageError: there is no such file or point, or a flag is one for runs.
        Differs: a runtime answers differently than the file, or cannot run what was made.
    """
    for flag in _OF_RUNS:
        if getattr(args, flag) not in (None, False):
            raise UsageError(
                f'--{flag.replace("_", "-")}: is for runs, and {args.run} is a file; leave it out'
            )
    file = native_reader.read(Path(args.run))
    form = forms.asked(args.form, args.out)
    if args.bits_first is not None:
        if form != 'native':
            raise UsageError(f'--bits-first {args.bits_first}: --out NAME.lqn can be a part')
        path.write_bytes(file.first(args.bits_first))
        return f'{args.run}, the part for {args.bits_first} bits'
    exporter = forms.exporter(form)
    if not isinstance(exporter, OfProgram):
        raise UsageError(
            f'--form {form}: is made of a run; {args.run} can become one of '
            f'{", ".join((*forms.onnx(), "native"))}, by --out NAME.onnx or NAME.lqn'
        )
    points = file.points if args.points == ['all'] else args.points
    whole = file.program(points)
    exporter.rewrite(whole, _texts(file, points, form), path)
    count = min(args.verify, INTERPRETED)
    try:
        found = _compared(exporter, path, whole, count)
    except runtimes.CannotRun as error:
        raise Differs(f'{args.out} is not made: {error}') from error
    print(f'checked with {count} images of noise, beside {args.run}')
    print(verification.table(found, labelled=False))
    for one in found:
        if one.wrong:
            raise Differs(
                f'{args.out} is not made: {one.runtime} answers {one.wrong} of {count} images '
                f'differently at {one.point} than {args.run}'
            )
    exporter.note(path, {'verified': texts.spell(verification.facts(found))})
    return f'{" ".join(points)} of {args.run}'


def _texts(file: NativeFile, points: Sequence[str], form: str) -> texts.Texts:
    """Texts of a file that is made of points of another one.

    Args:
        file: the other one.
        points: their spellings.
        form: of the new file.

    Raises:
        UsageError: the file has no such texts.
    """
    found = texts.parse(file.texts, file.name)
    kept = tuple(point for point in found.points if point.point in points)
    budgets = tuple(budget for budget in found.budgets if budget.point in points)
    versions = dataclasses.replace(found.versions, form=form)
    return dataclasses.replace(found, points=kept, budgets=budgets, versions=versions, verified=())


def _compared(exporter: OfProgram, path: Path, whole: Program, count: int) -> list[Comparison]:
    """Compares answers of every runtime to noise with the interpreter's to the original file.

    Args:
        exporter: the form.
        path: of the file that was made.
        whole: the program of the other one.
        count: of images.
    """
    found = []
    known = exporter.runtimes(path)
    for number, (name, point) in enumerate(whole.points.items()):
        views = _noise(point, count)
        expected = np.concatenate(interpreter.answers(whole, name, *views), axis=1)
        for runtime, run in known.items():
            staged = bool(point.views)
            one = Comparison(runtime, name, len(point.choices), staged)
            one.add(run(views, number), expected, np.full(count, -1))
            found.append(one)
    return found


def _noise(point: PointProgram, count: int) -> list[np.ndarray]:
    """Images of each input of a point, uint8 [count, side, side, channels]."""
    rng = np.random.default_rng(0)
    sides = [point.side, *(side for _, side in point.views)]
    shapes = [(count, side, side, point.channels) for side in sides]
    return [rng.integers(256, size=shape, dtype=np.uint8) for shape in shapes]


def show(path: Path, style: str) -> str:
    """Texts of a file, or of the folder of a SavedModel, as tables; csv has points alone.

    Args:
        path: of the file.
        style: as of ``--format``.

    Raises:
        UsageError: it is no exported file or folder, or what reads it is not installed.
    """
    from engine.deployment import texts_table

    planes: list[Table] = []
    if path.is_dir():
        from engine.deployment.savedmodel import described

        stored = described(path)
    elif not path.is_file():
        raise UsageError(f'--show {path}: no such file')
    elif is_source(str(path)):
        file = native_reader.read(path)
        stored = file.texts
        planes.append(_planes(file))
    else:
        stored = _of_onnx(path)
    found = texts.parse(stored, f'--show {path}')
    tables = [*texts_table.tables(found), *planes]
    if style == 'csv':
        tables = tables[:1]
    return noted(formats.render(tables, style), f'{path}: {size(path) / 1e3:.1f} kB', style)


def _of_onnx(path: Path) -> dict[str, str]:
    """Texts of an ONNX file.

    Raises:
        UsageError: it is none, or what reads it is not installed.
    """
    try:
        from engine.deployment.onnx_file import described
    except ImportError as error:
        raise UsageError(
            f'--show {path}: {error}; {runtimes.REMEDY} installs what it needs'
        ) from error
    return described(path)


def _planes(file: NativeFile) -> Table:
    """Where a file can end, and what can run then."""
    rows = []
    for section in file.sections:
        bits = section.bits or None
        there = 'yes' if section.there else 'no'
        rows.append((bits, ' '.join(section.points), section.end, there))
    return Table('planes', _SECTIONS, rows)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    total = 0
    for one in (path, *path.rglob('*')):
        if one.is_file():
            total += one.stat().st_size
    return total
