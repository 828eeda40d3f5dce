"""Least-squares refit of a basis from counts and sums, and its moving average."""

from __future__ import annotations

from typing import NamedTuple

from quant.backend import tf
from quant.lq.levels import Grid
from quant.state import Kind, declare

# Levels whose shares are worth a curve each.
MOST_SHARES = 16


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


def solve(statistics: LevelStatistics) -> tuple[tf.Tensor, tf.Tensor]:
    """The basis that minimises the squared quantization error with the codes held fixed.

    Solves ``(B'B + r I) v = B'x + r v_now`` per channel in float64 (LQ-Nets, equation 7, with the
    published ridge for weights). B'B and B'x follow from the counts and sums of the levels.
    Directions without statistics keep their present value; a solution that is not finite (the
    input was not) is dropped for the present basis.

    Returns:
        Basis [K, C] float32 and level counts [L, C] float64.
    """
    g = statistics.grid
    counts, sums = level_counts_and_sums(statistics.table)
    codes = tf.cast(g.codes, tf.float64)  # [C, L, K]
    now = tf.transpose(tf.cast(g.basis, tf.float64))  # [C, K]
    values = tf.ones_like(counts[0])
    if statistics.relative:
        values = tf.maximum(tf.reduce_sum(counts, 0), 1.0)
    ridge = statistics.ridge * values[:, None]  # [C, 1]
    weighted = codes * tf.transpose(counts)[..., None]
    gram = tf.matmul(weighted, codes, transpose_a=True)  # [C, K, K]
    gram = tf.linalg.set_diag(gram, tf.linalg.diag_part(gram) + ridge)
    right = tf.linalg.matvec(codes, tf.transpose(sums), transpose_a=True) + ridge * now
    new = tf.linalg.solve(gram, right[..., None])[..., 0]
    finite = tf.reduce_all(tf.math.is_finite(new), axis=1, keepdims=True)
    kept = tf.where_v2(finite, new, now)
    return tf.cast(tf.transpose(kept), tf.float32), counts


def moving_average(variable: tf.Variable, new: tf.Tensor, decay: float) -> tf.Tensor:
    """Next value of a basis: the bias-corrected moving average of all solutions so far.

    The published code uses TensorFlow's ``assign_moving_average`` with its default bias correction,
    so that the first solution replaces the start value and only many steps later the plain average
    is reached.

    *Variable names*: ``<variable>/biased`` (like the variable) and ``<variable>/local_step``
    (scalar), both from 0.

    Args:
        variable: the basis.
        new: the solution of this step.
        decay: of the average.
    """
    biased = _zeros(f'{variable.op.name}/biased', variable.shape)
    step = _zeros(f'{variable.op.name}/local_step', [])
    mean = decay * biased + (1 - decay) * new
    count = step + 1
    with tf.control_dependencies([biased.assign(mean), step.assign(count)]):
        return mean / (1 - decay**count)


def _zeros(name: str, shape: tf.TensorShape | list[int]) -> tf.Variable:
    zeros = tf.zeros_initializer()
    variable = tf.get_variable(name, shape=shape, initializer=zeros, trainable=False)
    declare(variable, Kind.TRAINING, fresh=True)
    return variable


def summarize(name: str, basis: tf.Tensor, levels: tf.Tensor, counts: tf.Tensor) -> None:
    """TensorBoard scalars of a basis and of the use of its levels.

    ``<name>/<k>`` is the mean of a row of the basis over the channels; ``<name>/use/<l>`` the share
    of the values that take a level, in ascending order; ``<name>/dead_levels`` the share of levels
    that no value takes; ``<name>/smallest_gap`` the smallest distance of neighbouring levels over
    the range of levels, the worst of all channels (0: the basis has collapsed).

    Args:
        name: of the scalars.
        basis: [K, C].
        levels: [L, C].
        counts: [L, C] float64, number of values per level.
    """
    for k, row in enumerate(tf.unstack(tf.reduce_mean(basis, 1))):
        tf.summary.scalar(f'{name}/{k}', row)
    if counts.shape[0] <= MOST_SHARES:
        everything = tf.maximum(tf.reduce_sum(counts), 1.0)
        use = tf.cast(tf.reduce_sum(counts, 1) / everything, tf.float32)
        for level, share in enumerate(tf.unstack(use)):
            tf.summary.scalar(f'{name}/use/{level}', share)
    dead = tf.cast(tf.equal(counts, 0), tf.float32)
    tf.summary.scalar(f'{name}/dead_levels', tf.reduce_mean(dead))
    span = tf.maximum(levels[-1] - levels[0], 1e-30)
    gaps = (levels[1:] - levels[:-1]) / span
    tf.summary.scalar(f'{name}/smallest_gap', tf.reduce_min(gaps))
