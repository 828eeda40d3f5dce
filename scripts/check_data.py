"""Reads every image of a data folder as training does and says which files are bad.

    python -m scripts.check_data /data/ILSVRC2012 --out bad.txt
    python imagenet_tf.py --data /data/ILSVRC2012 --skip-list bad.txt

Bad files are those that cannot be decoded: empty, truncated, no image, unreadable. They are listed
in --out, if that is given; the exit status is 1 if there are any, else 0. Files that decode but
are odd (named after another format, an edge below 32 pixels), classes with an unusual number of
images and validation images that are training images too, byte by byte, are only reported.

An interrupted scan goes on with --resume, if it had --out. A flipped byte inside a picture cannot
be seen: no decoder reports it.
"""

import argparse
import dataclasses
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from engine.config import hardware
from engine.console import Progress
from engine.data import checks
from engine.data.datasets import open_dataset
from engine.data.folder import IMAGENET
from engine.data.identity import Identity
from engine.data.layouts.layout import FORMATS
from engine.data.ordered import ordered_map
from engine.data.sources import BadImage, FileSource, decode
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.files import check_output, read_json, write_json, write_text
from engine.quantities import counted
from scripts import parser, status

TINY = 32
SAVED_EVERY = 2000  # files


class Counts(NamedTuple):
    """Images of a part of ILSVRC2012: in all, fewest and most of a class."""

    total: int
    fewest: int
    most: int


ILSVRC = {'train': Counts(1281167, 732, 1300), 'val': Counts(50000, 50, 50)}


class Finding(NamedTuple):
    """Faults and oddities of a file, empty where there are none, and its format."""

    bad: str = ''
    odd: str = ''
    kind: str = ''


@dataclasses.dataclass
class State:
    """How far a scan has got, and what it has found.

    Attributes:
        names: checksum of the paths of each part.
        done: files of each part that were read.
        bad: what is bad, by path.
        odd: what is odd, by path.
        kinds: number of files by format, without the bad ones.
    """

    names: dict[str, int]
    done: dict[str, int]
    bad: dict[str, str] = dataclasses.field(default_factory=dict)
    odd: dict[str, str] = dataclasses.field(default_factory=dict)
    kinds: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, part: str, name: str, finding: Finding) -> None:
        """Note the next file of a part.

        Args:
            part: ``train`` or ``val``.
            name: path of the file.
            finding: about it.
        """
        if finding.bad:
            self.bad[name] = finding.bad
        if finding.odd:
            self.odd[name] = finding.odd
        if finding.kind:
            self.kinds[finding.kind] = self.kinds.get(finding.kind, 0) + 1
        self.done[part] += 1


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('check_data', __doc__)
    p.add_argument(
        'data', metavar='DIR', help='what --data of imagenet_tf.py takes, of image files'
    )
    p.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='list of the bad files to write, for --skip-list; by default they are only printed',
    )
    p.add_argument('--threads', type=int, default=os.cpu_count() or 1, help='decoding threads')
    p.add_argument(
        '--resume', action='store_true', help='go on where the last scan was interrupted'
    )
    return p.parse_args(argv)


def content_format(encoded: np.ndarray) -> str | None:
    """Name of the format by the first bytes, None if Pillow knows none."""
    try:
        with Image.open(io.BytesIO(encoded.data)) as image:
            # A camera's JPEG with several pictures.
            return 'JPEG' if image.format == 'MPO' else image.format
    except Exception:  # noqa: BLE001
        # Of a damaged file, plugins of Pillow raise anything.
        return None


def inspect(source: FileSource, i: int) -> Finding:
    """Read file ``i`` and say what is wrong with it."""
    try:
        encoded = source.encoded(i)
    except BadImage:
        return Finding(bad='unreadable')
    if not encoded.size:
        return Finding(bad='empty')
    content = content_format(encoded)
    try:
        height, width = decode(encoded, source.name(i)).shape[:2]
    except BadImage:
        return Finding(bad=f'truncated {content}' if content else 'no image')
    odd = []
    # Images in TFRecord files have no suffix.
    named = FORMATS.get(Path(source.name(i)).suffix.lower(), content)
    if content is not None and content != named:
        odd.append(f'content is {content}')
    if min(height, width) < TINY:
        odd.append(f'tiny: {width} x {height} pixels')
    return Finding(odd=', '.join(odd), kind=content or f'named {named}')


def scan(source: FileSource, part: str, state: State, threads: int) -> Iterator[None]:
    """Add what ``inspect`` finds to ``state``; yield after each file.

    Args:
        source: files of one part.
        part: ``train`` or ``val``.
        state: says from which file on.
        threads: decoding threads.
    """
    numbers = range(state.done[part], len(source))
    findings = ordered_map(
        lambda i: inspect(source, i), numbers, threads=threads, ahead=4 * threads
    )
    for i, finding in zip(numbers, findings):
        state.add(part, source.name(i), finding)
        yield


