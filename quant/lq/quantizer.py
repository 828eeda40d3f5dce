"""LQ-Nets: learned quantization with levels that are sums of a basis, refit while training.

References:
    LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018,
    https://arxiv.org/abs/1807.10029, equations 3-8; the moving average is that of the published
    code.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from quant import integers, native
from quant.backend import new_graph, tf  # noqa: F401 (in the example)
from quant.lq import levels, nesting, refit
from quant.lq.forward import Forward
from quant.quantizer import (
    Activations,
    Codebook,
    InitStd,
    Quantizer,
    Weights,
    check_bits,
    check_bools,
)
from quant.recipe import RSNETS_COURSE, Recipe
from quant.state import begun
from quant.straight_through import straight_through

# Median of the magnitude of a standard normal value.
MEDIAN = 0.6745


@dataclasses.dataclass(frozen=True)
class LQ(Quantizer):
    """LQ-Nets quantizer of weights and activations.

    Forward: the nearest of the 2**bits levels. Pseudo-gradient: identity for weights; for
    activations the upstream gradient where x is at most the largest level (and, behind a ReLU,
    positive), 0 elsewhere. No gradient reaches the basis. A weight that is no number stays none; an
    activation that is none takes the lowest level, without a gradient.

    Attributes:
        bits: 1 to 8.
        decay: of the bias-corrected moving average of the least-squares solutions. The published
            code applies .9 once per size on one shared basis, that is .9**S per step with S sizes;
            here it is applied once per step.
        private: activations keep a basis per operating point instead of one for all.
        update: ``all``: every operating point adds its statistics; ``strongest``: only the first
            one does.
        nested: of weights, whether their codes at all ``precisions`` are one code, of which each
            takes the first bits: those of LQ at the fewest bits, refined by every further one
            (True), or the ranks of those of LQ at the most bits (``cut``); see
            ``quant.lq.nesting``.
        precisions: bits of those that share codes, most first, as ``--bits`` names them.

    *Variable names*: ``basis`` [bits, C], nested below the scope of each precision; once a refit is
    built, also ``basis/biased`` and ``basis/local_step``.

    Two bits of the basis (0.5, 1) give the levels 0, 0.5, 1 and 1.5:

    >>> with new_graph(), tf.Session() as session:
    ...     encoder = levels.encoder(levels.grid(tf.constant([[0.5], [1.0]]), low=0))
    ...     x = tf.constant([-3.0, 0.3, 0.74, 1.2, 9.0])
    ...     y, _ = levels.quantize(x, encoder, collect=False)
    ...     print(session.run(y))
    [0.  0.5 0.5 1.  1.5]
    """

    variants: ClassVar[tuple[str, ...]] = ('lq(private=True)',)
    snaps: ClassVar[bool] = True

    bits: int = 2
    decay: float = 0.9
    private: bool = False
    update: str = 'all'
    nested: bool | str = False
    precisions: tuple[int, ...] = ()

    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'lq',
            'qw': 2,
            'qa': 2,
            'batch_size': 256,
            **RSNETS_COURSE,
            'wd': 5e-5,
        },
        'ResNet-18 at 224: W2A32 68.0, W2A2 64.9, W3A3 68.2, W4A4 69.3; its README '
        '(microsoft/LQ-Nets), with 110 epochs; the course is that of RS-Nets',
    )

    def __post_init__(self) -> None:
        check_bits(self)
        check_bools(self, 'private')
        if not 0 <= self.decay < 1:
            raise ValueError(f'decay={self.decay!r} must lie in [0, 1)')
        if self.update not in ('all', 'strongest'):
            raise ValueError(f"update={self.update!r} must be 'all' or 'strongest'")
        object.__setattr__(self, 'precisions', tuple(self.precisions))
        nesting.check(self.precisions, self.nested, self.bits)

    def refuses(self, role: str, *, weights: bool) -> str:
        if self.nested and not weights:
            return 'nested codes are those of weights; give it as --weight-quantizer'
        return ''

    @property
    def is_nested(self) -> bool:
        return bool(self.nested)

    def stored_values(self, channels: int) -> int:
        return self.bits * channels

    def collects(self, *, strongest: bool) -> bool:
        return strongest or self.private or self.update == 'all'

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights with codes -1/+1 and one basis per channel of the last axis of ``w``."""
        if self.nested:
            return self._nested(w, weights)
        tower = weights.tower
        variable, encoder = tower.once(
            lambda: self._encoder(tower, w.shape[-1], weights.init_std, low=-1)
        )
        grid = encoder.grid
        forward = Forward(weights=True)
        y, table, _ = forward.applied(tower, tf.stop_gradient(w), encoder, collect=weights.collect)
        if table is not None:
            statistics = refit.LevelStatistics(grid, table, 1e-4, relative=False, same=True)
            tower.collect(self, variable, statistics)
        tower.report(lambda: Codebook(grid.levels, grid.thresholds))
        return straight_through(y, w)

    def _nested(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights at one of several precisions, whose codes are found once for all."""
        tower = weights.tower
        most = self.precisions[0]
        with tower.sibling(most), tf.variable_scope('codes'):
            encoded = tower.once(lambda: self._encoded(w, weights))
        variable, basis = self._basis(self.bits, weights, w.shape[-1])
        grid = encoded.cells.grid(basis)
        if encoded.table is not None:
            table = encoded.cells.table(encoded.table, self.bits)
            statistics = refit.LevelStatistics(grid, table, 1e-4, relative=False, same=True)
            tower.collect(self, variable, statistics)
        tower.report(lambda: Codebook(grid.levels, grid.thresholds))
        return straight_through(encoded.at(grid), w)

    def _encoded(self, w: tf.Tensor, weights: Weights) -> nesting.Encoded:
        """Weights in the cells of the widest precision."""
        channels = w.shape[-1]
        _, widest = self._basis(self.precisions[0], weights, channels)
        if self.nested == nesting.CUT:
            found = nesting.cut(widest)
        else:
            _, least = self._basis(self.precisions[-1], weights, channels)
            found = nesting.refined(least, widest)
        grid = found.grid(widest)
        return nesting.Encoded(tf.stop_gradient(w), found, grid, collect=weights.collect)

    def _basis(self, bits: int, weights: Weights, channels: int) -> tuple[tf.Variable, tf.Tensor]:
        """The basis of a precision, and its value as this tower reads it.

        The others start from the one that has the codes of LQ, which may have been loaded.

        Args:
            bits: of the precision.
            weights: of which it is.
            channels: number of bases.
        """
        tower = weights.tower
        root = self.precisions[-1]
        first: Callable[[tf.Tensor, int], tf.Tensor] = nesting.first_refined
        if self.nested == nesting.CUT:
            root, first = self.precisions[0], nesting.first_cut

        def made() -> tuple[tf.Variable, tf.Tensor]:
            start = self._start(bits, weights.init_std, channels, low=-1)
            if bits != root:
                other, _ = self._basis(root, weights, channels)
                start = lambda *_, **__: first(begun(other), bits)  # noqa: E731
            variable = self._variable(tower, bits, channels, start, low=-1)
            return variable, tf.convert_to_tensor(variable)

        with tower.sibling(bits):
            return tower.once(made)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations with codes 0/1 and one basis for the tensor.

        Without a ReLU, values are taken relative to ``lower``: 0, or the negative bound of a
        function such as Swish. Where there is no bound (-inf), codes are -1/+1 and the gradient
        passes where |x| is at most the largest level.
        """
        tower = activations.tower
        low = -1 if activations.signed else 0
        variable, encoder = tower.once(
            lambda: self._encoder(tower, 1, 1.0, low=low, relu=activations.relu)
        )
        forward = Forward(relu=activations.relu, signed=activations.signed)
        values = x
        if native.used():
            values = activations.as_given(x)
        y, table = forward.differentiable(tower, values, encoder, activations)
        if table is not None:
            statistics = refit.LevelStatistics(encoder.grid, table, 1e-8, relative=True, same=False)
            tower.collect(self, variable, statistics)
        tower.report(lambda: self._codebook(encoder, activations))
        return y

    def _codebook(self, encoder: levels.Encoder, activations: Activations) -> Codebook:
        edges = activations.shifted_back(encoder.edges)
        return Codebook(activations.shifted_back(encoder.grid.levels), edges)

    def refit(
        self, variables: Sequence[tf.Variable], statistics: Sequence[refit.LevelStatistics]
    ) -> list[tf.Tensor]:
        return refit.refit(variables, statistics, self.decay)

    def _encoder(
        self, tower: Any, channels: int, init_std: InitStd, *, low: int, relu: bool = False
    ) -> tuple[tf.Variable, levels.Encoder]:
        """The basis of the current scope, and its encoder.

        Args:
            tower: of the quantizer.
            channels: number of bases.
            init_std: deviation of the values to begin with.
            low: 0 or -1, what stands for an unset bit.
            relu: whether values are rectified.
        """
        start = self._start(self.bits, init_std, channels, low=low)
        variable = self._variable(tower, self.bits, channels, start, low=low)
        grid = levels.grid(tf.convert_to_tensor(variable), low)
        return variable, levels.encoder(grid, relu=relu)

    def _start(
        self, bits: int, init_std: InitStd, channels: int, *, low: int
    ) -> Callable[..., tf.Tensor]:
        """Makes the basis to begin with, [bits, channels].

        Args:
            bits: of a code.
            init_std: deviation of the values to begin with.
            channels: number of bases.
            low: 0 or -1, what stands for an unset bit.
        """
        rows = np.tile(_first_basis(bits, both_signs=low < 0), channels)  # [K, C]

        def initial(*_: Any, **__: Any) -> tf.Tensor:
            if callable(init_std):
                return rows * init_std()
            return tf.constant(rows * init_std, tf.float32)

        return initial

    def _variable(
        self, tower: Any, bits: int, channels: int, start: Callable[..., tf.Tensor], *, low: int
    ) -> tf.Variable:
        """The variable of a basis.

        Args:
            tower: of the quantizer.
            bits: of a code.
            channels: number of bases.
            start: makes the first value.
            low: 0 or -1, what stands for an unset bit.
        """
        return tower.variable(
            'basis',
            [bits, channels],
            initializer=start,
            beside=('biased', 'local_step'),
            snapped=functools.partial(integers.snapped, both_signs=low < 0),
        )


def _first_basis(bits: int, *, both_signs: bool) -> np.ndarray:
    """[bits, 1] float32, the basis to begin with, for values of deviation 1.

    Args:
        bits: of a code.
        both_signs: whether codes are -1 and +1; else 0 and 1.
    """
    start = MEDIAN * 2 / (2**bits - 1)
    if both_signs:
        start = MEDIAN / 2 ** (bits - 1)
    powers = start * 2.0 ** np.arange(bits)
    return powers[:, None].astype('float32')
