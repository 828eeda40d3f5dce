"""Data benchmark: decoding and augmentation against tensorpack, tf.data and Pillow. Called by
`scripts.bench data`.

All read the same generated JPEGs and take turns. First the CPU time of one image on one core, 224
pixels, cubic: random area crop, mirror (ours: and lighting) for training; shortest edge 256, centre
for validation. Then images per second of whole pipelines with 0, 1 and 2 workers, handed out as
batches and consumed by a TensorFlow graph through a queue. Wall times mean something on an idle
machine only; each pipeline runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tabulate import tabulate
from tqdm import tqdm

from engine.data.opencv import cv2
from engine.data.preprocessing import Preprocessing
from engine.errors import UsageError

SIZE, SHORT_EDGE = 224, 256
SHAPES = (
    (375, 500),
    (375, 500),
    (500, 375),
    (333, 500),
    (480, 640),
)  # what ILSVRC2012 mostly holds
CLASSES = 10
PREPROCESSING = Preprocessing('area_crop', SIZE, (SIZE,), 'nearest', 'normalized_bgr')
PASSES = 4  # of a pipeline in a round
# Images of a pipeline that are not timed: tensorpack's processes have about a hundred ready at
# once.
WARM = 192
BASE = 'tensorpack'
PIPELINES = {
    'ours, 0 workers': ('ours', 0),
    'ours, 1 worker': ('ours', 1),
    'ours, 2 workers': ('ours', 2),
    'tensorpack, 1 worker': (BASE, 1),
    'tensorpack, 2 workers': (BASE, 2),
}
AGAINST = {
    'ours, 1 worker': 'tensorpack, 1 worker',
    'ours, 2 workers': 'tensorpack, 2 workers',
    'ours, 0 workers': 'tensorpack, 1 worker',
}


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog='bench data')
    p.add_argument('--images', type=int, default=256, help='files of each part')
    p.add_argument('--batch_size', type=int, default=64)
    p.add_argument('--rounds', type=int, default=7)
    return p.parse_args(argv)


def picture(
    rng: np.random.Generator, height: int, width: int, *, noise: float = 12.0
) -> np.ndarray:
    """Soft blobs under noise, uint8 [height, width, 3], RGB; as a JPEG about as large as a
    photograph.
    """
    small = rng.integers(256, size=(height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    blobs = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(blobs + rng.normal(0, noise, blobs.shape), 0, 255).astype(np.uint8)


def make_folder(root: Path, images: int) -> float:
    """Writes train/CLASS, flat val and the lists of tensorpack's ILSVRC12 in meta; returns the mean
    kB of a file.
    """
    rng, lines, sizes = np.random.default_rng(0), {'train': list[str](), 'val': list[str]()}, []
    for part, listed in lines.items():
        for i in range(images):
            name = f'ILSVRC2012_val_{i:08}.JPEG' if part == 'val' else f'n{i % CLASSES:08}/{i}.JPEG'
            path = root / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(rng, *SHAPES[i % len(SHAPES)])).save(path, quality=92)
            listed.append(f'{name} {i % CLASSES}\n')
            sizes.append(path.stat().st_size)
    (root / 'meta').mkdir()
    for part, listed in lines.items():
        (root / 'meta' / f'{part}.txt').write_text(''.join(listed))
    (root / 'meta' / 'synsets.txt').write_text(''.join(f'n{k:08}\n' for k in range(CLASSES)))
    return float(np.mean(sizes)) / 1e3


def our_flow(root: Path, part: str, batch_size: int, workers: int) -> Any:
    """The flow of a training, or of an evaluation."""
    from engine.data.batches import EvalFlow, TrainFlow
    from engine.data.datasets import open_dataset

    dataset = open_dataset(str(root), size=SIZE)
    if part == 'train':
        return TrainFlow(dataset, PREPROCESSING, batch_size=batch_size, seed=0, threads=workers)
    return EvalFlow(dataset, PREPROCESSING, batch_size=batch_size, threads=workers)


def tensorpack_images(root: Path, part: str) -> Any:
    """tensorpack's ILSVRC12 with the augmentation of its ResNet example, without colours."""
    from tensorpack.dataflow import AugmentImageComponent, imgaug
    from tensorpack.dataflow.dataset import ILSVRC12

    augmentors = (
        [
            imgaug.GoogleNetRandomCropAndResize(target_shape=SIZE, interp=cv2.INTER_CUBIC),
            imgaug.Flip(horiz=True),
        ]
        if part == 'train'
        else [
            imgaug.ResizeShortestEdge(SHORT_EDGE, cv2.INTER_CUBIC),
            imgaug.CenterCrop((SIZE, SIZE)),
        ]
    )
    return AugmentImageComponent(
        ILSVRC12(str(root), part, meta_dir=str(root / 'meta'), shuffle=part == 'train'),
        augmentors,
        copy=False,
    )