def load_state(path: Path | None, sources: dict[str, FileSource], *, resume: bool) -> State:
    """State of the interrupted scan, or of a new one.

    Args:
        path: where an interrupted scan keeps its state; None: nowhere.
        sources: files by part.
        resume: whether to go on.

    Raises:
        UsageError: the state is of other files, or cannot be read.
    """
    names = {}
    for part, source in sources.items():
        text = '\n'.join(source.files)
        names[part] = zlib.crc32(text.encode(errors='surrogateescape'))
    if path is None or not (resume and path.exists()):
        return State(names, dict.fromkeys(sources, 0))
    state: State = read_json(path, State, 'scan without --resume')
    if state.names != names:
        raise UsageError(f'--resume: {path} is of a scan of other files; scan without --resume')
    return state


def scan_all(
    sources: dict[str, FileSource], path: Path | None, *, threads: int, resume: bool
) -> State:
    """Scan all parts; the state is kept in ``path`` while it is unfinished.

    Args:
        sources: files by part.
        path: of the state; None keeps none.
        threads: decoding threads.
        resume: whether to go on where the last scan was interrupted.
    """
    state = load_state(path, sources, resume=resume)
    total = sum(map(len, sources.values()))
    done = sum(state.done.values())
    with Progress('checking', total, 'images', done=done) as progress:
        try:
            for part, source in sources.items():
                for _ in scan(source, part, state, threads):
                    progress.update()
                    if path is not None and progress.n % SAVED_EVERY == 0:
                        write_json(path, dataclasses.asdict(state))
        finally:
            if path is not None:
                write_json(path, dataclasses.asdict(state))
    return state


def count_notes(dataset: Dataset, part: str, source: FileSource) -> Iterator[str]:
    """A line for every class with an unusual number of images.

    Args:
        dataset: its classes are meant.
        part: ``train`` or ``val``.
        source: images of that part.
    """
    counts = np.bincount(source.labels, minlength=len(dataset.classes))  # [classes]
    if dataset.spec.name == IMAGENET.name:
        total, least, most = ILSVRC[part]
        rule = f'ILSVRC2012 has {least}'
        if most > least:
            rule += f' to {most}'
        if len(source) != total:
            yield f'{part}: {counted(len(source), "image")}, ILSVRC2012 has {total}'
        low, high = float(least), float(most)
    else:
        median = float(np.median(counts))
        rule = f'the median is {median:g}'
        low, high = median / 2, median * 2
    for name, images in zip(dataset.classes, counts):
        if not low <= images <= high:
            yield f'{part} class {name}: {counted(images, "image")}, {rule}'


def write_list(path: Path, bad: dict[str, str]) -> None:
    """Write the file that ``--skip-list`` takes: the paths by what is wrong with them."""
    lines = []
    for reason in sorted(set(bad.values())):
        lines.append(f'# {reason}')
        lines += [name for name, why in bad.items() if why == reason]
    text = '\n'.join([*lines, ''])
    write_text(path, text, errors='surrogateescape')


def run(args: argparse.Namespace, bad: dict[str, str]) -> str:
    """Scan, write the list, add to ``bad`` and return the report.

    Raises:
        UsageError: there are no files to check, or a flag is wrong.
    """
    hardware.check_threads(args.threads)
    if args.out is not None:
        check_output(str(args.out), '--out ')
    elif args.resume:
        raise UsageError('--resume: needs the --out of the scan that was interrupted')
    dataset = open_dataset(args.data, split=None)
    sources = {}
    for part, source in (('train', dataset.train), ('val', dataset.val)):
        if isinstance(source, FileSource):
            sources[part] = source
    if not sources:
        raise UsageError(f'{args.data}: has no image files to check; give a folder of image files')
    unfinished = None
    if args.out is not None:
        unfinished = args.out.with_name(args.out.name + '.state')
    state = scan_all(sources, unfinished, threads=args.threads, resume=args.resume)
    bad.update(state.bad)
    if unfinished is not None:
        write_list(args.out, bad)
        unfinished.unlink()
    return _report(dataset, sources, state, args.out)


def _report(
    dataset: Dataset, sources: dict[str, FileSource], state: State, out: Path | None
) -> str:
    lines = list(filter(None, [dataset.line()]))
    lines += [f'{name}: {what}' for name, what in [*state.bad.items(), *state.odd.items()]]
    for part, source in sources.items():
        lines += count_notes(dataset, part, source)
    if len(dataset.val):
        lines += checks.notes(dataset, Identity(dataset, whole=True))
    images = sum(map(len, sources.values()))
    kinds = ', '.join(f'{state.kinds[kind]} {kind}' for kind in sorted(state.kinds))
    shown = f' ({kinds})' if kinds else ''
    summary = f'{counted(images, "image")}{shown}, {len(state.bad)} bad, {len(state.odd)} odd'
    if state.bad and out is not None:
        summary += f'; train with --skip-list {out}'
    elif state.bad:
        summary += '; --out FILE writes the list for --skip-list'
    return '\n'.join([*lines, summary])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if files are bad, 2 for bad input, 130 if interrupted."""
    bad: dict[str, str] = {}
    code = status('check_data', lambda args: run(args, bad), parse_args(argv))
    if code:
        return code
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
