"""PACT: activations that are clipped at a value that is learned by gradient.

References:
    PACT: Parameterized Clipping Activation for Quantized Neural Networks, 2018,
    https://arxiv.org/abs/1805.06085, equations 1-3. The forms with two clips and with a gradient
    from within the range are those of the code of the authors' institution, IBM's
    fms-model-optimizer: PACT2 and PACT+.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from quant import first_steps, uniform
from quant.backend import tf
from quant.quantizer import Activations, Quantizer, check_bits, check_bools, check_factors
from quant.recipe import RSNETS_COURSE, Recipe


@dataclasses.dataclass(frozen=True)
class PACT(Quantizer):
    """PACT quantizer of activations.

    Forward: ``round(clip(x, 0, a) n / a) a / n`` with n = 2**bits - 1 and the clip a.
    Pseudo-gradient of x: the upstream gradient from 0 to a, these included. Gradient of a: the sum
    of the upstream gradient over the values of at least a, and nothing from below: where nothing is
    clipped, decay alone moves it. Both have the value at exactly a.

    Where activations have no lower bound there is a second clip below, which gets the sum over the
    values at most there, and x gets no gradient at the clips themselves. By default it counts as
    the nearest whole multiple of the step from which zero is a level: zeros that pad an image are
    then levels, too.

    Attributes:
        bits: 1 to 8.
        inner: the rounding error of values within the range reaches the clip, too: LSQ's gradient,
            without its scale (PACT+); at 0 and at the clip x then gets no gradient.
        levels: the clip gets the upstream gradient of every value times y / a, too, as where N2UQ's
            code divides by a clip (in the last convolution of MobileNetV2); at 0 and at the clip x
            then gets no gradient. Not where activations have no lower bound.
        zero: whether zero is a level between two clips; False is IBM's default.
        start: a number: the clip to start from, such as 8; ``mean``: LSQ's start from the first
            batch, 2 mean|x| sqrt(n); ``error``: the clip of least squared error of it. The second
            clip starts at minus the first one, or with it at the interval of least squared error.
        delta: of EWGS, see ``quant.uniform.Slopes``; 0 is straight through.
        private: a clip per input size instead of one for all.
        lr_factor: of the clips, times the learning rate.
        decay_factor: of the clips, times the weight decay of kernels; the paper has it.

    *Variable names*: ``clip`` [1]; without a lower bound ``low_clip`` [1], too.
    """

    partner: ClassVar[str] = 'sawb'
    variants: ClassVar[tuple[str, ...]] = ("pact(start='error')",)

    bits: int = 2
    inner: bool = False
    levels: bool = False
    zero: bool = True
    start: str | float = 'mean'
    delta: float = 0.0
    private: bool = False
    lr_factor: float = 1.0
    decay_factor: float = 1.0

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'weight_quantizer': 'dorefa',
            'activation_quantizer': 'pact(start=8.0)',
            'qw': 2,
            'qa': 2,
            **RSNETS_COURSE,
        },
        'ResNet-18 at 224: W2A2 64.4, W3A3 68.1, W4A4 69.2; README of N2UQ '
        '(liuzechun/Nonuniform-to-Uniform-Quantization); course and rate are those of this suite',
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'inner', 'levels', 'zero', 'private')
        check_factors(self, 'delta', 'lr_factor', 'decay_factor')
        if self.start not in ('mean', 'error'):
            check_factors(self, 'start')

    @property
    def steps(self) -> int:
        """Number of steps of the range."""
        return 2**self.bits - 1

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations from 0 or their lower bound, or of both signs where there is none.

        Raises:
            ValueError: ``levels`` where there is none.
        """
        tower = activations.tower
        if self.levels and activations.signed:
            raise ValueError('levels=True has one clip; these activations have both signs')
        x = activations.rectified(x)
        shifted = activations.shifted(x)
        clips = tower.once(lambda: self._clips(tower, signed=activations.signed))
        if activations.collect and isinstance(self.start, str):
            self._start_from(tower, clips, shifted)
        step, offset = self._grid(clips)
        lowest = activations.offset
        if offset is not None:
            lowest = offset
        tower.report(lambda: uniform.codebook(step, 0, self.steps, lowest))
        passes = 'closed'
        if self.inner or self.levels or activations.signed:
            passes = 'open'
        slopes = uniform.Slopes(self.delta, passes, clip_ends=True, inner=self.inner)
        y = uniform.quantize(shifted, step, 0, self.steps, offset=offset, slopes=slopes)
        if self.levels:
            # The factor is 1, and its gradient that of levels whose codes stay.
            y = tf.stop_gradient(y) * (step / tf.stop_gradient(step) - 1) + y
        return activations.shifted_back(y)

    def _clips(self, tower: Any, *, signed: bool) -> list[tf.Variable]:
        """The trained clip [1] and, where values are signed, the one below."""
        start = first_steps.number(self.start)
        first = {'clip': start}
        if signed:
            first['low_clip'] = -start
        clips = []
        for name, value in first.items():
            clips.append(self.trained(tower, name, 1, tf.constant_initializer(value)))
        return clips

    def _grid(self, clips: list[tf.Variable]) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Step, and offset where there are two clips."""
        clip, *below = map(tf.convert_to_tensor, clips)
        if not below:
            return uniform.positive(clip) / self.steps, None
        step = uniform.positive(clip - below[0]) / self.steps
        if not self.zero:
            return step, below[0]
        return step, uniform.snapped(below[0], step, 0, self.steps)

    def _start_from(self, tower: Any, clips: list[tf.Variable], x: tf.Tensor) -> None:
        """Lets the clips start from a first batch of activations ``x``."""
        table = first_steps.magnitudes(x)
        if self.start != 'mean':
            table = first_steps.counts(x)
        two = len(clips) > 1

        def high(total: tf.Tensor) -> tf.Tensor:
            lowest, highest = tf.split(self._first_ends(total, two=two), 2)
            return lowest + first_steps.or_one(highest - lowest)

        tower.start_from(clips[0], table, high)
        if two:
            tower.start_from(clips[1], table, lambda total: self._first_ends(total, two=two)[:1])

    def _first_ends(self, total: tf.Tensor, *, two: bool) -> tf.Tensor:
        """[2] lower and upper clip to start from."""
        if two and self.start == 'error':
            return first_steps.interval_of_counts(total, self.steps, zero=self.zero)
        clip = self._first_clip(total, two=two)
        if two:
            return tf.concat([-clip, clip], 0)
        return tf.concat([tf.zeros_like(clip), clip], 0)

    def _first_clip(self, total: tf.Tensor, *, two: bool) -> tf.Tensor:
        """[1] the upper clip to start from, where the lower one is 0 or minus it."""
        steps = float(self.steps)
        if two:
            steps /= 2
        if self.start == 'error':
            return steps * first_steps.step_of_counts(total, 0, self.steps)
        return steps * first_steps.mean_step(total, steps)
