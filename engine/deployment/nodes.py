"""Facts read from nodes of a TensorFlow graph: constants, padding, slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.deployment import program
from engine.errors import UsageError
from quant.backend import tf


def constant(x: tf.Tensor) -> np.ndarray | None:
    """The value of a tensor that is a constant; None for any other."""
    if x.op.type != 'Const':
        return None
    return tf.make_ndarray(x.op.get_attr('value'))


def known(x: tf.Tensor) -> np.ndarray:
    """The value of a tensor that has to be a constant.

    Raises:
        UsageError: it is computed.
    """
    value = constant(x)
    if value is None:
        raise UsageError(f'{x.name}: is computed of the images, where a program has a constant')
    return value


def padding_rule(op: tf.Operation) -> str:
    """Padding rule of a windowed node: ``SAME``, ``VALID`` or ``EXPLICIT``."""
    return op.get_attr('padding').decode()


def pads(
    op: tf.Operation, window: Sequence[int], stride: Sequence[int]
) -> tuple[int, int, int, int]:
    """Padding of a windowed node at the top, the bottom, the left and the right.

    Args:
        op: the node, NHWC.
        window: (height, width).
        stride: (down, to the right).
    """
    rule = padding_rule(op)
    if rule == 'EXPLICIT':
        return tuple(op.get_attr('explicit_paddings')[2:6])
    if rule == 'SAME':
        return program.same_pads(op.inputs[0].shape[1:3], window, stride)
    return 0, 0, 0, 0


def corners(op: tf.Operation, shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Start, stop and step of a slice of images, for rows, columns and channels."""
    start, stop, step = (known(x).tolist() for x in op.inputs[1:4])
    found: list[tuple[int, int, int]] = []
    for axis in (1, 2, 3):
        extent = slice(None)
        # A slice may leave out the last axes.
        if axis < len(start):
            first = start[axis]
            last = stop[axis]
            if op.get_attr('begin_mask') >> axis & 1:
                first = None
            if op.get_attr('end_mask') >> axis & 1:
                last = None
            extent = slice(first, last, step[axis])
        found.append(extent.indices(shape[axis]))
    return list(zip(*found))
