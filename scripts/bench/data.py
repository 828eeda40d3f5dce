"""Data benchmark: decoding and augmentation against tensorpack, tf.data and Pillow.

All read the same generated JPEGs and take turns, see ``scripts.bench.data_paths``. First the CPU
time of one image on one core, and of decoders alone. Then images per second of whole pipelines with
0, 1 and 2 workers, handed out as batches and consumed by a TensorFlow graph through a queue. Wall
times mean something on an idle machine only; each pipeline runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from engine.console import followed
from engine.errors import UsageError
from scripts import check_counts, parser
from scripts.bench import decoders
from scripts.bench.data_paths import BASE, FLOWS, FRAMEWORKS, OURS
from scripts.bench.image_files import make_folder

PASSES = 4  # of a pipeline in a round
# Images of a pipeline that are not timed: tensorpack's processes have about a hundred ready.
WARM = 192
PIPELINES = {
    'ours, 0 workers': (OURS, 0),
    'ours, 1 worker': (OURS, 1),
    'ours, 2 workers': (OURS, 2),
    'tensorpack, 1 worker': (BASE, 1),
    'tensorpack, 2 workers': (BASE, 2),
}
AGAINST = {
    'ours, 1 worker': 'tensorpack, 1 worker',
    'ours, 2 workers': 'tensorpack, 2 workers',
    'ours, 0 workers': 'tensorpack, 1 worker',
}

Times = dict[str, list[float]]  # CPU milliseconds of an image in every round, by framework


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The flags."""
    p = parser('bench data', __doc__)
    p.add_argument('--images', type=int, default=256, help='files of each part; default 256')
    p.add_argument('--batch_size', type=int, default=64, help='of the pipelines; default 64')
    p.add_argument('--rounds', type=int, default=7, help='turns of everybody; default 7')
    return p.parse_args(argv)


def cpu_ms(iterator: Iterator[Any], images: int) -> float:
    """CPU milliseconds of an image."""
    start = time.process_time()
    for _ in range(images):
        next(iterator)
    return 1e3 * (time.process_time() - start) / images


def one_core(root: Path, part: str, images: int, rounds: int) -> Times:
    """Time all frameworks on one core; they take turns. Setting up does not count.

    Args:
        root: folder of the files.
        part: ``train`` or ``val``.
        images: files of the part.
        rounds: turns of each framework.
    """
    found: Times = {name: [] for name in FRAMEWORKS}
    for _ in followed(range(rounds), part, rounds, 'rounds'):
        for name, make in FRAMEWORKS.items():
            flow = make(root, part)
            if hasattr(flow, 'reset_state'):
                flow.reset_state()
            iterator = iter(flow)
            next(iterator)
            found[name].append(cpu_ms(iterator, images - 1))
    return found


def drain(batches: Iterator[Any], count: int) -> float:
    """Seconds in which ``count`` batches are made."""
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return time.perf_counter() - start


def through_graph(batches: Iterator[Any], count: int) -> float:
    """Seconds in which a graph takes ``count`` batches from a queue that a thread fills."""
    from quant.backend import tf

    first = next(batches)
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [tf.placeholder(tf.as_dtype(np.asarray(array).dtype)) for array in first]
        queue = tf.FIFOQueue(2, [feed.dtype for feed in feeds])
        put = session.make_callable(queue.enqueue(feeds), feeds)
        images, labels = queue.dequeue()
        take = session.make_callable([tf.size(images), tf.reduce_max(labels)])

        def fill() -> None:
            for _ in range(count):
                put(*next(batches))

        put(*first)
        take()
        start = time.perf_counter()
        thread = threading.Thread(target=fill)
        thread.start()
        for _ in range(count):
            take()
        thread.join()
        return time.perf_counter() - start


