"""Levels that are sums of a learned basis: sorted, with the thresholds between them, and encoding.

A basis is ``[K, C]`` float32: K bits, C output channels (C = 1 for an activation tensor). Sorting
its ``L = 2**K`` levels gives thresholds; encoding is one comparison per threshold. A refit needs,
per level, a count and a sum of x, which add up over sizes and towers: no tensor ``[numel, K]``.

Reference:
    LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018,
    https://arxiv.org/abs/1807.10029, equations 3-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quant import cells, native
from quant.backend import tf


class Grid(NamedTuple):
    """A basis with what follows from it.

    Attributes:
        basis: [K, C].
        levels: [L, C], ascending.
        thresholds: [L - 1, C], midpoints of neighbouring levels.
        numbers: [C, L] int32, of the code of each sorted level: bit k is that of vector k.
        low: 0 or -1, what stands for an unset bit.
    """

    basis: tf.Tensor
    levels: tf.Tensor
    thresholds: tf.Tensor
    numbers: tf.Tensor
    low: int

    @property
    def codes(self) -> tf.Tensor:
        """[C, L, K] float32, the code of each sorted level."""
        return tf.gather(code_table(self.basis.shape[0], self.low), self.numbers)


class Rows(NamedTuple):
    """Rows by which comparisons encode values, as ``cells.rows`` gives them.

    Attributes:
        floors: [L - 1, C], what the sums above each threshold are taken from: no rectified value
            lies between a threshold below zero and zero.
        levels: rows.
        edges: rows.
        bases: rows of ``floors``.
    """

    floors: tf.Tensor
    levels: list[tf.Tensor]
    edges: list[tf.Tensor]
    bases: list[tf.Tensor]


class Encoder(NamedTuple):
    """All that encoding needs of a grid, made once for all that is encoded.

    Attributes:
        grid: levels and thresholds.
        relu: whether values are rectified first.
        edges: [L - 1, C], bounds of the cells: behind a ReLU all values lie above negative
            thresholds.
        rows: of these tables, where values are encoded by comparisons.
        largest: level of the first channel, a scalar.
        fused: whether a compiler fuses what is compared and counted.
    """

    grid: Grid
    relu: bool
    edges: tf.Tensor
    rows: Rows | None
    largest: tf.Tensor
    fused: bool = False


def code_table(bits: int, low: int) -> np.ndarray:
    """[2**bits, bits] float32 codes by their number: of an unset bit ``low``, 0 or -1, else 1."""
    numbers = np.arange(2**bits)[:, None]
    return np.where(numbers >> np.arange(bits) & 1, 1, low).astype('float32')


def grid(basis: tf.Tensor, low: int) -> Grid:
    """Sorted levels, thresholds and codes of a basis.

    The larger number is first among equal levels, as in the published code.

    Args:
        basis: [K, C].
        low: 0 or -1, what stands for an unset bit.
    """
    if native.used():
        return Grid(basis, *native.grid(basis, low), low)
    bits = basis.shape[0]
    # The larger number first: a stable sort leaves it there.
    table = code_table(bits, low)[::-1].T  # [K, L]
    # Not a matmul: on recent GPUs that may round its inputs to ten bits. Along the first axis a sum
    # is taken in order.
    sums = tf.reduce_sum(basis[:, None] * table[..., None], axis=0)  # [L, C]
    ascending, order = tf.math.top_k(-tf.transpose(sums), k=2**bits)
    levels = tf.transpose(-ascending)
    thresholds = 0.5 * levels[:-1] + 0.5 * levels[1:]
    return Grid(basis, levels, thresholds, 2**bits - 1 - order, low)


def encoder(g: Grid, *, relu: bool = False, fused: bool = False) -> Encoder:
    """All that encoding needs of a grid.

    Args:
        g: the grid.
        relu: whether ``max(x, 0)`` is encoded.
        fused: whether a program of XLA encodes.
    """
    edges = g.thresholds
    if relu:
        edges = tf.where_v2(g.thresholds < 0, -np.inf, g.thresholds)
    if native.used() or not cells.are_compared(g.thresholds.shape[0]):
        return Encoder(g, relu, edges, None, g.levels[-1, 0], fused)
    bases = g.thresholds
    if relu:
        bases = tf.maximum(g.thresholds, 0.0)
    rows = Rows(bases, cells.rows(g.levels), cells.rows(edges), cells.rows(bases))
    return Encoder(g, relu, edges, rows, rows.levels[-1], fused)


def quantize(x: tf.Tensor, e: Encoder, *, collect: bool) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Nearest level of each x (a tie takes the lower one), and statistics for a refit.

    Args:
        x: float32, last axis C, or any shape when C = 1.
        e: levels and thresholds.
        collect: whether to collect statistics.

    Returns:
        The quantized tensor, and per channel [2 L, C] float64: the number of x, the sum of x, then
        for each threshold the number of x above it, then for each the sum of the x above it.
    """
    if e.rows is not None:
        masks = cells.masks(x, e.rows.edges)
        values = cells.of_masks(masks, e.rows.levels)
        if not collect:
            return values, None
        return values, _of_masks(x, e, e.rows, masks)
    if not collect:
        return cells.at_levels(x, e.grid.levels, e.edges), None
    return _by_number(x, e)


