"""SAWB: uniform weights that are clipped at a value fitted to their statistics.

References:
    Bridging the Accuracy Gap for 2-bit Quantized Neural Networks (QNN), 2018,
    https://arxiv.org/abs/1807.06964, section 3: statistics-aware weight binning. Coefficients and
    fallbacks are those of the code of the authors' institution, IBM's fms-model-optimizer.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from quant import uniform
from quant.backend import tf
from quant.quantizer import Quantizer, Weights, check_bits, check_bools, check_factors
from quant.recipe import FLOAT_SHORTCUTS, RSNETS_COURSE, Recipe

# Of the root mean square and of the mean magnitude, by bits; (0, 0) stands for the largest.
WITHOUT_ZERO = {
    2: (3.12, 2.064),
    3: (7.509, 6.892),
    4: (12.68, 12.80),
    5: (17.74, 18.64),
    8: (0.0, 0.0),
}
WITH_ZERO = {2: (2.6, 1.71), 4: (12.035, 12.03), 7: (28.24, 30.81), 8: (31.76, 35.04)}

# Weights of less count as zero: dividing by them would overflow.
SMALLEST = 2.0**-126


@dataclasses.dataclass(frozen=True)
class SAWB(Quantizer):
    """SAWB quantizer of weights; nothing of it is learned.

    Levels go in equal steps from -c to c, with c = c1 sqrt(mean w**2) - c2 mean|w| of the present
    weights and coefficients fitted by bits: 2**bits levels, none of them zero, or 2**bits - 1 with
    zero. Weights of exactly zero take the level above it. Where c is not positive, as when all
    weights are equally large, it is the largest magnitude; at 8 bits without zero there is no fit,
    and it is that, too. Pseudo-gradient: the identity.

    Attributes:
        bits: 2, 3, 4, 5 or 8; with zero 2, 4, 7 or 8: there are coefficients for these.
        zero: whether zero is a level.
        clipped: the gradient is 0 beyond c (the published code without its "+").
        per_channel: c is that of each output channel; published with zero alone.
        delta: of EWGS, see ``quant.uniform.Slopes``; 0 is straight through.

    *Variable names*: none.
    """

    partner: ClassVar[str] = 'pact'

    bits: int = 2
    zero: bool = False
    clipped: bool = False
    per_channel: bool = False
    delta: float = 0.0

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'weight_quantizer': 'sawb',
            'activation_quantizer': 'pact(start=8.0)',
            'qw': 2,
            'qa': 2,
            **RSNETS_COURSE,
            'policy': FLOAT_SHORTCUTS,
        },
        'no number that was checked; course and rate are those of this suite',
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'zero', 'clipped', 'per_channel')
        check_factors(self, 'delta')
        if self.bits not in self._coefficients:
            known = ', '.join(map(str, self._coefficients))
            raise ValueError(f'bits={self.bits} with zero={self.zero}: it has {known}')

    @property
    def _coefficients(self) -> dict[int, tuple[float, float]]:
        return WITH_ZERO if self.zero else WITHOUT_ZERO

    @property
    def ternary(self) -> bool:
        return self.zero and self.bits == 2

    def stored_values(self, channels: int) -> int:
        if self.per_channel:
            return channels
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights with one clip, or with one per channel of the last axis of ``w``."""
        high = 2 ** (self.bits - 1) - 1
        low = -high
        centre = 0.0
        if not self.zero:
            low -= 1
            centre = 0.5
        clip = self._clip(tf.stop_gradient(w))
        step = tf.maximum(clip / (high + centre), SMALLEST)
        offset = centre * step
        weights.tower.report(lambda: uniform.codebook(step, low, high, offset))
        passes = 'closed' if self.clipped else 'all'
        slopes = uniform.Slopes(self.delta, passes)
        return uniform.quantize(w, step, low, high, offset=offset, slopes=slopes)

    def _clip(self, w: tf.Tensor) -> tf.Tensor:
        """[1] or [C], taken from magnitudes of at most 1, which no weights make overflow."""
        channels = w.shape[-1] if self.per_channel else 1
        size = tf.abs(tf.reshape(w, [-1, channels]))
        largest = tf.reduce_max(size, 0)
        share = size / tf.where_v2(largest >= SMALLEST, largest, tf.ones_like(largest))
        root, mean = self._coefficients[self.bits]
        deviation = tf.sqrt(tf.reduce_mean(share**2, 0))
        clip = largest * (root * deviation - mean * tf.reduce_mean(share, 0))
        return tf.where_v2(clip > 0, clip, largest)
