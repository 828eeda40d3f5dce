"""Copies image files into two large files, for network file systems.

    python -m scripts.pack_data /data/ILSVRC2012 /scratch/ILSVRC2012
    python -m scripts.pack_data /data/ILSVRC2012 /scratch/ILSVRC256 --shortest 256 --quality 90
    python -m scripts.pack_data --check /scratch/ILSVRC2012
    python imagenet_tf.py --data /scratch/ILSVRC2012

They are train.pack and val.pack. The files are copied as they are, in the order of the folder:
training sees the same batches from both. With --shortest, images are scaled down to this shortest
edge and written as JPEG, which takes less than half of the time to read; smaller ones are copied.
The same command goes on where it was interrupted. --check compares every image with its checksum;
exit status 1 if one differs.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from engine.config import hardware
from engine.console import Progress
from engine.data import packed
from engine.data.datasets import open_dataset
from engine.data.ordered import ordered_map
from engine.data.packed import PACKS, PackedSource
from engine.data.shrink import QUALITY, Shrink
from engine.data.sources import FileSource, Source, innermost
from engine.data.split import Split
from engine.errors import UsageError
from engine.files import check_writable
from scripts import check_counts, parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('pack_data', __doc__)
    p.add_argument(
        'data', metavar='DIR', help='what --data takes, of image files; with --check a packed one'
    )
    p.add_argument('out', metavar='OUT', nargs='?', type=Path, help='folder to write to')
    p.add_argument('--check', action='store_true', help='compare the checksums of a packed folder')
    p.add_argument(
        '--skip-list',
        default='',
        metavar='FILE',
        help='images to leave out, see scripts/check_data.py',
    )
    p.add_argument(
        '--shortest', type=int, metavar='PIXELS', help='scale down to this shortest edge'
    )
    p.add_argument(
        '--quality',
        type=int,
        metavar='Q',
        help=f'of the JPEG files of --shortest, 1 to 100 (default {QUALITY})',
    )
    p.add_argument(
        '--val-split',
        type=float,
        default=0.0,
        metavar='SHARE',
        help='share of every class to validate on, as of imagenet_tf.py',
    )
    p.add_argument('--split-seed', type=int, default=0, metavar='N', help='of --val-split')
    p.add_argument('--threads', type=int, default=8, help='reading threads (default %(default)s)')
    return p.parse_args(argv)


class Selection:
    """The files of one part that are to be packed.

    Attributes:
        base: the image files of the folder.
        numbers: which of them, int64 [N].
        shrink: how they are scaled down; None copies them.
    """

    def __init__(self, source: Source, data: str, shrink: Shrink | None = None) -> None:
        """Find out where the files of ``source`` are.

        Raises:
            UsageError: they are no files, or packed already.
        """
        base, numbers = innermost(source)
        packed_already = isinstance(base, PackedSource) and shrink is None
        if not isinstance(base, FileSource) or packed_already:
            raise UsageError(f'{data}: is no folder of image files; give one with train/ and val/')
        self.base = base
        self.numbers = numbers
        self.shrink = shrink

    def skipped(self) -> list[str]:
        """Names of the files that are left out."""
        rest = np.setdiff1d(np.arange(len(self.base)), self.numbers)
        return [self.base.name(i) for i in rest.tolist()]

    def names_and_labels(self) -> list[tuple[bytes, int]]:
        """Name and class index of every file."""
        names = [os.fsencode(self.base.name(i)) for i in self.numbers.tolist()]
        labels = self.base.labels[self.numbers].tolist()
        return list(zip(names, labels))

    def files(self, start: int, threads: int) -> Iterator[packed.File]:
        """The files from the one at ``start`` on, with a progress bar."""
        rest = self.numbers[start:].tolist()
        contents = ordered_map(self._content, rest, threads=threads, ahead=threads)
        with Progress('packing', len(self.numbers), 'images', done=start) as progress:
            for i, content in zip(rest, contents):
                yield packed.File(self.base.name(i), int(self.base.labels[i]), content)
                progress.update()

    def _content(self, i: int) -> np.ndarray:
        """The bytes of file ``i`` as they are packed, uint8 [n]."""
        encoded = self.base.encoded(i)
        return self.shrink(encoded, self.base.name(i)) if self.shrink else encoded


def pack(selection: Selection, path: Path, classes: tuple[str, ...], threads: int) -> bool:
    """Write the pack ``path`` or what is missing of it; False if it is there.

    Args:
        selection: files to pack.
        path: of the pack.
        classes: names of the classes.
        threads: reading threads.

    Raises:
        UsageError: it holds other images, or some with other labels.
    """
    wanted = selection.names_and_labels()
    form = selection.shrink.form if selection.shrink else ''
    part = packed.unfinished(path, form)
    there = path.exists()
    if there:
        found = packed.Pack(path)
        names = map(os.fsencode, found.names)
        same = found.classes == classes and list(zip(names, found.labels.tolist())) == wanted
        same = same and found.form == form
    else:
        entries = packed.recover(part)
        written = [(entry.name, entry.label) for entry in entries]
        same = written == wanted[: len(written)]
    if not same:
        raise UsageError(
            f'OUT {path}: was made from other images or labels, or with another '
            '--shortest or --quality; name another folder'
        )
    if there:
        return False
    files = selection.files(len(entries), threads)
    try:
        skipped = selection.skipped()
        packed.write(path, entries, files, classes=classes, skipped=skipped, form=form)
    except OSError as error:
        raise UsageError(
            f'OUT {path}: cannot be written ({error.strerror or error}); what was packed is kept '
            f'in {part.name}, and the same command goes on from there'
        ) from error
    return True


def check(data: str) -> list[str]:
    """Names of the images of a packed folder that differ from their checksums."""
    packs = [packed.Pack(Path(data).expanduser() / part) for part in PACKS]
    bad = []
    with Progress('checking', sum(map(len, packs)), 'images') as progress:
        for found in packs:
            for i, name in enumerate(found.names):
                try:
                    found.read(i)
                except OSError:
                    bad.append(name)
                progress.update()
    return bad


def run(args: argparse.Namespace, bad: list[str]) -> str:
    """Pack, or check and add to ``bad``; return what to say.

    Raises:
        UsageError: the flags do not fit together, or there are no files to pack.
    """
    if args.check:
        if args.out or args.skip_list:
            raise UsageError('--check: give only the packed folder')
        bad += check(args.data)
        lines = [f'{name}: differs from its checksum' for name in bad]
        return '\n'.join([*lines, f'{args.data}: {len(bad)} bad'])
    if args.out is None:
        raise UsageError(f'OUT is missing: give the folder to write {" and ".join(PACKS)} to')
    hardware.check_threads(args.threads)
    return _pack_both(args)


def _shrink(args: argparse.Namespace) -> Shrink | None:
    """How images are scaled down.

    Raises:
        UsageError: a flag is out of range, or has no meaning.
    """
    if args.shortest is None:
        if args.quality is not None:
            raise UsageError(f'--quality {args.quality}: needs --shortest')
        return None
    check_counts(args, 'shortest')
    quality = QUALITY if args.quality is None else args.quality
    if not 1 <= quality <= 100:
        raise UsageError(f'--quality {quality}: must be 1 to 100')
    return Shrink(args.shortest, quality)


def _pack_both(args: argparse.Namespace) -> str:
    shrink = _shrink(args)
    if not 0 <= args.val_split < 1:
        raise UsageError(f'--val-split {args.val_split:g}: must be at least 0 and below 1')
    split = Split(args.val_split, args.split_seed)
    dataset = open_dataset(args.data, skip=args.skip_list, split=split)
    selections = [Selection(source, args.data, shrink) for source in (dataset.train, dataset.val)]
    check_writable(args.out, f'OUT {args.out}')
    args.out.mkdir(parents=True, exist_ok=True)
    if args.out.samefile(Path(args.data).expanduser()):
        raise UsageError(f'OUT {args.out}: is the folder itself; give another one')
    lines = []
    for selection, part in zip(selections, PACKS):
        path = args.out / part
        if not pack(selection, path, dataset.classes, args.threads):
            lines.append(
                f'{path} was there, and its images have not been read again; --check {args.out} '
                'compares their checksums'
            )
    lines.append(
        f'{args.out}: {len(dataset.train)} training and {len(dataset.val)} validation images; '
        f'use --data {args.out}'
    )
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if a checksum differs, 2 for bad input, 130 if interrupted."""
    bad: list[str] = []
    code = status('pack_data', lambda args: run(args, bad), parse_args(argv))
    if code:
        return code
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
