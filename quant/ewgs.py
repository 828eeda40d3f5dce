"""EWGS's own quantizer: intervals that are learned by gradient, onto fixed levels.

Reference:
    Network Quantization with Element-wise Gradient Scaling, CVPR 2021,
    https://arxiv.org/abs/2104.00903, equations 1-5, and the authors' code, cvlab-yonsei/EWGS. The
    gradient scaling itself is the option ``delta`` of every uniform quantizer.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from quant import first_steps, native, uniform
from quant.backend import scalar_like, tf
from quant.quantizer import (
    Activations,
    Codebook,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
    check_factors,
    lacks_norm,
)
from quant.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class EWGS(Quantizer):
    """EWGS quantizer of weights and activations: what lies between l and u goes onto [0, 1].

    Forward: v = clip((x - l) / (u - l), 0, 1) and q = round(v n) / n with n = 2**bits - 1.
    Activations are q, weights 2 q - 1, so that a normalisation has to follow; the published code
    multiplies the output of a layer by a learned scale, which that makes void. Pseudo-gradient of
    ``round``: ``g + delta |g| (v - q)`` for the gradient g of q. x, l and u get theirs through v:
    nothing beyond the interval.

    Weights start at u = -l = 3 standard deviations; activations at l = their minimum, the mean of
    those of several tensors, and u = 3 deviations / sqrt(1 - 2 / pi), of all values of the first
    batch; where values are constant, what follows from their deviation is 1. A width u - l that
    crosses zero goes on as |u - l|.

    Attributes:
        bits: 1 to 8.
        delta: of the gradient scaling, as published: for errors in widths of the interval.
        private: an interval of activations per input size instead of one for all.
        lr_factor: of the intervals, times the learning rate. At the rate of the weights they leave
            the values within a hundred steps; the published code gives them Adam at 1e-5.
        decay_factor: of the intervals, times the weight decay of kernels.

    *Variable names*: ``upper`` [1], ``lower`` [1].
    """

    bits: int = 2
    delta: float = 0.001
    private: bool = False
    lr_factor: float = 0.01
    decay_factor: float = 0.0

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'ewgs(lr_factor=1)',
            'qw': 4,
            'qa': 4,
            'nesterov': False,
            'quantizer_optimizer': 'adam',
            'quantizer_lr': 1e-5,
            'batch_size': 256,
            'lr': 0.01,
            'schedule': 'cosine',
            'epochs': 100,
            'wd': 1e-4,
        },
        'ResNet-34 at 224 from float weights: W4A4 73.9; issue 2 of its repository',
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'private')
        check_factors(self, 'delta', 'lr_factor', 'decay_factor')

    def refuses(self, role: str, *, weights: bool) -> str:
        if weights:
            return lacks_norm(role)
        return super().refuses(role, weights=weights)

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights from -1 to 1, with one interval."""
        tower = weights.tower

        def reach(*_: Any, **__: Any) -> tf.Tensor:
            moments = _moments(weights.first())
            reached = 3 * _deviation(moments)
            return first_steps.or_one(reached)

        def below(*_: Any, **__: Any) -> tf.Tensor:
            return -reach()

        upper, lower = tower.once(lambda: self._ends(tower, reach, below))
        width = uniform.positive(upper - lower)
        tower.report(lambda: self._codebook(lower, width, -1.0))
        return self._quantized(w, lower, width, centred=True)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations from 0 to 1, with one interval, whatever their bounds."""
        tower = activations.tower
        x = activations.rectified(x)
        initializers = tf.ones_initializer(), tf.zeros_initializer()
        upper, lower = tower.once(lambda: self._ends(tower, *initializers))
        if activations.collect:
            moments = _moments(first_steps.checked(x))
            extremes = first_steps.extremes(x)
            tower.start_from(upper, moments, _first_upper)
            tower.start_from(lower, extremes, _first_lower)
        width = uniform.positive(upper - lower)
        tower.report(lambda: self._codebook(lower, width, 0.0))
        return self._quantized(x, lower, width, centred=False)

    def _ends(self, tower: Any, above: Any, below: Any) -> tuple[tf.Variable, tf.Variable]:
        """Upper and lower end, with their initializers."""
        upper = self.trained(tower, 'upper', 1, above)
        return upper, self.trained(tower, 'lower', 1, below)

    def _quantized(
        self, x: tf.Tensor, lower: tf.Tensor, width: tf.Tensor, *, centred: bool
    ) -> tf.Tensor:
        """Values of the interval at the levels 0, 1 / n ... 1.

        Args:
            x: float32.
            lower: [1] end of the interval.
            width: [1] of it, positive.
            centred: whether levels go as far from -1 to 1 instead.
        """
        steps = 2**self.bits - 1
        delta = self.delta / steps
        if native.used():
            x, relu = native.before_relu(x)
            rule = native.Interval(steps, delta, centred=centred, relu=relu)
            return uniform.by_rule(rule, x, lower, width)
        share = _share(x, lower, width)
        slopes = uniform.Slopes(delta)
        whole = uniform.quantize(share * steps, tf.ones([1]), 0, steps, slopes=slopes)
        unit = whole / steps
        if centred:
            return 2 * unit - 1
        return unit

    def _codebook(self, lower: tf.Tensor, width: tf.Tensor, lowest: float) -> Codebook:
        """The step function, whose levels go from ``lowest`` to 1."""
        steps = 2**self.bits - 1
        integers = np.arange(steps + 1, dtype='float32')[:, None]  # [L, 1]
        step = tf.constant([(1 - lowest) / steps])
        thresholds = (integers[:-1] + 0.5) / steps * width + lower
        offset = tf.constant([lowest])
        levels = integers / steps * (1 - lowest) + offset
        thresholds = uniform.near_zero_to_even(thresholds, 0, lower)
        return Codebook(levels, thresholds, step, offset)


def _share(x: tf.Tensor, lower: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Where values lie in an interval, from 0 to 1; no gradient from beyond.

    Args:
        x: float32.
        lower: [1] end of the interval.
        width: [1] of the interval, positive; however narrow it is, gradients of what lies far away
            are finite.
    """

    @tf.custom_gradient
    def clipped(x: tf.Tensor, lower: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, Any]:
        ratio = (x - lower) / width
        share = tf.clip_by_value(ratio, 0.0, 1.0)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            inside = tf.equal(ratio, share)
            nothing = scalar_like(upstream, tf.zeros([]))
            toward_x = tf.where_v2(inside, upstream / width, nothing)
            toward_lower = tf.reshape(-tf.reduce_sum(toward_x), [1])
            toward_width = tf.reshape(-tf.reduce_sum(toward_x * share), [1])
            return [toward_x, toward_lower, toward_width]

        return share, gradient

    return clipped(x, lower, width)


