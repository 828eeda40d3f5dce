"""Levels that are sums of a learned basis: sorted, with the thresholds between them, and encoding.

A basis is ``[K, C]`` float32: K bits, C output channels (C = 1 for an activation tensor). Sorting
its ``L = 2**K`` levels gives thresholds; encoding is one comparison per threshold. A refit needs,
per level, a count and a sum of x, which add up over sizes and towers: no tensor ``[numel, K]``.

Reference:
    LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018,
    https://arxiv.org/abs/1807.10029, equations 3-6.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quant import cells
from quant.backend import tf


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


class Encoded(NamedTuple):
    """Values at their levels, with sums for a refit.

    Attributes:
        values: like what was encoded.
        total: [C] float64, sum of the x.
        above: [L - 1, C] float64, number of the x above each threshold.
        sums: [L - 1, C] float64, sum of the x above each threshold.
    """

    values: tf.Tensor
    total: tf.Tensor
    above: tf.Tensor
    sums: tf.Tensor


def code_table(bits: int, low: int) -> np.ndarray:
    """[2**bits, bits] float32 codes in descending level number.

    Descending, because a stable sort then puts the larger number first among equal levels, as the
    published code does.

    Args:
        bits: of a code.
        low: 0 or -1, what stands for an unset bit.
    """
    numbers = np.arange(2**bits)[::-1, None]
    return np.where(numbers >> np.arange(bits) & 1, 1, low).astype('float32')


def grid(basis: tf.Tensor, low: int) -> Grid:
    """Sorted levels, thresholds and codes of ``basis`` [K, C]."""
    bits = basis.shape[0]
    table = code_table(bits, low)
    # Not a matmul: on recent GPUs that may round its inputs to ten bits.
    sums = tf.reduce_sum(basis[None] * table[..., None], axis=1)  # [L, C]
    ascending, order = tf.math.top_k(-tf.transpose(sums), k=2**bits)
    levels = tf.transpose(-ascending)
    thresholds = 0.5 * levels[:-1] + 0.5 * levels[1:]
    return Grid(basis, levels, thresholds, tf.gather(table, order))


def edges(g: Grid, relu: bool) -> tf.Tensor:
    """[L - 1, C] bounds of the cells: behind a ReLU all values lie above negative thresholds."""
    if not relu:
        return g.thresholds
    return tf.where_v2(g.thresholds < 0, -np.inf, g.thresholds)


def quantize(
    x: tf.Tensor, g: Grid, *, relu: bool = False, collect: bool
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Nearest level of each x (a tie takes the lower one), and statistics for a refit.

    Args:
        x: float32, last axis C, or any shape when C = 1.
        g: levels and thresholds.
        relu: quantize ``max(x, 0)`` instead.
        collect: whether to collect statistics.

    Returns:
        The quantized tensor, and per channel [2 L, C] float64: the number of x, the sum of x, then
        for each threshold the number of x above it, then for each the sum of the x above it.
    """
    if not collect:
        return cells.at_levels(x, g.levels, edges(g, relu)), None
    compared = cells.are_compared(g.thresholds.shape[0])
    encode = _compare if compared else _search
    encoded = encode(x, g, relu)
    count = tf.cast(tf.size(x, out_type=tf.int64) // g.levels.shape[1], tf.float64)
    first = tf.stack([tf.broadcast_to(count, tf.shape(encoded.total)), encoded.total])
    return encoded.values, tf.concat([first, encoded.above, encoded.sums], 0)


def _sum(x: tf.Tensor, per_channel: bool) -> tf.Tensor:
    """Sum over everything, or over everything but the last axis, as float64."""
    if per_channel:
        # On the CPU this sum per channel takes a third of the time of reduce_sum.
        return tf.cast(tf.raw_ops.BiasAddGrad(out_backprop=x), tf.float64)
    return tf.cast(tf.reduce_sum(x), tf.float64)


def _count(mask: tf.Tensor, per_channel: bool) -> tf.Tensor:
    """Number of true entries as float64; eight at a time, and exact, where the shape allows."""
    last = mask.shape[-1]
    if per_channel or last is None or last % 8:
        return _sum(tf.cast(mask, tf.float32), per_channel)
    flat = tf.reshape(tf.cast(mask, tf.uint8), [-1, 8])
    words = tf.bitcast(flat, tf.int64)
    return _sum(tf.cast(tf.raw_ops.PopulationCount(x=words), tf.int64), per_channel)


def _compare(x: tf.Tensor, g: Grid, relu: bool) -> Encoded:
    """Encoding by one comparison per threshold."""
    per_channel = g.levels.shape[1] > 1
    masks = cells.masks(x, edges(g, relu))
    y = cells.of_masks(masks, g.levels)
    base = g.thresholds
    if relu:
        base = tf.maximum(base, 0.0)
    counts = []
    excesses = []
    # Sums of x - t over the x above t: nothing cancels when few are, no masked copy of x is made.
    for mask in masks:
        counts.append(_count(mask, per_channel))
    for threshold in cells.rows(base):
        over = tf.nn.bias_add(x, -threshold) if per_channel else x - threshold
        excesses.append(_sum(tf.nn.relu(over), per_channel))
    above = tf.reshape(tf.stack(counts), g.thresholds.shape)
    excess = tf.reshape(tf.stack(excesses), g.thresholds.shape)
    sums = excess + tf.cast(base, tf.float64) * above
    if relu:
        # The values in the lowest cell are zero, or its code is.
        return Encoded(y, sums[0], above, sums)
    return Encoded(y, tf.reshape(_sum(x, per_channel), [-1]), above, sums)


def _search(x: tf.Tensor, g: Grid, relu: bool) -> Encoded:
    """Encoding by binary search."""
    count, channels = g.levels.shape
    if relu:
        x = tf.nn.relu(x)
    codes, values = cells.search(x, g.thresholds)
    # In float64: adding one value after the other, float32 would stop counting at 2**24.
    numbers = _per_level(tf.ones_like(values, tf.float64), codes, channels, count)
    sums = _per_level(tf.cast(values, tf.float64), codes, channels, count)
    return Encoded(cells.of_cells(codes, g.levels, x), sums[0], numbers[1:], sums[1:])


def _per_level(values: tf.Tensor, codes: tf.Tensor, channels: int, count: int) -> tf.Tensor:
    """[L, C] sums of the values at each level and above.

    Args:
        values: [C, n] float64.
        codes: [C, n].
        channels: C.
        count: L.
    """
    sums = tf.math.unsorted_segment_sum(values, codes, channels * count)
    sums = tf.reshape(sums, [channels, count])
    return tf.transpose(tf.cumsum(sums, axis=1, reverse=True))
