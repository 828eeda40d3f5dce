"""XNOR-Net: binary weights times their mean magnitude, of which the gradient knows.

Reference:
    XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks, ECCV 2016,
    https://arxiv.org/abs/1603.05279, section 3.1. The published code (allenai/XNOR-Net) was read,
    not run.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from quant.backend import tf
from quant.bireal import binary, check_binary, codebook, mean_magnitude, refused, signs
from quant.quantizer import Activations, Quantizer, Weights


@dataclasses.dataclass(frozen=True)
class XNOR(Quantizer):
    """XNOR-Net quantizer: signs, of centred weights times their mean magnitude.

    Weights: from w its mean over the input channels is subtracted, and what lies outside of
    [-1, 1] is clipped; ``sign(w)`` is multiplied by the mean of |w| over an output channel, of n
    weights. Pseudo-gradient of a centred weight: the upstream gradient times 1 / n, plus the mean
    where |w| < 1; the centring is differentiated. The published code changes the weights
    themselves in every step, and has the diagonal of the derivative of the centring alone. Kernels
    with one input channel, such as depthwise ones, are not centred.

    Activations: ``sign(x)`` in place of a ReLU before it; pseudo-gradient: the upstream gradient
    where |x| <= 1. The scales of activations that the paper has are left out, as in its code.

    Attributes:
        bits: 1.
        zero: the sign of zero, see ``BiReal``.

    *Variable names*: none.
    """

    bits: int = 1
    zero: int = -1

    def __post_init__(self) -> None:
        check_binary(self)

    def refuses(self, role: str, *, weights: bool) -> str:
        return refused(role, weights=weights)

    @property
    def ternary(self) -> bool:
        return self.zero == 0

    def stored_values(self, channels: int) -> int:
        return channels

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Signs of centred weights, times a scale per channel of the last axis of ``w``."""
        centred = w
        if w.shape[-2] > 1:
            mean = tf.reduce_mean(w, -2, keepdims=True)
            centred = w - mean
        clipped = tf.clip_by_value(centred, -1.0, 1.0)
        scale = mean_magnitude(clipped)
        weights.tower.report(lambda: codebook(scale, self.zero))
        weights.tower.describes(centred)
        fixed = tf.stop_gradient(scale)
        return _scaled_signs(centred, fixed, self.zero)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Signs, which take the place of a ReLU before them."""
        one = tf.ones([1])
        activations.tower.report(lambda: codebook(one, self.zero))
        return binary(x, self.zero, 'clipped')


def _scaled_signs(w: tf.Tensor, scale: tf.Tensor, zero: int) -> tf.Tensor:
    """Signs times a scale, with the pseudo-gradient that ``XNOR`` documents.

    Args:
        w: centred.
        scale: [C] along the last axis of ``w``.
        zero: the sign of zero.
    """
    count = w.shape.num_elements() // w.shape[-1]

    @tf.custom_gradient
    def scaled(w: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def backward(upstream: tf.Tensor) -> tf.Tensor:
            inside = tf.where_v2(tf.abs(w) < 1, scale, 0.0)
            return upstream * (inside + 1 / count)

        return scale * signs(w, zero), backward

    return scaled(w)
