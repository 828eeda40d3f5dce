"""LQ's levels of values that are known, by its refit alone: what other quantizers can start from.

Reference:
    LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural Networks, ECCV 2018,
    https://arxiv.org/abs/1807.10029, algorithm 1, repeated on the same values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quant import first_steps
from quant.backend import tf
from quant.lq import levels, refit

# Refits of a basis; its levels have settled long before.
ROUNDS = 30

# Median of the magnitude of a standard normal value.
MEDIAN = 0.6745


def first_basis(bits: int, *, both_signs: bool) -> np.ndarray:
    """[bits, 1] float32, the basis that LQ starts from, for values of deviation 1.

    Args:
        bits: of a code.
        both_signs: whether codes are -1 and +1; else 0 and 1.
    """
    start = MEDIAN * 2 / (2**bits - 1)
    if both_signs:
        start = MEDIAN / 2 ** (bits - 1)
    powers = start * 2.0 ** np.arange(bits)
    return powers[:, None].astype('float32')


def top_of_values(w: tf.Tensor, channels: int, bits: int) -> tf.Tensor:
    """[channels] float32, the highest of LQ's levels of weights; 0 where all values are.

    Args:
        w: float32, last axis ``channels``, or any shape where that is 1.
        channels: number of bases.
        bits: of a code.
    """
    values = tf.reshape(w, [-1, channels])
    size = _root(tf.reduce_mean(tf.cast(values, tf.float64) ** 2, 0))  # [C]
    units = values / first_steps.or_one(size)

    def table(grid: levels.Grid) -> tf.Tensor:
        _, found = levels.quantize(units, levels.encoder(grid), collect=True)
        assert found is not None
        return found

    basis = np.tile(first_basis(bits, both_signs=True), channels)
    return size * _top(basis, -1, table)


def top_of_counts(table: tf.Tensor, bits: int, *, both_signs: bool) -> tf.Tensor:
    """[1] float32, the highest of LQ's levels of activations; 0 where all values are.

    Args:
        table: of ``first_steps.counts``.
        bits: of a code.
        both_signs: whether codes are -1 and +1; else 0 and 1.
    """
    centres = first_steps.centres()  # [B]
    count = tf.maximum(tf.reduce_sum(table, keepdims=True), 1.0)
    mean_square = tf.reduce_sum(table * centres**2, keepdims=True) / count
    size = _root(mean_square)  # [1]
    units = centres / tf.cast(first_steps.or_one(size), tf.float64)  # [B]

    def statistics(grid: levels.Grid) -> tf.Tensor:
        above = tf.cast(units > tf.cast(grid.thresholds, tf.float64), tf.float64)  # [L - 1, B]
        # Nothing above the lowest threshold is what is left out of all.
        all_and_above = tf.concat([tf.ones_like(above[:1]), above], 0)  # [L, B]
        counts = tf.linalg.matvec(all_and_above, table)
        sums = tf.linalg.matvec(all_and_above, table * units)
        parts = [counts[:1], sums[:1], counts[1:], sums[1:]]
        return tf.concat(parts, 0)[:, None]

    low = -1 if both_signs else 0
    return size * _top(first_basis(bits, both_signs=both_signs), low, statistics)


def _root(square: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.sqrt(square), tf.float32)


def _top(basis: np.ndarray, low: int, table: Callable[[levels.Grid], tf.Tensor]) -> tf.Tensor:
    """[C] the highest levels after all refits.

    Args:
        basis: [K, C] to begin with.
        low: 0 or -1, what stands for an unset bit.
        table: statistics of the values at a grid, as of ``levels.quantize``.
    """
    ridge, relative = 1e-8, True
    if low < 0:
        ridge, relative = 1e-4, False

    def refitted(number: tf.Tensor, basis: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        grid = levels.grid(basis, low)
        row = refit.LevelStatistics(grid, table(grid), ridge, relative, same=True)
        found, _ = refit.solve([row])
        return number + 1, tf.ensure_shape(found, basis.shape)

    _, last = tf.while_loop(
        lambda number, _: number < ROUNDS, refitted, [tf.constant(0), tf.constant(basis)]
    )
    return levels.grid(last, low).levels[-1]
