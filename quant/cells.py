"""Step functions: values at their levels, by a comparison per threshold or by binary search.

Levels are ``[L, C]`` ascending and thresholds ``[L - 1, C]``, with C channels along the last axis
of what is encoded, or C = 1 for values of any shape. A value above k thresholds lies in cell k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quant.backend import has_gpu, scalar_like, tf

# Above this many thresholds one search per value is cheaper than a comparison with each.
MAX_COMPARED = 8
# On GPUs: at 4 bits a step took a third of the time (an H100, ResNet-18, batch 64).
MAX_COMPARED_ON_GPU = 16

# The largest threshold below zero that is no denormal number: zero itself lies above it.
BELOW_ZERO = -np.finfo(np.float32).tiny


def from_minus_one(n: int) -> tuple[np.ndarray, np.ndarray]:
    """[n + 1, 1] levels from -1 to 1 in n equal steps, and [n, 1] middles between them; n is odd.

    The middle at zero is where ``1 + x`` in float32 leaves 1, which rounds to the even level.

    >>> levels, middles = from_minus_one(3)
    >>> print(levels[:, 0].round(2), middles[:, 0].round(2) + 0)
    [-1.   -0.33  0.33  1.  ] [-0.67  0.    0.67]
    """
    integers = np.arange(n + 1, dtype='float32')[:, None]
    # As float32 has what is rounded, divided by n, doubled.
    levels = 2 * (integers / np.float32(n)) - 1
    middles = (2 * integers[1:] - 1 - n) / np.float32(n)
    middles[n // 2] = 2.0**-24 if n == 1 else -(2.0**-25)
    return levels, middles


def are_compared(count: int) -> bool:
    """Whether values are compared with each of so many thresholds."""
    if has_gpu():
        return count <= MAX_COMPARED_ON_GPU
    return count <= MAX_COMPARED


def at_levels(x: tf.Tensor, levels: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
    """The level of each value; the lowest for what is not a number.

    Args:
        x: values of any shape.
        levels: [L, C] ascending.
        thresholds: [L - 1, C] ascending.
    """
    if are_compared(thresholds.shape[0]):
        return of_masks(masks(x, rows(thresholds)), rows(levels))
    cells, _ = search(x, thresholds)
    return of_cells(cells, levels, x)


def rows(table: tf.Tensor) -> list[tf.Tensor]:
    """Rows of [L, C]; scalars when C = 1, which broadcast faster."""
    if table.shape[1] == 1:
        table = tf.squeeze(table, axis=1)
    return tf.unstack(table)


def masks(x: tf.Tensor, thresholds: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Whether each value lies above a threshold, one tensor per threshold.

    Args:
        x: values of any shape.
        thresholds: as ``rows`` gives them.
    """
    return [x > threshold for threshold in thresholds]


def of_masks(above: Sequence[tf.Tensor], levels: Sequence[tf.Tensor]) -> tf.Tensor:
    """The levels of values.

    Args:
        above: as ``masks`` gives it.
        levels: as ``rows`` gives them.
    """
    if levels[0].shape.rank == 0:
        levels = [scalar_like(above[0], level) for level in levels]
    y = levels[0]
    for mask, value in zip(above, levels[1:]):
        y = tf.where_v2(mask, value, y)
    return y


def search(x: tf.Tensor, thresholds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cells of the values by binary search, and the values, both [C, n].

    Cell l of channel c is number c L + l.
    """
    count, channels = thresholds.shape
    values = tf.transpose(tf.reshape(x, [-1, channels]))
    index = tf.searchsorted(tf.transpose(thresholds), values, side='left')
    return index + (count + 1) * tf.range(channels)[:, None], values


def of_cells(cells: tf.Tensor, levels: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The levels of cells.

    Args:
        cells: [C, n], as ``search`` gives them.
        levels: [L, C].
        x: whose shape the result has.
    """
    flat = tf.reshape(tf.transpose(levels), [-1])
    y = tf.transpose(tf.gather(flat, cells))
    y = tf.reshape(y, tf.shape(x))
    y.set_shape(x.shape)
    return y


def sums_between(values: tf.Tensor, x: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """[n] sums of ``values`` over those of x between an end and the next.

    Args:
        values: like ``x``.
        x: float32 of any shape.
        ends: [n + 1, 1] ascending.
    """
    count = ends.shape[0]
    if not are_compared(count):
        cells, _ = search(x, ends)
        flat = tf.reshape(values, [1, -1])
        flat = tf.cast(flat, tf.float64)
        sums = tf.math.unsorted_segment_sum(flat, cells, count + 1)
        return tf.cast(sums[1:-1], tf.float32)
    above = masks(x, rows(ends))
    nothing = scalar_like(values, tf.zeros([]))
    totals = []
    for lower, upper in zip(above, above[1:]):
        below = tf.logical_not(lower)
        outside = tf.logical_or(below, upper)
        inside = tf.where_v2(outside, nothing, values)
        totals.append(tf.reduce_sum(inside))
    return tf.stack(totals)
