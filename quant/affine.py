"""Affine quantization by observed ranges: the baseline that needs no training.

References:
    Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    CVPR 2018, https://arxiv.org/abs/1712.05877, equations 1 and 12; the arithmetic is that of
    PyTorch (torch.ao.quantization: MinMaxObserver, fake_quantize) and of Brevitas
    (Int8WeightPerTensorFloat, Uint8ActPerTensorFloat).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from quant import first_steps, native, uniform
from quant.backend import tf
from quant.lsq import ONE_BIT
from quant.quantizer import (
    Activations,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
    check_choice,
    check_factors,
)

METHODS = ('minmax', 'percentile', 'mse')


@dataclasses.dataclass(frozen=True)
class Affine(Quantizer):
    """Affine quantizer: equal steps over a range that was observed, in which zero is a level.

    Weights: ``round(clip(w / s, -high, high)) s``, of which ``high`` stands for the largest
    magnitude that the first step finds. Activations: ``2**bits`` levels from the lowest value of
    the first batch to the highest, or zero; the step is their distance over ``2**bits - 1``, of
    which the lowest becomes a multiple. Neither is learned. Pseudo-gradient of x: the upstream
    gradient where the rounded integer lies in the range. Where all values are zero the step is 1.
    A first batch that holds NaN or infinity is an error; later NaN stays NaN.

    Attributes:
        bits: 1 to 8; weights have at least 2.
        method: what is observed: ``minmax``: the extremes; of activations their mean over sizes and
            batches. ``percentile``: magnitudes but for the largest ones, of activations at either
            end, to within a bin of ``first_steps.counts``. ``mse``: the least squared error.
        percentile: of the values, in percent.
        per_channel: weights have a step per output channel.
        narrow: integers of weights are symmetric; without, there is one more below, and the largest
            magnitude lies half a step beyond the highest one and is clipped, as in PyTorch.
        through: weights have the step of ``minmax`` in every step of training, which is
            differentiated, as in Brevitas.
        learned: activations, not negative, have a highest value that is learned by gradient from
            there on, as in Brevitas.
        delta: of EWGS, see ``quant.uniform.Slopes``; 0 is straight through.
        private: activations have a range per input size instead of one for all.

    *Variable names*: of weights ``step`` [1] or [C], with ``through`` none; of activations
    ``range`` [2], with ``learned`` ``value`` [1].
    """

    bits: int = 8
    method: str = 'minmax'
    percentile: float = 99.99
    per_channel: bool = True
    narrow: bool = True
    through: bool = False
    learned: bool = False
    delta: float = 0.0
    private: bool = False

    def __post_init__(self) -> None:
        check_bits(self)
        check_choice(self, 'method', METHODS)
        check_bools(self, 'per_channel', 'narrow', 'through', 'learned', 'private')
        check_factors(self, 'delta')
        share = self.percentile
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 50 < share <= 100:
            raise ValueError(f'percentile={share!r} must be above 50 and at most 100')

    def refuses(self, role: str, *, weights: bool) -> str:
        if weights and self.bits == 1:
            return ONE_BIT
        return ''

    @property
    def ternary(self) -> bool:
        return self.narrow and self.bits == 2

    def stored_values(self, channels: int) -> int:
        if self.per_channel:
            return channels
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights with one step, or with one per channel of the last axis of ``w``."""
        high = 2 ** (self.bits - 1) - 1
        low = -high
        if not self.narrow:
            low -= 1
        channels = 1
        if self.per_channel:
            channels = w.shape[-1]
        if self.through:
            step = first_steps.or_one(self._step(w, channels, low, high, 'minmax'))
            weights.tower.report(lambda: uniform.codebook(step, low, high))
            return _rounded(w, step, low, high, delta=self.delta)

        def initial(*_: Any, **__: Any) -> tf.Tensor:
            found = self._step(weights.first(), channels, low, high, self.method)
            return first_steps.or_one(found)

        variable = weights.tower.variable('step', [channels], initializer=initial, bits=self.bits)
        step = tf.convert_to_tensor(variable)
        weights.tower.report(lambda: uniform.codebook(step, low, high))
        return _rounded(w, step, low, high, delta=self.delta)

    def _step(self, w: tf.Tensor, channels: int, low: int, high: int, method: str) -> tf.Tensor:
        """[channels] steps of weights.

        Args:
            w: weights.
            channels: number of steps.
            low: the lowest integer.
            high: the highest integer.
            method: see ``method``.
        """
        if method == 'mse':
            return first_steps.step_of_values(w, channels, low, high, 0.0)
        size = tf.reshape(tf.abs(w), [-1, channels])
        if method == 'percentile':
            ascending = tf.sort(size, axis=0)
            place = rank(tf.shape(size)[0], self.percentile) - 1
            largest = ascending[tf.cast(place, tf.int32)]
        else:
            largest = tf.reduce_max(size, 0)
        # In double precision: TensorFlow divides by a constant by multiplying with its reciprocal.
        step = tf.cast(largest, tf.float64) / ((high - low) / 2)
        return tf.cast(step, tf.float32)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations with one range, of any sign.

        Raises:
            ValueError: values below zero have no learned range.
        """
        tower = activations.tower
        x = activations.rectified(x)
        high = 2**self.bits - 1
        if self.learned:
            return self._learned(x, activations, high)

        def make() -> tuple[tf.Variable, tf.Tensor]:
            start = tf.constant_initializer([0.0, 1.0])
            variable = tower.variable('range', [2], initializer=start)
            return variable, tf.convert_to_tensor(variable)

        variable, ends = tower.once(make)
        self._observe(x, activations, variable, with_zero)
        step, offset = grid(ends, high)
        tower.report(lambda: uniform.codebook(step, 0, high, offset))
        return _rounded(x, step, 0, high, offset, delta=self.delta)

    def _learned(self, x: tf.Tensor, activations: Activations, high: int) -> tf.Tensor:
        """Activations from zero to a learned value.

        Args:
            x: activations.
            activations: what is known about them.
            high: the highest integer.

        Raises:
            ValueError: values below zero can occur.
        """
        if activations.signed or activations.offset:
            raise ValueError('learned=True: these activations can be negative')
        tower = activations.tower
        x = tf.nn.relu(x)

        def make() -> tuple[tf.Variable, tf.Tensor]:
            ones = tf.ones_initializer()
            variable = tower.variable('value', [1], initializer=ones, trainable=True)
            return variable, uniform.positive(tf.convert_to_tensor(variable))

        variable, value = tower.once(make)
        self._observe(x, activations, variable, lambda ends: first_steps.or_one(ends[1:]))
        step = value / high
        tower.report(lambda: uniform.codebook(step, 0, high))
        return _rounded(x, step, 0, high, delta=self.delta)

    def _observe(
        self,
        x: tf.Tensor,
        activations: Activations,
        variable: tf.Variable,
        value: Callable[[tf.Tensor], tf.Tensor],
    ) -> None:
        """Lets ``variable`` start from a first batch.

        Args:
            x: activations.
            activations: what is known about them.
            variable: to start.
            value: makes its start of the ends [2] of the range.
        """
        if not activations.collect:
            return
        table, ends = first_steps.extremes, first_steps.interval_of_extremes
        if self.method == 'percentile':
            table = observed
            ends = functools.partial(interval_of_percentile, percentile=self.percentile)
        elif self.method == 'mse':
            table = first_steps.counts
            steps = 2**self.bits - 1
            ends = functools.partial(first_steps.interval_of_counts, steps=steps, zero=True)
        activations.tower.start_from(variable, table(x), lambda total: value(ends(total)))


def rank(count: tf.Tensor, percentile: float) -> tf.Tensor:
    """How many of the values, in ascending order, make a percentile: float64, at least 1.

    Args:
        count: of all values.
        percentile: in percent.
    """
    values = tf.cast(count, tf.float64)
    share = percentile / 100
    wanted = tf.floor(values * share + 0.5)
    return tf.maximum(wanted, 1.0)


def observed(x: tf.Tensor) -> tf.Tensor:
    """Float64, the tables ``extremes`` and ``counts`` of activations."""
    ends = first_steps.extremes(x)
    counts = first_steps.counts(x)
    return tf.concat([ends, counts], 0)


def interval_of_percentile(table: tf.Tensor, percentile: float) -> tf.Tensor:
    """[2] float32, the range that leaves out so many of the values at each end.

    Args:
        table: of ``observed``.
        percentile: of the values, in percent.
    """
    ends = first_steps.interval_of_extremes(table[:3])
    positive = _furthest(table[3:], percentile, 1.0)
    negative = _furthest(table[3:], percentile, -1.0)
    return tf.stack([tf.maximum(ends[0], -negative), tf.minimum(ends[1], positive)])


def _furthest(table: tf.Tensor, percentile: float, sign: float) -> tf.Tensor:
    """Scalar, the largest value of a percentile of the values times a sign, at least zero.

    Args:
        table: of ``first_steps.counts``.
        percentile: in percent.
        sign: of the values.
    """
    values = sign * first_steps.centres()
    order = values.argsort()
    ascending = tf.constant(values[order])
    counts = tf.gather(table, order)
    reached = tf.cumsum(counts)
    wanted = rank(reached[-1], percentile)
    (place,) = tf.unstack(tf.searchsorted(reached, [wanted]))
    # A bin stands for all of its values.
    half_a_bin = 2 ** (0.5 / first_steps.PER_OCTAVE)
    edge = ascending[place] * half_a_bin
    edge = tf.maximum(edge, 0.0)
    return tf.cast(edge, tf.float32)


def with_zero(ends: tf.Tensor) -> tf.Tensor:
    """[2] the ends of a range that also holds zero."""
    low = tf.minimum(ends[0], 0.0)
    high = tf.maximum(ends[1], 0.0)
    return tf.stack([low, high])


def grid(ends: tf.Tensor, high: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Step and lowest level, each [1], of a range in which zero is a level.

    Args:
        ends: [2] of the range.
        high: number of steps.
    """
    lowest, highest = tf.split(ends, 2)
    step = first_steps.or_one((highest - lowest) / high)
    below = tf.round(lowest / step)
    below = tf.clip_by_value(below, -high, 0)
    return step, below * step


