"""Data paths that the data benchmark compares: ours, tensorpack's, tf.data's and Pillow's.

All read the folder of ``image_files.make_folder``, at 224 pixels, cubic: random area crop and
mirror (ours: and lighting) for training; shortest edge 256 and its centre for validation.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.data.opencv import cv2
from engine.data.preprocessing import Preprocessing

SIZE = 224
SHORT_EDGE = 256
PREPROCESSING = Preprocessing('area_crop', SIZE, (SIZE,), 'nearest', 'normalized_bgr')
AREA_RANGE = (0.08, 1.0)
ASPECT_RANGE = (0.75, 1.333)
TRIES = 10

OURS = 'ours'
BASE = 'tensorpack'


def our_flow(root: Path, part: str, batch_size: int, workers: int) -> Any:
    """The flow of a training, or of an evaluation.

    Args:
        root: folder of the files.
        part: ``train`` or ``val``.
        batch_size: images of a batch.
        workers: threads; 0 decodes in the thread that iterates.
    """
    from engine.data.batches import EvalFlow, TrainFlow
    from engine.data.datasets import open_dataset

    dataset = open_dataset(str(root), size=SIZE)
    if part == 'train':
        return TrainFlow(dataset, PREPROCESSING, batch_size=batch_size, seed=0, threads=workers)
    return EvalFlow(dataset, PREPROCESSING, batch_size=batch_size, threads=workers)


def our_images(root: Path, part: str) -> Iterator[np.ndarray]:
    """Images as our flows make them, before they go into a batch."""
    from engine.data.datasets import open_dataset

    dataset = open_dataset(str(root), size=SIZE)
    source = getattr(dataset, part)
    for i in range(len(source)):
        image = source.read(i)
        if part == 'train':
            (view,) = PREPROCESSING.train_views(image, np.random.default_rng([0, 0, i]))
        else:
            (view,) = PREPROCESSING.eval_views(image)
        yield view


def tensorpack_images(root: Path, part: str) -> Any:
    """Images of tensorpack's ILSVRC12 with the augmentation of its ResNet example, no colours."""
    from tensorpack.dataflow import AugmentImageComponent, imgaug
    from tensorpack.dataflow.dataset import ILSVRC12

    if part == 'train':
        augmentors = [
            imgaug.GoogleNetRandomCropAndResize(target_shape=SIZE, interp=cv2.INTER_CUBIC),
            imgaug.Flip(horiz=True),
        ]
    else:
        augmentors = [
            imgaug.ResizeShortestEdge(SHORT_EDGE, cv2.INTER_CUBIC),
            imgaug.CenterCrop((SIZE, SIZE)),
        ]
    files = ILSVRC12(str(root), part, meta_dir=str(root / 'meta'), shuffle=part == 'train')
    return AugmentImageComponent(files, augmentors, copy=False)


def tensorpack_flow(root: Path, part: str, batch_size: int, workers: int) -> Any:
    """As tensorpack's example: processes for training, the inline flow for validation.

    Args:
        root: folder of the files.
        part: ``train`` or ``val``.
        batch_size: images of a batch.
        workers: processes; 0 decodes in the process that iterates.
    """
    from tensorpack.dataflow import BatchData, MultiProcessRunnerZMQ

    flow = tensorpack_images(root, part)
    if workers:
        flow = MultiProcessRunnerZMQ(flow, workers)
    return BatchData(flow, batch_size, remainder=not workers)


def pillow_images(root: Path, part: str) -> Iterator[np.ndarray]:
    """Images as torchvision makes them, bicubic."""
    rng = np.random.default_rng(0)
    view = _pillow_train_view if part == 'train' else _pillow_eval_view
    for path in sorted((root / part).rglob('*.JPEG')):
        with Image.open(path) as file:
            image = file.convert('RGB')
        yield np.asarray(view(image, rng))


def random_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random rectangle, as torchvision draws it.

    Args:
        height: of the image.
        width: of the image.
        rng: source of all chance.
    """
    from engine.data.area_crop import random_crop

    # Drawn on a view without pixels.
    place = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (height, width), (0, 0))
    box_height, box_width = random_crop(place, rng).shape
    left = int(rng.integers(width - box_width + 1))
    top = int(rng.integers(height - box_height + 1))
    return left, top, left + box_width, top + box_height


def _pillow_train_view(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    box = random_box(image.height, image.width, rng)
    # Pillow crops while it scales.
    view = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return view


def _pillow_eval_view(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    scale = SHORT_EDGE / min(image.size)
    width = round(image.width * scale)
    height = round(image.height * scale)
    left = (width - SIZE) // 2
    top = (height - SIZE) // 2
    whole = image.resize((width, height), Image.Resampling.BICUBIC)
    return whole.crop((left, top, left + SIZE, top + SIZE))


def tf_data_images(root: Path, part: str) -> Iterator[np.ndarray]:
    """Images of tf.data: accurate DCT as in the other decoders, cubic without antialiasing."""
    from quant.backend import tf

    window = _random_window if part == 'train' else _central_window

    def view(path: Any) -> Any:
        encoded = tf.io.read_file(path)
        place = window(tf, tf.io.extract_jpeg_shape(encoded))
        image = tf.io.decode_and_crop_jpeg(
            encoded, place, channels=3, dct_method='INTEGER_ACCURATE'
        )
        image = tf.image.resize_bicubic(image[None], [SIZE, SIZE])[0]
        image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        if part == 'train':
            image = tf.image.random_flip_left_right(image)
        return image

    paths = sorted(str(path) for path in (root / part).rglob('*.JPEG'))
    with tf.Graph().as_default():
        files = tf.data.Dataset.from_tensor_slices(paths)
        following = tf.data.make_one_shot_iterator(files.map(view)).get_next()
        with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1)) as session:
            step = session.make_callable(following)
            for _ in paths:
                yield step()


def _random_window(tf: Any, shape: Any) -> Any:
    """Top, left, height and width of a random rectangle of an image of this shape."""
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.zeros([1, 0, 4]),
        area_range=AREA_RANGE,
        aspect_ratio_range=ASPECT_RANGE,
        max_attempts=TRIES,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.stack([begin[0], begin[1], size[0], size[1]])


def _central_window(tf: Any, shape: Any) -> Any:
    """Top, left, height and width of the centre of an image of this shape."""
    shortest = tf.cast(tf.minimum(shape[0], shape[1]), tf.float32)
    edge = tf.cast(shortest * SIZE / SHORT_EDGE, tf.int32)
    return tf.stack([(shape[0] - edge) // 2, (shape[1] - edge) // 2, edge, edge])


FRAMEWORKS: dict[str, Callable[[Path, str], Iterable[Any]]] = {
    OURS: our_images,
    BASE: tensorpack_images,
    'tf.data': tf_data_images,
    'Pillow': pillow_images,
}
FLOWS: dict[str, Callable[[Path, str, int, int], Any]] = {OURS: our_flow, BASE: tensorpack_flow}
