"""Uniform levels: rounding to whole multiples of a step, and the gradients that methods give it.

The one owner of this arithmetic; methods differ in where step and offset come from.

References:
    Learned Step Size Quantization, ICLR 2020, https://arxiv.org/abs/1902.08153, equations 1-3.
    LSQ+, 2020, https://arxiv.org/abs/2004.09576, equations 3-6: the offset.
    Network Quantization with Element-wise Gradient Scaling, CVPR 2021,
    https://arxiv.org/abs/2104.00903, equation 4: ``delta``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from quant import native
from quant.backend import new_graph, scalar_like, tf  # noqa: F401 (in the example)
from quant.cells import BELOW_ZERO
from quant.quantizer import Codebook
from quant.straight_through import straight_through

# Steps of less are taken for this: division stays finite whatever the gradient does to a step.
SMALLEST_STEP = 1e-12

# How the gradients of step and offset are scaled.
SCALES = ('tensor', 'channel', 'none')


@dataclasses.dataclass(frozen=True)
class Slopes:
    """Which gradients pass a uniform quantizer, by default LSQ's.

    Attributes:
        delta: of element-wise gradient scaling (EWGS): toward x the upstream gradient g becomes
            ``g + delta |g| (v - round(v))`` with v counted in steps, which is straight through at
            0. The published delta belongs to an error in ranges: divide it by their steps.
        passes: where x gets the gradient: ``closed``: from the lowest to the highest level;
            ``open``: between them, not at exactly these; ``all``: everywhere.
        clip_ends: whether step and offset get from there what they get from beyond.
        inner: whether the rounding errors within the range reach the step.
    """

    delta: float = 0.0
    passes: str = 'closed'
    clip_ends: bool = False
    inner: bool = True


LSQ_SLOPES = Slopes()


def quantize(
    x: tf.Tensor,
    step: tf.Tensor,
    low: int,
    high: int,
    *,
    offset: tf.Tensor | None = None,
    slopes: Slopes = LSQ_SLOPES,
    scale: tf.Tensor | float = 1.0,
    floor: bool = False,
) -> tf.Tensor:
    """The nearest of the levels ``offset + k step``, low <= k <= high; a tie takes the even k.

    With v = (x - offset) / step and the upstream gradient g: x gets g where v lies in the range.
    The step gets the sum of g (round(v) - v) within and of g low or g high beyond, the offset the
    sum of g beyond, both times ``scale``. ``slopes`` changes these. With ``floor`` for ``round`` a
    level has the values from itself to the next one, and the range ends at ``high + 1``.

    Args:
        x: float32.
        step: positive, [1], or [C] along the last axis of ``x``.
        low: the lowest multiple.
        high: the highest multiple.
        offset: shaped like ``step``; 0 if there is none.
        slopes: which gradients pass.
        scale: factor of the gradients of step and offset.
        floor: whether values take the level below; plain operations.

    >>> with new_graph(), tf.Session() as session:
    ...     x = tf.constant([-1.0, 0.2, 0.25, 0.75, 9.0])
    ...     print(session.run(quantize(x, tf.constant([0.5]), 0, 3)))
    [0.  0.  0.  1.  1.5]
    """
    rule: _Rule | native.Uniform = _Rule(low, high, slopes, scale, floor)
    if native.used() and not floor:
        x, relu = native.before_relu(x)
        rule = native.Uniform(low, high, scale, relu=relu, **vars(slopes))
    return by_rule(rule, x, step, offset)


def by_rule(
    rule: _Rule | native.Uniform | native.Interval, x: tf.Tensor, *parameters: tf.Tensor | None
) -> tf.Tensor:
    """Values at their levels, with the gradients of a rule.

    Args:
        rule: gives both.
        x: float32.
        *parameters: what levels are made of; None is left out.
    """
    given = [parameter for parameter in parameters if parameter is not None]

    @tf.custom_gradient
    def fake_quantized(x: tf.Tensor, *parameters: tf.Tensor) -> tuple[tf.Tensor, Any]:
        y = rule.levels(x, *parameters)
        return y, lambda upstream: rule.gradients(upstream, x, *parameters)

    return fake_quantized(x, *given)


def passed_on(y: tf.Tensor, x: tf.Tensor, error: tf.Tensor, delta: float) -> tf.Tensor:
    """``y``, whose gradient g goes to ``x`` as ``g + delta |g| error``: EWGS, see ``Slopes``.

    Args:
        y: values at their levels, not differentiated.
        x: of the same shape.
        error: what rounding takes away, in steps.
        delta: 0 is straight through.
    """
    if not delta:
        return straight_through(y, x)

    @tf.custom_gradient
    def scaled(y: tf.Tensor, x: tf.Tensor, error: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
            return [None, upstream + delta * tf.abs(upstream) * error, None]

        return tf.identity(y), gradient

    return scaled(y, x, error)


def nearest(
    x: tf.Tensor, step: tf.Tensor, low: int, high: int, offset: tf.Tensor | None = None
) -> tf.Tensor:
    """The forward value of ``quantize`` without ``floor``.

    Args:
        x: float32 or float64, as are ``step`` and ``offset``.
        step: positive, [1], or [C] along the last axis of ``x``.
        low: the lowest multiple.
        high: the highest multiple.
        offset: shaped like ``step``; None is 0.
    """
    ratio = _ratio(x, step, offset)
    whole = tf.round(tf.clip_by_value(ratio, low, high))
    return level(whole, step, offset)


def level(whole: tf.Tensor, step: tf.Tensor, offset: tf.Tensor | None) -> tf.Tensor:
    """Values of integers.

    Args:
        whole: how many steps.
        step: positive, [1], or [C] along the last axis.
        offset: what 0 stands for, shaped like ``step``; None is 0.
    """
    if offset is None:
        return whole * step
    return whole * step + offset


def _ratio(x: tf.Tensor, step: tf.Tensor, offset: tf.Tensor | None) -> tf.Tensor:
    """Values in steps."""
    if offset is None:
        return x / step
    return (x - offset) / step


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Forward and backward pass of ``quantize``, whose arguments these are."""

    low: int
    high: int
    slopes: Slopes
    scale: tf.Tensor | float
    floor: bool

    @property
    def _end(self) -> int:
        """Where the range ends, in steps."""
        return self.high + self.floor

    def _clipped(self, ratio: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(ratio, self.low, self._end)

    def _whole(self, clipped: tf.Tensor) -> tf.Tensor:
        """The integers of values in the range."""
        if self.floor:
            return tf.minimum(tf.floor(clipped), self.high)
        return tf.round(clipped)

    def levels(self, x: tf.Tensor, step: tf.Tensor, offset: tf.Tensor | None = None) -> tf.Tensor:
        """The level of each value.

        Args:
            x: as of ``quantize``.
            step: as of ``quantize``.
            offset: as of ``quantize``.
        """
        ratio = _ratio(x, step, offset)
        whole = self._whole(self._clipped(ratio))
        return level(whole, step, offset)

    def gradients(
        self, upstream: tf.Tensor, x: tf.Tensor, step: tf.Tensor, offset: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """Of x, step and, where there is one, offset.

        Args:
            upstream: gradient, like ``x``.
            x: as of ``quantize``.
            step: as of ``quantize``.
            offset: as of ``quantize``.
        """
        ratio = _ratio(x, step, offset)
        clipped = self._clipped(ratio)
        whole = self._whole(clipped)
        error = clipped - whole
        nothing = scalar_like(upstream, tf.zeros([], upstream.dtype))
        toward_x = upstream
        # Of values within the range.
        toward_step = nothing
        toward_offset = nothing
        if self.slopes.inner:
            toward_step = -upstream * error
        if self.slopes.delta:
            extra = self.slopes.delta * tf.abs(upstream) * error
            toward_x += extra
            toward_offset = -extra
            if self.slopes.inner:
                toward_step -= extra * clipped
        if self.slopes.passes != 'all':
            passes = self._within(ratio, ends=self.slopes.passes == 'closed')
            toward_x = tf.where_v2(passes, toward_x, nothing)
        inside = self._within(ratio, ends=not self.slopes.clip_ends)
        toward_step = tf.where_v2(inside, toward_step, upstream * whole)
        found = [toward_x, self.scale * _sum_like(toward_step, step)]
        if offset is not None:
            toward_offset = tf.where_v2(inside, toward_offset, upstream)
            found.append(self.scale * _sum_like(toward_offset, offset))
        return found

    def _within(self, ratio: tf.Tensor, *, ends: bool) -> tf.Tensor:
        if ends:
            return tf.logical_and(ratio >= self.low, ratio <= self._end)
        return tf.logical_and(ratio > self.low, ratio < self._end)


def _sum_like(values: tf.Tensor, parameter: tf.Tensor) -> tf.Tensor:
    """Sum over everything, or over everything but the last axis, in the shape of ``parameter``."""
    if parameter.shape.rank and parameter.shape[0] > 1:
        return tf.reduce_sum(values, list(range(values.shape.rank - 1)))
    return tf.reshape(tf.reduce_sum(values), parameter.shape)


def positive(step: tf.Tensor) -> tf.Tensor:
    """|step|, at least ``SMALLEST_STEP``.

    A learned step that crosses zero goes on as its mirror image, and one of exactly zero still has
    a gradient.
    """

    @tf.custom_gradient
    def magnitude(step: tf.Tensor) -> tuple[tf.Tensor, Any]:
        sign = tf.where_v2(step < 0, -1.0, 1.0)
        return tf.maximum(tf.abs(step), SMALLEST_STEP), lambda upstream: upstream * sign

    return magnitude(step)


def snapped(offset: tf.Tensor, step: tf.Tensor, low: int, high: int) -> tf.Tensor:
    """The offset at which zero is a level: the nearest multiple of the step, straight through.

    Args:
        offset: what the integer 0 is to stand for.
        step: positive.
        low: the lowest integer.
        high: the highest integer.
    """
    whole = tf.clip_by_value(tf.round(offset / step), -high, -low)
    return straight_through(whole * step, offset)


def gradient_scale(x: tf.Tensor, channels: int, highest: float, kind: str) -> tf.Tensor | float:
    """The factor of the gradient of a step: LSQ's 1 / sqrt(N highest), or 1.

    Args:
        x: what is quantized.
        channels: number of steps.
        highest: level, in steps.
        kind: of ``SCALES``: N counts the tensor or the values of a step; ``none`` is 1.
    """
    if kind == 'none':
        return 1.0
    count = tf.cast(tf.maximum(tf.size(x, out_type=tf.int64), 1), tf.float32)
    if kind == 'channel':
        count /= channels
    return tf.rsqrt(count * highest)


def codebook(
    step: tf.Tensor,
    low: int,
    high: int,
    offset: tf.Tensor | float = 0.0,
    *,
    floor: bool = False,
) -> Codebook:
    """The step function of ``quantize``.

    Args:
        step: [C], positive.
        low: the lowest integer.
        high: the highest integer.
        offset: what the integer 0 stands for, [C] or a number.
        floor: whether values take the level below.
    """
    integers = np.arange(low, high + 1, dtype='float32')[:, None]  # [L, 1]
    levels = integers * step + offset
    share = 1.0 if floor else 0.5
    thresholds = (integers[:-1] + share) * step + offset
    zero = tf.convert_to_tensor(offset, tf.float32)
    thresholds = near_zero_to_even(thresholds, low, zero, floor=floor)
    return Codebook(levels, thresholds, step, levels[0])


def near_zero_to_even(
    thresholds: tf.Tensor, low: int, offset: tf.Tensor, *, floor: bool = False
) -> tf.Tensor:
    """Thresholds [L - 1, C] at which zeros, which are common, take the level of ``quantize``.

    Zero is a tie there, and so is what is lost when the offset is taken from it.

    Args:
        thresholds: half way between integers, or with ``floor`` at them.
        low: the integer of the lowest level.
        offset: [C] that ``quantize`` takes from values.
        floor: whether a tie takes the upper level whatever its integer.
    """
    integers = np.arange(low, low + thresholds.shape[0])[:, None]
    above = _lost(offset, np.inf)
    below = _lost(offset, -np.inf)
    below = tf.minimum(tf.math.nextafter(below, -np.inf), BELOW_ZERO)
    upper = np.logical_or(integers % 2 == 1, floor)
    nearest = tf.where_v2(upper, below, above)
    return tf.where_v2(tf.equal(thresholds, 0), nearest, thresholds)


def _lost(offset: tf.Tensor, direction: float) -> tf.Tensor:
    """The value furthest from zero of which nothing is left when an offset is taken from it.

    Args:
        offset: [C].
        direction: inf or -inf, on which side of zero.
    """
    half = (tf.math.nextafter(-offset, direction) + offset) / 2
    is_lost = tf.equal(half - offset, -offset)
    return tf.where_v2(is_lost, half, tf.math.nextafter(half, 0.0))
