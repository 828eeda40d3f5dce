"""LSQ: uniform quantization with a step that is learned by gradient.

References:
    Learned Step Size Quantization, ICLR 2020, https://arxiv.org/abs/1902.08153, equations 1-3 and
    section 2.2. No code by the authors is public; the arithmetic is that of zhutmost/lsq-net, with
    the activations' start that the paper has.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar

from quant import first_steps, uniform
from quant.backend import tf
from quant.quantizer import (
    Activations,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
    check_choice,
    check_factors,
)
from quant.recipe import Recipe

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
        bits: 1 to 8. One bit is for unsigned activations, and for centred weights: signed integers
            of one bit have no positive one.
        symmetric: signed integers leave out the lowest one, which makes 2 bits ternary.
        centred: levels of weights lie at (k + 1/2) s, as many above zero as below, none at it; the
            highest of them, in steps, takes the place of ``high`` in start and gradient scale.
        per_channel: weights have a step per output channel.
        start: ``mean``: as above; ``error``: the step of least squared error.
        gradient_scale: of the step: ``tensor``: as above; ``channel``: N counts the values of one
            step (as MQBench has it); ``none``: the gradient as it is.
        delta: of EWGS, see ``quant.uniform.Slopes``; 0 is straight through.
        private: activations have a step per input size instead of one for all.
        lr_factor: of the steps, times the learning rate.
        decay_factor: of the steps, times the weight decay of kernels.

    *Variable names*: ``step`` [1], or [C].

    Arithmetic, with an example in numbers: ``quant.uniform.quantize``.
    """

    variants: ClassVar[tuple[str, ...]] = (
        'lsq(centred=True)',
        "lsq(start='error')",
        "lsq(centred=True, gradient_scale='none')",
        'lsq(delta=0.2)',
    )

    bits: int = 2
    symmetric: bool = False
    centred: bool = False
    per_channel: bool = False
    start: str = 'mean'
    gradient_scale: str = 'tensor'
    delta: float = 0.0
    private: bool = False
    lr_factor: float = 1.0
    decay_factor: float = 0.0

    starts: ClassVar[tuple[str, ...]] = ('mean', 'error')

    # Steps decay as the weights do, as in both public codes.
    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'lsq(decay_factor=1.0)',
            'qw': 2,
            'qa': 2,
            'stem_bits': 8,
            'head_bits': 8,
            'nesterov': False,
            'batch_size': 256,
            'lr': 0.01,
            'schedule': 'cosine',
            'epochs': 90,
            'wd': 2.5e-5,
            'decay': 'all',
        },
        'ResNet-18 at 224 from float weights: W2A2 67.6, W3A3 70.2, W4A4 71.1; table 1 of N2UQ, '
        'CVPR 2022',
        at_bits={'w3a3': {'wd': 5e-5}, 'w4a4': {'wd': 1e-4}, 'w8a8': {'wd': 1e-4}},
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'symmetric', 'centred', 'per_channel', 'private')
        check_choice(self, 'start', self.starts)
        check_choice(self, 'gradient_scale', uniform.SCALES)
        check_factors(self, 'delta', 'lr_factor', 'decay_factor')
        if self.symmetric and self.centred:
            raise ValueError('symmetric with centred: a centred grid leaves nothing out')

    def refuses(self, role: str, *, weights: bool) -> str:
        if weights and self.bits == 1 and not self.centred:
            return ONE_BIT
        return super().refuses(role, weights=weights)

    @property
    def ternary(self) -> bool:
        return self.symmetric and self.bits == 2

    def stored_values(self, channels: int) -> int:
        if self.per_channel:
            return channels
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Signed weights with one step, or with one per channel of the last axis of ``w``."""
        low, high = self._range(signed=True)
        channels = 1
        if self.per_channel:
            channels = w.shape[-1]
        centre = 0.0
        if self.centred:
            centre = 0.5

        def initial(*_: Any, **__: Any) -> tf.Tensor:
            return self._first_step(weights.first(), channels, low, high, centre)

        _, step = self._step(weights.tower, channels, initial)
        offset = None
        if self.centred:
            offset = centre * step
        weights.tower.report(lambda: uniform.codebook(step, low, high, centre * step))
        scale = uniform.gradient_scale(w, channels, high + centre, self.gradient_scale)
        slopes = uniform.Slopes(delta=self.delta)
        return uniform.quantize(w, step, low, high, offset=offset, slopes=slopes, scale=scale)

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
        x = activations.rectified(x)
        shifted = activations.shifted(x)
        variable, step = self._step(tower, 1, tf.ones_initializer())
        if activations.collect:
            self._start_from(tower, variable, shifted, low, high)
        tower.report(lambda: uniform.codebook(step, low, high, activations.offset))
        scale = uniform.gradient_scale(x, 1, high, self.gradient_scale)
        slopes = uniform.Slopes(delta=self.delta)
        y = uniform.quantize(shifted, step, low, high, slopes=slopes, scale=scale)
        return activations.shifted_back(y)

    def _range(self, *, signed: bool) -> tuple[int, int]:
        """The lowest and the highest integer."""
        if not signed:
            return 0, 2**self.bits - 1
        high = 2 ** (self.bits - 1) - 1
        if self.symmetric:
            return -high, high
        return -high - 1, high

    def _step(self, tower: Any, channels: int, initializer: Any) -> tuple[tf.Variable, tf.Tensor]:
        """The trained step [channels] of the current scope, and |step|, once per tower."""

        def make() -> tuple[tf.Variable, tf.Tensor]:
            variable = self.trained(tower, 'step', channels, initializer, bits=self.bits)
            return variable, uniform.positive(tf.convert_to_tensor(variable))

        return tower.once(make)

    def _first_step(
        self, w: tf.Tensor, channels: int, low: int, high: int, centre: float
    ) -> tf.Tensor:
        """[channels] steps of weights to start from; arguments as of ``step_of_values``."""
        if self.start == 'error':
            return first_steps.or_one(first_steps.step_of_values(w, channels, low, high, centre))
        mean = tf.reduce_mean(tf.abs(tf.reshape(w, [-1, channels])), 0)
        return first_steps.or_one(mean * (2 / math.sqrt(high + centre)))

    def _start_from(
        self, tower: Any, variable: tf.Variable, x: tf.Tensor, low: int, high: int
    ) -> None:
        """Lets the step of activations start from a first batch.

        Args:
            tower: as of ``Activations``.
            variable: the step.
            x: activations, relative to their lower bound.
            low: the lowest integer.
            high: the highest integer.
        """
        table = first_steps.magnitudes
        step = functools.partial(first_steps.mean_step, high=high)
        if self.start == 'error':
            table = first_steps.counts
            step = functools.partial(first_steps.step_of_counts, low=low, high=high)
        tower.start_from(variable, table(x), lambda total: first_steps.or_one(step(total)))