def tensorpack_flow(root: Path, part: str, batch_size: int, workers: int) -> Any:
    """As its example: processes for training, the inline flow for validation."""
    from tensorpack.dataflow import BatchData, MultiProcessRunnerZMQ

    flow = tensorpack_images(root, part)
    if workers:
        flow = MultiProcessRunnerZMQ(flow, workers)
    return BatchData(flow, batch_size, remainder=not workers)


def pillow_images(root: Path, part: str) -> Iterator[np.ndarray]:
    """As torchvision, bicubic."""
    from engine.data.area_crop import random_crop

    rng = np.random.default_rng(0)
    for path in sorted((root / part).rglob('*.JPEG')):
        with Image.open(path) as file:
            image = file.convert('RGB')
        if part == 'train':
            # Drawn on a view without pixels: Pillow crops while it scales.
            place = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), image.size[::-1], (0, 0))
            height, width = random_crop(place, rng).shape
            left, top = (
                int(rng.integers(room + 1)) for room in np.subtract(image.size, (width, height))
            )
            image = image.resize(
                (SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
            )
            yield np.asarray(
                image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image
            )
        else:
            scale = SHORT_EDGE / min(image.size)
            width, height = (round(edge * scale) for edge in image.size)
            left, top = (width - SIZE) // 2, (height - SIZE) // 2
            yield np.asarray(
                image.resize((width, height), Image.Resampling.BICUBIC).crop(
                    (left, top, left + SIZE, top + SIZE)
                )
            )


def tf_data_images(root: Path, part: str) -> Iterator[np.ndarray]:
    """decode_and_crop, accurate DCT as in the other decoders, cubic without antialiasing."""
    from quant.backend import new_graph, tf

    with new_graph():

        def view(path: Any) -> Any:
            encoded = tf.io.read_file(path)
            shape = tf.io.extract_jpeg_shape(encoded)
            if part == 'train':
                begin, size, _ = tf.image.sample_distorted_bounding_box(
                    shape,
                    tf.zeros([1, 0, 4]),
                    area_range=(0.08, 1.0),
                    aspect_ratio_range=(0.75, 1.333),
                    max_attempts=10,
                    use_image_if_no_bounding_boxes=True,
                )
                window = tf.stack([begin[0], begin[1], size[0], size[1]])
            else:
                edge = tf.cast(
                    tf.cast(tf.minimum(shape[0], shape[1]), tf.float32) * SIZE / SHORT_EDGE,
                    tf.int32,
                )
                window = tf.stack([(shape[0] - edge) // 2, (shape[1] - edge) // 2, edge, edge])
            image = tf.io.decode_and_crop_jpeg(
                encoded, window, channels=3, dct_method='INTEGER_ACCURATE'
            )
            image = tf.image.resize_bicubic(image[None], [SIZE, SIZE])[0]
            image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
            return tf.image.random_flip_left_right(image) if part == 'train' else image

        paths = sorted(str(path) for path in (root / part).rglob('*.JPEG'))
        following = tf.data.make_one_shot_iterator(
            tf.data.Dataset.from_tensor_slices(paths).map(view)
        ).get_next()
        with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1)) as session:
            step = session.make_callable(following)
            for _ in paths:
                yield step()


def our_images(root: Path, part: str) -> Iterator[np.ndarray]:
    """What our flows do with an image, before it goes into a batch."""
    from engine.data.datasets import open_dataset

    dataset = open_dataset(str(root), size=SIZE)
    source = getattr(dataset, part)
    for i in range(len(source)):
        if part == 'train':
            rng = np.random.default_rng([0, 0, i])
            yield PREPROCESSING.train_views(source.read(i), rng)[0]
        else:
            yield PREPROCESSING.eval_views(source.read(i))[0]


FRAMEWORKS: dict[str, Callable[[Path, str], Iterable[Any]]] = {
    'ours': our_images,
    BASE: tensorpack_images,
    'tf.data': tf_data_images,
    'Pillow': pillow_images,
}


def cpu_ms(iterator: Iterator[Any], images: int) -> float:
    """CPU milliseconds of an image."""
    start = time.process_time()
    for _ in range(images):
        next(iterator)
    return 1e3 * (time.process_time() - start) / images


def one_core(root: Path, part: str, images: int, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of an image in every round, by framework; they take turns. Setting up does
    not count.
    """
    found: dict[str, list[float]] = {name: [] for name in FRAMEWORKS}
    for _ in tqdm(range(rounds), desc=part, unit='round'):
        for name, make in FRAMEWORKS.items():
            flow = make(root, part)
            if hasattr(flow, 'reset_state'):
                flow.reset_state()
            iterator = iter(flow)
            next(iterator)
            found[name].append(cpu_ms(iterator, images - 1))
    return found


def through_graph(batches: Iterator[Any], count: int) -> float:
    """Seconds in which a graph takes ``count`` batches from a queue that a thread fills."""
    from quant.backend import new_graph, tf

    first = next(batches)
    with new_graph(), tf.Session() as session:
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


def serve(
    kind: str, root: Path, batch_size: int, workers: int, count: int, pipe: Connection
) -> None:
    """Answers each request with images per second: of the batches alone, and through a graph.

    Every request starts the pipeline anew, so that nothing is decoded while others have their turn.
    tensorpack forks before there is a session.
    """
    while pipe.recv():
        speeds = []
        for measured in (_drain, through_graph):
            flow = (our_flow if kind == 'ours' else tensorpack_flow)(
                root, 'train', batch_size, workers
            )
            flow.reset_state()
            batches = _endless(flow)
            for _ in range(-(-WARM // batch_size)):
                next(batches)
            speeds.append(count * batch_size / measured(batches, count))
            del flow
        pipe.send(speeds)


def _endless(flow: Any) -> Iterator[Any]:
    while True:
        yield from flow


def _drain(batches: Iterator[Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return time.perf_counter() - start


def pipelines(root: Path, batch_size: int, count: int, rounds: int) -> dict[str, np.ndarray]:
    """Images per second [rounds, 2] (batches, into the graph) by pipeline; they take turns."""
    context, pipes = multiprocessing.get_context('spawn'), {}
    for name, (kind, workers) in PIPELINES.items():
        pipes[name], other = context.Pipe()
        # No daemons: those may not have children, as tensorpack's workers are.
        context.Process(target=serve, args=(kind, root, batch_size, workers, count, other)).start()
        other.close()  # else nobody would notice that the process died
    found: dict[str, list[list[float]]] = {name: [] for name in PIPELINES}
    try:
        for _ in tqdm(range(rounds), desc='pipelines', unit='round'):
            for name, pipe in pipes.items():
                pipe.send(True)
                found[name].append(pipe.recv())
    finally:
        for pipe in pipes.values():
            pipe.send(False)
    return {name: np.array(rows) for name, rows in found.items()}


def ratio(rows: Iterable[Any], base: Iterable[Any]) -> float:
    """Median over the rounds of one over the other."""
    return statistics.median(float(a) / float(b) for a, b in zip(rows, base))


def data(argv: Sequence[str]) -> None:
    """Our data path against others."""
    args = parse_args(argv)
    if min(args.images, args.rounds, args.batch_size) < 1 or args.images < max(args.batch_size, 2):
        raise UsageError(
            '--rounds and --batch_size must be at least 1, --images at least 2 and --batch_size'
        )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kilobytes = make_folder(root, args.images)
        cores = {part: one_core(root, part, args.images, args.rounds) for part in ('train', 'val')}
        speeds = pipelines(
            root, args.batch_size, PASSES * args.images // args.batch_size, args.rounds
        )
    # A ratio above 1 means that ours is faster.
    ratios = {
        part: {name: ratio(rows, found['ours']) for name, rows in found.items()}
        for part, found in cores.items()
    }
    print(
        f'{args.images} files of {kilobytes:.0f} kB on average, {os.cpu_count()} cores; one core:'
    )
    print(
        tabulate(
            [
                [
                    part,
                    name,
                    statistics.median(rows),
                    1e3 / statistics.median(rows),
                    ratios[part][name],
                ]
                for part, found in cores.items()
                for name, rows in found.items()
            ],
            headers=('', '', 'CPU ms', 'images/s', 'our speed / its'),
            floatfmt='.3g',
        )
    )
    print(
        tabulate(
            [[name, *np.median(rows, 0)] for name, rows in speeds.items()],
            headers=('training', 'images/s', 'images/s into a graph'),
            floatfmt='.4g',
        )
    )
    print(
        json.dumps(
            {
                'bench': 'data',
                'images': args.images,
                'kB': round(kilobytes),
                'rounds': args.rounds,
                'ratio': {part: round(found[BASE], 3) for part, found in ratios.items()},
                'ratios': {
                    part: {name: round(value, 3) for name, value in found.items()}
                    for part, found in ratios.items()
                },
                'cpu_ms': {
                    part: {name: round(statistics.median(rows), 4) for name, rows in found.items()}
                    for part, found in cores.items()
                },
                'images_per_s': {
                    name: np.median(rows, 0).round(1).tolist() for name, rows in speeds.items()
                },
                'pipeline_ratio': {
                    name: [
                        round(ratio(speeds[name][:, k], speeds[other][:, k]), 3) for k in range(2)
                    ]
                    for name, other in AGAINST.items()
                },
            }
        )
    )
