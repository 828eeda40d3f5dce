"""LSQ: uniform quantization with a step that is learned by gradient.

Reference:
    Learned Step Size Quantization, ICLR 2020, https://arxiv.org/abs/1902.08153, equations 1-3 and
    section 2.2. No code by the authors is public; the arithmetic is that of zhutmost/lsq-net, with
    the activations' start that the paper has.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from quant.backend import new_graph, tf  # noqa: F401 (in the example)
from quant.quantizer import (
    Activations,
    Codebook,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
    check_factors,
)

# Steps of less are taken for this: division stays finite whatever the gradient does to a step.
SMALLEST_STEP = 1e-12

ONE_BIT = 'signed integers of 1 bit have no positive one; use 2 bits or more, or a binary quantizer'


@dataclasses.dataclass(frozen=True)
class LSQ(Quantizer):
    """LSQ quantizer of weights and activations.

    Forward: ``round(clip(x / s, low, high)) s``, of which ``round`` takes the even one of two
    equally near integers; unsigned integers go from 0 to 2**bits - 1, signed ones from
    -2**(bits - 1) to 2**(bits - 1) - 1. Pseudo-gradient of x: the upstream gradient where x / s
    lies within the range, its ends included, 0 elsewhere. Gradient of s: the sum over the values of
    the upstream gradient times ``round(x / s) - x / s`` within and ``low`` or ``high`` outside,
    times 1 / sqrt(N high) with all N values of the tensor.

    A step starts at 2 mean|x| / sqrt(high): of the weights that the first step finds, and of the
    first batch of activations. The published code lets it go through zero, from where unsigned
    activations never come back; here |s| is used, so that a step that crosses zero goes on as its
    mirror image, and one of exactly zero acts as a very small one. Where all values are zero a step
    starts at 1.

    Attributes:
        bits: 1 to 8. One bit is for unsigned activations alone: signed integers of one bit have no
            positive one.
        symmetric: signed integers leave out the lowest one, which makes 2 bits ternary.
        per_channel: weights have a step per output channel; N stays that of the tensor.
        private: activations have a step per input size instead of one for all.
        lr_factor: of the steps, times the learning rate.
        decay_factor: of the steps, times the weight decay of kernels.

    *Variable names*: ``step`` [1], or [C].

    Two bits without sign at step 0.5, where a tie takes the even multiple:

    >>> with new_graph(), tf.Session() as session:
    ...     x = tf.constant([-1.0, 0.2, 0.25, 0.75, 9.0])
    ...     print(session.run(quantize(x, tf.constant(0.5), 0, 3)))
    [0.  0.  0.  1.  1.5]
    """

    bits: int = 2
    symmetric: bool = False
    per_channel: bool = False
    private: bool = False
    lr_factor: float = 1.0
    decay_factor: float = 0.0

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'symmetric', 'per_channel', 'private')
        check_factors(self, 'lr_factor', 'decay_factor')

    def refuses(self, role: str, *, weights: bool) -> str:
        if weights and self.bits == 1:
            return ONE_BIT
        return ''

    def stored_values(self, channels: int) -> int:
        if self.per_channel:
            return channels
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Signed weights with one step, or with one per channel of the last axis of ``w``."""
        low, high = self._range(signed=True)
        channels = 1
        axes = None
        if self.per_channel:
            channels = w.shape[-1]
            axes = list(range(w.shape.rank - 1))

        def initial(*_: Any, **__: Any) -> tf.Tensor:
            mean = tf.reduce_mean(tf.abs(weights.first()), axes)
            return tf.reshape(first_step(mean, high), [channels])

        _, step = self._step(weights.tower, channels, initial)
        weights.tower.report(lambda: codebook(step, low, high))
        return quantize(w, step, low, high)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Unsigned activations with one step.

        Without a ReLU, values are taken relative to ``lower``: 0, or the negative bound of a
        function such as Swish. Where there is no bound (-inf), integers are signed.

        Raises:
            ValueError: one bit where there is no bound.
        """
        tower = activations.tower
        if activations.signed and self.bits == 1:
            raise ValueError(f'{ONE_BIT}; these activations have both signs')
        low, high = self._range(signed=activations.signed)
        if activations.relu:
            x = tf.nn.relu(x)
        shifted = activations.shifted(x)
        variable, step = self._step(tower, 1, tf.ones_initializer())
        if activations.collect:
            tower.start_from(self, variable, start_table(shifted, high))
        tower.report(lambda: codebook(step, low, high, activations.offset))
        return activations.shifted_back(quantize(shifted, step, low, high))

    def start(self, table: tf.Tensor) -> tf.Tensor:
        count = table[0]
        total = table[1]
        step = tf.cast(total / tf.maximum(count, 1.0), tf.float32)
        return tf.reshape(tf.where_v2(step > 0, step, 1.0), [1])

    def _range(self, *, signed: bool) -> tuple[int, int]:
        """The lowest and the highest integer."""
        if not signed:
            return 0, 2**self.bits - 1
        high = 2 ** (self.bits - 1) - 1
        if self.symmetric:
            return -high, high
        return -high - 1, high

    def _step(self, tower: Any, channels: int, initializer: Any) -> tuple[tf.Variable, tf.Tensor]:
        """The trained step [channels] of the current scope, and its value, read once per tower."""

        def make() -> tuple[tf.Variable, tf.Tensor]:
            variable = tower.variable(
                'step',
                [channels],
                initializer=initializer,
                trainable=True,
                lr_factor=self.lr_factor,
                decay_factor=self.decay_factor,
            )
            return variable, tf.convert_to_tensor(variable)

        return tower.once(make)


def quantize(x: tf.Tensor, step: tf.Tensor, low: int, high: int) -> tf.Tensor:
    """Values at whole multiples of the step, with the gradients that ``LSQ`` documents.

    Args:
        x: float32.
        step: [1], or [C] along the last axis of ``x``, float32.
        low: the lowest multiple.
        high: the highest multiple.
    """

    @tf.custom_gradient
    def fake_quantized(x: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, Any]:
        size = tf.maximum(tf.abs(step), SMALLEST_STEP)
        rounded = tf.round(tf.clip_by_value(x / size, low, high))

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            ratio = x / size
            inside = tf.logical_and(ratio >= low, ratio <= high)
            clipped = tf.clip_by_value(ratio, low, high)
            slope = tf.where_v2(inside, tf.round(clipped) - ratio, clipped)
            total = _sum_like(upstream * slope, step)
            count = tf.cast(tf.maximum(tf.size(x, out_type=tf.int64), 1), tf.float32)
            scale = tf.rsqrt(count * high)
            sign = tf.where_v2(step < 0, -1.0, 1.0)
            return [tf.where_v2(inside, upstream, 0.0), scale * sign * total]

        return rounded * size, gradient

    return fake_quantized(x, step)


def _sum_like(values: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Sum over everything, or over everything but the last axis, in the shape of ``step``."""
    if step.shape.rank and step.shape[0] > 1:
        return tf.reduce_sum(values, list(range(values.shape.rank - 1)))
    return tf.reshape(tf.reduce_sum(values), step.shape)