def serve(pipeline: str, root: Path, batch_size: int, count: int, pipe: Connection) -> None:
    """Answer each request with images per second: of the batches alone, and through a graph.

    Every request starts the pipeline anew, so that nothing is decoded while others have their turn.
    tensorpack forks before there is a session.

    Args:
        pipeline: one of ``PIPELINES``.
        root: folder of the files.
        batch_size: images of a batch.
        count: batches that are timed.
        pipe: brings requests; False ends.
    """
    framework, workers = PIPELINES[pipeline]
    while pipe.recv():
        speeds = []
        for measured in (drain, through_graph):
            flow = FLOWS[framework](root, 'train', batch_size, workers)
            flow.reset_state()
            batches = _endless(flow)
            for _ in range(-(-WARM // batch_size)):
                next(batches)
            seconds = measured(batches, count)
            speeds.append(count * batch_size / seconds)
            del flow
        pipe.send(speeds)


def _endless(flow: Any) -> Iterator[Any]:
    while True:
        yield from flow


def pipelines(root: Path, batch_size: int, count: int, rounds: int) -> dict[str, np.ndarray]:
    """Time all pipelines; they take turns.

    Args:
        root: folder of the files.
        batch_size: images of a batch.
        count: batches that are timed.
        rounds: turns of each pipeline.

    Returns:
        Images per second [rounds, 2] (batches, into the graph) by pipeline.
    """
    context = multiprocessing.get_context('spawn')
    pipes = {}
    processes = []
    for name in PIPELINES:
        pipes[name], other = context.Pipe()
        # No daemons: those may not have children, as tensorpack's workers are.
        process = context.Process(target=serve, args=(name, root, batch_size, count, other))
        process.start()
        processes.append(process)
        other.close()  # else nobody would notice that the process died
    found: dict[str, list[list[float]]] = {name: [] for name in PIPELINES}
    try:
        for _ in followed(range(rounds), 'pipelines', rounds, 'rounds'):
            for name, pipe in pipes.items():
                pipe.send(True)
                found[name].append(pipe.recv())
    finally:
        for pipe in pipes.values():
            pipe.send(False)
        for process in processes:
            process.join()  # what they read ahead is there until they end
    return {name: np.array(rows) for name, rows in found.items()}


def ratio(rows: Iterable[Any], base: Iterable[Any]) -> float:
    """Median over the rounds of one over the other."""
    return statistics.median(float(a) / float(b) for a, b in zip(rows, base))


def data(argv: Sequence[str]) -> None:
    """Measure our data path against others, and print tables and a line of JSON.

    Raises:
        UsageError: a number is too small.
    """
    args = parse_args(argv)
    check_counts(args, 'rounds', 'batch_size')
    least = max(args.batch_size, 2)
    if args.images < least:
        raise UsageError(
            f'--images {args.images}: must be at least {least}, for a batch and a check'
        )
    count = PASSES * args.images // args.batch_size
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kilobytes = make_folder(root, args.images)
        cores = {part: one_core(root, part, args.images, args.rounds) for part in ('train', 'val')}
        decoded = decoders.measured(decoders.files(root), args.rounds)
        speeds = pipelines(root, args.batch_size, count, args.rounds)
    # A ratio above 1 means that ours is faster.
    ratios = {part: _ratios(times) for part, times in cores.items()}
    print(
        f'{args.images} files of {kilobytes:.0f} kB on average, {os.cpu_count()} cores; one core:'
    )
    print(_core_table(cores, ratios))
    rows = [[row[name] for name in decoders.HEADERS] for row in decoded]
    print(tabulate(rows, decoders.HEADERS, floatfmt='.3g'))
    print(_pipeline_table(speeds))
    about = {'bench': 'data', 'images': args.images, 'kB': round(kilobytes), 'rounds': args.rounds}
    print(json.dumps({**about, **_summary(cores, ratios, speeds), 'decoders': decoded}))


def _ratios(times: Times) -> dict[str, float]:
    return {name: ratio(rows, times[OURS]) for name, rows in times.items()}


def _core_table(cores: dict[str, Times], ratios: dict[str, dict[str, float]]) -> str:
    rows = []
    for part, times in cores.items():
        for name, milliseconds in times.items():
            median = statistics.median(milliseconds)
            rows.append([part, name, median, 1e3 / median, ratios[part][name]])
    headers = ('', '', 'CPU ms', 'images/s', 'our speed / its')
    return tabulate(rows, headers=headers, floatfmt='.3g')


def _pipeline_table(speeds: dict[str, np.ndarray]) -> str:
    rows = [[name, *np.median(measured, 0)] for name, measured in speeds.items()]
    headers = ('training', 'images/s', 'images/s into a graph')
    return tabulate(rows, headers=headers, floatfmt='.4g')


def _summary(
    cores: dict[str, Times], ratios: dict[str, dict[str, float]], speeds: dict[str, np.ndarray]
) -> dict[str, Any]:
    """All medians, rounded, for the line of JSON."""
    line: dict[str, Any] = {'ratio': {}, 'ratios': {}, 'cpu_ms': {}}
    for part, times in cores.items():
        line['ratio'][part] = round(ratios[part][BASE], 3)
        line['ratios'][part] = _rounded(ratios[part], 3)
        medians = {name: statistics.median(rows) for name, rows in times.items()}
        line['cpu_ms'][part] = _rounded(medians, 4)
    line['images_per_s'] = {}
    for name, rows in speeds.items():
        line['images_per_s'][name] = np.median(rows, 0).round(1).tolist()
    line['pipeline_ratio'] = {}
    for name, other in AGAINST.items():
        alone = ratio(speeds[name][:, 0], speeds[other][:, 0])
        into_graph = ratio(speeds[name][:, 1], speeds[other][:, 1])
        line['pipeline_ratio'][name] = [round(alone, 3), round(into_graph, 3)]
    return line


def _rounded(values: dict[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}
