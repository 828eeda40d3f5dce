"""Copies a folder of image files into two large files, train.pack and val.pack, for network file systems.

    python -m scripts.pack_data /data/ILSVRC2012 /scratch/ILSVRC2012
    python -m scripts.pack_data --check /scratch/ILSVRC2012
    python imagenet_tf.py --data /scratch/ILSVRC2012

The files are copied as they are, in the order of the folder: training sees the same batches from both. The same command
goes on where it was interrupted. --check compares every image with its checksum; exit status 1 if one differs.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine.data import packed
from engine.data.batches import ordered_map
from engine.data.datasets import PACKS, FileSource, PackedSource, Source, Subset, open_dataset
from engine.errors import UsageError
from scripts import status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog='python -m scripts.pack_data',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        'data', metavar='DIR', help='folder with train/ and val/; with --check a packed one'
    )
    p.add_argument('out', metavar='OUT', nargs='?', type=Path, help='folder to write to')
    p.add_argument('--check', action='store_true', help='compare the checksums of a packed folder')
    p.add_argument(
        '--skip-list',
        default='',
        metavar='FILE',
        help='images to leave out, see scripts/check_data.py',
    )
    p.add_argument('--threads', type=int, default=8, help='reading threads (default %(default)s)')
    return p.parse_args(argv)


def located(source: Source, data: str) -> tuple[FileSource, np.ndarray]:
    """Where the files of ``source`` are, and their numbers there, int64 [N]. Raises UsageError if they are no files."""
    base, numbers = (
        (source.source, source.indices)
        if isinstance(source, Subset)
        else (source, np.arange(len(source)))
    )
    if not isinstance(base, FileSource) or isinstance(base, PackedSource):
        raise UsageError(f'{data}: is no folder of image files; give one with train/ and val/')
    return base, numbers


def files(
    base: FileSource, numbers: np.ndarray, start: int, threads: int
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, label and bytes of the files with these numbers from the one at ``start`` on, with a progress bar."""
    contents = ordered_map(base.encoded, map(int, numbers[start:]), threads=threads, ahead=threads)
    with tqdm(total=len(numbers), initial=start, unit='image') as bar:
        for i, content in zip(numbers[start:], contents):
            yield base.name(i), int(base.labels[i]), content
            bar.update()


def pack(
    base: FileSource, numbers: np.ndarray, path: Path, classes: Sequence[str], threads: int
) -> bool:
    """Writes the pack ``path`` or what is missing of it; False if it is there.

    Raises:
        UsageError: it holds other images, or some with other labels.
    """
    wanted = [(os.fsencode(base.name(i)), int(base.labels[i])) for i in numbers]
    if there := path.exists():
        found = packed.Pack(path)
        same = found.classes == tuple(classes) and wanted == [
            (os.fsencode(name), int(label)) for name, label in zip(found.names, found.labels)
        ]
        entries = []
    else:
        entries = packed.recover(packed.unfinished(path))
        same = [(entry.name, entry.label) for entry in entries] == wanted[: len(entries)]
    if not same:
        raise UsageError(
            f'OUT {path}: was made from other images or labels; delete it and '
            f'{packed.unfinished(path).name}'
        )
    if not there:
        packed.write(path, entries, files(base, numbers, len(entries), threads), classes=classes)
    return not there


def check(data: str) -> list[str]:
    """Names of the images of a packed folder that differ from their checksums."""
    packs = [packed.Pack(Path(data).expanduser() / part) for part in PACKS]
    with tqdm(total=sum(map(len, packs)), unit='image') as bar:
        bad = []
        for found in packs:
            for i, name in enumerate(found.names):
                try:
                    found.read(i)
                except OSError:
                    bad.append(name)
                bar.update()
    return bad


def run(args: argparse.Namespace, bad: list[str]) -> str:
    """Packs, or checks and adds to ``bad``; returns what to say."""
    if args.check:
        if args.out or args.skip_list:
            raise UsageError('--check: give only the packed folder')
        bad += check(args.data)
        return '\n'.join(
            [
                *(f'{name}: differs from its checksum' for name in bad),
                f'{args.data}: {len(bad)} bad',
            ]
        )
    if args.out is None:
        raise UsageError(f'OUT is missing: give the folder to write {" and ".join(PACKS)} to')
    if args.threads < 0:
        raise UsageError(f'--threads {args.threads}: must be at least 0')
    dataset = open_dataset(args.data, skip=args.skip_list)
    sources = [located(source, args.data) for source in (dataset.train, dataset.val)]
    args.out.mkdir(parents=True, exist_ok=True)
    if args.out.samefile(args.data):
        raise UsageError(f'OUT {args.out}: is the folder itself; give another one')
    written = [
        pack(base, numbers, args.out / part, dataset.classes, args.threads)
        for (base, numbers), part in zip(sources, PACKS)
    ]
    notes = [
        f'{args.out / part} was there, and its images have not been read again; delete it to pack them anew'
        for part, new in zip(PACKS, written)
        if not new
    ]
    return '\n'.join(
        [
            *notes,
            f'{args.out}: {len(dataset.train)} training and {len(dataset.val)} validation images; '
            f'use --data {args.out}',
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if a checksum differs, 2 for bad input, 130 if interrupted."""
    bad: list[str] = []
    return status('pack_data', lambda args: run(args, bad), parse_args(argv)) or int(bool(bad))


if __name__ == '__main__':
    sys.exit(main())
