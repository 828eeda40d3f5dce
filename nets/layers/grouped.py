"""Grouped convolution with a gradient on the CPU, where TensorFlow's has none."""

from __future__ import annotations

import math

from quant.backend import tf


def grouped_conv(
    x: tf.Tensor, w: tf.Tensor, stride: int, groups: int, padding: str | list[list[int]]
) -> tf.Tensor:
    """Grouped convolution of NHWC as one batched product per kernel position.

    Args:
        x: [N, H, W, groups * c].
        w: [k, k, c, out].
        stride: as of ``tf.nn.conv2d``.
        groups: number of groups.
        padding: as of ``tf.nn.conv2d``.
    """
    size = w.shape[0]
    channels = w.shape[2]
    if padding == 'SAME':
        rows = _same_padding(x.shape[1], size, stride)
        columns = _same_padding(x.shape[2], size, stride)
        padding = [[0, 0], rows, columns, [0, 0]]
    x = tf.pad(x, padding)
    height = (x.shape[1] - size) // stride + 1
    width = (x.shape[2] - size) // stride + 1
    kernel = tf.reshape(w, [size, size, channels, groups, -1])
    taps = []
    for i in range(size):
        for j in range(size):
            last_row = i + (height - 1) * stride + 1
            last_column = j + (width - 1) * stride + 1
            tap = x[:, i:last_row:stride, j:last_column:stride]
            tap = tf.reshape(tap, [-1, height, width, groups, channels])
            taps.append(tf.einsum('nhwgc,cgd->nhwgd', tap, kernel[i, j]))
    return tf.reshape(tf.add_n(taps), [-1, height, width, w.shape[3]])


def _same_padding(side: int, size: int, stride: int) -> list[int]:
    """Rows to add before and after, by TensorFlow's rule."""
    outputs = math.ceil(side / stride)
    total = max((outputs - 1) * stride + size - side, 0)
    return [total // 2, total - total // 2]
