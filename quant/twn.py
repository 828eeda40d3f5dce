"""Ternary weight networks: weights of one magnitude, one sign, or zero.

Reference:
    Ternary Weight Networks, 2016, https://arxiv.org/abs/1605.04711, equations 5-6; the arithmetic
    is that of the code of the authors (fengfu-chris/caffe-twns), with one scale per tensor. A
    constant threshold or scale and the clipped gradient are those of SteTern of Larq; without the
    clip they are also those of the ternary weights of Brevitas.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from quant.backend import new_graph, tf  # noqa: F401 (in the example)
from quant.bireal import signs
from quant.cells import BELOW_ZERO
from quant.quantizer import (
    Codebook,
    Quantizer,
    Weights,
    check_bools,
    check_factors,
)
from quant.straight_through import straight_through, straight_through_inside

# Threshold of weights in mean magnitudes.
SHARE = 0.7


@dataclasses.dataclass(frozen=True)
class TWN(Quantizer):
    """Ternary weight networks: -scale, 0 or scale, by a threshold of .7 times the mean of |w|.

    The scale is the mean of the magnitudes above the threshold, which is the least-squares one; a
    weight exactly at the threshold is zero. Both follow from the weights in every step and get no
    gradient. Pseudo-gradient of w: the upstream gradient. Weights of zero stay zero, with a scale
    of zero. NaN stays NaN.

    Attributes:
        bits: 2, of which three levels are used: packed, a weight takes 1.6.
        threshold: in place of .7 times the mean of |w|; 0 is that.
        scale: in place of the mean of the magnitudes above the threshold; 0 is that.
        clipped: the gradient passes only where |w| <= 1.

    *Variable names*: none.

    >>> with new_graph(), tf.Session() as session:
    ...     threshold, scale = session.run(least_squares(tf.constant([1.0, -3.0, 0.0, 0.4])))
    ...     print(f'{threshold:.2f} {scale:.2f}')
    0.77 2.00
    """

    bits: int = 2
    threshold: float = 0.0
    scale: float = 0.0
    clipped: bool = False

    def __post_init__(self) -> None:
        check_ternary(self.bits)
        check_factors(self, 'threshold', 'scale')
        check_bools(self, 'clipped')

    @property
    def ternary(self) -> bool:
        return True

    def stored_values(self, channels: int) -> int:
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Ternary weights with one scale for the tensor."""
        fixed = tf.stop_gradient(w)
        threshold, scale = least_squares(fixed, self.threshold)
        if self.scale:
            scale = tf.constant(self.scale)
        weights.tower.report(lambda: codebook(threshold, scale, scale))
        y = scale * ternary(fixed, threshold)
        if self.clipped:
            return straight_through_inside(y, w, tf.abs(fixed) <= 1)
        return straight_through(y, w)


def check_ternary(bits: int) -> None:
    """Checks the option ``bits`` of a ternary quantizer.

    Raises:
        ValueError: it is not 2.
    """
    if isinstance(bits, bool) or bits != 2:
        raise ValueError(f'bits={bits!r}: a ternary quantizer has bits=2')


def ternary(w: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """-1, 0 or 1 by a threshold, which is itself zero; NaN of NaN."""
    beyond = tf.nn.relu(tf.abs(w) - threshold)
    return signs(w, -1) * signs(beyond, 0)


def least_squares(w: tf.Tensor, threshold: float = 0.0) -> tuple[tf.Tensor, tf.Tensor]:
    """The threshold of ternary weights, and the scale of least squared error above it.

    Args:
        w: float32.
        threshold: to use; 0 is .7 times the mean magnitude.
    """
    size = tf.abs(w)
    edge = tf.constant(threshold)
    if not threshold:
        edge = SHARE * tf.reduce_mean(size)
    above = tf.cast(size > edge, tf.float32)
    return edge, tf.math.divide_no_nan(tf.reduce_sum(size * above), tf.reduce_sum(above))


def codebook(threshold: tf.Tensor, negative: tf.Tensor, positive: tf.Tensor) -> Codebook:
    """The step function of ternary weights: three levels for the tensor.

    Args:
        threshold: of magnitudes, scalar.
        negative: magnitude of the lowest level, scalar.
        positive: the highest level, scalar.
    """
    levels = tf.stack([-negative, tf.zeros_like(negative), positive])[:, None]  # [3, 1]
    # At the threshold a weight is zero, on either side.
    below = tf.minimum(tf.math.nextafter(-threshold, -np.inf), BELOW_ZERO)
    return Codebook(levels, tf.stack([below, threshold])[:, None])
