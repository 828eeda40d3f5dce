"""Predicts the classes of images: a table, a CSV file that grows, a page with the pictures.

    python -m scripts.predict RUN cat.jpg FOLDER --top 5
    python -m scripts.predict net.onnx --list images.txt --csv out.csv --budget 300M
    python -m scripts.predict RUN FOLDER --csv out-3.csv --shard 3/16      # one of 16 jobs
    python -m scripts.predict --join out-*.csv --csv out.csv               # all of them

RUN is a run folder, a checkpoint or an exported file. The same command goes on after an
interruption where it has --csv. Images that cannot be read are named, and have their row.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import UsageError
from engine.files import check_output, output_file, read_names
from engine.quantities import counted
from engine.results import formats, predictions, predictions_page
from engine.results.formats import Column, Table
from engine.results.predictions import Growing, Row
from scripts import add_format, check_counts, noted, parser, status

COLUMNS = (
    Column('image', 'image'),
    Column('point', 'point'),
    Column('ms', 'ms', 1),
    Column('classes', 'classes'),
)

# Arguments of ``Predictor``, and flags that give them: the ways to choose what answers, and all.
WAYS = {
    'point': '--point',
    'budget': '--budget',
    'deadline_ms': '--deadline-ms',
    'cascade': '--cascade',
}
FLAGS = {'run': 'RUN', 'FILE': 'RUN', 'backend': '--backend', **WAYS}


@contextlib.contextmanager
def as_flags() -> Iterator[None]:
    """A block whose errors about arguments of ``Predictor`` name the flags that gave them.

    Raises:
        UsageError: as the block did.
    """
    try:
        yield
    except UsageError as error:
        name, gap, rest = str(error).partition(' ')
        raise UsageError(f'{FLAGS.get(name, name)}{gap}{rest}') from error


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('predict', __doc__)
    p.add_argument('run', nargs='?', metavar='RUN', help='run folder, checkpoint or exported file')
    p.add_argument('images', nargs='*', metavar='IMAGE', help='files, or folders of files')
    p.add_argument('--list', type=Path, metavar='FILE', help='more images, a path a line')
    p.add_argument('--top', type=int, default=1, metavar='N', help='classes by image (default 1)')
    p.add_argument('--point', help='operating point; default: the strongest')
    p.add_argument('--budget', metavar='N', help='multiply-adds in place of a point, such as 300M')
    p.add_argument('--deadline-ms', type=float, metavar='MS', help='time of an image, likewise')
    p.add_argument(
        '--cascade', metavar='FILE', help='chain of points of scripts.thresholds, likewise'
    )
    p.add_argument('--backend', help='tensorflow, onnxruntime, openvino, native, or interpreter')
    p.add_argument('--csv', type=Path, metavar='FILE', help='write a row for each image')
    add_format(p)
    p.add_argument('--html', metavar='FILE', help='write a page with the pictures')
    p.add_argument('--shard', default='1/1', metavar='I/N', help='every N-th image, from the I-th')
    p.add_argument('--join', type=Path, nargs='+', metavar='PART', help='join the files of --shard')
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Predicts, or joins what was predicted.

    Raises:
        UsageError: flags, network or list do not allow it.
    """
    if args.join:
        return _joined(args)
    if args.run is None:
        raise UsageError('RUN: give a run folder, a checkpoint or an exported file, and images')
    check_counts(args, 'top')
    given = []
    for name, flag in WAYS.items():
        if vars(args)[name] is not None:
            given.append(f'{flag} {vars(args)[name]}')
    if len(given) > 1:
        raise UsageError(f'{" and ".join(given)}: give one of them')
    images = found_images(args.images, args.list)
    shard = parsed_shard(args.shard)
    for flag, target in (('--csv ', args.csv), ('--html ', args.html)):
        if target:
            check_output(str(target), flag)
    if not any(map(os.path.lexists, images)):
        more = f', nor is any of the {len(images) - 1} others' if len(images) > 1 else ''
        raise UsageError(f'IMAGE {images[0]}: is not there{more}; give a picture')
    growing = None
    rows: list[Row] = []
    if args.csv:
        growing = Growing(args.csv, _settings(args, images), args.top)
        rows = growing.rows
        if rows:
            print(f'{args.csv}: goes on behind {counted(len(rows), "image")}', flush=True)
    done = {row.number for row in rows}
    left = [one for one in predictions.numbered(images, shard) if one[0] not in done]
    try:
        with as_flags():
            for row in predicted(args, left):
                if growing is None:
                    rows.append(row)
                else:
                    growing.add(row)
    finally:
        if growing is not None:
            growing.close()
    if growing is not None:
        growing.complete()
    return _report(args, sorted(rows, key=lambda row: row.number))


def _joined(args: argparse.Namespace) -> str:
    """Joins the files of several jobs.

    Raises:
        UsageError: they are not complete, or the result exists.
    """
    if args.run or args.csv is None:
        raise UsageError('--join: give the parts and --csv for the result, and no RUN')
    predictions.check_new(args.csv)
    check_output(str(args.csv), '--csv ')
    rows, top = predictions.join(args.join)
    predictions.write(args.csv, rows, top)
    images, parts = counted(len(rows), 'image'), counted(len(args.join), 'part')
    return f'{args.csv}: {images} of {parts}'


