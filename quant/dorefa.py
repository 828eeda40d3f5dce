"""DoReFa: uniform quantization of squashed weights and of activations up to one, without state.

References:
    DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients,
    https://arxiv.org/abs/1606.06160, equations 5, 7, 9, 11; the arithmetic is that of the authors'
    code in tensorpack's examples.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from quant import bireal, uniform
from quant.backend import new_graph, tf  # noqa: F401 (in the example)
from quant.cells import from_minus_one, with_zero_above
from quant.lsq import ONE_BIT
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
from quant.straight_through import straight_through


@dataclasses.dataclass(frozen=True)
class DoReFa(Quantizer):
    """DoReFa quantizer of weights and activations.

    Weights: ``2 round(n (t / (2 max|t|) + 1/2)) / n - 1`` with ``t = tanh(w)`` and n = 2**bits - 1,
    over the whole tensor, so that they reach from -1 to 1 whatever the size of w: a normalisation
    has to follow. Their number of levels is even, none is zero, and a weight of zero takes the
    lowest positive one; so do weights that are all zero, for which the published code gives no
    number. Gradient: that of the formula without ``round``, the maximum included. At one bit:
    ``mean|w| sign(w)`` with sign(0) = 1, and the upstream gradient as it is.

    Activations: ``round(n clip(x, 0, 1)) / n``; the upstream gradient passes where x lies in
    [0, 1]. Without a ReLU, x is taken relative to its lower bound; where it has none, whole
    multiples of 1 / (2**(bits - 1) - 1) from -1 to 1 take the place of the published range, which
    has no negative values.

    Attributes:
        bits: 1 to 8. Activations without a bound have at least 2.
        stop_max: as Larq has it. The gradient takes the maximum for a constant, which differs for
            the largest weight alone, which otherwise gets a sum over all; and weights of one bit
            follow the formula of more bits, by which they are -1 and 1, and zero is -1.
        delta: of EWGS, see ``quant.uniform.Slopes``; 0 is straight through. Not for weights of one
            bit that are no rounded ones.

    *Variable names*: none.

    >>> with new_graph(), tf.Session() as session:
    ...     w = tf.constant([-2.0, -0.1, 0.0, 0.5])
    ...     print(session.run(rounded(share_of_largest(w), 3)).round(3))
    [-1.    -0.333  0.333  0.333]
    """

    bits: int = 2
    stop_max: bool = False
    delta: float = 0.0

    # Of AlexNet, whose weights decay in the last layers alone.
    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'dorefa',
            'qw': 2,
            'qa': 2,
            'optimizer': 'adam',
            'batch_size': 256,
            'lr': 2e-4,
            'schedule': 'milestones',
            'milestones': (60, 75),
            'gamma': 0.2,
            'epochs': 90,
            'wd': 5e-6,
        },
        'ResNet-18 at 224: W2A2 64.7, W3A3 67.5, W4A4 68.1; README of N2UQ '
        '(liuzechun/Nonuniform-to-Uniform-Quantization); the recipe is that of AlexNet',
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'stop_max')
        check_factors(self, 'delta')

    def refuses(self, role: str, *, weights: bool) -> str:
        if weights:
            return lacks_norm(role)
        return super().refuses(role, weights=weights)

    def stored_values(self, channels: int) -> int:
        if self._by_mean:
            return 1
        return 0

    @property
    def _by_mean(self) -> bool:
        """Whether weights are signs times their mean magnitude."""
        return self.bits == 1 and not self.stop_max

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights of which all output channels share the levels."""
        if self._by_mean:
            size = tf.reduce_mean(tf.abs(w))
            weights.tower.report(lambda: bireal.codebook(size[None], 1))
            y = tf.where_v2(w >= 0, size, -size)
            return straight_through(y, w)
        n = 2**self.bits - 1
        weights.tower.report(lambda: squashed_codebook(w, *from_minus_one(n)))
        share = share_of_largest(w, stop_max=self.stop_max)
        return rounded(share, n, self.delta)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations up to one, as of ``up_to_one``."""
        return up_to_one(x, activations, self.bits, self.delta)


def up_to_one(x: tf.Tensor, activations: Activations, bits: int, delta: float) -> tf.Tensor:
    """Activations at equal steps up to one, with the gradient that ``DoReFa`` documents.

    Args:
        x: float32.
        activations: what is known about them.
        bits: number of them.
        delta: of EWGS.

    Raises:
        ValueError: one bit where there is no bound.
    """
    low = 0
    high = 2**bits - 1
    if activations.signed:
        if bits == 1:
            raise ValueError(f'{ONE_BIT}; these activations have both signs')
        high = 2 ** (bits - 1) - 1
        low = -high
    step = tf.constant([1 / high], tf.float32)
    activations.tower.report(lambda: uniform.codebook(step, low, high, activations.offset))
    x = activations.rectified(x)
    ratio = activations.shifted(x) * high
    slopes = uniform.Slopes(delta)
    whole = uniform.quantize(ratio, tf.ones([1]), low, high, slopes=slopes)
    return activations.shifted_back(whole / high)


def unrounded(x: tf.Tensor, activations: Activations) -> tf.Tensor:
    """Activations from their lower bound on, where there is one."""
    if activations.signed:
        return x
    return activations.shifted_back(tf.nn.relu(activations.shifted(x)))


def rounded(share: tf.Tensor, n: int, delta: float = 0.0) -> tf.Tensor:
    """Shares at the nearest of the n + 1 levels from -1 to 1, straight through.

    Args:
        share: from -1 to 1.
        n: number of steps.
        delta: of EWGS.
    """
    unit = share * 0.5 + 0.5
    slopes = uniform.Slopes(delta, passes='all')
    one = tf.ones([1])
    whole = uniform.quantize(unit * n, one, 0, n, slopes=slopes)
    return 2 * (whole / n) - 1


def share_of_largest(w: tf.Tensor, *, stop_max: bool = False) -> tf.Tensor:
    """tanh(w) as a share of its largest magnitude, from -1 to 1; 0 where all weights are.

    Args:
        w: float32.
        stop_max: whether the largest is a constant for the gradient.
    """
    squeezed = tf.tanh(w)
    largest = _largest(squeezed)
    if stop_max:
        largest = tf.stop_gradient(largest)
    divisor = tf.where_v2(largest > 0, largest, 1.0)
    return squeezed / divisor


def _largest(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.abs(x))


def squashed_codebook(
    w: tf.Tensor, units: np.ndarray, middles: np.ndarray, scale: tf.Tensor | None = None
) -> Codebook:
    """The step function of what codes ``share_of_largest`` of the present weights.

    Args:
        w: the weights.
        units: [L, 1] levels of shares, in equal steps.
        middles: [L - 1, 1] thresholds between them.
        scale: what levels are multiplied by.
    """
    largest = _largest(tf.tanh(w))
    thresholds = with_zero_above(tf.atanh(middles * largest), middles)
    levels = tf.constant(units)
    step = tf.constant((units[-1] - units[0]) / np.float32(len(middles)))
    if scale is not None:
        levels *= scale
        step *= scale
    return Codebook(levels, thresholds, step, levels[0])
