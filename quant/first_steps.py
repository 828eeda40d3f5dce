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


# What an error says of NaN and infinity.
OF_FIRST_BATCH = 'activations of a first batch'


def checked(x: tf.Tensor) -> tf.Tensor:
    """Activations of a first batch, of which NaN and infinity are an error."""
    return tf.debugging.check_numerics(x, OF_FIRST_BATCH)


def magnitudes(x: tf.Tensor) -> tf.Tensor:
    """[2] float64, number of values and sum of their magnitudes."""
    x = checked(x)
    size = tf.cast(tf.abs(x), tf.float64)
    count = tf.cast(tf.size(x), tf.float64)
    return tf.stack([count, tf.reduce_sum(size)])


def mean_step(table: tf.Tensor, high: float) -> tf.Tensor:
    """[1] float32, LSQ's 2 mean|x| / sqrt(high); 0 where all values are.

    Args:
        table: of ``magnitudes``.
        high: the highest level, in steps.
    """
    count = tf.maximum(table[:1], 1.0)
    mean = table[1:] / count
    step = 2 * mean / math.sqrt(high)
    return tf.cast(step, tf.float32)


def mean_clip(table: tf.Tensor, steps: float) -> tf.Tensor:
    """[1] float32, the clip at which LSQ's step would start; 1 where all values are zero.

    Args:
        table: of ``magnitudes``.
        steps: from zero to the clip.
    """
    return or_one(steps * mean_step(table, steps))


def number(start: str | float) -> float:
    """The number to start from; 1 where ``start`` names a statistic of a first batch."""
    if isinstance(start, str):
        return 1.0
    return float(start)


def extremes(x: tf.Tensor) -> tf.Tensor:
    """[3] float64: 1, minimum and maximum; zeros where there is no value."""
    x = checked(x)
    low = tf.reduce_min(x)
    high = tf.reduce_max(x)
    row = tf.stack([1.0, low, high])
    row = tf.cast(row, tf.float64)
    some = tf.size(x) > 0
    return tf.where_v2(some, row, tf.zeros_like(row))


def interval_of_extremes(table: tf.Tensor) -> tf.Tensor:
    """[2] float32, the mean minimum and the mean maximum of some tensors.

    Args:
        table: of ``extremes``.
    """
    count = tf.maximum(table[0], 1.0)
    ends = table[1:] / count
    return tf.cast(ends, tf.float32)


def or_one(step: tf.Tensor) -> tf.Tensor:
    """Steps, 1 in place of what is none."""
    return tf.where_v2(step > 0, step, tf.ones_like(step))


def centres() -> np.ndarray:
    """[2 BINS + 1] what stands for the values of each bin: zero, positive ones, negative ones."""
    places = np.arange(BINS) + 0.5
    positive = 2.0 ** (places / PER_OCTAVE - LARGEST)
    return np.concatenate([[0.0], positive, -positive])


def counts(x: tf.Tensor) -> tf.Tensor:
    """[2 BINS + 1] float64, number of values in each bin."""
    flat = tf.reshape(checked(x), [-1])
    logarithm = tf.math.log(tf.abs(flat))
    octave = logarithm / np.float32(np.log(2))
    place = (octave + LARGEST) * PER_OCTAVE
    place = tf.clip_by_value(place, 0, BINS - 1)
    number = 1 + tf.cast(place, tf.int32)
    number = tf.where_v2(tf.equal(flat, 0), 0, number)
    number = tf.where_v2(flat < 0, number + BINS, number)
    bins = 2 * BINS + 1
    found = tf.math.bincount(number, minlength=bins, maxlength=bins)
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
    values = tf.reshape(w, [-1, channels])
    values = tf.cast(values, tf.float64)
    furthest = tf.reduce_max(tf.abs(values), 0)  # [C], -inf where there is none
    whole = tf.maximum(furthest, 0.0) / (high + centre)
    steps = whole * STEPS[:, None]  # [K, C]

    def error(step: tf.Tensor) -> tf.Tensor:
        size = tf.maximum(step, uniform.SMALLEST_STEP)
        rest = values - uniform.nearest(values, size, low, high, centre * size)
        return tf.reduce_sum(rest**2, 0)

    # One after the other: all at once they would hold the weights K times.
    errors = tf.map_fn(error, steps, parallel_iterations=1)  # [K, C]
    best = tf.argmin(errors, 0)
    found = tf.gather(tf.transpose(steps), best, batch_dims=1)
    return tf.cast(found, tf.float32)


def step_of_counts(table: tf.Tensor, low: int, high: int) -> tf.Tensor:
    """[1] float32, the step of least squared error; 0 where all values are.

    Args:
        table: of ``counts``.
        low: the lowest integer.
        high: the highest integer.
    """
    size = np.abs(centres())
    present = tf.where_v2(table > 0, size, 0.0)
    whole = tf.reduce_max(present) / high
    steps = whole * STEPS[:, None]  # [K, 1]
    errors = _errors(table, steps, low, high, 0.0)
    best = tf.argmin(errors)
    return tf.cast(steps[best], tf.float32)


def interval_of_counts(table: tf.Tensor, steps: int, *, zero: bool) -> tf.Tensor:
    """[2] float32, the lowest and the highest of levels of least squared error.

    Args:
        table: of ``counts``.
        steps: between the two.
        zero: whether zero has to be a level.
    """
    ends = _ends(table, zero=zero)
    lower, upper = tf.split(ends, 2, axis=1)
    size = (upper - lower) / steps
    size = tf.maximum(size, uniform.SMALLEST_STEP)
    if zero:
        whole = tf.round(lower / size)
        lower = whole * size
    errors = _errors(table, size, 0, steps, lower)
    best = tf.argmin(errors)
    return tf.cast(ends[best], tf.float32)


def _ends(table: tf.Tensor, *, zero: bool) -> tf.Tensor:
    """[K, 2] intervals to try: shares of the one from the lowest value to the highest."""
    values = centres()
    some = table > 0
    if zero:
        some = tf.logical_or(some, values == 0)
    from_below = tf.where_v2(some, values, np.inf)
    from_above = tf.where_v2(some, values, -np.inf)
    lowest = tf.reduce_min(from_below)
    highest = tf.reduce_max(from_above)
    nothing = lowest > highest  # inf and -inf: there is no value
    zero_end = tf.zeros_like(lowest)
    lowest = tf.where_v2(nothing, zero_end, lowest)
    highest = tf.where_v2(nothing, zero_end, highest)
    low, high = np.meshgrid(LOWER, UPPER, indexing='ij')
    lows = low.ravel() * lowest
    highs = high.ravel() * highest
    return tf.stack([lows, highs], 1)


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
    coded = uniform.nearest(values, size, low, high, offset)  # [K, bins]
    squares = (values - coded) ** 2
    return tf.reduce_sum(table * squares, 1)
