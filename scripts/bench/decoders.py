"""Decoders of JPEGs beside OpenCV's: CPU time of a file, and how far pixels are from OpenCV's.

TensorFlow decodes the rectangle of a random crop alone, with the same arithmetic; simplejpeg, where
it is installed, everything, also with the faster and coarser arithmetic that libjpeg-turbo has.
"""

import importlib
import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from engine import timing
from engine.data.sources import decode
from scripts.bench.data_paths import random_box

OPENCV = 'OpenCV'
SHOWN = 64  # files that are decoded

HEADERS = ('decoder', 'CPU ms', 'its speed / OpenCV', 'largest error', 'mean error')

Box = tuple[int, int, int, int]


class File(NamedTuple):
    """A JPEG.

    Attributes:
        content: its bytes.
        box: left, top, right and bottom of a random crop.
    """

    content: bytes
    box: Box


class Decoder(NamedTuple):
    """A way to decode.

    Attributes:
        decode: gives uint8 [h, w, 3], BGR, of a file.
        crops: whether it decodes the box alone.
    """

    decode: Callable[[File], np.ndarray]
    crops: bool = False


def files(root: Path) -> list[File]:
    """The first training images of a folder of ``image_files``, with their crops."""
    rng = np.random.default_rng(0)
    found = []
    for path in sorted((root / 'train').rglob('*.JPEG'))[:SHOWN]:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            box = random_box(image.height, image.width, rng)
        found.append(File(content, box))
    return found


def by_opencv(file: File) -> np.ndarray:
    """All of the image, as our data flow decodes it."""
    return decode(np.frombuffer(file.content, np.uint8), 'a file')


def by_simplejpeg(*, fast: bool) -> Callable[[File], np.ndarray]:
    """A function that decodes all of the image, or the same with coarser arithmetic."""
    simplejpeg = importlib.import_module('simplejpeg')

    def run(file: File) -> np.ndarray:
        return simplejpeg.decode_jpeg(file.content, 'BGR', fastdct=fast, fastupsample=fast)

    return run


def by_tensorflow() -> Callable[[File], np.ndarray]:
    """A function that decodes the crop alone."""
    from quant.backend import session, tf

    with tf.Graph().as_default():
        content = tf.placeholder(tf.string, [])
        window = tf.placeholder(tf.int32, [4])
        pixels = tf.io.decode_and_crop_jpeg(
            content, window, channels=3, dct_method='INTEGER_ACCURATE'
        )
        config = tf.ConfigProto(intra_op_parallelism_threads=1)
        step: Callable[..., Any] = session(config=config).make_callable(pixels, [content, window])

    def run(file: File) -> np.ndarray:
        left, top, right, bottom = file.box
        return step(file.content, (top, left, bottom - top, right - left))[..., ::-1]

    return run


def available() -> dict[str, Decoder]:
    """The decoders that there are, by name."""
    found = {OPENCV: Decoder(by_opencv), 'TensorFlow, crop alone': Decoder(by_tensorflow(), True)}
    if importlib.util.find_spec('simplejpeg'):
        found['simplejpeg'] = Decoder(by_simplejpeg(fast=False))
        found['simplejpeg, coarser'] = Decoder(by_simplejpeg(fast=True))
    return found


def errors(decoder: Decoder, chosen: Sequence[File]) -> tuple[int, float]:
    """Largest and mean difference from OpenCV's pixels, grey levels."""
    largest = 0
    means = []
    for file in chosen:
        expected = by_opencv(file)
        if decoder.crops:
            left, top, right, bottom = file.box
            expected = expected[top:bottom, left:right]
        difference = np.abs(decoder.decode(file).astype(int) - expected)
        largest = max(largest, int(difference.max()))
        means.append(float(difference.mean()))
    return largest, float(np.mean(means))


def measured(chosen: Sequence[File], rounds: int) -> list[dict[str, Any]]:
    """A row of the table for every decoder, see ``HEADERS``; they take turns."""
    decoders = available()
    runs = {}
    for name, decoder in decoders.items():
        runs[name] = lambda decode=decoder.decode: list(map(decode, chosen))
    costs = timing.costs_by_turns(runs, rounds)
    base = np.array([taken.cpu_s for taken in costs[OPENCV]])
    rows = []
    for name, decoder in decoders.items():
        cpu = np.array([taken.cpu_s for taken in costs[name]])
        largest, mean = errors(decoder, chosen)
        ratio = float(np.median(base / cpu))
        values = (name, 1e3 * float(np.median(cpu)) / len(chosen), ratio, largest, mean)
        rows.append(dict(zip(HEADERS, values)))
    return rows
