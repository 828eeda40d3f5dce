"""LQ-Nets: learned quantization with levels that are sums of a basis, refit while training.

References:
    LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018,
    https://arxiv.org/abs/1807.10029, equations 3-8; the moving average is that of the published
    code.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from quant.backend import tf
from quant.lq import levels, refit
from quant.quantizer import Activations, Codebook, InitStd, Quantizer, Weights
from quant.straight_through import straight_through, straight_through_inside

# Median of the magnitude of a standard normal value.
MEDIAN = 0.6745


@dataclasses.dataclass(frozen=True)
class LQ(Quantizer):
    """LQ-Nets quantizer of weights and activations.

    Forward: the nearest of the 2**bits levels. Pseudo-gradient: identity for weights; for
    activations the upstream gradient where x is at most the largest level (and, behind a ReLU,
    positive), 0 elsewhere. No gradient reaches the basis.

    Attributes:
        bits: 1 to 8.
        decay: of the bias-corrected moving average of the least-squares solutions. The published
            code applies .9 once per size on one shared basis, that is .9**S per step with S sizes;
            here it is applied once per step.
        private: activations keep a basis per operating point instead of one for all.
        update: ``all``: every operating point adds its statistics; ``strongest``: only the first
            one does.

    *Variable names*: ``basis`` [bits, C]; once a refit is built, also ``basis/biased`` and
    ``basis/local_step``.

    Two bits of the basis (0.5, 1) give the levels 0, 0.5, 1 and 1.5:

    >>> grid = levels.grid(tf.constant([[0.5], [1.0]]), low=0)
    >>> y, _ = levels.quantize(tf.constant([-3.0, 0.3, 0.74, 1.2, 9.0]), grid, collect=False)
    >>> with tf.Session() as session:
    ...     print(session.run(y))
    [0.  0.5 0.5 1.  1.5]
    """

    bits: int = 2
    decay: float = 0.9
    private: bool = False
    update: str = 'all'

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 1 <= self.bits <= 8:
            raise ValueError(f'bits={self.bits!r} must be a whole number from 1 to 8')
        if not 0 <= self.decay < 1:
            raise ValueError(f'decay={self.decay!r} must lie in [0, 1)')
        if self.update not in ('all', 'strongest'):
            raise ValueError(f"update={self.update!r} must be 'all' or 'strongest'")
        if not isinstance(self.private, bool):
            raise ValueError(f'private={self.private!r} must be True or False')

    def stored_values(self, channels: int) -> int:
        return self.bits * channels

    def collects(self, *, strongest: bool) -> bool:
        return strongest or self.private or self.update == 'all'

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Weights with codes -1/+1 and one basis per channel of the last axis of ``w``."""
        tower, start = weights.tower, MEDIAN / 2 ** (self.bits - 1)
        variable, grid = tower.once(
            lambda: self._grid(tower, w.shape[-1], weights.init_std, start, low=-1)
        )
        y, table = levels.quantize(tf.stop_gradient(w), grid, collect=weights.collect)
        if table is not None:
            statistics = refit.LevelStatistics(grid, table, 1e-4, relative=False, same=True)
            tower.collect(self, variable, statistics)
        tower.report(lambda: Codebook(grid.levels, grid.thresholds))
        return straight_through(y, w)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Activations with codes 0/1 and one basis for the tensor.

        Without a ReLU, values are taken relative to ``lower``: 0, or the negative bound of a
        function such as Swish. Where there is no bound (-inf), codes are -1/+1 and the gradient
        passes where |x| is at most the largest level.
        """
        tower, relu = activations.tower, activations.relu
        signed = not relu and activations.lower == -math.inf
        lower = 0.0 if relu or signed else activations.lower
        start = MEDIAN * 2 / (2**self.bits - 1)
        if signed:
            start = MEDIAN / 2 ** (self.bits - 1)
        low = -1 if signed else 0
        variable, grid = tower.once(lambda: self._grid(tower, 1, 1.0, start, low=low))
        rest = tf.stop_gradient(x - lower if lower else x)
        y, table = levels.quantize(rest, grid, relu=relu, collect=activations.collect)
        if table is not None:
            statistics = refit.LevelStatistics(grid, table, 1e-8, relative=True, same=False)
            tower.collect(self, variable, statistics)
        tower.report(lambda: Codebook(grid.levels + lower, levels.edges(grid, relu) + lower))
        # Only one byte per value is kept for the backward pass.
        inside = (tf.abs(rest) if signed else rest) <= grid.levels[-1, 0]
        if relu:
            inside = tf.logical_and(inside, rest > 0)
        return straight_through_inside(y + lower if lower else y, x, inside)

    def refit(self, variable: tf.Variable, statistics: refit.LevelStatistics) -> tf.Tensor:
        name = variable.op.name
        with tf.name_scope(f'refit/{name}'):
            new, counts = refit.solve(statistics)
            value = refit.moving_average(variable, new, self.decay)
        refit.summarize(f'quant/{name}', value, statistics.grid.levels, counts)
        return value

    def _grid(
        self, tower: Any, channels: int, init_std: InitStd, start: float, *, low: int
    ) -> tuple[tf.Variable, levels.Grid]:
        """Basis that starts at ``start * init_std * (1, 2, 4 ...)``, and its grid."""
        powers = start * 2.0 ** np.arange(self.bits)[:, None]
        rows = np.tile(powers, channels).astype('float32')  # [K, C]

        def computed(*_: Any, **__: Any) -> tf.Tensor:
            assert callable(init_std)
            return rows * init_std()

        initializer = computed if callable(init_std) else tf.constant_initializer(rows * init_std)
        shape = [self.bits, channels]
        variable = tower.variable(
            'basis', shape, initializer=initializer, beside=('biased', 'local_step')
        )
        return variable, levels.grid(tf.convert_to_tensor(variable), low)
