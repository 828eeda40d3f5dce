"""Step functions as TensorFlow graphs of plain operations, which converters to other formats know.

All of them give the very level that ``program.Quantize`` documents. Which is the fastest depends on
the levels; no form uses a search operation, which few converters take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quant.backend import tf

# Up to so many thresholds there is one comparison each; 15 took five times as long as a table in
# TFLite. Whole multiples are faster by arithmetic from the second number on.
CHAIN, CHAIN_OF_MULTIPLES = 7, 3

# Most parts that the range of thresholds is cut into: a table of so many numbers.
MOST_PARTS = 1024

# Added before rounding down, in place of 0.5: float32 cannot be off by the difference.
JUST_BELOW_HALF = 0.5 - 2.0**-10


def step_function(x: tf.Tensor, levels: np.ndarray, thresholds: np.ndarray) -> tf.Tensor:
    """``levels[number of thresholds below x]`` for each x.

    Args:
        x: float32.
        levels: [L] float32.
        thresholds: [L - 1] float32, ascending.
    """
    size = multiple(levels, thresholds)
    most = CHAIN if size is None else CHAIN_OF_MULTIPLES
    if len(thresholds) <= most:
        return _chain(x, levels, thresholds)
    if size is not None:
        return _rounded(x, levels, size)
    return _looked_up(x, levels, thresholds)


def _chain(x: tf.Tensor, levels: np.ndarray, thresholds: np.ndarray) -> tf.Tensor:
    """One comparison per threshold."""
    y = tf.constant(levels[0])
    for threshold, level in zip(thresholds, levels[1:]):
        y = tf.where_v2(x > threshold, level, y)
    return y


def multiple(levels: np.ndarray, thresholds: np.ndarray) -> np.float32 | None:
    """The number of which levels are whole multiples, and thresholds those plus one half.

    None if they are not, to the last bit.

    >>> multiple(np.float32([-0.25, 0, 0.25]), np.float32([-0.125, 0.125]))
    np.float32(0.25)
    """
    zeros = np.flatnonzero(levels == 0)  # one at most, or they are no multiples
    if len(zeros) != 1 or zeros[0] + 1 == len(levels):
        return None
    size = levels[zeros[0] + 1]
    integers = np.arange(len(levels), dtype=np.float32) - np.float32(zeros[0])
    halves = integers[:-1] + np.float32(0.5)
    if np.array_equal(integers * size, levels) and np.array_equal(halves * size, thresholds):
        return size
    return None


def _rounded(x: tf.Tensor, levels: np.ndarray, size: np.float32) -> tf.Tensor:
    """The whole multiple by rounding, which is one too low or right, and one comparison."""
    clipped = tf.clip_by_value(x, levels[0], levels[-1])
    integers = tf.floor(clipped * (1 / size) + np.float32(JUST_BELOW_HALF))
    above = clipped > (integers + np.float32(0.5)) * size
    return (integers + tf.cast(above, tf.float32)) * size


class Parts(NamedTuple):
    """The range of ascending thresholds in parts of equal width.

    Attributes:
        low: where the first part starts.
        density: parts per unit, a power of two.
        codes: [parts] int32, thresholds in all parts before.
        most: thresholds in the fullest part.
    """

    low: np.float32
    density: np.float32
    codes: np.ndarray
    most: int

    def number(self, x: np.ndarray) -> np.ndarray:
        """Part of each x, before it is cut to those that there are."""
        return np.floor((x - self.low) * self.density)


def parted(thresholds: np.ndarray) -> Parts:
    """The fewest parts of which each has one threshold, or else ``MOST_PARTS``."""
    low = thresholds[0]
    span = thresholds[-1] - low
    parts = Parts(low, np.float32(1), np.zeros(1, np.int32), len(thresholds))
    if span == 0:
        return parts
    count = len(thresholds)
    while parts.most > 1 and count <= MOST_PARTS:
        density = np.exp2(np.floor(np.log2((count - 1) / span))).astype(np.float32)
        found = np.floor((thresholds - low) * density).astype(np.int64)
        each = np.bincount(found)
        before = np.cumsum(each) - each
        parts = Parts(low, density, before.astype(np.int32), int(each.max()))
        count *= 2
    return parts


def _looked_up(x: tf.Tensor, levels: np.ndarray, thresholds: np.ndarray) -> tf.Tensor:
    """The part of the range that holds x has few thresholds, which are compared.

    The part of a value is found by the same arithmetic as that of a threshold, which keeps their
    order, so that thresholds of other parts need no comparison.
    """
    parts = parted(thresholds)
    place = (x - parts.low) * parts.density
    last = np.float32(len(parts.codes) - 1)
    place = tf.cast(tf.clip_by_value(place, np.float32(0), last), tf.int32)
    before = tf.gather(tf.constant(parts.codes), place)
    padded = np.concatenate([thresholds, np.full(parts.most, np.inf, np.float32)])
    code = before
    for k in range(parts.most):
        threshold = tf.gather(tf.constant(padded[k:]), before)
        code += tf.cast(x > threshold, tf.int32)
    return tf.gather(tf.constant(levels), code)
