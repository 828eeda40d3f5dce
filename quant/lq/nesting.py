"""Codes of several precisions in one: the first bits of a code are the code of fewer bits.

Values lie in the cells of the widest precision, of which those of another one are neighbours
together. So a value is encoded once for all, and the counts and sums of the widest cells give the
refit of every basis; each precision has its own. Codes are stored as numbers of sorted cells, whose
leading bits are those of a precision; the bits of a code of LQ need not lie in that order.

Cells are refined from those of the fewest bits, or those of the most bits are joined, see ``WAYS``.

References:
    Any-Precision LLM, ICML 2024, https://arxiv.org/abs/2402.10517, splits every cell in two by one
    more bit, after training; LQ-Nets, https://arxiv.org/abs/1807.10029, for basis and refit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quant import cells, native
from quant.backend import tf
from quant.lq import levels
from quant.lq.levels import Grid, code_table

# What ``nested`` says: cells of the fewest bits are refined, or those of the most bits are cut.
REFINED, CUT = True, 'cut'
WAYS = (False, REFINED, CUT)


class SharedCells(NamedTuple):
    """The cells of the widest precision.

    Attributes:
        thresholds: [2**B - 1, C] ascending.
        numbers: [C, 2**B] int32, of the code of each cell of the widest precision, see ``Grid``.
        bits: B.
        ranked: whether the codes of fewer bits are the ranks of their cells.
    """

    thresholds: tf.Tensor
    numbers: tf.Tensor
    bits: int
    ranked: bool

    def grid(self, basis: tf.Tensor) -> Grid:
        """Levels and thresholds of a precision.

        Levels are in the order of their cells, which is theirs as long as each lies in its cell.

        Args:
            basis: [K, C] of this precision.
        """
        bits = basis.shape[0]
        joined = 2 ** (self.bits - bits)
        thresholds = self.thresholds[joined - 1 :: joined]
        numbers = self.numbers[:, ::joined]
        if bits < self.bits and self.ranked:
            channels = basis.shape[1]
            numbers = tf.constant(np.tile(np.arange(2**bits, dtype=np.int32), [channels, 1]))
        elif bits < self.bits:
            numbers = tf.bitwise.bitwise_and(numbers, 2**bits - 1)
        return Grid(basis, sums(basis, numbers), thresholds, numbers, -1)

    def table(self, everything: tf.Tensor, bits: int) -> tf.Tensor:
        """Statistics of a precision from those of the widest one, both as of ``levels.quantize``.

        Args:
            everything: [2 * 2**B, C].
            bits: of the precision.
        """
        joined = 2 ** (self.bits - bits)
        if joined == 1:
            return everything
        whole, above, sums_above = tf.split(everything, [2, 2**self.bits - 1, 2**self.bits - 1])
        step = slice(joined - 1, None, joined)
        return tf.concat([whole, above[step], sums_above[step]], 0)


def sums(basis: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """[L, C] levels of codes.

    Args:
        basis: [K, C].
        numbers: [C, L] of the codes.
    """
    codes = tf.gather(code_table(basis.shape[0], -1), numbers)  # [C, L, K]
    terms = codes * tf.transpose(basis)[:, None]
    return tf.transpose(tf.reduce_sum(terms, axis=2))


def refined(least: tf.Tensor, most: tf.Tensor) -> SharedCells:
    """Cells of LQ at the fewest bits, each split in two by every further bit.

    A cell is split where the first vectors of the widest basis put its middle: half way between the
    levels that the next one makes of it. What lies outside the cell is its nearest bound, so that
    codes always are intervals; one half then is empty.

    Args:
        least: [k, C], basis of the fewest bits, whose cells are those of LQ alone.
        most: [B, C], basis of the most bits.
    """
    grid = levels.grid(least, -1)
    thresholds, numbers = grid.thresholds, grid.numbers
    for bits in range(least.shape[0], most.shape[0]):
        middles = sums(most[:bits], numbers)  # [L, C]
        edge = tf.fill([1, most.shape[1]], np.float32(np.inf))
        lower = tf.concat([-edge, thresholds], 0)
        upper = tf.concat([thresholds, edge], 0)
        middles = tf.minimum(tf.maximum(middles, lower), upper)
        thresholds = _alternating(middles, thresholds)
        pairs = tf.stack([numbers, numbers + 2**bits], axis=2)  # [C, L, 2]
        numbers = tf.reshape(pairs, [most.shape[1], 2 ** (bits + 1)])
    return SharedCells(thresholds, numbers, most.shape[0], ranked=False)


def cut(most: tf.Tensor) -> SharedCells:
    """Cells of LQ at the most bits.

    Args:
        most: [B, C], its basis.
    """
    grid = levels.grid(most, -1)
    return SharedCells(grid.thresholds, grid.numbers, most.shape[0], ranked=True)


def _alternating(outer: tf.Tensor, inner: tf.Tensor) -> tf.Tensor:
    """Rows of two tables in turns: [n + 1, C] and [n, C] give [2 n + 1, C]."""
    pairs = tf.stack([outer[:-1], inner], axis=1)  # [n, 2, C]
    rows = tf.reshape(pairs, [2 * inner.shape[0], inner.shape[1]])
    return tf.concat([rows, outer[-1:]], 0)


class Encoded:
    """Weights in their cells, found once for all precisions.

    Args:
        w: float32, last axis C.
        found: the cells.
        widest: grid of the widest precision.
        collect: whether statistics are wanted.

    Attributes:
        cells: those given.
        table: statistics of the widest precision, as of ``levels.quantize``, or None.
    """

    def __init__(self, w: tf.Tensor, found: SharedCells, widest: Grid, *, collect: bool):
        self.cells = found
        self.table: tf.Tensor | None = None
        self._w = w
        if native.used():
            edges = found.thresholds
            once = native.encode(w, widest.levels, edges, keeps_nan=True, collect=collect)
            self._widest = once.y
            if collect:
                self.table = once.table
            return
        self._inside = cells.Cells(w, found.thresholds)
        if collect:
            _, self.table = levels.quantize(w, levels.encoder(widest), collect=True)

    def at(self, grid: Grid) -> tf.Tensor:
        """Weights at the levels of a precision; one that is no number stays none.

        Args:
            grid: of the precision, as ``cells`` has it.
        """
        joined = 2**self.cells.bits // grid.levels.shape[0]
        if native.used():
            if joined == 1:
                return self._widest
            return native.encode(self._w, grid.levels, grid.thresholds, keeps_nan=True).y
        y = self._inside.at(tf.repeat(grid.levels, joined, axis=0))
        return tf.where_v2(tf.math.is_nan(self._w), self._w, y)


def first_refined(least: tf.Tensor, bits: int) -> tf.Tensor:
    """[bits, C], a basis to begin with: cells of fewer bits, halved by every further vector.

    Args:
        least: [k, C], basis of the fewest bits as it begins.
        bits: of the basis.
    """
    rows = tf.unstack(least)
    for k in range(len(rows), bits):
        reach = tf.add_n([tf.abs(row) for row in rows])  # the largest level
        gap = 2 * reach / (2**k - 1)
        rows.append(gap / 4)
    return tf.stack(rows)


def first_cut(most: tf.Tensor, bits: int) -> tf.Tensor:
    """[bits, C], a basis to begin with: equal steps that reach as far as those of the most bits.

    Args:
        most: [B, C], basis of the most bits as it begins.
        bits: of the basis.
    """
    step = tf.reduce_sum(tf.abs(most), 0) / (2 ** most.shape[0] - 1)  # half of one
    powers = 2.0 ** np.arange(most.shape[0] - bits, most.shape[0])
    return powers[:, None].astype('float32') * step


def check(precisions: Sequence[int], nested: bool | str, bits: int) -> None:
    """Checks the options ``precisions`` and ``nested``.

    Args:
        precisions: bits of all that share codes, most first.
        nested: one of ``WAYS``.
        bits: of the one that is meant.

    Raises:
        ValueError: they do not go together.
    """
    if nested not in WAYS or isinstance(nested, int) and not isinstance(nested, bool):
        raise ValueError(f"nested={nested!r} must be False, True or 'cut'")
    if not nested and precisions:
        raise ValueError(f'precisions={precisions!r}: without nested, each has codes of its own')
    if nested and bits not in precisions:
        raise ValueError(f'nested={nested!r}: give the precisions that share codes, --bits 4 3 2')
