"""Where uniform levels start: from the mean magnitude, from the extremes, or by squared error.

Of activations there are tables, which add up over sizes, towers and workers.
"""

from __future__ import annotations

import math

import numpy as np

from quant import uniform
from quant.backend import tf

# Bins of magnitudes: 16 to an octave, from 2**-100 to 2**100.
PER_OCTAVE = 16
LARGEST = 100
BINS = 2 * LARGEST * PER_OCTAVE

# Steps that are tried: 8 to an octave, down from the one that clips nothing.
STEPS = 2.0 ** (-np.arange(96) / 8)
# Shares of the lower and the upper end of an interval that are tried.
LOWER = np.append(2.0 ** (-np.arange(12) / 4), 0.0)
UPPER = np.append(2.0 ** (-np.arange(24) / 4), 0.0)


def magnitudes(x: tf.Tensor) -> tf.Tensor:
    """[2] float64, number of values and sum of their magnitudes."""
    total = tf.reduce_sum(tf.cast(tf.abs(x), tf.float64))
    return tf.stack([tf.cast(tf.size(x), tf.float64), total])


def mean_step(table: tf.Tensor, high: float) -> tf.Tensor:
    """[1] float32, LSQ's 2 mean|x| / sqrt(high); 0 where all values are.

    Args:
        table: of ``magnitudes``.
        high: the highest level, in steps.
    """
    mean = table[1:] / tf.maximum(table[:1], 1.0)
    return tf.cast(mean * (2 / math.sqrt(high)), tf.float32)


def extremes(x: tf.Tensor) -> tf.Tensor:
    """[3] float64: 1, minimum and maximum; zeros where there is no value."""
    low = tf.reduce_min(x)
    high = tf.reduce_max(x)
    row = tf.cast(tf.stack([1.0, low, high]), tf.float64)
    return tf.where_v2(tf.size(x) > 0, row, tf.zeros_like(row))


def interval_of_extremes(table: tf.Tensor) -> tf.Tensor:
    """[2] float32, the mean minimum and the mean maximum of some tensors.

    Args:
        table: of ``extremes``.
    """
    return tf.cast(table[1:] / tf.maximum(table[0], 1.0), tf.float32)


def or_one(step: tf.Tensor) -> tf.Tensor:
    """Steps, 1 in place of what is none."""
    return tf.where_v2(step > 0, step, tf.ones_like(step))


def centres() -> np.ndarray:
    """[2 BINS + 1] what stands for the values of each bin: zero, positive ones, negative ones."""
    exponents = (np.arange(BINS) + 0.5) / PER_OCTAVE - LARGEST
    return np.concatenate([[0.0], 2.0**exponents, -(2.0**exponents)])


def counts(x: tf.Tensor) -> tf.Tensor:
    """[2 BINS + 1] float64, number of values in each bin."""
    flat = tf.reshape(x, [-1])
    octave = tf.math.log(tf.abs(flat)) / np.float32(np.log(2))
    place = tf.clip_by_value((octave + LARGEST) * PER_OCTAVE, 0, BINS - 1)
    place = tf.where_v2(tf.equal(flat, 0), 0, 1 + tf.cast(place, tf.int32))
    place = tf.where_v2(flat < 0, place + BINS, place)
    found = tf.math.bincount(place, minlength=2 * BINS + 1, maxlength=2 * BINS + 1)
    return tf.cast(found, tf.float64)


def step_of_values(w: tf.Tensor, channels: int, low: int, high: int, centre: float) -> tf.Tensor:
    """[channels] float32, the step of least squared error; 0 where all values are.

    Args:
        w: last axis ``channels``, or any shape where that is 1.
        channels: number of steps.
        low: the lowest integer.
        high: the highest integer.
        centre: what the integer 0 stands for, in steps.
    """
    values = tf.reshape(tf.cast(w, tf.float64), [-1, channels])
    furthest = tf.maximum(tf.reduce_max(tf.abs(values), 0), 0.0)  # [C], 0 where there is none
    steps = furthest * (STEPS[:, None] / (high + centre))  # [K, C]

    def error(step: tf.Tensor) -> tf.Tensor:
        size = tf.maximum(step, uniform.SMALLEST_STEP)
        rest = values - uniform.nearest(values, size, low, high, centre * size)
        return tf.reduce_sum(rest**2, 0)

    # One after the other: all at once they would hold the weights K times.
    errors = tf.map_fn(error, steps, parallel_iterations=1)  # [K, C]
    best = tf.argmin(errors, 0)
    return tf.cast(tf.gather(tf.transpose(steps), best, batch_dims=1), tf.float32)


def step_of_counts(table: tf.Tensor, low: int, high: int) -> tf.Tensor:
    """[1] float32, the step of least squared error; 0 where all values are.

    Args:
        table: of ``counts``.
        low: the lowest integer.
        high: the highest integer.
    """
    furthest = tf.reduce_max(tf.where_v2(table > 0, np.abs(centres()), 0.0))
    steps = furthest * (STEPS[:, None] / high)  # [K, 1]
    errors = _errors(table, steps, low, high, 0.0)
    return tf.cast(tf.gather(steps, tf.argmin(errors)), tf.float32)


def interval_of_counts(table: tf.Tensor, steps: int, *, zero: bool) -> tf.Tensor:
    """[2] float32, the lowest and the highest of levels of least squared error.

    Args:
        table: of ``counts``.
        steps: between the two.
        zero: whether zero has to be a level.
    """
    ends = _ends(table, zero=zero)
    lower = ends[:, :1]
    size = tf.maximum((ends[:, 1:] - lower) / steps, uniform.SMALLEST_STEP)
    if zero:
        lower = tf.round(lower / size) * size
    errors = _errors(table, size, 0, steps, lower)
    return tf.cast(tf.gather(ends, tf.argmin(errors)), tf.float32)


def _ends(table: tf.Tensor, *, zero: bool) -> tf.Tensor:
    """[K, 2] intervals to try: shares of the one from the lowest value to the highest."""
    values = centres()
    some = table > 0
    if zero:
        some = tf.logical_or(some, values == 0)
    lowest = tf.reduce_min(tf.where_v2(some, values, np.inf))
    highest = tf.reduce_max(tf.where_v2(some, values, -np.inf))
    nothing = lowest > highest  # inf and -inf: there is no value
    lowest = tf.where_v2(nothing, tf.zeros_like(lowest), lowest)
    highest = tf.where_v2(nothing, tf.zeros_like(highest), highest)
    low, high = np.meshgrid(LOWER, UPPER, indexing='ij')
    return tf.stack([low.ravel() * lowest, high.ravel() * highest], 1)


def _errors(
    table: tf.Tensor, step: tf.Tensor, low: int, high: int, offset: tf.Tensor | float
) -> tf.Tensor:
    """[K] squared errors.

    Args:
        table: of ``counts``.
        step: [K, 1].
        low: the lowest integer.
        high: the highest integer.
        offset: [K, 1], or one for all.
    """
    values = centres()
    size = tf.maximum(step, uniform.SMALLEST_STEP)
    rest = values - uniform.nearest(values, size, low, high, offset)  # [K, bins]
    return tf.reduce_sum(table * rest**2, 1)
