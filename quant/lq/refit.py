"""Least-squares refit of an LQ basis from counts and sums, and its moving average."""

from typing import TYPE_CHECKING, NamedTuple

from quant.backend import tf

if TYPE_CHECKING:
    from quant.lq.levels import Grid


# Levels whose shares are worth a curve each.
MOST_SHARES = 16


class Evidence(NamedTuple):
    """What one training tower saw of the values that one basis codes.

    Attributes:
        grid: The basis in use with its levels and codes.
        table: [2 L, C] float64 as ``quant.lq.levels.quantize`` returns it; tables of several sizes and towers add up.
        ridge: Weight of the pull toward the current basis.
        relative: Whether ``ridge`` counts per value (x the number of values) or in all.
        shared: Whether every tower sees the same values (weights), so that one tower's evidence is all there is.
    """

    grid: 'Grid'
    table: tf.Tensor
    ridge: float
    relative: bool
    shared: bool


def level_counts_and_sums(table: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Per level the number and the sum of the values, each [L, C] float64, from a table of evidence [2 L, C]."""
    levels = table.shape[0] // 2
    nothing = tf.zeros_like(table[:1])
    counts, sums = (
        tf.concat([first, rest], 0) - tf.concat([rest, nothing], 0)
        for first, rest in ((table[:1], table[2 : levels + 1]), (table[1:2], table[levels + 1 :]))
    )
    # Rounding left in the sum of an empty level would be divided by the tiny ridge alone.
    return tf.maximum(counts, 0.0), tf.where_v2(counts > 0, sums, tf.zeros_like(sums))


def solve(evidence: Evidence) -> tuple[tf.Tensor, tf.Tensor]:
    """The basis that minimises the squared quantization error with the codes held fixed, and the level counts.

    Solves ``(B'B + r I) v = B'x + r v_now`` per channel in float64 (LQ-Nets, equation 7, with the published ridge for
    weights). B'B and B'x follow from the counts and sums of the levels. Directions without evidence keep their present
    value; a solution that is not finite (the input was not) is dropped for the present basis.

    Returns:
        Basis [K, C] float32 and counts [L, C] float64.
    """
    g = evidence.grid
    counts, sums = level_counts_and_sums(evidence.table)
    codes, now = tf.cast(g.codes, tf.float64), tf.transpose(tf.cast(g.basis, tf.float64))
    values = (
        tf.maximum(tf.reduce_sum(counts, 0), 1.0) if evidence.relative else tf.ones_like(counts[0])
    )
    ridge = evidence.ridge * values[:, None]
    gram = tf.matmul(codes * tf.transpose(counts)[..., None], codes, transpose_a=True)
    right = tf.linalg.matvec(codes, tf.transpose(sums), transpose_a=True) + ridge * now
    new = tf.linalg.solve(
        tf.linalg.set_diag(gram, tf.linalg.diag_part(gram) + ridge), right[..., None]
    )[..., 0]
    finite = tf.reduce_all(tf.math.is_finite(new), axis=1, keepdims=True)
    return tf.cast(tf.transpose(tf.where_v2(finite, new, now)), tf.float32), counts


def moving_average(variable: tf.Variable, new: tf.Tensor, decay: float) -> tf.Tensor:
    """Next value of ``variable``: the bias-corrected exponential moving average of all solutions so far.

    The published code uses TensorFlow's ``assign_moving_average`` with its default bias correction, so that the first
    solution replaces the start value and only many steps later the plain average is reached.

    *Variable names*: ``<variable>/biased`` (like the variable) and ``<variable>/local_step`` (scalar), both from 0.
    """
    name = variable.op.name
    zeros = tf.zeros_initializer()
    biased = tf.get_variable(
        f'{name}/biased', shape=variable.shape, initializer=zeros, trainable=False
    )
    step = tf.get_variable(f'{name}/local_step', shape=[], initializer=zeros, trainable=False)
    mean, count = decay * biased + (1 - decay) * new, step + 1
    with tf.control_dependencies([biased.assign(mean), step.assign(count)]):
        return mean / (1 - decay**count)


def summarize(name: str, basis: tf.Tensor, levels: tf.Tensor, counts: tf.Tensor) -> None:
    """TensorBoard scalars that show a basis, what its levels are used for, a dead level or a collapsed basis.

    ``<name>/<k>`` is the mean of a row of the basis over the channels; ``<name>/use/<l>`` the share of the values
    that take a level, in ascending order; ``<name>/dead_levels`` the share of levels that no value takes;
    ``<name>/smallest_gap`` the smallest distance of neighbouring levels over the range of levels, the worst of all
    channels (0: the basis has collapsed).
    """
    for k, row in enumerate(tf.unstack(tf.reduce_mean(basis, 1))):
        tf.summary.scalar(f'{name}/{k}', row)
    if counts.shape[0] <= MOST_SHARES:
        use = tf.cast(tf.reduce_sum(counts, 1) / tf.maximum(tf.reduce_sum(counts), 1.0), tf.float32)
        for level, share in enumerate(tf.unstack(use)):
            tf.summary.scalar(f'{name}/use/{level}', share)
    span = tf.maximum(levels[-1] - levels[0], 1e-30)
    tf.summary.scalar(
        f'{name}/dead_levels', tf.reduce_mean(tf.cast(tf.equal(counts, 0), tf.float32))
    )
    tf.summary.scalar(f'{name}/smallest_gap', tf.reduce_min((levels[1:] - levels[:-1]) / span))
