"""Forward pass of LQ: values at their levels, statistics, and where a gradient passes.

One of three computes it: the operation of one pass of ``quant.native``, programs of XLA, or plain
operations of TensorFlow, which define the result.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

from quant import native
from quant.backend import tf
from quant.lq import levels
from quant.quantizer import Activations
from quant.straight_through import straight_through_inside

# Output like the values, statistics as of ``levels.quantize`` or None, and a truth value for each
# value, whether a gradient passes, or None.
Taken: TypeAlias = 'tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]'


@dataclasses.dataclass(frozen=True)
class Forward:
    """The forward pass of a step, a function of tensors that equals share once it is compiled.

    Attributes:
        weights: what is not a number stays, and nobody asks where a gradient passes.
        relu: activations are rectified.
        signed: activations of both signs can occur.
    """

    weights: bool = False
    relu: bool = False
    signed: bool = False

    def differentiable(
        self, tower: Any, x: tf.Tensor, encoder: levels.Encoder, activations: Activations
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Activations at their levels with their pseudo-gradient, and statistics or None.

        Args:
            tower: of the quantizer.
            x: activations.
            encoder: of the quantizer.
            activations: what is known about them.
        """
        shifted = activations.shifted(x)
        if native.used():
            y, table = self._in_one_pass(shifted, encoder, activations.collect)
            return activations.shifted_back(y), table
        rest = tf.stop_gradient(shifted)
        # Of where a gradient passes, one byte per value is kept for the backward pass.
        y, table, inside = self.applied(tower, rest, encoder, collect=activations.collect)
        return straight_through_inside(activations.shifted_back(y), x, inside), table

    def applied(self, tower: Any, x: tf.Tensor, encoder: levels.Encoder, *, collect: bool) -> Taken:
        """Output, statistics or None, and where a gradient passes or None.

        Compiled where the tower compiles, statistics are wanted, and shapes are the same in every
        step; of the number of images that is taken for granted.

        Args:
            tower: of the quantizer.
            x: values.
            encoder: of the quantizer.
            collect: whether statistics are wanted.
        """
        if native.used():
            return *self._in_one_pass(x, encoder, collect), None
        fixed = x.shape[1:].is_fully_defined()
        if tower.compiles and collect and encoder.rows is not None and fixed:
            return tower.compiled(self)(x, encoder.grid)
        return self._taken(x, encoder, collect)

    def __call__(self, x: tf.Tensor, grid: levels.Grid) -> Taken:
        """As ``applied`` with statistics, of tensors alone: what is compiled."""
        encoder = levels.encoder(grid, relu=self.relu, fused=True)
        return self._taken(x, encoder, collect=True)

    def _in_one_pass(
        self, x: tf.Tensor, encoder: levels.Encoder, collect: bool
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Output and statistics or None by the native operation, which has its own gradient."""
        inside = 'below'
        if self.weights:
            inside = 'none'
        elif self.signed:
            inside = 'symmetric'
        elif self.relu:
            inside = 'positive'
        y, table = native.encode(
            x,
            encoder.grid.levels,
            encoder.edges,
            relu=self.relu,
            keeps_nan=self.weights,
            collect=collect,
            inside=inside,
        )
        if not collect:
            return y, None
        return y, table

    def _taken(self, x: tf.Tensor, encoder: levels.Encoder, collect: bool) -> Taken:
        y, table = levels.quantize(x, encoder, collect=collect)
        if self.weights:
            return tf.where_v2(tf.math.is_nan(x), x, y), table, None
        return y, table, self._inside(x, encoder.largest)

    def _inside(self, x: tf.Tensor, largest: tf.Tensor) -> tf.Tensor:
        """Whether a gradient passes.

        Args:
            x: shifted values.
            largest: level, scalar.
        """
        if self.signed:
            return tf.abs(x) <= largest
        if self.relu:
            return tf.logical_and(x <= largest, x > 0)
        return x <= largest
