"""Least-squares refit of bases from counts and sums, and their moving averages.

Bases of all layers are refit side by side, as channels of one: a refit of each would be the larger
part of a training graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quant import native
from quant.backend import tf
from quant.lq.levels import Grid, code_table
from quant.state import Kind, declare

# Levels whose shares are worth a curve each.
MOST_SHARES = 16

# Codes of so many channels are refit at once that they have at most this many digits.
MOST_DIGITS = 2**20


class LevelStatistics(NamedTuple):
    """Sufficient statistics of the values that one basis codes, of one tensor in one tower.

    Attributes:
        grid: the basis in use with its levels and codes.
        table: [2 L, C] float64 as ``quant.lq.levels.quantize`` returns it; tables of several sizes
            and towers add up.
        ridge: weight of the pull toward the current basis.
        relative: whether ``ridge`` counts per value (times the number of values) or in all.
        same: whether every tower has the same values (weights), so that one table is all there is.
    """

    grid: Grid
    table: tf.Tensor
    ridge: float
    relative: bool
    same: bool

    @property
    def read(self) -> tf.Tensor:
        """The basis as it was read, before it may be written."""
        return self.grid.basis


def level_counts_and_sums(table: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Per level the number and the sum of the values, each [L, C] float64.

    Args:
        table: [2 L, C] float64, see ``LevelStatistics``.
    """
    levels = table.shape[0] // 2
    counts = _between(table[:1], table[2 : levels + 1])
    sums = _between(table[1:2], table[levels + 1 :])
    # Rounding left in the sum of an empty level would be divided by the tiny ridge alone.
    return tf.maximum(counts, 0.0), tf.where_v2(counts > 0, sums, tf.zeros_like(sums))


def _between(everything: tf.Tensor, above: tf.Tensor) -> tf.Tensor:
    """[L, C] shares of the levels, from those of all [1, C] and above thresholds [L - 1, C]."""
    lower = tf.concat([everything, above], 0)
    higher = tf.concat([above, tf.zeros_like(everything)], 0)
    return lower - higher


def refit(
    variables: Sequence[tf.Variable], rows: Sequence[LevelStatistics], decay: float
) -> list[tf.Tensor]:
    """Next values of bases, [K, C] each: moving averages of their least-squares solutions.

    Args:
        variables: the bases, with the same K.
        rows: their statistics.
        decay: of the averages.
    """
    values: list[tf.Tensor] = []
    for part in _parts(rows):
        own = variables[part]
        channels = [variable.shape[1] for variable in own]
        with tf.name_scope('refit/'):
            new, counts = solve(rows[part])
            averages = moving_averages(own, new, decay)
            levels = tf.concat([row.grid.levels for row in rows[part]], 1)
            names = [f'quant/{variable.op.name}' for variable in own]
            summarize(names, channels, averages, levels, counts)
            values += tf.split(averages, channels, axis=1)
    return values


def _parts(rows: Sequence[LevelStatistics]) -> list[slice]:
    """Neighbours whose codes have at most ``MOST_DIGITS`` digits together, or one row alone.

    One operation needs no codes: then all of them are one part.
    """
    if native.used():
        return [slice(None)]
    digits = [row.grid.numbers.shape.num_elements() * row.grid.basis.shape[0] for row in rows]
    starts = [0]
    taken = 0
    for number, count in enumerate(digits):
        if taken + count > MOST_DIGITS and number > starts[-1]:
            starts.append(number)
            taken = 0
        taken += count
    return [slice(*ends) for ends in itertools.pairwise([*starts, len(rows)])]


def solve(rows: Sequence[LevelStatistics]) -> tuple[tf.Tensor, tf.Tensor]:
    """The bases that minimise the squared quantization error with the codes held fixed.

    Solves ``(B'B + r I) v = B'x + r v_now`` per channel in float64 (LQ-Nets, equation 7, with the
    published ridge for weights). B'B and B'x follow from the counts and sums of the levels.
    Directions without statistics keep their present value; a solution that is not finite (the
    input was not) is dropped for the present basis.

    Args:
        rows: of N bases, the i-th with C_i channels.

    Returns:
        Bases [K, C_1 + ... + C_N] float32 and level counts [L, C_1 + ... + C_N] float64.
    """
    basis = tf.concat([row.grid.basis for row in rows], 1)
    now = tf.transpose(tf.cast(basis, tf.float64))  # [C, K]
    counts, sums = level_counts_and_sums(tf.concat([row.table for row in rows], 1))
    gram, right, values = _normal_equations(rows, counts, sums)
    ridge = _ridges(rows, values)  # [C, 1]
    gram = tf.linalg.set_diag(gram, tf.linalg.diag_part(gram) + ridge)
    right += ridge * now
    new = tf.linalg.solve(gram, right[..., None])[..., 0]
    finite = tf.reduce_all(tf.math.is_finite(new), axis=1, keepdims=True)
    kept = tf.where_v2(finite, new, now)
    return tf.cast(tf.transpose(kept), tf.float32), counts


