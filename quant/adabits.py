"""AdaBits: squashed weights whose codes of few bits are the leading bits of those of more.

References:
    AdaBits: Neural Network Quantization with Adaptive Bit-Widths, CVPR 2020,
    https://arxiv.org/abs/1912.09666, sections 3 and 4; the arithmetic, the rescaling of SAT
    (https://arxiv.org/abs/1912.10207) among it, is that of the authors' code, deJQK/AdaBits.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar

import numpy as np

from quant import dorefa, first_steps, uniform
from quant.backend import tf
from quant.cells import from_minus_one
from quant.quantizer import (
    FLOAT_BITS,
    Activations,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
    check_choice,
    check_factors,
    lacks_norm,
)
from quant.recipe import Recipe

# Of weights; activations have the first two.
SCHEMES = ('original', 'modified', 'centred')

# What a share in float32 rises to where it lies in the middle between -1 and 1: from this on.
_TO_ZERO = -(2.0**-25)


@dataclasses.dataclass(frozen=True)
class AdaBits(Quantizer):
    """AdaBits quantizer of weights and activations: networks of several bits share weights.

    Weights: ``2 q - 1`` for the share ``u = t / (2 max|t|) + 1/2`` with ``t = tanh(w)``, over the
    whole tensor, and n = 2**bits - 1, by ``scheme``:

    * ``original``: ``q = round(u n) / n``, the levels of ``dorefa``;
    * ``modified``: ``q = min(floor(u 2**bits), n) / 2**bits``, of which zero is one and 1 none: the
      mean of the levels is -1 / 2**bits, at one bit they are -1 and 0;
    * ``centred``: the same and half a step, symmetric, without zero.

    Codes of the last two are nested: that of fewer bits is the code of more bits without its last
    ones. Nothing belongs to one number of bits. Levels reach from -1 to 1 whatever the size of w: a
    normalisation has to follow, but with ``rescale``. A weight of zero takes the upper level.
    Gradient: that of the formula with u for q, the maximum included.

    Activations: ``round(clip(x, 0, a) n / a) a / n`` with a learned clip a, that of PACT; a network
    of several bits has a clip for each of them. Gradient of x: the upstream gradient between 0 and
    a; of a: the sum of the upstream gradient over the values of at least a, and times
    ``(round(z) - z) / n`` with z = x n / a over those within. Where activations have no lower
    bound, n equal steps lead from -a to a, and the values at most -a have their share in the
    gradient of a, with a minus. |a| is used.

    At 32 bits weights are ``t / max|t|``, and activations are only rectified.

    Attributes:
        bits: 1 to 8, or 32.
        scheme: of weights.
        rescale: weights are multiplied by ``1 / (sqrt(F) deviation)``, the deviation that of the
            quantized ones and F the number of outputs that read an input, for the gradient a
            constant.
        floor: activations have the levels ``k a / 2**bits`` and take the one below, as ``modified``
            weights do.
        start: of the clip: ``mean``: LSQ's start from the first batch, 2 mean|x| sqrt(n); or a
            number, such as 8.
        delta: of EWGS, see ``quant.uniform.Slopes``; 0 is straight through.
        private: a clip per input size instead of one for all.
        lr_factor: of the clips, times the learning rate.
        decay_factor: of the clips, times the weight decay of kernels.

    *Variable names*: ``clip`` [1].
    """

    bits: int = 2
    scheme: str = 'centred'
    rescale: bool = False
    floor: bool = False
    start: str | float = 'mean'
    delta: float = 0.0
    private: bool = False
    lr_factor: float = 1.0
    decay_factor: float = 0.0

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': "adabits(scheme='modified', rescale=True, start=8.0)",
            'qw': 4,
            'qa': 4,
            'stem_bits': 8,
            'head_bits': 8,
            'batch_size': 256,
            'lr': 0.05,
            'schedule': 'cosine',
            'epochs': 150,
            'wd': 4e-5,
        },
        'no number that was checked; of MobileNets from float weights',
    )

    def __post_init__(self) -> None:
        check_bits(self, or_float=True)
        check_choice(self, 'scheme', SCHEMES)
        check_bools(self, 'rescale', 'floor', 'private')
        check_factors(self, 'delta', 'lr_factor', 'decay_factor')
        if self.start != 'mean':
            check_factors(self, 'start')

    def refuses(self, role: str, *, weights: bool) -> str:
        if weights and not self.rescale:
            return lacks_norm(role)
        return super().refuses(role, weights=weights)

    @property
    def is_nested(self) -> bool:
        return self.scheme != 'original'

    def stored_values(self, channels: int) -> int:
        if self.rescale:
            return 1
        return 0

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights of which all output channels share the levels."""
        share = weights.tower.shared(w, dorefa.share_of_largest)
        y = self._at_levels(share)
        scale = None
        if self.rescale:
            scale = _scale(tf.stop_gradient(y))
            y *= scale
        if self.bits < FLOAT_BITS:
            units, middles = self._grid()
            weights.tower.report(lambda: dorefa.squashed_codebook(w, units, middles, scale))
        return y

    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Levels of shares of weights, and thresholds between them."""
        if self.scheme == 'original':
            return from_minus_one(2**self.bits - 1)
        return grid(self.bits, centred=self.scheme == 'centred')

    def _at_levels(self, share: tf.Tensor) -> tf.Tensor:
        """Shares from -1 to 1 at their levels, where there are some."""
        if self.bits == FLOAT_BITS:
            return share
        count = 2**self.bits
        if self.scheme == 'original':
            return dorefa.rounded(share, count - 1, self.delta)
        unit = share * 0.5 + 0.5
        slopes = uniform.Slopes(self.delta, passes='all')
        one = tf.ones([1])
        whole = uniform.quantize(unit * count, one, 0, count - 1, slopes=slopes, floor=True)
        units, _ = self._grid()
        return 2 * (whole / count) + units[0]

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations from 0 or their lower bound, or of both signs where there is none."""
        tower = activations.tower
        if self.bits == FLOAT_BITS:
            return dorefa.unrounded(x, activations)
        x = activations.rectified(x)
        shifted = activations.shifted(x)
        high = 2**self.bits - 1
        steps = high + self.floor
        variable, clip = tower.once(lambda: self._clip(tower))
        offset = None
        lowest: tf.Tensor | float = activations.offset
        above = steps  # from zero to the clip
        if activations.signed:
            offset = lowest = -clip
            above /= 2
        step = clip / above
        if activations.collect and self.start == 'mean':
            first = functools.partial(first_steps.mean_clip, steps=above)
            tower.start_from(variable, first_steps.magnitudes(shifted), first)
        tower.report(lambda: uniform.codebook(step, 0, high, lowest, floor=self.floor))
        slopes = uniform.Slopes(self.delta, 'open', clip_ends=True)
        y = uniform.quantize(shifted, step, 0, high, offset=offset, slopes=slopes, floor=self.floor)
        return activations.shifted_back(y)

    def _clip(self, tower: Any) -> tuple[tf.Variable, tf.Tensor]:
        """The clip of the current scope, and its size."""
        start = first_steps.number(self.start)
        variable = self.trained(tower, 'clip', 1, tf.constant_initializer(start))
        return variable, uniform.positive(tf.convert_to_tensor(variable))


def grid(bits: int, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """[2**bits, 1] levels of shares from -1 to 1, and [2**bits - 1, 1] thresholds between them.

    Those of fewer bits are among those of more.

    Args:
        bits: number of them.
        centred: whether a level lies in the middle of its cell, or at its lower end.
    """
    count = 2**bits
    edges = 2 * np.arange(count, dtype='float32')[:, None] / count - 1
    middles = edges[1:].copy()
    middles[count // 2 - 1] = _TO_ZERO
    if centred:
        return edges + np.float32(1 / count), middles
    return edges, middles


def _scale(y: tf.Tensor) -> tf.Tensor:
    """Factor on quantized weights, a scalar, by which they have variance 1 / fan-out.

    A layer of that variance keeps the deviation of the gradients that pass it.
    """
    *window, _, outputs = y.shape.as_list()
    fan_out = math.prod(window) * outputs
    centred = y - tf.reduce_mean(y)
    freedom = max(y.shape.num_elements() - 1, 1)
    deviation = tf.sqrt(tf.reduce_sum(centred**2) / freedom)
    deviation = tf.where_v2(deviation > 0, deviation, 1.0)
    return 1 / (math.sqrt(fan_out) * deviation)
