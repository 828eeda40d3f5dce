"""Trained ternary quantization: ternary weights with two scales that are learned by gradient.

Reference:
    Trained Ternary Quantization, ICLR 2017, https://arxiv.org/abs/1612.01064, equations 6-9; the
    arithmetic is that of the authors' code (czhu95/ternarynet).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from quant.backend import new_graph, tf  # noqa: F401 (in the example)
from quant.quantizer import Quantizer, Weights, lacks_norm
from quant.twn import check_ternary, codebook, ternary

# Threshold of weights in largest magnitudes.
SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class TTQ(Quantizer):
    """Trained ternary quantization: -negative, 0 or positive, by .05 times the largest magnitude.

    Both scales start at 1, whatever the weights, so that a normalisation has to follow. They are
    learned by gradient: the sum of the upstream gradients of the weights at their level, that of
    the negative one with the other sign. Pseudo-gradient of w: the upstream gradient times the
    scale of its level, of which that of zero is 1. The threshold follows from the weights in every
    step and gets no gradient.

    The published code lets a scale go through zero, which exchanges the levels; here its magnitude
    is used, so that it goes on as its mirror image. A weight exactly at the threshold is zero; the
    masks of the published code overlap there. Weights of zero stay zero; NaN stays NaN.

    Attributes:
        bits: 2, of which three levels are used: packed, a weight takes 1.6.

    *Variable names*: ``positive``, ``negative`` [1].

    >>> with new_graph(), tf.Session() as session:
    ...     w = tf.constant([-0.5, 0.01, 1.0])
    ...     y = quantize(w, tf.constant([2.0]), tf.constant([3.0]), tf.constant(0.05))
    ...     print(session.run(y))
    [-3.  0.  2.]
    """

    bits: int = 2

    def __post_init__(self) -> None:
        check_ternary(self.bits)

    @property
    def ternary(self) -> bool:
        return True

    def refuses(self, role: str, *, weights: bool) -> str:
        return super().refuses(role, weights=weights) or lacks_norm(role)

    def stored_values(self, channels: int) -> int:
        return 2

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Ternary weights with two scales for the tensor."""
        tower = weights.tower
        ones = tf.ones_initializer()
        scales = []
        for name in ('positive', 'negative'):
            variable = tower.variable(name, [1], initializer=ones, trainable=True)
            scales.append(tf.convert_to_tensor(variable))
        positive, negative = scales
        threshold = SHARE * tf.reduce_max(tf.abs(tf.stop_gradient(w)))
        tower.report(lambda: codebook(threshold, tf.abs(negative[0]), tf.abs(positive[0])))
        return quantize(w, positive, negative, threshold)


def quantize(
    w: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, threshold: tf.Tensor
) -> tf.Tensor:
    """Ternary weights, with the gradients that ``TTQ`` documents.

    Args:
        w: float32.
        positive: [1].
        negative: [1].
        threshold: scalar.
    """

    @tf.custom_gradient
    def levels(w: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tuple[tf.Tensor, Any]:
        code = ternary(w, threshold)
        above, below = tf.nn.relu(code), tf.nn.relu(-code)
        y = tf.abs(positive) * above - tf.abs(negative) * below

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            inside = 1 - above - below
            slope = tf.abs(positive) * above + tf.abs(negative) * below + inside
            of_positive = _mirrored(positive) * tf.reduce_sum(upstream * above)
            of_negative = -_mirrored(negative) * tf.reduce_sum(upstream * below)
            return [upstream * slope, of_positive, of_negative]

        return y, gradient

    return levels(w, positive, negative)


def _mirrored(scale: tf.Tensor) -> tf.Tensor:
    """The derivative of the magnitude of a scale, 1 at zero."""
    return tf.where_v2(scale < 0, -1.0, 1.0)
