"""Preprocessing in the graph: normalises a batch once and resizes it once per input size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.data import inputs
from engine.data.preprocessing import Preprocessing
from quant.backend import tf


def views(
    images: Sequence[tf.Tensor], preprocessing: Preprocessing, data_format: str
) -> dict[int, tf.Tensor]:
    """A batch as the network takes it.

    With ``nearest`` the source index is floor(i * H / size) in float32, and normalisation comes
    first, as published. With ``area`` every pixel is the mean over its source area, in two matrix
    products, which every format of networks has: converters turn an area resize into another one.
    An antialiased view of another edge than the size's is filtered here.

    Args:
        images: uint8 [N, H, H, C], BGR or grey: one for each of ``preprocessing.view_sizes``.
        preprocessing: of the run.
        data_format: ``NHWC`` or ``NCHW``, of the result.

    Returns:
        {size: float32 [N, size, size, C]} or [N, C, size, size].
    """
    rule = inputs.parse(preprocessing.inputs)
    values = [_normalized(batch, rule) for batch in images]  # [N, H, H, C]
    if not preprocessing.antialias:
        resize = {'nearest': _nearest, 'area': _area_means}[preprocessing.resize]
        return {size: resize(values[0], size, data_format) for size in preprocessing.sizes}
    found = {}
    for size, view in zip(preprocessing.sizes, values):
        matrix = antialiased(int(view.shape[1]), size, cubic=preprocessing.cubic)
        found[size] = _resampled(view, matrix, data_format)
    return found


def _in_format(values: tf.Tensor, data_format: str) -> tf.Tensor:
    """[N, H, W, C] in the order of the format."""
    return tf.transpose(values, [0, 3, 1, 2]) if data_format == 'NCHW' else values


def _nearest(values: tf.Tensor, size: int, data_format: str) -> tf.Tensor:
    if size != values.shape[1]:
        values = tf.image.resize_nearest_neighbor(values, [size, size])
    return _in_format(values, data_format)


def _area_means(values: tf.Tensor, size: int, data_format: str) -> tf.Tensor:
    """Means over areas, of [N, H, H, C]."""
    length = int(values.shape[1])
    return _resampled(values, overlap(length, size), data_format)


def _resampled(values: tf.Tensor, shares: np.ndarray, data_format: str) -> tf.Tensor:
    """[N, H, H, C] resized by the shares [size, H] of the source pixels of an axis."""
    size, length = shares.shape
    channels = int(values.shape[3])
    if size == length:
        return _in_format(values, data_format)
    rows = tf.reshape(values, [-1, length, length * channels])
    rows = tf.matmul(tf.constant(shares), rows)  # [N, size, H * C]
    rows = tf.reshape(rows, [-1, size, length, channels])
    lines = tf.reshape(tf.transpose(rows, [0, 3, 1, 2]), [-1, length])  # [N * C * size, H]
    means = tf.matmul(lines, tf.constant(np.ascontiguousarray(shares.T)))
    means = tf.reshape(means, [-1, channels, size, size])
    return means if data_format == 'NCHW' else tf.transpose(means, [0, 2, 3, 1])


def shares(resize: str, length: int, size: int) -> np.ndarray:
    """A resize as the part that every source pixel has in every pixel of the result, of one axis.

    Args:
        resize: ``nearest`` or ``area``.
        length: source pixels.
        size: pixels of the result.

    Returns:
        float32 [size, length]; the result is the product with it, and for the other axis with its
        transpose.

    >>> print(shares('nearest', 3, 2))
    [[1. 0. 0.]
     [0. 1. 0.]]
    """
    if resize == 'area':
        return overlap(length, size)
    step = np.float32(length) / np.float32(size)
    places = np.floor(np.arange(size, dtype=np.float32) * step).astype(int)
    return np.eye(length, dtype=np.float32)[np.minimum(places, length - 1)]


def resized(images: np.ndarray, resize: str, size: int) -> np.ndarray:
    """Views resized as the graph resizes them, by numpy and before they are normalised.

    Args:
        images: uint8 [N, H, H, C].
        resize: ``nearest`` or ``area``.
        size: edge of the result, pixels.

    Returns:
        float32 [N, size, size, C], from 0 to 255: means over areas are no whole numbers.
    """
    count, length, _, channels = images.shape
    if size == length:
        return images.astype(np.float32)
    matrix = shares(resize, length, size).astype(np.float64)
    rows = images.reshape(count, length, length * channels)
    lines = (matrix @ rows).reshape(count, size, length, channels)
    return (matrix @ lines).astype(np.float32)


def overlap(length: int, size: int) -> np.ndarray:
    """The part that every source pixel has in every pixel of an area resize, of one axis.

    In the arithmetic of ``tf.image.resize_area``, whose places are float32.

    Args:
        length: source pixels.
        size: pixels of the result; more or fewer.

    Returns:
        float32 [size, length], rows of sum 1.

    >>> overlap(3, 2)
    array([[0.6666667 , 0.33333334, 0.        ],
           [0.        , 0.33333334, 0.6666667 ]], dtype=float32)
    """
    step = np.float32(length) / np.float32(size)
    places = np.arange(size + 1, dtype=np.float32) * step  # [size + 1]
    starts, ends = places[:-1, None], places[1:, None]
    pixels = np.arange(length, dtype=np.float32)
    limits = pixels + 1
    # What is rounded beyond the last pixel is that pixel again.
    limits[-1] = np.inf
    shared = np.minimum(ends, limits) - np.maximum(starts, pixels)  # [size, length]
    return np.maximum(shared, 0) / step


def antialiased(length: int, size: int, *, cubic: bool) -> np.ndarray:
    """The part that every source pixel has in every pixel of Pillow's resize, of one axis.

    Args:
        length: source pixels.
        size: pixels of the result; more or fewer.
        cubic: by the bicubic filter (with a = -1/2), not the bilinear one.

    Returns:
        float32 [size, length], rows of sum 1.

    >>> antialiased(4, 2, cubic=False)
    array([[0.42857143, 0.42857143, 0.14285715, 0.        ],
           [0.        , 0.14285715, 0.42857143, 0.42857143]], dtype=float32)
    """
    scale = length / size
    centres = (np.arange(size) + 0.5) * scale
    distances = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1.0)
    near = np.maximum(1 - distances, 0)
    parts = near
    if cubic:
        far = np.clip(2 - distances, 0, 1)
        parts = near * (1 + distances - 1.5 * distances**2) - 0.5 * far**2 * (1 - far)
    return (parts / parts.sum(1, keepdims=True)).astype(np.float32)


def _normalized(images: tf.Tensor, rule: inputs.InputRule) -> tf.Tensor:
    if rule.rgb:
        # Bytes are reversed in a quarter of the time of floats.
        images = tf.reverse(images, [3])
    values = tf.cast(images, tf.float32) / 255.0
    if not rule.mean:
        return values
    height, width, channels = images.shape[1:]
    # One vector for a row of pixels: a broadcast over three channels takes more than twice the time
    # on the CPU.
    rows = tf.reshape(values, [-1, height, width * channels])
    normalized = (rows - rule.mean * width) / (rule.std * width)
    return tf.reshape(normalized, [-1, height, width, channels])