def _rounded(
    x: tf.Tensor,
    step: tf.Tensor,
    low: int,
    high: int,
    offset: tf.Tensor | None = None,
    *,
    delta: float,
) -> tf.Tensor:
    """The nearest level ``offset + k step``; gradients pass where k lies in the range.

    Other quantizers of uniform levels ask whether the value lies in it, before it is rounded.

    Args:
        x: float32.
        step: positive, [1], or [C] along the last axis of ``x``.
        low: the lowest k.
        high: the highest k.
        offset: shaped like ``step``; 0 if there is none.
        delta: of EWGS.
    """
    if native.used():
        x, relu = native.before_relu(x)
        slopes = vars(uniform.Slopes(delta))
        rule = native.Uniform(low, high, 1.0, relu=relu, rounds_first=True, **slopes)
        return uniform.by_rule(rule, x, step, offset)
    # As PyTorch does; in single precision TensorFlow's reciprocal is off by a bit.
    exact = 1 / tf.cast(step, tf.float64)
    inverse = tf.cast(exact, tf.float32)
    if offset is not None:
        x -= offset
    ratio = x * inverse
    nearest = tf.round(ratio)
    whole = uniform.passed_on(nearest, ratio, ratio - nearest, delta)
    inside = tf.clip_by_value(whole, low, high)
    return uniform.level(inside, step, offset)
