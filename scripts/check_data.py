"""Reads every image of a data folder as training does and says which files are bad.

    python -m scripts.check_data /data/ILSVRC2012 --out bad.txt
    python imagenet_tf.py --data /data/ILSVRC2012 --skip-list bad.txt

Bad files are those that cannot be decoded: empty, truncated, no image, unreadable. They are listed in --out; the exit
status is then 1, without any it is 0. Files that decode but are odd (named after another format, an edge below 32
pixels) and classes with an unusual number of images are only reported.

An interrupted scan goes on with --resume. A flipped byte inside a picture cannot be seen: no decoder reports it.
"""

import argparse
import io
import json
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from engine.data.batches import ordered_map
from engine.data.datasets import BadImage, Dataset, FileSource, decode, open_dataset
from engine.errors import UsageError
from engine.runs.folder import replacing, write_json
from scripts import status

FORMATS = {'.jpeg': 'JPEG', '.jpg': 'JPEG', '.png': 'PNG', '.bmp': 'BMP', '.webp': 'WEBP'}
TINY = 32
SAVED_EVERY = 2000  # files
# ILSVRC2012: classes, images in all, fewest and most of a class.
ILSVRC_CLASSES = 1000
ILSVRC = {'train': (1281167, 732, 1300), 'val': (50000, 50, 50)}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog='python -m scripts.check_data',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        'data', metavar='DIR', help='what --data of imagenet_tf.py takes: a folder, or a packed one'
    )
    p.add_argument(
        '--out',
        type=Path,
        default=Path('bad.txt'),
        help='list of the bad files (default %(default)s)',
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


def inspect(source: FileSource, i: int) -> tuple[str, str]:
    """What is bad about file ``i``, and what is odd; empty where nothing is."""
    try:
        encoded = source.encoded(i)
    except BadImage:
        return 'unreadable', ''
    if not encoded.size:
        return 'empty', ''
    content = content_format(encoded)
    try:
        height, width = decode(encoded, source.name(i)).shape[:2]
    except BadImage:
        return f'truncated {content}' if content else 'no image', ''
    odd = [f'content is {content}'] * (
        content not in (None, FORMATS[Path(source.name(i)).suffix.lower()])
    )
    odd += [f'tiny: {width} x {height} pixels'] * (min(height, width) < TINY)
    return '', ', '.join(odd)


def scan(source: FileSource, part: str, state: dict, threads: int) -> Iterator[None]:
    """Adds what ``inspect`` finds to ``state``; yields after each file."""
    start = state['done'][part]
    results = ordered_map(
        lambda i: inspect(source, i), range(start, len(source)), threads=threads, ahead=4 * threads
    )
    for i, (bad, odd) in enumerate(results, start):
        state['bad'] |= {source.name(i): bad} if bad else {}
        state['odd'] |= {source.name(i): odd} if odd else {}
        state['done'][part] = i + 1
        yield


def load_state(path: Path, sources: dict[str, FileSource], *, resume: bool) -> dict:
    """State of the interrupted scan or of a new one. Raises UsageError if the files are other ones."""
    names = {
        part: zlib.crc32('\n'.join(source.files).encode(errors='surrogateescape'))
        for part, source in sources.items()
    }
    if not (resume and path.exists()):
        return {'names': names, 'done': dict.fromkeys(sources, 0), 'bad': {}, 'odd': {}}
    try:
        state = json.loads(path.read_text())
        if state['names'] == names:
            return state
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f'--resume: {path} cannot be read ({error!r}); delete it or scan without --resume'
        ) from error
    raise UsageError(f'--resume: {path} is of a scan of other files; scan without --resume')


def scan_all(sources: dict[str, FileSource], path: Path, *, threads: int, resume: bool) -> dict:
    """The final state of a scan, which is kept in ``path`` while it is unfinished."""
    state = load_state(path, sources, resume=resume)
    with tqdm(
        total=sum(map(len, sources.values())), initial=sum(state['done'].values()), unit='image'
    ) as bar:
        try:
            for part, source in sources.items():
                for _ in scan(source, part, state, threads):
                    bar.update()
                    if bar.n % SAVED_EVERY == 0:
                        write_json(path, state)
        except BaseException:
            write_json(path, state)
            raise
    write_json(path, state)
    return state


def count_notes(dataset: Dataset, part: str, source: FileSource) -> Iterator[str]:
    """A line for every class with an unusual number of images."""
    counts = np.bincount(source.labels, minlength=len(dataset.classes))
    usual = float(np.median(counts))
    least, most, rule = usual / 2, usual * 2, f'the median is {usual:g}'
    if len(dataset.classes) == ILSVRC_CLASSES:
        total, least, most = ILSVRC[part]
        rule = f'ILSVRC2012 has {least}' + (f' to {most}' if most > least else '')
        if len(source) != total:
            yield f'{part}: {len(source)} images, ILSVRC2012 has {total}'
    for name, images in zip(dataset.classes, counts):
        if not least <= images <= most:
            yield f'{part} class {name}: {images} images, {rule}'


def write_list(path: Path, bad: dict[str, str]) -> None:
    """Writes the file that ``--skip-list`` takes: the paths by what is wrong with them."""
    lines = []
    for reason in sorted(set(bad.values())):
        lines += [f'# {reason}', *(name for name, why in bad.items() if why == reason)]
    with replacing(path) as temporary:
        temporary.write_text('\n'.join([*lines, '']), encoding='utf-8', errors='surrogateescape')


def run(args: argparse.Namespace, bad: dict[str, str]) -> str:
    """Scans, writes the list, adds to ``bad`` and returns the report."""
    if args.threads < 0:
        raise UsageError(f'--threads {args.threads}: must be at least 0')
    dataset = open_dataset(args.data)
    sources = {
        part: source
        for part, source in (('train', dataset.train), ('val', dataset.val))
        if isinstance(source, FileSource)
    }
    if not sources:
        raise UsageError(
            f'{args.data}: has no image files to check; give a folder with train/ and val/'
        )
    if args.out.is_dir():
        raise UsageError(f'--out {args.out}: is a folder; give a file')
    unfinished = args.out.with_name(args.out.name + '.state')
    state = scan_all(sources, unfinished, threads=args.threads, resume=args.resume)
    bad.update(state['bad'])
    lines = [
        f'{name}: {what}' for found in (state['bad'], state['odd']) for name, what in found.items()
    ]
    for part, source in sources.items():
        lines += count_notes(dataset, part, source)
    summary = f'{sum(map(len, sources.values()))} images, {len(bad)} bad, {len(state["odd"])} odd'
    write_list(args.out, bad)
    unfinished.unlink()
    return '\n'.join([*lines, summary + (f'; train with --skip-list {args.out}' if bad else '')])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 if files are bad, 2 for bad input, 130 if interrupted."""
    bad: dict[str, str] = {}
    return status('check_data', lambda args: run(args, bad), parse_args(argv)) or int(bool(bad))


if __name__ == '__main__':
    sys.exit(main())
