"""Bi-Real Net: binary weights and activations, with the derivative of a parabola for the sign.

References:
    Bi-Real Net: Enhancing the Performance of 1-bit CNNs with Improved Representational Capability
    and Advanced Training Algorithm, ECCV 2018, https://arxiv.org/abs/1808.00278, equations 5-8;
    behaviour of the published code where ``zero`` is 0. The other gradients, 0/1 values and the
    scaled gradient of weights are those of Larq (larq/quantizers.py).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from quant.backend import new_graph, scalar_like, tf  # noqa: F401 (in the example)
from quant.cells import BELOW_ZERO
from quant.quantizer import (
    Activations,
    Codebook,
    Quantizer,
    Weights,
    check_bools,
    check_choice,
    check_factors,
)
from quant.recipe import FLOAT_SHORTCUTS, Recipe
from quant.straight_through import straight_through

# Sharpness of ``swish``.
SHARPNESS = 5.0

GRADIENTS = ('', 'quadratic', 'clipped', 'swish', 'identity')

POOLED = 'what it reads has been pooled and is not negative: all signs are the same'


@dataclasses.dataclass(frozen=True)
class BiReal(Quantizer):
    """Bi-Real Net quantizer: signs, of weights times the mean magnitude of an output channel.

    Activations: ``sign(x)``. The sign takes the place of a ReLU before it, which is left out. A
    bound below does not move the threshold. Pseudo-gradient: the upstream gradient times
    ``2 - 2 |x|`` where that is positive. Weights: ``sign(w)`` times the mean of |w|, which gets no
    gradient; pseudo-gradient of w: the upstream gradient where |w| <= 1.

    The sign of zero is -1, so that a value is at the upper level if and only if it is positive, a
    ReLU before the sign or not. The published code gives 0, which is a third value. NaN stays NaN.

    Attributes:
        bits: 1.
        zero: the sign of zero: -1, or 1 as in Larq, or 0 as in the published code.
        gradient: of the sign: ``quadratic``, the default for activations; ``clipped``, 1 where
            |x| <= 1, the default for weights; ``swish``, SignSwish of sharpness 5; ``identity``.
        unsigned: values 0 and 1 for activations, in place of -1 and 1.
        scale: of weights, in place of the mean of |w|; 0 is that mean.
        scaled_gradient: the gradient of w is also multiplied by the scale.

    *Variable names*: none.

    >>> with new_graph(), tf.Session() as session:
    ...     print(session.run(signs(tf.constant([-0.5, 0.0, 2.0]), zero=-1)))
    [-1. -1.  1.]
    """

    bits: int = 1
    zero: int = -1
    gradient: str = ''
    unsigned: bool = False
    scale: float = 0.0
    scaled_gradient: bool = False

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'bireal',
            'qw': 1,
            'qa': 1,
            'policy': FLOAT_SHORTCUTS,
            'optimizer': 'adam',
            'batch_size': 512,
            'lr': 1e-3,
            'schedule': 'linear',
            'epochs': 256,
            'wd': 0.0,
        },
        'Bi-Real-18 at 224: W1A1 56.4; its repository (Bi-Real-net), whose blocks differ',
    )

    def __post_init__(self) -> None:
        check_binary(self)
        check_bools(self, 'unsigned', 'scaled_gradient')
        check_factors(self, 'scale')
        check_choice(self, 'gradient', GRADIENTS)
        if self.unsigned and self.zero != -1:
            raise ValueError(f'zero={self.zero!r} with unsigned: zero is no positive value there')

    @property
    def ternary(self) -> bool:
        return self.zero == 0

    def refuses(self, role: str, *, weights: bool) -> str:
        return refused(role, weights=weights)

    def stored_values(self, channels: int) -> int:
        if self.scale:
            return 1
        return channels

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Signs, times a scale per channel of the last axis of ``w``."""
        scale = tf.fill([1], self.scale)
        if not self.scale:
            scale = mean_magnitude(tf.stop_gradient(w))
        weights.tower.report(lambda: codebook(scale, self.zero))
        y = binary(w, self.zero, self.gradient or 'clipped')
        if self.scaled_gradient:
            return scale * y
        return straight_through(scale * y, y)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Signs, which take the place of a ReLU before them."""
        tower = activations.tower
        y = binary(x, self.zero, self.gradient or 'quadratic')
        if self.unsigned:
            tower.report(_zero_or_one)
            return straight_through(tf.nn.relu(y), y)
        tower.report(lambda: codebook(tf.ones([1]), self.zero))
        return y


def _zero_or_one() -> Codebook:
    levels = tf.constant([[0.0], [1.0]])
    return Codebook(levels, tf.zeros([1, 1]), tf.ones([1]), tf.zeros([1]))


def check_binary(quantizer: Any) -> None:
    """Checks the options ``bits`` and ``zero`` of a binary quantizer.

    Raises:
        ValueError: there is another number of bits than 1, or ``zero`` has no such sign.
    """
    bits = quantizer.bits
    if isinstance(bits, bool) or bits != 1:
        raise ValueError(f'bits={bits!r}: a binary quantizer has bits=1')
    zero = quantizer.zero
    if isinstance(zero, bool) or zero not in (-1, 0, 1):
        raise ValueError(f'zero={zero!r} must be -1, 0 or 1')


def refused(role: str, *, weights: bool) -> str:
    """Why signs cannot be taken of what layers of a role read; empty if they can.

    Args:
        role: one of ``quant.ROLES``.
        weights: whether it is about the weights of the layer, of which they always can.
    """
    if role in ('head', 'gate') and not weights:
        return POOLED
    return ''


def signs(x: tf.Tensor, zero: int) -> tf.Tensor:
    """-1 or 1; of zero ``zero``; of NaN NaN."""
    if zero == 0:
        # Of a denormal number the sign is the number.
        return tf.round(tf.sign(x))
    return tf.sign(tf.sign(x) + zero / 2)


def binary(x: tf.Tensor, zero: int, gradient: str) -> tf.Tensor:
    """Signs with a pseudo-gradient.

    Args:
        x: float32.
        zero: the sign of zero.
        gradient: one of ``GRADIENTS``.
    """

    @tf.custom_gradient
    def sign(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def backward(upstream: tf.Tensor) -> tf.Tensor:
            return _slope(x, upstream, gradient)

        return signs(x, zero), backward

    return sign(x)


def _slope(x: tf.Tensor, upstream: tf.Tensor, gradient: str) -> tf.Tensor:
    """The upstream gradient times the derivative that stands for that of the sign."""
    if gradient == 'identity':
        return upstream
    if gradient == 'clipped':
        nothing = scalar_like(upstream, tf.zeros([]))
        return tf.where_v2(tf.abs(x) <= 1, upstream, nothing)
    if gradient == 'quadratic':
        return upstream * tf.nn.relu(2 - 2 * tf.abs(x))
    sharp = SHARPNESS * x
    bell = (2 - sharp * tf.tanh(sharp / 2)) / (1 + tf.cosh(sharp))
    return upstream * SHARPNESS * bell


def mean_magnitude(w: tf.Tensor) -> tf.Tensor:
    """[C] means of |w| over all axes but the last."""
    return tf.reduce_mean(tf.abs(w), list(range(w.shape.rank - 1)))


def codebook(scale: tf.Tensor, zero: int) -> Codebook:
    """The step function of scaled signs.

    Args:
        scale: [C].
        zero: the sign of zero.
    """
    edge = tf.zeros_like(scale)
    if zero == -1:
        return Codebook(tf.stack([-scale, scale]), edge[None], 2 * scale, -scale)
    below = edge + BELOW_ZERO
    if zero == 1:
        return Codebook(tf.stack([-scale, scale]), below[None], 2 * scale, -scale)
    levels = tf.stack([-scale, edge, scale])
    return Codebook(levels, tf.stack([below, edge]), scale, -scale)