def _moments(x: tf.Tensor) -> tf.Tensor:
    """[3] float64: number, sum and sum of squares of values, which add up."""
    values = tf.cast(x, tf.float64)
    count = tf.cast(tf.size(x), tf.float64)
    total = tf.reduce_sum(values)
    squares = tf.reduce_sum(values**2)
    return tf.stack([count, total, squares])


def _deviation(moments: tf.Tensor) -> tf.Tensor:
    """[1] float32, the unbiased standard deviation."""
    count, total, squares = tf.unstack(moments)
    of_mean = total**2 / tf.maximum(count, 1.0)
    rest = tf.maximum(squares - of_mean, 0.0)
    freedom = tf.maximum(count - 1, 1.0)
    deviation = tf.sqrt(rest / freedom)
    deviation = tf.cast(deviation, tf.float32)
    return tf.reshape(deviation, [1])


def _first_upper(moments: tf.Tensor) -> tf.Tensor:
    """Of a half normal distribution, three deviations of the whole one."""
    of_half = math.sqrt(1 - 2 / math.pi)
    reached = 3 * _deviation(moments) / of_half
    return first_steps.or_one(reached)


def _first_lower(table: tf.Tensor) -> tf.Tensor:
    ends = first_steps.interval_of_extremes(table)
    return ends[:1]
