"""N2UQ: learned thresholds between uniform levels, and weights on a grid that fits their size.

References:
    Nonuniform-to-Uniform Quantization: Towards Accurate Quantization via Generalized Straight-
    Through Estimation, CVPR 2022, https://arxiv.org/abs/2111.14826, equations 4-11; the arithmetic
    is that of the authors' code.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np

from quant import cells, native, uniform
from quant.backend import new_graph, tf  # noqa: F401 (in the example)
from quant.bireal import mean_magnitude
from quant.quantizer import (
    Activations,
    Codebook,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
    check_factors,
)
from quant.recipe import Recipe

# Highest level, and sum of the intervals that thresholds start from.
RANGE = 2.0

# Intervals of less are taken for this, as published.
SMALLEST_INTERVAL = 1e-3


@dataclasses.dataclass(frozen=True)
class N2UQ(Quantizer):
    """N2UQ quantizer of weights and activations.

    Activations: with n = 2**bits - 1, n learned intervals that begin at ``start`` lie one after the
    other on the axis of ``scale1 x``. A value above the middle of k of them gets the level
    ``scale2 2 k / n``: levels are uniform and thresholds are not. Gradients, of x and of all that
    is learned, are those of the line that climbs by one level from one end of an interval to the
    other, and is flat beside them; that of ``scale2`` is of the levels themselves. Intervals below
    1e-3 are taken for 1e-3, and get no gradient.

    Weights, per output channel: ``S (2 round(n (clip(w / S, -1, 1) + 1) / 2) / n - 1)`` with
    S = mean|w| n / 2**(bits - 1), which gets no gradient: an even number of levels, none of them
    zero. A weight of zero takes the lowest positive one, at one bit the negative one. A channel of
    zeros stays zero, for which the published code gives no number. Gradient: the upstream one as it
    is.

    Published code computes the levels by way of the gradient, which leaves rounding of 6e-8 w / S
    on them; here they are exact. A scale that crosses zero goes on as its mirror image.

    Attributes:
        bits: 1 to 8.
        divided: the gradient of weights is divided by S, as in the published code. For Adam that is
            the same; other optimizers then have ten to thirty times the rate. None reaches a
            channel of zeros.
        delta: of EWGS, see ``quant.uniform.Slopes``, for weights; 0 is straight through.
        private: activations have thresholds and scales per input size instead of one for all.
        lr_factor: of what activations learn, times the learning rate; the published tenth.
        decay_factor: of the same, times the weight decay of kernels.

    *Variable names*: ``interval`` [n], ``start``, ``scale1``, ``scale2`` [1].

    >>> with new_graph(), tf.Session() as session:
    ...     one = tf.ones([1])
    ...     thresholds = Thresholds(tf.constant([0.5, 1.0, 2.0]), 0 * one, one, one)
    ...     y = quantize(tf.constant([0.2, 0.3, 1.1, 9.0]), thresholds)
    ...     print(session.run(y).round(3))
    [0.    0.667 1.333 2.   ]
    """

    bits: int = 2
    divided: bool = False
    delta: float = 0.0
    private: bool = False
    lr_factor: float = 0.1
    decay_factor: float = 0.0

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'n2uq(divided=True)',
            'activation': 'rprelu',
            'qw': 2,
            'qa': 2,
            'optimizer': 'adam',
            'batch_size': 256,
            'lr': 1.25e-3,
            'schedule': 'linear',
            'epochs': 128,
            'wd': 0.0,
        },
        'ResNet-18 at 224 from float weights, with --teacher a ResNet-101 alone: W2A2 69.4, '
        'W3A3 71.9, W4A4 72.9; its README (liuzechun/Nonuniform-to-Uniform-Quantization)',
        with_teacher={'label_weight': 0.0},
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'divided', 'private')
        check_factors(self, 'delta', 'lr_factor', 'decay_factor')

    def stored_values(self, channels: int) -> int:
        return channels

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights whose output channels have scales of their own."""
        n = 2**self.bits - 1
        gamma = n / 2 ** (self.bits - 1)
        size = gamma * mean_magnitude(tf.stop_gradient(w))  # [C]
        weights.tower.report(lambda: _weight_codebook(size, n))
        positive = size > 0
        divisor = tf.where_v2(positive, size, 1.0)
        ratio = tf.clip_by_value(w / divisor, -1.0, 1.0)
        half = n / 2
        exact = (ratio + 1) * half
        steps = tf.round(exact)
        y = size * (steps / half - 1)
        if self.divided:
            w = w * tf.where_v2(positive, 1 / divisor, 0.0)
        return uniform.passed_on(y, w, exact - steps, self.delta)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations with one set of thresholds.

        Without a ReLU, values are taken relative to ``lower``. Where there is no bound, they are
        taken as they are: those below the learned start are quantized to zero, as published.
        """
        tower = activations.tower
        x = activations.rectified(x)
        thresholds = tower.once(lambda: self._thresholds(tower))
        tower.report(lambda: codebook(thresholds, activations))
        y = quantize(activations.shifted(x), thresholds)
        return activations.shifted_back(y)

    def _thresholds(self, tower: Any) -> Thresholds:
        """The learned thresholds of the current scope, as this tower reads them."""
        n = 2**self.bits - 1
        equal = [RANGE / n] * n
        interval = self._variable(tower, 'interval', equal)
        start = self._variable(tower, 'start', [0.0])
        scale1 = self._variable(tower, 'scale1', [1.0])
        scale2 = self._variable(tower, 'scale2', [1.0])
        return Thresholds(interval, start, uniform.positive(scale1), uniform.positive(scale2))

    def _variable(self, tower: Any, name: str, start: list[float]) -> tf.Tensor:
        initializer = tf.constant_initializer(start)
        variable = self.trained(tower, name, len(start), initializer, bits=self.bits)
        return tf.convert_to_tensor(variable)


class Thresholds(NamedTuple):
    """Thresholds of activations that N2UQ learns.

    Attributes:
        interval: [n] lengths.
        start: [1] lower end of the first interval.
        scale1: [1] positive factor of values.
        scale2: [1] positive factor of levels.
    """

    interval: tf.Tensor
    start: tf.Tensor
    scale1: tf.Tensor
    scale2: tf.Tensor

    @property
    def lengths(self) -> tf.Tensor:
        """[n] the intervals, none below the smallest."""
        return tf.maximum(self.interval, SMALLEST_INTERVAL)

    @property
    def ends(self) -> tf.Tensor:
        """[n + 1] ends of the intervals, for scaled values."""
        before = tf.concat([[0.0], tf.cumsum(self.lengths)], 0)
        return self.start + before

    @property
    def middles(self) -> tf.Tensor:
        """[n, 1] thresholds, for values as they come."""
        half = self.lengths / 2
        middle = self.ends[:-1] + half
        return middle[:, None] / self.scale1

    @property
    def rise(self) -> float:
        """From one level to the next, before they are scaled."""
        return RANGE / self.interval.shape[0]

    @property
    def slopes(self) -> tf.Tensor:
        """[n + 2, 1] of the line below, within and above the intervals, for scaled values."""
        climbing = self.rise / self.lengths
        flat = tf.zeros([1])
        slopes = tf.concat([flat, climbing, flat], 0)
        return slopes[:, None]

    @property
    def lower_ends(self) -> tf.Tensor:
        """[n + 2, 1] where the line begins to climb at those slopes."""
        ends = self.ends[:, None]
        first = ends[:1]
        return tf.concat([first, ends], 0)

    @property
    def levels(self) -> tf.Tensor:
        """[n + 1, 1] levels before they are scaled."""
        count = self.interval.shape[0] + 1
        integers = np.arange(count)[:, None]
        return tf.constant(integers * self.rise, tf.float32)


def quantize(x: tf.Tensor, thresholds: Thresholds) -> tf.Tensor:
    """Values at their levels, with the gradients that ``N2UQ`` documents.

    Args:
        x: float32 of any shape.
        thresholds: what is learned.
    """

    @tf.custom_gradient
    def fake_quantized(x: tf.Tensor, *learned: tf.Tensor) -> tuple[tf.Tensor, Any]:
        t = Thresholds(*learned)
        levels = t.levels * t.scale2
        y = cells.at_levels(x, levels, t.middles, keeps_nan=True)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            return _gradients(x, y, upstream, t)

        return y, native.as_now(gradient)

    return fake_quantized(x, *thresholds)


def _gradients(x: tf.Tensor, y: tf.Tensor, upstream: tf.Tensor, t: Thresholds) -> list[tf.Tensor]:
    """Gradients of x, interval, start, scale1 and scale2.

    Args:
        x: values as they come.
        y: the same at their levels.
        upstream: gradient of ``y``.
        t: what is learned.
    """
    found = _line_gradient(x, y, upstream, t)
    # The line through an interval falls with all lengths before it, and turns about its lower end.
    after = tf.cumsum(found.sums, exclusive=True, reverse=True)
    fallen = after + found.turned / t.lengths
    learned = t.interval > SMALLEST_INTERVAL
    of_interval = tf.where_v2(learned, -fallen, 0.0)
    of_start = -tf.reduce_sum(found.sums, keepdims=True)
    of_scale1 = tf.reshape(found.through_x, [1])
    of_scale2 = found.upstream_y / t.scale2
    return [found.toward_x, of_interval, of_start, of_scale1, of_scale2]


class _LineGradient(NamedTuple):
    """What comes through the line between the ends of intervals, the upstream gradient times slope.

    Attributes:
        toward_x: gradient of values.
        sums: [n] of what comes through each interval.
        turned: [n] of that times what values climb in it.
        through_x: scalar, the sum of what comes through times the value.
        upstream_y: scalar, the sum of upstream gradient times level.
    """

    toward_x: tf.Tensor
    sums: tf.Tensor
    turned: tf.Tensor
    through_x: tf.Tensor
    upstream_y: tf.Tensor


def _line_gradient(x: tf.Tensor, y: tf.Tensor, upstream: tf.Tensor, t: Thresholds) -> _LineGradient:
    """As ``_gradients`` needs it, with its arguments."""
    ends = t.ends[:, None] / t.scale1
    if native.used():
        scales = tf.concat([t.scale1, t.scale2], 0)
        table = {'ends': ends, 'slopes': t.slopes, 'lowers': t.lower_ends, 'scales': scales}
        found = native.line_gradient(upstream, x, y, **table)
        sums, turned = tf.unstack(tf.cast(found.by_cell[:, 1:-1], tf.float32))
        through_x, upstream_y = tf.unstack(tf.cast(found.dots, tf.float32))
        return _LineGradient(found.toward_x, sums, turned, through_x, upstream_y)
    intervals = cells.Cells(x, ends)
    slope = intervals.at(t.slopes)
    lower = intervals.at(t.lower_ends)
    through = upstream * slope * t.scale2
    climbed = x * t.scale1 - lower
    return _LineGradient(
        through * t.scale1,
        intervals.inner_sums(through),
        intervals.inner_sums(through * climbed),
        tf.reduce_sum(through * x),
        tf.reduce_sum(upstream * y),
    )


def codebook(t: Thresholds, activations: Activations) -> Codebook:
    """The step function of activations.

    Args:
        t: what is learned.
        activations: what is known about them.
    """
    middles = t.middles
    if activations.relu:
        middles = tf.where_v2(middles < 0, -np.inf, middles)
    step = t.scale2 * t.rise
    levels = activations.shifted_back(t.levels * t.scale2)
    thresholds = activations.shifted_back(middles)
    return Codebook(levels, thresholds, step, levels[0])


def _weight_codebook(size: tf.Tensor, n: int) -> Codebook:
    """The step function of weights.

    Args:
        size: [C] the highest level.
        n: number of steps.
    """
    units, middles = cells.from_minus_one(n)
    levels = units * size
    thresholds = cells.with_zero_above(middles * size, middles)
    return Codebook(levels, thresholds, size * (2 / n), levels[0])
