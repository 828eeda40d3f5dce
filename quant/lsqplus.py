"""LSQ+: LSQ with a learned offset of activations.

References:
    LSQ+: Improving low-bit quantization through learnable offsets and better initialization, 2020,
    https://arxiv.org/abs/2004.09576, equations 3-7. No code by the authors is public. Gradients and
    their scale are those of ZouJiu1/LSQplus, options those of IBM's fms-model-optimizer; the form
    in which zero is a level is that of Qualcomm-AI-research/oscillations-qat.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from quant import first_steps, uniform
from quant.backend import tf
from quant.lsq import LSQ
from quant.quantizer import Activations, check_bools


@dataclasses.dataclass(frozen=True)
class LSQPlus(LSQ):
    """LSQ+ quantizer of weights and activations: LSQ's, with a learned offset of activations.

    Forward of activations: ``round(clip((x - b) / s, low, high)) s + b``, with integers from 0 to
    2**bits - 1; a lower bound of x is not used. Pseudo-gradients of x and s are LSQ's; that of the
    offset b is the sum of the upstream gradient outside the range, scaled as that of s.

    By default b counts as the nearest whole multiple of s from which zero is a level, and its
    gradient is straight through: zeros that pad an image are then levels, too. The published code
    of that form clips rounded values, which lets the gradient pass half a step further.

    Weights have no offset. Their step starts at max(|m - 3 d|, |m + 3 d|) / 2**(bits - 1), with
    mean m and standard deviation d. Step and offset of activations start at the interval of least
    squared error of the first batch. What is zero or constant starts at a step of 1.

    Attributes:
        zero: whether zero is a level of activations; False is the paper's form.
        middle: integers of activations begin at -2**(bits - 1), and the offset is what the middle
            of the range stands for; high is then 2**(bits - 1) - 1 in the gradient scale, too.
        open_ends: at exactly the lowest and the highest level of activations no gradient passes to
            x, and step and offset get what they get from beyond (IBM's code).
        start: ``paper``: as above; ``lsqplus``: weights with the divisor 2**bits - 1, which is that
            of ZouJiu1/LSQplus; ``ibm``: activations from the minimum to the maximum of the first
            batch, each the mean of those of several tensors.

    Further attributes are LSQ's. *Variable names*: ``step`` [1], or [C]; ``offset`` [1].
    """

    start: str = 'paper'
    zero: bool = True
    middle: bool = False
    open_ends: bool = False

    variants: ClassVar[tuple[str, ...]] = ()
    starts: ClassVar[tuple[str, ...]] = ('paper', 'lsqplus', 'ibm')

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bools(self, 'zero', 'middle', 'open_ends')
        if self.middle and self.bits == 1:
            raise ValueError('middle with bits=1: no integer is positive')

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations with one step and one offset, whatever their bounds."""
        tower = activations.tower
        x = activations.rectified(x)
        low = 0
        if self.middle:
            low = -(2 ** (self.bits - 1))
        high = low + 2**self.bits - 1
        variables, step, offset = tower.once(lambda: self._step_and_offset(tower, low, high))
        if activations.collect:
            self._start_interval(tower, variables, x, -low)
        tower.report(lambda: uniform.codebook(step, low, high, offset))
        slopes = uniform.Slopes(delta=self.delta)
        if self.open_ends:
            slopes = dataclasses.replace(slopes, passes='open', clip_ends=True)
        scale = uniform.gradient_scale(x, 1, high, self.gradient_scale)
        return uniform.quantize(x, step, low, high, offset=offset, slopes=slopes, scale=scale)

    def _step_and_offset(self, tower: Any, low: int, high: int) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """The variables, and step and offset as they are used."""
        size = self.trained(tower, 'step', 1, tf.ones_initializer(), bits=self.bits)
        place = self.trained(tower, 'offset', 1, tf.zeros_initializer(), bits=self.bits)
        step = uniform.positive(tf.convert_to_tensor(size))
        offset = tf.convert_to_tensor(place)
        if self.zero:
            offset = uniform.snapped(offset, step, low, high)
        return (size, place), step, offset

    def _start_interval(self, tower: Any, variables: Any, x: tf.Tensor, below: int) -> None:
        """Lets step and offset of activations start from a first batch.

        Args:
            tower: as of ``Activations``.
            variables: step and offset.
            x: activations.
            below: number of levels below the offset.
        """
        steps = 2**self.bits - 1
        table = first_steps.counts
        if self.start == 'ibm':
            table = first_steps.extremes

        def ends(total: tf.Tensor) -> tf.Tensor:
            if self.start == 'ibm':
                return first_steps.interval_of_extremes(total)
            return first_steps.interval_of_counts(total, steps, zero=self.zero)

        def step(total: tf.Tensor) -> tf.Tensor:
            lowest, highest = tf.split(ends(total), 2)
            return first_steps.or_one((highest - lowest) / steps)

        def offset(total: tf.Tensor) -> tf.Tensor:
            lowest, highest = tf.split(ends(total), 2)
            return lowest + below * first_steps.or_one((highest - lowest) / steps)

        size, place = variables
        found = table(x)
        tower.start_from(size, found, step)
        tower.start_from(place, found, offset)

    def _first_step(
        self, w: tf.Tensor, channels: int, low: int, high: int, centre: float
    ) -> tf.Tensor:
        values = tf.reshape(tf.cast(w, tf.float64), [-1, channels])
        mean = tf.reduce_mean(values, 0)
        degrees = tf.maximum(tf.cast(tf.shape(values)[0], tf.float64) - 1, 1)
        deviation = tf.sqrt(tf.reduce_sum((values - mean) ** 2, 0) / degrees)
        reach = tf.abs(mean) + 3 * deviation
        divisor = 2 ** (self.bits - 1)
        if self.start == 'lsqplus':
            divisor = 2**self.bits - 1
        return first_steps.or_one(tf.cast(reach / divisor, tf.float32))
