"""Learned quantization (LQ-Nets): levels are sums of a learned basis, refit by least squares while training.

A basis is ``[K, C]`` float32: K bits, C output channels (C = 1 for an activation tensor). Sorting the ``L = 2**K``
levels gives thresholds; encoding is one comparison per threshold. The refit needs, per level, a count and a sum of x:
they add up over sizes and towers, so a basis is refit once per step from all the evidence of that step.

References:
    LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018,
    https://arxiv.org/abs/1807.10029, equations 3-8; the moving average is that of the published code.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from quant.backend import tf
from quant.lq import refit
from quant.quantizer import Scale

# Above this many bits one search per value is cheaper than 2**bits - 1 comparisons.
MAX_COMPARED_BITS = 3


class Grid(NamedTuple):
    """A basis with what follows from it.

    Attributes:
        basis: [K, C].
        levels: [L, C], ascending.
        thresholds: [L - 1, C], midpoints of neighbouring levels.
        codes: [C, L, K], the code of each sorted level.
    """

    basis: tf.Tensor
    levels: tf.Tensor
    thresholds: tf.Tensor
    codes: tf.Tensor


def code_table(bits: int, low: int) -> np.ndarray:
    """[2**bits, bits] float32 codes in descending level number; ``low`` (0 or -1) stands for an unset bit.

    Descending, because a stable sort then puts the larger number first among equal levels, as the published code does.
    """
    numbers = np.arange(2**bits)[::-1, None]
    return np.where(numbers >> np.arange(bits) & 1, 1, low).astype('float32')


def grid(basis: tf.Tensor, low: int) -> Grid:
    """Sorted levels, thresholds and codes of ``basis`` [K, C]."""
    bits = basis.shape[0]
    table = code_table(bits, low)
    # Not a matmul: on recent GPUs that may round its inputs to ten bits.
    sums = tf.reduce_sum(basis[None] * table[..., None], axis=1)
    ascending, order = tf.math.top_k(-tf.transpose(sums), k=2**bits)
    levels = tf.transpose(-ascending)
    return Grid(basis, levels, 0.5 * levels[:-1] + 0.5 * levels[1:], tf.gather(table, order))


def _rows(table: tf.Tensor) -> list[tf.Tensor]:
    """Rows of [L, C]; scalars when C = 1, which broadcast faster."""
    return tf.unstack(table[:, 0] if table.shape[1] == 1 else table)


def _sum(x: tf.Tensor, per_channel: bool) -> tf.Tensor:
    """Sum over everything, or over everything but the last axis, as float64."""
    # The gradient of a bias is the sum per channel, in a third of the time that reduce_sum takes on the CPU.
    return tf.cast(
        tf.raw_ops.BiasAddGrad(out_backprop=x) if per_channel else tf.reduce_sum(x), tf.float64
    )


def _count(mask: tf.Tensor, per_channel: bool) -> tf.Tensor:
    """Number of true entries as float64; eight at a time, and exact, where the shape allows."""
    if not per_channel and mask.shape[-1] is not None and mask.shape[-1] % 8 == 0:
        words = tf.bitcast(tf.reshape(tf.cast(mask, tf.uint8), [-1, 8]), tf.int64)
        return _sum(tf.cast(tf.raw_ops.PopulationCount(x=words), tf.int64), per_channel)
    return _sum(tf.cast(mask, tf.float32), per_channel)


def quantize(
    x: tf.Tensor, g: Grid, *, relu: bool = False, observe: bool
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Nearest level of each x (a tie takes the lower one), and the evidence for a refit.

    Args:
        x: float32, last axis C, or any shape when C = 1.
        g: levels and thresholds.
        relu: quantize ``max(x, 0)`` instead.
        observe: whether to collect evidence.

    Returns:
        The quantized tensor, and per channel [2 L, C] float64: the number of x, the sum of x, then for each threshold
        the number of x above it, then for each threshold the sum of the x above it.
    """
    encode = _compare if g.codes.shape[-1] <= MAX_COMPARED_BITS else _search
    y, total, above, sums = encode(x, g, relu, observe)
    if not observe:
        return y, None
    count = tf.cast(tf.size(x, out_type=tf.int64) // g.levels.shape[1], tf.float64)
    first = tf.stack([tf.broadcast_to(count, tf.shape(total)), total])
    return y, tf.concat([first, above, sums], 0)


# What an encoder returns: the quantized tensor; then, if observed, the sum of x [C] and, per threshold [L - 1, C], the
# number and the sum of the x above it, all float64.
_Encoded = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


def _compare(x: tf.Tensor, g: Grid, relu: bool, observe: bool) -> _Encoded:
    """Encoding by one comparison per threshold. Rectifies no tensor: zero lies above every negative threshold."""
    edges = tf.where_v2(g.thresholds < 0, -np.inf, g.thresholds) if relu else g.thresholds
    levels, per_channel = _rows(g.levels), g.levels.shape[1] > 1
    masks = [x > edge for edge in _rows(edges)]
    y = levels[0]
    for mask, level in zip(masks, levels[1:]):
        y = tf.where_v2(mask, level, y)
    if not observe:
        return y, None, None, None
    base = tf.maximum(g.thresholds, 0.0) if relu else g.thresholds
    # The sum of x - t over the x above t: nothing cancels when few are, and no masked copy of x is made.
    over = [tf.nn.bias_add(x, -t) if per_channel else x - t for t in _rows(base)]
    above, excess = (
        tf.reshape(tf.stack(rows), g.thresholds.shape)
        for rows in (
            [_count(mask, per_channel) for mask in masks],
            [_sum(tf.nn.relu(d), per_channel) for d in over],
        )
    )
    sums = excess + tf.cast(base, tf.float64) * above
    # Behind a ReLU the values in the lowest cell are zero, or its code is.
    total = sums[0] if relu else tf.reshape(_sum(x, per_channel), [-1])
    return y, total, above, sums


def _search(x: tf.Tensor, g: Grid, relu: bool, observe: bool) -> _Encoded:
    """Encoding by binary search, one row of values per channel."""
    count, channels = g.levels.shape
    values = tf.transpose(tf.reshape(tf.nn.relu(x) if relu else x, [-1, channels]))
    index = tf.searchsorted(tf.transpose(g.thresholds), values, side='left')
    cell = index + count * tf.range(channels)[:, None]
    y = tf.gather(tf.reshape(tf.transpose(g.levels), [-1]), cell)
    y = tf.reshape(tf.transpose(y), tf.shape(x))
    y.set_shape(x.shape)
    if not observe:
        return y, None, None, None
    # In float64: adding one value after the other, float32 would stop counting at 2**24.
    per_level = [
        tf.reshape(tf.math.unsorted_segment_sum(v, cell, channels * count), [channels, count])
        for v in (tf.ones_like(values, tf.float64), tf.cast(values, tf.float64))
    ]
    above, sums = (tf.transpose(tf.cumsum(v, axis=1, reverse=True)) for v in per_level)
    return y, sums[0], above[1:], sums[1:]


@tf.RegisterGradient('LQStraightThrough')
def _straight_through(_: tf.Operation, dy: tf.Tensor, *__: tf.Tensor) -> list[tf.Tensor | None]:
    return [None, dy]


@tf.RegisterGradient('LQInside')
def _inside_only(op: tf.Operation, dy: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor | None]:
    return [None, tf.where_v2(op.inputs[2], dy, tf.zeros([], dy.dtype)), None]


def _with_gradient(name: str, tensors: list[tf.Tensor]) -> tf.Tensor:
    """First tensor, unchanged, with the pseudo-gradient ``name`` toward the second one."""
    with tf.get_default_graph().gradient_override_map({'IdentityN': name}):
        return tf.raw_ops.IdentityN(input=tensors)[0]


@dataclasses.dataclass(frozen=True)
class LQ:
    """LQ-Nets quantizer of weights and activations.

    Forward: the nearest of the 2**bits levels. Pseudo-gradient: identity for weights; for activations the upstream
    gradient where x is at most the largest level (and, behind a ReLU, positive), 0 elsewhere. No gradient reaches the
    basis.

    Attributes:
        bits: 1 to 8.
        decay: of the bias-corrected moving average of the least-squares solutions. The published code applies .9 once
            per size on one shared basis, that is .9**S per step with S sizes; here it is applied once per step.
        private: activations keep a basis per operating point instead of one for all.
        update: ``all``: every operating point adds its statistics; ``strongest``: only the first one does
            (``--fixed_qa``).

    *Variable names*: ``basis`` [bits, C]; once a refit is built, also ``basis/biased`` and ``basis/local_step``.
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

    def basis_size(self, channels: int) -> int:
        return self.bits * channels

    def weight(self, w: tf.Tensor, *, scale: Scale, tower: Any, observe: bool) -> tf.Tensor:
        """Codes -1/+1, one basis per channel of the last axis of ``w``."""
        variable, g = tower.once(
            lambda: self._grid(w.shape[-1], scale, 0.6745 / 2 ** (self.bits - 1), low=-1)
        )
        y, evidence = quantize(tf.stop_gradient(w), g, observe=observe)
        if observe:
            tower.observe(
                self, variable, refit.Evidence(g, evidence, ridge=1e-4, relative=False, shared=True)
            )
        return _with_gradient('LQStraightThrough', [y, w])

    def activation(
        self, x: tf.Tensor, *, relu: bool, lower: float, tower: Any, observe: bool
    ) -> tf.Tensor:
        """Codes 0/1, one basis for the tensor. Without ``relu``, values are taken relative to ``lower``: 0, or the
        negative bound of a function such as Swish. Where there is no bound (-inf), codes are -1/+1 and the gradient
        passes where |x| is at most the largest level.
        """
        signed = not relu and lower == -math.inf
        lower = 0.0 if relu or signed else lower
        start = 0.6745 / 2 ** (self.bits - 1) if signed else 0.6745 * 2 / (2**self.bits - 1)
        variable, g = tower.once(lambda: self._grid(1, 1.0, start, low=-1 if signed else 0))
        rest = tf.stop_gradient(x - lower if lower else x)
        y, evidence = quantize(rest, g, relu=relu, observe=observe)
        if observe:
            tower.observe(
                self, variable, refit.Evidence(g, evidence, ridge=1e-8, relative=True, shared=False)
            )
        # Only one byte per value is kept for the backward pass.
        inside = (tf.abs(rest) if signed else rest) <= g.levels[-1, 0]
        if relu:
            inside = tf.logical_and(inside, rest > 0)
        return _with_gradient('LQInside', [y + lower if lower else y, x, inside])

    def _grid(
        self, channels: int, scale: Scale, start: float, *, low: int
    ) -> tuple[tf.Variable, Grid]:
        """Basis that starts at ``start * scale * (1, 2, 4 ...)``, and its grid."""
        rows = np.tile(start * 2.0 ** np.arange(self.bits)[:, None], channels).astype('float32')
        first = (
            (lambda *_, **__: rows * scale())
            if callable(scale)
            else tf.constant_initializer(rows * scale)
        )
        variable = tf.get_variable(
            'basis', shape=[self.bits, channels], trainable=False, initializer=first
        )
        return variable, grid(tf.convert_to_tensor(variable), low)