def first_step(mean: tf.Tensor, high: int) -> tf.Tensor:
    """The step to start from; 1 where all values are zero.

    Args:
        mean: of the magnitudes.
        high: the highest integer.
    """
    step = mean * (2 / math.sqrt(high))
    return tf.where_v2(step > 0, step, tf.ones_like(step))


def start_table(x: tf.Tensor, high: int) -> tf.Tensor:
    """[2] float64, number of values and sum of the steps that each of them would start from.

    Args:
        x: float32 activations.
        high: the highest integer.
    """
    total = tf.reduce_sum(tf.cast(tf.abs(x), tf.float64)) * (2 / math.sqrt(high))
    return tf.stack([tf.cast(tf.size(x), tf.float64), total])


def codebook(step: tf.Tensor, low: int, high: int, lower: float = 0.0) -> Codebook:
    """The step function of ``quantize``.

    Args:
        step: [C].
        low: the lowest integer.
        high: the highest integer.
        lower: what the integer 0 stands for.
    """
    size = tf.maximum(tf.abs(step), SMALLEST_STEP)
    integers = np.arange(low, high + 1, dtype='float32')[:, None]  # [L, 1]
    levels = integers * size + lower
    thresholds = (integers[:-1] + 0.5) * size + lower
    return Codebook(levels, thresholds, size, levels[0])