def _normal_equations(
    rows: Sequence[LevelStatistics], counts: tf.Tensor, sums: tf.Tensor
) -> native.NormalEquations:
    """B'B, B'x and the numbers of values, of all channels side by side.

    Args:
        rows: of the bases.
        counts: [L, C], of the levels of all of them; only plain operations ask for it.
        sums: [L, C], of the values at each level; only plain operations ask for it.
    """
    bits = rows[0].grid.basis.shape[0]
    numbers = [row.grid.numbers for row in rows]
    lows = [row.grid.low for row in rows]
    if native.used():
        tables = [row.table for row in rows]
        return native.normal_equations(tables, numbers, lows, bits)
    unset = np.repeat(lows, [one.shape[0] for one in numbers])[:, None, None]
    found = tf.gather(code_table(bits, 0), tf.concat(numbers, 0))
    codes = tf.cast(found, tf.float64) * (1 - unset) + unset  # [C, L, K]
    weighted = codes * tf.transpose(counts)[..., None]
    gram = tf.matmul(weighted, codes, transpose_a=True)  # [C, K, K]
    right = tf.linalg.matvec(codes, tf.transpose(sums), transpose_a=True)
    return native.NormalEquations(gram, right, tf.reduce_sum(counts, 0))


def _ridges(rows: Sequence[LevelStatistics], counts: tf.Tensor) -> tf.Tensor:
    """Weights of the pull toward the current bases, [C, 1] float64.

    Args:
        rows: of the bases.
        counts: [C], numbers of values of all of them.
    """
    channels = [row.grid.basis.shape[1] for row in rows]
    ridge = np.repeat([row.ridge for row in rows], channels)
    relative = np.repeat([row.relative for row in rows], channels)
    values = tf.maximum(counts, 1.0)
    weights = ridge * tf.where_v2(relative, values, tf.ones_like(values))
    return weights[:, None]


def moving_averages(variables: Sequence[tf.Variable], new: tf.Tensor, decay: float) -> tf.Tensor:
    """Next values of bases: the bias-corrected moving averages of all solutions so far.

    The published code uses TensorFlow's ``assign_moving_average`` with its default bias correction,
    so that the first solution replaces the start value and only many steps later the plain average
    is reached.

    *Variable names*: ``<variable>/biased`` (like the variable) and ``<variable>/local_step``
    (scalar), both from 0.

    Args:
        variables: the bases, [K, C_i] each.
        new: the solutions of this step, [K, C_1 + C_2 ...].
        decay: of the averages.
    """
    biased = []
    steps = []
    for variable in variables:
        biased.append(_zeros(f'{variable.op.name}/biased', variable.shape))
        steps.append(_zeros(f'{variable.op.name}/local_step', []))
    channels = [variable.shape[1] for variable in variables]
    before = tf.concat([one.read_value() for one in biased], 1)
    means = decay * before + (1 - decay) * new
    counts = tf.stack([one.read_value() for one in steps]) + 1
    writes = []
    for one, mean in zip(biased, tf.split(means, channels, axis=1)):
        writes.append(one.assign(mean).op)
    for one, count in zip(steps, tf.unstack(counts)):
        writes.append(one.assign(count).op)
    owner = np.repeat(np.arange(len(variables)), channels)
    with tf.control_dependencies(writes):
        return means / tf.gather(1 - decay**counts, owner)


def _zeros(name: str, shape: tf.TensorShape | list[int]) -> tf.Variable:
    zeros = tf.zeros_initializer()
    variable = tf.get_variable(name, shape=shape, initializer=zeros, trainable=False)
    declare(variable, Kind.TRAINING, fresh=True)
    return variable


def summarize(
    names: Sequence[str],
    channels: Sequence[int],
    basis: tf.Tensor,
    levels: tf.Tensor,
    counts: tf.Tensor,
) -> None:
    """TensorBoard scalars of bases and of the use of their levels.

    ``<name>/<k>`` is the mean of a row of the basis over the channels; ``<name>/use/<l>`` the share
    of the values that take a level, in ascending order; ``<name>/dead_levels`` the share of levels
    that no value takes; ``<name>/smallest_gap`` the smallest distance of neighbouring levels over
    the range of levels, the worst of all channels (0: the basis has collapsed).

    Args:
        names: of the N bases.
        channels: C_i, their numbers of channels.
        basis: [K, C_1 + ... + C_N], all of them.
        levels: [L, C_1 + ... + C_N].
        counts: [L, C_1 + ... + C_N] float64, number of values per level.
    """
    owner = np.repeat(np.arange(len(names)), channels)
    parts = [str(k) for k in range(basis.shape[0])]
    columns = [tf.math.segment_mean(tf.transpose(basis), owner)]  # [N, n] each
    if counts.shape[0] <= MOST_SHARES:
        parts += [f'use/{level}' for level in range(counts.shape[0])]
        taken = tf.math.segment_sum(tf.transpose(counts), owner)
        everything = tf.maximum(tf.reduce_sum(taken, 1, keepdims=True), 1.0)
        columns.append(tf.cast(taken / everything, tf.float32))
    parts.append('dead_levels')
    dead = tf.cast(tf.equal(counts, 0), tf.float32)
    columns.append(tf.math.segment_mean(tf.reduce_mean(dead, 0)[:, None], owner))
    parts.append('smallest_gap')
    span = tf.maximum(levels[-1] - levels[0], 1e-30)
    gaps = tf.reduce_min((levels[1:] - levels[:-1]) / span, 0)
    columns.append(tf.math.segment_min(gaps[:, None], owner))
    tags = [[f'{name}/{part}' for part in parts] for name in names]
    # One operation for all of them: tf.summary.scalar takes one value.
    summary = tf.raw_ops.ScalarSummary(tags=tags, values=tf.concat(columns, 1))
    tf.add_to_collection(tf.GraphKeys.SUMMARIES, summary)