def found_images(given: Sequence[str], listed: Path | None) -> list[str]:
    """Paths of all images: files as given, those in folders by name, those of a list.

    Raises:
        UsageError: there are none, or a folder or the list cannot be read.
    """
    found = []
    for name in given:
        if not Path(name).is_dir():
            found.append(name)
            continue
        found += sorted(images_in(name))
    if listed is not None:
        found += filter(None, read_names(listed, 'give a file with a path a line'))
    if not found:
        raise UsageError('IMAGE: none given, or none in the folders; give files or folders')
    return found


def images_in(folder: str) -> Iterator[str]:
    """Paths of the files in a folder, and in those within, that are called like images.

    Hidden ones are left out. Links are followed, a folder that comes again by one is left out.

    Raises:
        UsageError: a folder cannot be listed.
    """
    from engine.data.layouts.layout import is_image

    known = set()
    for place, inside, names in os.walk(folder, onerror=_not_listed, followlinks=True):
        own = os.path.realpath(place)
        if own in known:
            inside.clear()
            continue
        known.add(own)
        inside[:] = sorted(name for name in inside if not name.startswith('.'))
        for name in names:
            path = os.path.join(place, name)
            # Of what is no file, a link that leads nowhere is told as an image that is not there.
            is_file = os.path.isfile(path) or os.path.islink(path)
            if is_image(name) and is_file and not name.startswith('.'):
                yield path


def _not_listed(error: OSError) -> None:
    """Refuses a folder, whose images would be missing unseen.

    Raises:
        UsageError: always.
    """
    raise UsageError(f'IMAGE: {error.filename} cannot be listed: {error.strerror}') from error


def parsed_shard(text: str) -> tuple[int, int]:
    """Number of a job from 1, and how many there are.

    Raises:
        UsageError: the text is no such thing.
    """
    index, _, count = text.partition('/')
    if not index.isdecimal() or not count.isdecimal() or not 1 <= int(index) <= int(count):
        raise UsageError(f'--shard {text}: expected such as 3/16, the third of sixteen jobs')
    return int(index), int(count)


def _settings(args: argparse.Namespace, images: Sequence[str]) -> dict[str, str | None]:
    """Flags and images that the rows of a file depend on."""
    digest = hashlib.sha256('\n'.join(images).encode(errors='surrogateescape')).hexdigest()
    deadline = None
    if args.deadline_ms is not None:
        deadline = f'{args.deadline_ms:g}'
    return {
        'RUN': os.path.abspath(args.run),
        '--point': args.point,
        '--budget': args.budget,
        '--deadline-ms': deadline,
        '--cascade': args.cascade,
        '--backend': args.backend,
        '--top': str(args.top),
        '--shard': args.shard,
        'images of digest': digest[:12],
    }


def predicted(args: argparse.Namespace, images: Sequence[tuple[int, str]]) -> Iterator[Row]:
    """A row for each image, as soon as it is known.

    Args:
        args: the flags.
        images: numbers and paths.

    Raises:
        UsageError: there is no such network or point, or nothing is within the limits.
    """
    if not images:
        return
    from engine.deployment.predictor import Predictor

    read: collections.deque[tuple[int, str]] = collections.deque()
    failed: list[Row] = []

    def paths() -> Iterator[str]:
        for one in images:
            read.append(one)
            yield one[1]

    def bad(_: str, why: str) -> None:
        number, image = read.pop()
        failed.append(Row(number, image, error=why))

    predictor = Predictor(
        args.run,
        point=args.point,
        budget=args.budget,
        deadline_ms=args.deadline_ms,
        cascade=args.cascade,
        backend=args.backend,
    )
    with predictor:
        # So that the time of the first images is theirs.
        if args.deadline_ms is None and args.budget is None and args.cascade is None:
            predictor.warm_up(args.point or predictor.points[0])
        else:
            predictor.warm_up()
        try:
            for answer in predictor(paths(), bad=bad, total=len(images)):
                yield from failed
                failed.clear()
                number, image = read.popleft()
                yield Row(number, image, answer.point, answer.ms, '', tuple(answer.top(args.top)))
        except UsageError:
            # That none was given, it says as well where none could be read.
            if len(failed) < len(images):
                raise
    yield from failed


def _report(args: argparse.Namespace, rows: Sequence[Row]) -> str:
    """The table or where the rows are, the page, and what could not be read.

    Raises:
        UsageError: not one image could be read.
    """
    parts = []
    if args.html:
        with output_file(args.html) as temporary:
            text = predictions_page.page(f'Predictions of {args.run}', rows)
            temporary.write_text(text, encoding='utf-8', errors='xmlcharrefreplace')
        parts.append(f'{args.html}: {len(text) / 1e3:.0f} kB')
    failed = [row for row in rows if row.error]
    if failed and len(failed) == len(rows):
        reasons = '; '.join(row.error for row in failed[:3])
        raise UsageError(f'IMAGE: not one of {len(rows)} can be read: {reasons}')
    if args.csv:
        parts.append(f'{args.csv}: {counted(len(rows), "image")}')
    if failed:
        lines = [f'  {row.error}' for row in failed]
        parts.append('\n'.join([f'{counted(len(failed), "image")} cannot be read:', *lines]))
    note = '\n'.join(parts)
    if args.csv:
        return note
    shown = formats.render([table(rows)], args.format)
    return noted(shown, note, args.format) if note else shown


def table(rows: Sequence[Row]) -> Table:
    """A row for each image that was read."""
    cells = []
    for row in rows:
        if not row.error:
            classes = ', '.join(f'{name} {score:.3f}' for _, name, score in row.classes)
            cells.append([row.image, row.point, row.ms, classes])
    return Table('predictions', COLUMNS, cells)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('predict', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
