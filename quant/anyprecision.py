"""Any-Precision DNNs: DoReFa's squashed weights at their mean magnitude, the same at all bits.

References:
    Any-Precision Deep Neural Networks, AAAI 2021, https://arxiv.org/abs/1911.07346; the arithmetic
    is that of the authors' code, SHI-Labs/Any-Precision-DNNs.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from quant import dorefa
from quant.backend import tf
from quant.cells import from_minus_one
from quant.quantizer import (
    FLOAT_BITS,
    Activations,
    Quantizer,
    Weights,
    check_bits,
    check_factors,
)
from quant.recipe import FLOAT_SHORTCUTS, Recipe


@dataclasses.dataclass(frozen=True)
class AnyPrecision(Quantizer):
    """Any-Precision quantizer of weights and activations: networks of several bits share weights.

    Weights: ``E (2 round(n (t / (2 max|t|) + 1/2)) / n - 1)`` with ``t = tanh(w)``, n = 2**bits - 1
    and ``E = mean|w|``, over the whole tensor. Nothing of it belongs to one number of bits. There
    is no level at zero, and a weight of zero takes the upper of the two beside it, at one bit the
    lower one: codes of few bits are not the leading bits of codes of more. Gradient: that of the
    formula without ``round``, the maximum included, E a constant.

    Activations are those of ``dorefa``: ``round(n clip(x, 0, 1)) / n``.

    At 32 bits, the strongest network of a published one, weights are ``E t / max|t|`` and
    activations are only rectified.

    Attributes:
        bits: 1 to 8, or 32. Activations without a bound have at least 2.
        delta: of EWGS, see ``quant.uniform.Slopes``; 0 is straight through.

    *Variable names*: none.
    """

    bits: int = 2
    delta: float = 0.0

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'anyprecision',
            'qw': 2,
            'qa': 2,
            'policy': FLOAT_SHORTCUTS,
            'batch_size': 256,
            'lr': 0.1,
            'schedule': 'milestones',
            'milestones': (30, 60, 85, 95, 105),
            'gamma': 0.1,
            'epochs': 120,
            'wd': 1e-5,
        },
        'ResNet-50 at 224, networks of their own: W1A1 57.83, W2A2 68.74, W4A4 74.12, W8A8 74.96; '
        'its README (SHI-Labs/Any-Precision-DNNs)',
        at_bits=dict.fromkeys(('w4a4', 'w8a8'), {'wd': 1e-4}),
    )

    def __post_init__(self) -> None:
        check_bits(self, or_float=True)
        check_factors(self, 'delta')

    def stored_values(self, channels: int) -> int:
        if self.bits == FLOAT_BITS:
            return 0
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights of which all output channels share the levels."""
        tower = weights.tower
        share = tower.shared(w, dorefa.share_of_largest)
        size = tower.shared(w, _mean_size)
        if self.bits == FLOAT_BITS:
            return size * share
        n = 2**self.bits - 1
        tower.report(lambda: dorefa.squashed_codebook(w, *from_minus_one(n), size))
        return size * dorefa.rounded(share, n, self.delta)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations up to one, as of ``dorefa.up_to_one``; of 32 bits from their bound on."""
        if self.bits == FLOAT_BITS:
            return dorefa.unrounded(x, activations)
        return dorefa.up_to_one(x, activations, self.bits, self.delta)


def _mean_size(w: tf.Tensor) -> tf.Tensor:
    """The mean magnitude, a constant for the gradient."""
    return tf.stop_gradient(tf.reduce_mean(tf.abs(w)))