def _table(x: tf.Tensor, total: tf.Tensor, above: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
    """Statistics as ``quantize`` returns them.

    Args:
        x: what was encoded.
        total: [1, C] float64, sum of the x.
        above: [L - 1, C] float64, number of the x above each threshold.
        sums: [L - 1, C] float64, sum of the x above each threshold.
    """
    channels = above.shape[1]
    count = tf.cast(tf.size(x, out_type=tf.int64) // channels, tf.float64)
    return tf.concat([tf.fill([1, channels], count), total, above, sums], 0)


def _of_masks(x: tf.Tensor, e: Encoder, rows: Rows, masks: Sequence[tf.Tensor]) -> tf.Tensor:
    """Statistics of what was encoded by comparisons.

    Args:
        x: what was encoded.
        e: levels and thresholds.
        rows: of these levels and thresholds.
        masks: whether each x lies above a threshold.
    """
    shape = e.grid.thresholds.shape
    if e.fused and shape[1] == 1:
        counts = [tf.reduce_sum(tf.cast(mask, tf.int32)) for mask in masks]
    else:
        counts = _counts(masks, shape[1] > 1)
    above = tf.cast(tf.reshape(tf.stack(counts), shape), tf.float64)
    excesses = []
    # Sums of x - t over the x above t: nothing cancels when few are, no masked copy of x is made.
    for base in rows.bases:
        over = tf.nn.bias_add(x, -base) if shape[1] > 1 else x - base
        excesses.append(tf.nn.relu(over))
    excess = _sums(excesses, shape)
    sums = excess + tf.cast(rows.floors, tf.float64) * above
    # Behind a ReLU the values in the lowest cell are zero, or its code is.
    total = sums[:1] if e.relu else _sums([x], [1, shape[1]])
    return _table(x, total, above, sums)


def _sums(tensors: Sequence[tf.Tensor], shape: Sequence[int]) -> tf.Tensor:
    """Sums over everything, or over everything but the last axis, as float64 [n, C].

    Args:
        tensors: n of them.
        shape: [n, C].
    """
    if shape[1] > 1:
        # On the CPU this sum per channel takes a third of the time of reduce_sum.
        sums = [tf.raw_ops.BiasAddGrad(out_backprop=x) for x in tensors]
    else:
        axes = tf.range(tf.rank(tensors[0]))
        sums = [tf.reduce_sum(x, axes) for x in tensors]
    return tf.cast(tf.reshape(tf.stack(sums), shape), tf.float64)


def _counts(masks: Sequence[tf.Tensor], per_channel: bool) -> list[tf.Tensor]:
    """Numbers of true entries; eight at a time, and exact, where the shape allows.

    Args:
        masks: to count.
        per_channel: whether to count over everything but the last axis.
    """
    last = masks[0].shape[-1]
    if per_channel:
        return [tf.raw_ops.BiasAddGrad(out_backprop=tf.cast(mask, tf.float32)) for mask in masks]
    if last is None or last % 8:
        return [tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in masks]
    counts = []
    rows = tf.constant([-1, 8])
    everything = tf.constant([0])
    for mask in masks:
        words = tf.bitcast(tf.reshape(tf.cast(mask, tf.uint8), rows), tf.int64)
        ones = tf.cast(tf.raw_ops.PopulationCount(x=words), tf.int64)
        counts.append(tf.reduce_sum(ones, everything))
    return counts


def _by_number(x: tf.Tensor, e: Encoder) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoding by the numbers of cells, and its statistics."""
    levels = e.grid.levels
    if e.relu:
        x = tf.nn.relu(x)
    numbers = cells.numbers(x, e.grid.thresholds)
    count, channels = levels.shape
    counts = cells.counts_of(numbers, channels * count)
    sums = cells.sums_of(x, numbers, channels * count)
    both = tf.reshape(tf.stack([counts, sums]), [2, channels, count])
    above = tf.cumsum(both, axis=2, reverse=True)
    # Where a value is no number, no sum of its channel is one.
    everything = tf.reduce_sum(both, 2, keepdims=True)
    above = tf.where_v2(tf.math.is_nan(everything), everything, above)
    above = tf.transpose(above, [0, 2, 1])  # [2, L, C]
    # Counts come first, and sums; of everything, and above each threshold.
    order = [0, count, *range(1, count), *range(count + 1, 2 * count)]
    table = tf.gather(tf.reshape(above, [2 * count, channels]), order)
    return cells.of_numbers(numbers, levels), table
