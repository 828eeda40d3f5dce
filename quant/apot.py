"""APoT: levels that are sums of powers of two, within a learned clip; weights are standardised.

References:
    Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural
    Networks, ICLR 2020, https://arxiv.org/abs/1909.13144, equations 5-9; the arithmetic is that of
    the authors' code.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any, ClassVar

import numpy as np

from quant import cells, first_steps, native, uniform
from quant.backend import new_graph, scalar_like, tf  # noqa: F401 (in the example)
from quant.policy import Rule
from quant.quantizer import (
    Activations,
    Codebook,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
    check_choice,
    check_factors,
    lacks_norm,
)
from quant.recipe import Recipe

# Exponents of the halves of which a magnitude is the sum of one of each list, or of none of it.
_EXPONENTS = {
    1: ((0,),),
    2: ((1, 2, 3),),
    3: ((1, 2, 4), (3,)),
    4: ((1, 3, 5), (2, 4, 6)),
    5: ((1, 3, 6), (2, 4, 7), (5,)),
    6: ((1, 4, 7), (2, 5, 8), (3, 6, 9)),
}

# Bits of weights and of activations for which there are levels.
WEIGHT_BITS = range(2, 8)
ACTIVATION_BITS = range(2, 7)

# What the clip of standardised weights starts from, in standard deviations.
WEIGHT_CLIP = 3.0


def magnitudes(bits: int) -> np.ndarray:
    """[2**bits] float32 ascending from 0 to 1: the published sets of sums of powers of two.

    >>> magnitudes(2)
    array([0.  , 0.25, 0.5 , 1.  ], dtype=float32)
    """
    lists = []
    for exponents in _EXPONENTS[bits]:
        lists.append([0.0, *(0.5**exponent for exponent in exponents)])
    sums = np.array(sorted(map(sum, itertools.product(*lists))), 'float32')
    return sums * (np.float32(1) / sums.max())


@dataclasses.dataclass(frozen=True)
class APoT(Quantizer):
    """Additive powers-of-two quantizer of weights and activations.

    Activations: ``a P(clip(x / a, 0, 1))``, where P takes the nearest of 2**bits magnitudes, each
    the sum of up to three powers of two, and the clip a is learned. Weights are brought to mean 0
    and deviation 1 over the whole tensor, and then ``a sign(u) P(|u|)`` with ``u = clip(w / a, -1,
    1)`` and the magnitudes of one bit less, so that they leave their layer at a scale of their own:
    a normalisation has to follow. At two bits they are -a, 0 and a.

    Gradient of x: the upstream gradient where x lies within the clip, its ends included, 0
    elsewhere; weights of two bits get it everywhere. Gradient of a: the sum over the values of the
    upstream gradient times ``P(u) - u`` within and -1, 0 or 1 outside. That of the weights goes on
    through their mean and deviation. A tie takes the lower level.

    The clip starts at 3 for weights. Activations start by default as those of LSQ do, from the
    first batch: a = 2 mean|x| sqrt(2**bits - 1), or 1 where all are zero. The published constants,
    6 or 8, need long training to move. |a| is used, so that a clip that crosses zero goes on as its
    mirror image. Equal weights are all quantized to zero, for which the published code gives no
    number.

    Without a ReLU, activations are taken relative to their lower bound; where they have none, their
    levels are those of weights with as many bits.

    Attributes:
        bits: 2 to 7 of weights, 2 to 6 of activations: for others no set of magnitudes is
            published.
        equal_steps: levels go in equal steps instead, the published comparison.
        delta: of EWGS, see ``quant.uniform.Slopes``, with ``equal_steps`` alone; 0 is straight
            through.
        variant: ``imagenet``, or ``cifar`` for what the authors' code for CIFAR does: mean and
            deviation are constants for the gradient, which reaches all weights, and all
            activations below the clip.
        start: of the clip of activations: ``mean``: as above; or a number.
        private: activations have a clip per input size instead of one for all.
        lr_factor: of the clips, times the learning rate.
        decay_factor: of the clips, times the weight decay of kernels.

    *Variable names*: ``clip`` [1].

    Two bits without sign at a clip of 2:

    >>> with new_graph(), tf.Session() as session:
    ...     x = tf.constant([-1.0, 0.2, 0.3, 1.6, 9.0])
    ...     print(session.run(quantize(x, tf.constant([2.0]), magnitudes(2))))
    [0.  0.  0.5 2.  2. ]
    """

    bits: int = 4
    equal_steps: bool = False
    delta: float = 0.0
    variant: str = 'imagenet'
    start: str | float = 'mean'
    private: bool = False
    lr_factor: float = 1.0
    decay_factor: float = 0.0

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'apot(start=6.0, decay_factor=1.0)',
            'qw': 2,
            'qa': 2,
            'policy': (
                Rule(
                    roles=('stem', 'head'),
                    weight='affine(bits=8, per_channel=False, through=True)',
                ),
            ),
            'nesterov': False,
            'batch_size': 1024,
            'lr': 0.04,
            'schedule': 'milestones',
            'milestones': (30, 60, 90),
            'epochs': 100,
            'wd': 2e-5,
            'decay': 'all',
        },
        'ResNet-18 at 224 from float weights: W2A2 66.46, W3A3 69.79, W4A4 70.74; its README '
        '(yhhhli/APoT_Quantization)',
        at_bits=dict.fromkeys(('w5a5', 'w4a4', 'w3a3'), {'lr': 0.01, 'wd': 1e-4}),
        stages=('w5a5', 'w4a4', 'w3a3', 'w2a2'),
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'equal_steps', 'private')
        check_factors(self, 'delta', 'lr_factor', 'decay_factor')
        if self.delta and not self.equal_steps:
            raise ValueError(f'delta={self.delta!r} needs equal_steps=True: it counts steps')
        if self.start != 'mean':
            check_factors(self, 'start')
        check_choice(self, 'variant', ('imagenet', 'cifar'))

    def refuses(self, role: str, *, weights: bool) -> str:
        served = ACTIVATION_BITS
        if weights:
            served = WEIGHT_BITS
        if self.bits not in served:
            return f'sums of powers of two are published for {served[0]} to {served[-1]} bits alone'
        if weights:
            return lacks_norm(role)
        return super().refuses(role, weights=weights)

    @property
    def ternary(self) -> bool:
        return self.bits == 2

    def stored_values(self, channels: int) -> int:
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights of which all output channels share the levels."""
        tower = weights.tower
        units = self._units(signed=True)
        _, clip = self._clip(tower, WEIGHT_CLIP)
        standard, mean, deviation = standardised(w, constants=self.variant == 'cifar')
        book = codebook(clip, units)
        # Of the weights as they are: what is shipped is what was trained.
        thresholds = mean + deviation * book.thresholds
        tower.report(lambda: book._replace(thresholds=thresholds))
        y = cells.at_levels(w, book.levels, thresholds)
        y = tf.where_v2(tf.math.is_nan(standard), standard, y)
        everywhere = self.variant == 'cifar' or self.bits == 2
        slopes = _Slopes(everywhere=everywhere, delta=self.delta)
        return _with_gradient(y, standard, clip, units, slopes)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations with one clip."""
        tower = activations.tower
        units = self._units(signed=activations.signed)
        x = activations.rectified(x)
        shifted = activations.shifted(x)
        start = first_steps.number(self.start)
        variable, clip = self._clip(tower, start)
        if activations.collect and self.start == 'mean':
            steps = int(np.count_nonzero(units > 0))
            table = first_steps.magnitudes(shifted)
            tower.start_from(variable, table, functools.partial(first_steps.mean_clip, steps=steps))
        tower.report(lambda: codebook(clip, units, activations.offset))
        slopes = _Slopes(below=self.variant == 'cifar', delta=self.delta)
        y = quantize(shifted, clip, units, slopes)
        return activations.shifted_back(y)

    def _units(self, *, signed: bool) -> np.ndarray:
        """[L] levels at a clip of 1, ascending: from 0, or symmetric with a bit for the sign."""
        bits = self.bits - signed
        positive = magnitudes(bits)
        if self.equal_steps:
            positive = np.linspace(0, 1, 2**bits, dtype='float32')
        if signed:
            return np.concatenate([-positive[:0:-1], positive])
        return positive

    def _clip(self, tower: Any, start: float) -> tuple[tf.Variable, tf.Tensor]:
        """The clip of the current scope, and its size, read once per tower."""

        def make() -> tuple[tf.Variable, tf.Tensor]:
            variable = self.trained(tower, 'clip', 1, tf.constant_initializer(start))
            return variable, uniform.positive(tf.convert_to_tensor(variable))

        return tower.once(make)


@dataclasses.dataclass(frozen=True)
class _Slopes:
    """Which gradients pass.

    Attributes:
        below: what lies below the lowest level counts as within the clip.
        everywhere: x gets the gradient beyond the clip, too.
        delta: of EWGS, for levels in equal steps.
    """

    below: bool = False
    everywhere: bool = False
    delta: float = 0.0


def quantize(
    x: tf.Tensor, clip: tf.Tensor, units: np.ndarray, slopes: _Slopes = _Slopes()
) -> tf.Tensor:
    """Values at the nearest levels, with the gradients that ``APoT`` documents for activations.

    Args:
        x: float32 of any shape.
        clip: [1], positive.
        units: [L] ascending levels at a clip of 1.
        slopes: which gradients pass.
    """
    book = codebook(clip, units)
    y = cells.at_levels(x, book.levels, book.thresholds, keeps_nan=True)
    return _with_gradient(y, x, clip, units, slopes)


def _with_gradient(
    y: tf.Tensor, x: tf.Tensor, clip: tf.Tensor, units: np.ndarray, slopes: _Slopes
) -> tf.Tensor:
    """``y``, with gradients toward ``x`` and ``clip``.

    Args:
        y: x at its levels; no number where x is none.
        x: float32.
        clip: [1], positive.
        units: [L] ascending levels at a clip of 1.
        slopes: which gradients pass.
    """
    low = float(units[0])
    if slopes.below:
        low = -math.inf
    steps = slopes.delta / float(units[-1] - units[-2])

    @tf.custom_gradient
    def fake_quantized(y: tf.Tensor, x: tf.Tensor, clip: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
            if native.used():
                found = native.clip_gradient(
                    upstream, x, y, clip, low=low, steps=steps, everywhere=slopes.everywhere
                )
                return [None, *found]
            ratio = x / clip
            clipped = tf.clip_by_value(ratio, low, 1.0)
            inside = tf.equal(ratio, clipped)
            error = ratio - y / clip
            nothing = scalar_like(upstream, tf.zeros([]))
            # What EWGS adds, of values within.
            extra = tf.where_v2(inside, steps * tf.abs(upstream) * error, nothing)
            slope = tf.where_v2(inside, -error, clipped)
            toward_clip = tf.reduce_sum(upstream * slope - extra * clipped)
            toward_x = upstream + extra
            if not slopes.everywhere:
                toward_x = tf.where_v2(inside, toward_x, nothing)
            return [None, toward_x, tf.reshape(toward_clip, [1])]

        return tf.identity(y), native.as_now(gradient)

    return fake_quantized(y, x, clip)


def standardised(w: tf.Tensor, *, constants: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Weights with mean 0 and deviation 1 over the tensor, and the mean and deviation they had.

    Weights that differ by no more than rounding are taken to deviate by their mean, or by 1.

    Args:
        w: float32.
        constants: whether mean and deviation are constants for the gradient.
    """
    mean = tf.reduce_mean(w)
    if constants:
        mean = tf.stop_gradient(mean)
    centred = w - mean
    # Squares of the centred weights alone could leave the range of float32.
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(centred)))
    spread = largest > 1e-6 * tf.abs(mean)
    largest = tf.where_v2(spread, largest, tf.maximum(tf.abs(tf.stop_gradient(mean)), 1.0))
    squares = tf.reduce_sum(tf.square(centred / largest))
    variance = squares / max(w.shape.num_elements() - 1, 1)
    deviation = largest * tf.sqrt(tf.where_v2(spread, variance, 1.0))
    if constants:
        deviation = tf.stop_gradient(deviation)
    return centred / deviation, mean, deviation


def codebook(clip: tf.Tensor, units: np.ndarray, offset: float = 0.0) -> Codebook:
    """The step function of ``quantize``.

    Args:
        clip: [1], positive.
        units: [L] ascending levels at a clip of 1.
        offset: what zero stands for.
    """
    levels = units[:, None] * clip + offset
    middles = (units[1:] + units[:-1]) / 2
    thresholds = middles[:, None] * clip + offset
    gaps = np.diff(units)
    if np.ptp(gaps) > 1e-6:
        return Codebook(levels, thresholds)
    return Codebook(levels, thresholds, gaps[0] * clip, levels[0])
