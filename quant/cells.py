"""Step functions: values at their levels, by comparisons with thresholds or by binary search.

Levels are ``[L, C]`` ascending and thresholds ``[L - 1, C]``, with C channels along the last axis
of what is encoded, or C = 1 for values of any shape. A value above k thresholds lies in cell k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quant import native
from quant.backend import has_gpu, scalar_like, tf

# Up to this many thresholds, values are given their levels by one comparison after the other.
MAX_COMPARED = 8
# Up to this many, comparisons are counted, in half of the time of a search; above, that is faster.
MAX_COUNTED = 32
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


def with_zero_above(thresholds: tf.Tensor, middles: np.ndarray) -> tf.Tensor:
    """Thresholds that stay below zero where their middles do, however small the scale.

    A value of zero then takes the upper of the two levels beside it.

    Args:
        thresholds: [L - 1, C].
        middles: [L - 1, 1] of which they are multiples.
    """
    below = tf.minimum(thresholds, BELOW_ZERO)
    return tf.where_v2(middles < 0, below, thresholds)


def are_compared(count: int) -> bool:
    """Whether values are compared with each of so many thresholds."""
    if has_gpu():
        return count <= MAX_COMPARED_ON_GPU
    return count <= MAX_COMPARED


def at_levels(
    x: tf.Tensor, levels: tf.Tensor, thresholds: tf.Tensor, *, keeps_nan: bool = False
) -> tf.Tensor:
    """The level of each value.

    Args:
        x: values of any shape.
        levels: [L, C] ascending.
        thresholds: [L - 1, C] ascending.
        keeps_nan: whether what is not a number stays; else it takes the lowest level.
    """
    if native.used():
        return native.encode(x, levels, thresholds, keeps_nan=keeps_nan).y
    y = Cells(x, thresholds).at(levels)
    if keeps_nan:
        y = tf.where_v2(tf.math.is_nan(x), x, y)
    return y


class Cells:
    """Cells of values by plain operations, found once for all that is asked of them.

    Args:
        x: values of any shape.
        thresholds: [L - 1, C] ascending.
    """

    def __init__(self, x: tf.Tensor, thresholds: tf.Tensor):
        self._masks: list[tf.Tensor] = []
        self._count = thresholds.shape[0] + 1
        if are_compared(thresholds.shape[0]):
            self._masks = masks(x, rows(thresholds))
        else:
            self._numbers = numbers(x, thresholds)

    def at(self, levels: tf.Tensor) -> tf.Tensor:
        """Each value's level: the row of its cell in a table [L, C]."""
        if self._masks:
            return of_masks(self._masks, rows(levels))
        return of_numbers(self._numbers, levels)

    def inner_sums(self, values: tf.Tensor) -> tf.Tensor:
        """[L - 2] sums of ``values`` over all cells but the lowest and the highest, where C = 1.

        Args:
            values: like ``x``.
        """
        if not self._masks:
            sums = sums_of(values, self._numbers, self._count)
            return tf.cast(sums[1:-1], tf.float32)
        nothing = scalar_like(values, tf.zeros([]))
        totals = []
        for lower, upper in zip(self._masks, self._masks[1:]):
            below = tf.logical_not(lower)
            outside = tf.logical_or(below, upper)
            inside = tf.where_v2(outside, nothing, values)
            totals.append(tf.reduce_sum(inside))
        return tf.stack(totals)


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


def numbers(x: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
    """int32 numbers of the cells of values, in their shape: c L + l for cell l of channel c.

    Args:
        x: values of any shape.
        thresholds: [L - 1, C] ascending.
    """
    count, channels = thresholds.shape
    if count <= MAX_COUNTED and not has_gpu():
        found = _counted(x, thresholds)
    else:
        found = _searched(x, thresholds)
    if channels > 1:
        found += (count + 1) * tf.range(channels)
    return found


def _counted(x: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
    """How many thresholds lie below each value, by a comparison with each."""
    ones = []
    for mask in masks(x, rows(thresholds)):
        ones.append(tf.cast(mask, tf.uint8))
    return tf.cast(tf.add_n(ones), tf.int32)


def _searched(x: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
    """How many thresholds lie below each value, by binary search."""
    channels = thresholds.shape[1]
    values = tf.transpose(tf.reshape(x, [-1, channels]))  # [C, n]
    index = tf.searchsorted(tf.transpose(thresholds), values, side='left')
    found = tf.reshape(tf.transpose(index), tf.shape(x))
    found.set_shape(x.shape)
    return found


def of_numbers(found: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """The levels of cells.

    Args:
        found: numbers of the cells, as ``numbers`` gives them.
        levels: [L, C].
    """
    if levels.shape[1] > 1:
        levels = tf.transpose(levels)
    return tf.gather(tf.reshape(levels, [-1]), found)


def sums_of(values: tf.Tensor, found: tf.Tensor, count: int) -> tf.Tensor:
    """[count] float64 sums of the values of each cell.

    Args:
        values: of any shape but that of a scalar.
        found: numbers of their cells, in the same shape.
        count: of all cells.
    """
    wide = tf.cast(values, tf.float64)
    if has_gpu():
        return tf.math.unsorted_segment_sum(wide, found, count)
    shape = _binned(found, count)
    return _bincount(tf.reshape(found, shape), count, tf.reshape(wide, shape))


def counts_of(found: tf.Tensor, count: int) -> tf.Tensor:
    """[count] float64 numbers of the values of each cell.

    Args:
        found: numbers of the cells of values, of any shape but that of a scalar.
        count: of all cells.
    """
    if has_gpu():
        return tf.math.unsorted_segment_sum(tf.ones_like(found, tf.float64), found, count)
    nothing = tf.zeros([0], tf.float64)
    return _bincount(tf.reshape(found, _binned(found, count)), count, nothing)


def _binned(found: tf.Tensor, count: int) -> list[int]:
    """The shape in which numbers are counted row by row, or in one row.

    Threads that share one row of few sums take ten times as long. But there are no more sums than
    values: of a dense layer, 512 inputs, 1000 outputs and 256 levels took 2 GB.

    Args:
        found: numbers.
        count: of all cells.
    """
    inner = found.shape[1:].num_elements()
    if inner is None or inner < count:
        return [1, -1]
    return [-1, inner]


def _bincount(found: tf.Tensor, count: int, weights: tf.Tensor) -> tf.Tensor:
    """Sums over rows of numbers, [count] float64.

    Args:
        found: [rows, n] numbers.
        count: of all cells.
        weights: of the same shape; [0]: 1 each.
    """
    sums = tf.raw_ops.DenseBincount(input=found, size=count, weights=weights, binary_output=False)
    return tf.reduce_sum(sums, 0)
