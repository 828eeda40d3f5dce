"""Measures how long one inference takes at every operating point of a run, on this machine.

    python -m scripts.profile RUN                     # one image alone, and batches of 32
    python -m scripts.profile RUN --batch 8 --threads 1
    python -m scripts.profile RUN --backend native    # in the library that runs .lqn files
    python -m scripts.profile net.lqn --threads 1 --layers s224

Writes RUN/profile-DEVICE.json: median and spread over the rounds, in which the points take turns
after one call of each for warming up. scripts.choose and the tables read it; times of other devices
and backends have files of their own. Those of a .lqn file are printed alone.
"""

import argparse
import contextlib
import dataclasses
import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine import processor, timing
from engine.errors import UsageError
from engine.files import writable, write_json
from engine.results import formats
from engine.results.formats import Column, Table
from engine.results.profiles import TENSORFLOW, Device
from scripts import add_format, noted, parser, status

NATIVE = 'native'
END = '.lqn'

LAYERS = (
    Column('point', 'point'),
    Column('layer', 'layer'),
    Column('ms', 'ms', 3),
    Column('iqr', 'spread', 3),
    Column('share', '% of all', 1),
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('profile', __doc__)
    p.add_argument('run', type=Path, metavar='RUN', help='run folder, or a .lqn file')
    p.add_argument(
        '--backend',
        choices=(TENSORFLOW, NATIVE),
        help=f'what computes; default: {NATIVE} of a .lqn file, else {TENSORFLOW}',
    )
    p.add_argument(
        '--layers',
        metavar='POINT',
        help=f'milliseconds of every layer of this point as well, of the {NATIVE} backend; '
        'scripts.summary RUN --ms has those of TensorFlow',
    )
    p.add_argument(
        '--batch', type=int, default=32, help='images of the larger batch (default %(default)s)'
    )
    p.add_argument('--rounds', type=int, default=15)
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
    add_format(p)
    args = p.parse_args(argv)
    args.is_file = args.run.suffix == END and not args.run.is_dir()
    if args.backend is None:
        args.backend = NATIVE if args.is_file else TENSORFLOW
    return args


def check(args: argparse.Namespace) -> None:
    """Checks the flags.

    Raises:
        UsageError: A number is too small, there is no run folder, or what computes cannot.
    """
    if args.batch < 2 or args.rounds < 1 or args.threads < 0:
        raise UsageError(
            f'--batch {args.batch} --rounds {args.rounds} --threads {args.threads}: '
            'at least 2, 1 and 0'
        )
    if not args.is_file and not (args.run / 'config.json').exists():
        raise UsageError(
            f'{args.run}: is no run folder (no config.json in it), and times are written into it'
        )
    if not args.is_file:
        from engine.runs import checkpoint

        checkpoint.recorded(checkpoint.find(str(args.run), None, 'RUN'))
    if args.backend == NATIVE:
        from engine.deployment import native_library

        native_library.load()
    elif args.is_file:
        raise UsageError(f'--backend {args.backend}: runs run folders, and {args.run} is a file')
    elif args.layers:
        raise UsageError(
            f'--layers {args.layers}: is of --backend {NATIVE}; scripts.summary {args.run} --ms '
            'times the layers of TensorFlow'
        )


def measure(predictor: Any, side: int, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median and spread of the milliseconds of a batch, by operating point.

    Args:
        predictor: Of the run.
        side: Edge of the images, pixels.
        batch: Number of random images.
        rounds: Measured calls of every point; the points take turns.
    """
    images = noise(batch, side, 3)
    runs = {}
    for point in predictor.points:
        runs[point] = functools.partial(predictor.predict, images, point=point)
    found = {}
    for point, seconds in timing.take_turns(runs, rounds).items():
        median, spread = 1e3 * middle(seconds)
        found[point] = {f'batch{batch}_ms': float(median), f'batch{batch}_iqr': float(spread)}
    return found


def noise(count: int, side: int, channels: int) -> np.ndarray:
    """Random images uint8 [count, side, side, channels], the same ones each time.

    Args:
        count: of images.
        side: of an image, pixels.
        channels: of an image.
    """
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(count, side, side, channels), dtype=np.uint8)


def middle(values: Any) -> np.ndarray:
    """Median of values along their first axis, and the range of their middle half: [2, ...]."""
    low, median, high = np.percentile(values, (25, 50, 75), axis=0)
    return np.stack([median, high - low])


def this_device(backend: str, threads: int) -> Device:
    """The device that measures; its threads are counted where they were left open."""
    gpu = ''
    if backend == TENSORFLOW:
        from engine.runs import environment

        gpu, *_ = (*environment.gpus(), '')
    return Device(processor.name(), gpu, threads or processor.cores(), backend)


def shipped(run: Path, folder: Path) -> Path:
    """Writes the .lqn file of all operating points of a run; what it says goes to stderr.

    Args:
        run: Its folder.
        folder: For the file.

    Raises:
        UsageError: The run has no checkpoint.
    """
    from engine.deployment import forms
    from engine.graph import freeze
    from engine.runs import checkpoint

    source = checkpoint.read(checkpoint.find(str(run), None, 'RUN'), flag='RUN')
    path = folder / f'net{END}'
    with contextlib.redirect_stdout(sys.stderr):
        forms.exporter(NATIVE).write(source, freeze.points(source), path)
    return path


def layers_table(file: Path, point: str, rounds: int, threads: int) -> Table:
    """Milliseconds of every layer of a .lqn file for an image alone.

    A layer is what the library computes in one go: an operation with a kernel or a window, and all
    that is done to its result while it is in the cache.

    Args:
        file: Its path.
        point: Operating point.
        rounds: Measured images, after one for warming up.
        threads: That share an image.

    Raises:
        UsageError: The file cannot be read, or lacks the point.
    """
    from engine.deployment import native_reader
    from engine.deployment.native_library import NativeNetwork

    read = native_reader.read(file)
    if point not in read.points:
        raise UsageError(f'--layers {point}: there are {" ".join(read.points)}')
    network = NativeNetwork(read.complete, str(file), threads)
    place = read.all_points.index(point)
    about = network.points[place]
    views = [noise(1, side, about.channels) for side in about.sides]
    seconds = []
    for _ in range(1 + rounds):
        steps = network.times(place, *views)
        seconds.append([taken for _, taken in steps])
    ms, spread = 1e3 * middle(seconds[1:])  # [layers] each
    rows = []
    for number, (name, _) in enumerate(steps):
        share = 100 * ms[number] / ms.sum()
        rows.append((point, name, float(ms[number]), float(spread[number]), float(share)))
    return Table('layers', LAYERS, rows)


def run(args: argparse.Namespace) -> str:
    """Measures, writes, tells."""
    check(args)
    with tempfile.TemporaryDirectory() as folder:
        served = args.run
        if args.backend == NATIVE and not args.is_file:
            served = shipped(args.run, Path(folder))
        return measured(args, served)


def measured(args: argparse.Namespace, served: Path) -> str:
    """The tables of what a predictor of ``served`` takes; of a run, a record too."""
    from engine.deployment.predictor import Predictor

    device = this_device(args.backend, args.threads)
    tables = []
    if args.layers:
        tables.append(layers_table(served, args.layers, args.rounds, device.threads))
    path = None if args.is_file else writable(args.run / device.file)
    predictor = Predictor(served, threads=args.threads, backend=args.backend)
    side = largest_side(served) if args.backend == NATIVE else predictor.config.image_size
    alone = measure(predictor, side, 1, args.rounds)
    together = measure(predictor, side, args.batch, args.rounds)
    points = {}
    for point, times in alone.items():
        points[point] = times | together[point]
    rows = []
    for point, times in points.items():
        images_per_second = 1e3 * args.batch / times[f'batch{args.batch}_ms']
        rows.append((point, *times.values(), images_per_second))
    if path:
        about = {
            'device': dataclasses.asdict(device),
            'threads': args.threads,
            'rounds': args.rounds,
            'batch': args.batch,
            'points': points,
        }
        write_json(path, about)
    tables.insert(0, Table('points', columns(args.batch), rows))
    note = f'{path or args.run}: on {device.name}'
    return noted(formats.render(tables, args.format), note, args.format)


def largest_side(file: Path) -> int:
    """Edge of the largest images that a .lqn file takes, pixels."""
    from engine.deployment import native_reader, native_runtimes, texts

    about = texts.parse(native_runtimes.texts_of(native_reader.read(file)), str(file))
    return max(about.images.view or point.side for point in about.points)


def columns(batch: int) -> list[Column]:
    """Of the table, for batches of so many images beside one image alone."""
    return [
        Column('point', 'point'),
        Column('batch1_ms', 'ms alone', 2),
        Column('batch1_iqr', 'spread', 2),
        Column(f'batch{batch}_ms', f'ms, batch of {batch}', 2),
        Column(f'batch{batch}_iqr', 'spread', 2),
        Column('images_per_second', 'images/s', 2),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('profile', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
