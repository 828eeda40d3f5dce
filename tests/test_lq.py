"""LQ quantizer against brute force in float64: levels, codes, encoding, evidence, refit, moving average, gradients.

Bases are whole 32nds, so that levels and thresholds are exact in float32 and distance finds the nearest level.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant import lq, lq_refit
from quant.backend import tf
from tests.conftest import Runner

BITS = range(1, 9)
LOWS = {'weight': -1, 'activation': 0}
BOUNDARY = lq.MAX_COMPARED_BITS, lq.MAX_COMPARED_BITS + 1
each_bits = pytest.mark.parametrize('bits', BITS)
each_kind = pytest.mark.parametrize('low', LOWS.values(), ids=LOWS.keys())


class Tower:
    """Stands for ``quant.tower.Quantization``: remembers what a quantizer reports."""

    def __init__(self, seen=None):
        self.seen = seen

    def once(self, make):
        return make()

    def observe(self, *row):
        self.seen.append(row)


def start_basis(bits, channels=1, step=0.25):
    """Ascending powers of two, other in every channel."""
    return (step * 2.0 ** np.arange(bits)[:, None] * 2.0 ** np.arange(channels)).astype('float32')


def any_basis(rng, bits, channels):
    """Unsorted, with negative, zero and equal entries."""
    basis = rng.integers(-12, 33, size=(bits, channels)) / 32
    basis[bits // 2] = basis[0]
    return basis.astype('float32')


def oracle_grid(basis, low):
    """Per channel sorted levels [L] and their codes [L, K]; among equal levels the larger number comes first."""
    numbers = sorted(range(2 ** len(basis)), reverse=True)
    codes = np.array([[1.0 if m >> i & 1 else low for i in range(len(basis))] for m in numbers])
    result = []
    for column in basis.T.astype('float64'):
        rows = sorted(codes.tolist(), key=lambda code: np.dot(code, column))
        result.append((np.array(rows) @ column, np.array(rows)))
    return result


def oracle_index(x, levels):
    """Number of the level nearest by distance, a tie taking the lower; equal levels share out what lies around them."""
    distances = np.abs(x.astype('float64')[:, None] - levels)
    nearest = [levels[row == row.min()].min() for row in distances]
    index = (x.astype('float64')[:, None] > (levels[1:] + levels[:-1]) / 2).sum(1)
    np.testing.assert_array_equal(levels[index], nearest)
    return index


def oracle_refit(x, index, levels_codes, now, ridge):
    """Normal equations of one channel with a ridge toward the present basis, from the explicit code matrix."""
    codes = levels_codes[1][index]
    gram = codes.T @ codes + ridge * np.eye(len(now))
    return np.linalg.solve(gram, codes.T @ x.astype('float64') + ridge * now.astype('float64'))


def beside(x, side):
    """The next float32 below (-1) or above (1); beside zero no denormal, which TensorFlow takes for zero."""
    return np.where(x == 0, np.float32(side * 1e-6), np.nextafter(x, np.float32(side * np.inf)))


def hard_inputs(rng, basis, low, rows=8):
    """[n, C]: noise, exact zeros, levels, thresholds and their float neighbours, values far out of range."""
    columns = []
    for levels, _ in oracle_grid(basis, low):
        thresholds = ((levels[1:] + levels[:-1]) / 2).astype('float32')
        near = [beside(thresholds, side) for side in (-1, 1)]
        noise = rng.normal(size=rows * 8 + (-3 * len(thresholds) - len(levels) - 5) % 8) * np.abs(levels).max()
        columns.append(np.concatenate([noise, levels, thresholds, *near, [0, 0, -0.0, 100, -100]]))
    return np.stack(columns, 1).astype('float32')


def case(bits, low, seed=0):
    rng = np.random.default_rng([seed, bits, -low])
    basis = any_basis(rng, bits, 3 if low else 1)
    return basis, hard_inputs(rng, basis, low)


def flat_shape(x):
    return x if x.shape[1] > 1 else x[:, 0]


def evidence(basis, x, low, *, ridge=1e-4, relative=False):
    g = lq.grid(tf.constant(basis), low)
    return lq_refit.Evidence(g, lq.quantize(tf.constant(x), g, observe=True)[1], ridge, relative, False)


@each_kind
@each_bits
def test_codes_levels_and_thresholds(bits, low, run):
    basis, _ = case(bits, low)
    g = run(lq.grid(tf.constant(basis), low))
    for c, (levels, codes) in enumerate(oracle_grid(basis, low)):
        np.testing.assert_array_equal(g.levels[:, c], levels)
        np.testing.assert_array_equal(g.codes[c], codes)
        np.testing.assert_array_equal(g.thresholds[:, c], (levels[1:] + levels[:-1]) / 2)


def test_of_equal_levels_the_larger_number_comes_first(run):
    g = run(lq.grid(tf.constant([[1.0], [1.0], [2.0]]), 0))
    np.testing.assert_array_equal(g.levels[:, 0], [0, 1, 1, 2, 2, 3, 3, 4])
    np.testing.assert_array_equal(g.codes[0] @ [1, 2, 4], [0, 2, 1, 4, 3, 6, 5, 7])


@each_kind
@each_bits
def test_output_is_the_nearest_level(bits, low, run):
    basis, x = case(bits, low)
    g = lq.grid(tf.constant(basis), low)
    y = run(lq.quantize(tf.constant(flat_shape(x)), g, observe=False)[0]).reshape(x.shape)
    for c, (levels, _) in enumerate(oracle_grid(basis, low)):
        np.testing.assert_array_equal(y[:, c], levels[oracle_index(x[:, c], levels)])
        assert len(np.unique(y[:, c])) <= 2 ** bits


@each_kind
@each_bits
def test_levels_are_fixed_points(bits, low, run):
    basis, _ = case(bits, low)
    g = lq.grid(tf.constant(basis), low)
    levels, y = run([g.levels, lq.quantize(g.levels, g, observe=False)[0]])
    np.testing.assert_array_equal(y, levels)


@each_kind
@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY, 8])
def test_evidence_is_the_counts_and_sums(bits, low, run):
    basis, x = case(bits, low)
    table = run(evidence(basis, flat_shape(x), low).table)
    for c, (levels, _) in enumerate(oracle_grid(basis, low)):
        values, thresholds = x[:, c].astype('float64'), (levels[1:] + levels[:-1]) / 2
        expected = [len(values), values.sum(), *((values > t).sum() for t in thresholds),
                    *(values[values > t].sum() for t in thresholds)]
        np.testing.assert_allclose(table[:, c], expected, rtol=2e-6, atol=1e-3)
        np.testing.assert_array_equal(table[2:2 ** bits + 1, c], expected[2:2 ** bits + 1])


@pytest.mark.parametrize('bits', BOUNDARY)
@pytest.mark.parametrize('channels', [8, 16, 5, 1])
def test_counts_of_images_for_any_number_of_channels(bits, channels, run):
    basis = start_basis(bits)
    x = np.random.default_rng(channels).normal(size=(2, 3, 3, channels)).astype('float32')
    (levels, _), = oracle_grid(basis, 0)
    row = evidence(basis, x, 0)
    counts, sums = lq_refit.level_counts_and_sums(row.table)
    index = oracle_index(x.ravel(), levels)
    counts, sums = run([counts, sums])
    np.testing.assert_array_equal(counts[:, 0], np.bincount(index, minlength=len(levels)))
    np.testing.assert_allclose(sums[:, 0], np.bincount(index, x.ravel(), len(levels)), atol=1e-4)


@each_kind
@pytest.mark.parametrize('bits', [2, 5])
def test_both_encoders_agree(bits, low, run, monkeypatch):
    basis, x = case(bits, low)
    x[0] = np.nan
    results = []
    for most in (0, 8):
        monkeypatch.setattr(lq, 'MAX_COMPARED_BITS', most)
        results.append(lq.quantize(tf.constant(x), lq.grid(tf.constant(basis), low), observe=True))
    (y0, table0), (y1, table1) = run(results)
    np.testing.assert_array_equal(y0, y1)
    np.testing.assert_array_equal(table0[2:2 ** bits + 1], table1[2:2 ** bits + 1])


def test_encoder_changes_after_the_boundary(run):
    def kinds(bits):
        graph = tf.Graph()
        with graph.as_default():
            lq.quantize(tf.zeros([8]), lq.grid(tf.constant(start_basis(bits)), 0), observe=False)
        return {op.type for op in graph.get_operations()}
    assert 'LowerBound' not in kinds(BOUNDARY[0])
    assert 'LowerBound' in kinds(BOUNDARY[1])


# Refit.

@each_kind
@each_bits
def test_refit_is_least_squares(bits, low, run):
    rng = np.random.default_rng([3, bits])
    basis = start_basis(bits, 3 if low else 1, step=1 / 8 if bits < 6 else 1 / 64)
    x = (rng.normal(size=(1200, basis.shape[1])) * basis.sum(0) / 2).astype('float32')
    x = x if low else np.abs(x)
    ridge = 1e-4 if low else 1e-8
    new, counts = run(lq_refit.solve(evidence(basis, flat_shape(x), low, ridge=ridge, relative=not low)))
    for c, grid in enumerate(oracle_grid(basis, low)):
        index = oracle_index(x[:, c], grid[0])
        np.testing.assert_array_equal(counts[:, c], np.bincount(index, minlength=2 ** bits))
        expected = oracle_refit(x[:, c], index, grid, basis[:, c], ridge * (1 if low else len(x)))
        np.testing.assert_allclose(new[:, c], expected, rtol=2e-4, atol=2e-5)
        free = np.linalg.lstsq(grid[1][index], x[:, c].astype('float64'))[0]
        np.testing.assert_allclose(new[:, c], free, rtol=1e-3, atol=1e-4)


@each_kind
def test_refit_of_any_basis(low, run):
    """Equal, negative and unsorted entries: the codes in use are those of the sorted table, the lowest level's too."""
    basis = np.float32([[0.75], [-0.5], [0.75]])
    x = np.random.default_rng(5).normal(size=400).astype('float32')
    new, _ = run(lq_refit.solve(evidence(basis, x, low, ridge=1e-2)))
    grid, = oracle_grid(basis, low)
    expected = oracle_refit(x, oracle_index(x, grid[0]), grid, basis[:, 0], 1e-2)
    np.testing.assert_allclose(new[:, 0], expected, rtol=1e-4, atol=1e-4)


def used_codes(basis, x, low):
    grid, = oracle_grid(basis, low)
    return grid[1][oracle_index(x, grid[0])]


ONE_LEVEL, PAIR, LOWEST = [5.0] * 40, [2.6] * 30 + [5.0] * 20, [0.0] * 24 + [0.1] * 24


@each_kind
@pytest.mark.parametrize('bits', [2, 3, 5])
@pytest.mark.parametrize('values', [ONE_LEVEL, PAIR, LOWEST], ids=['one level', 'two levels', 'lowest'])
def test_unused_directions_keep_the_basis(values, bits, low, run):
    basis, x = start_basis(bits), np.float32(values)
    new = run(lq_refit.solve(evidence(basis, x, low, ridge=1e-8, relative=True))[0])[:, 0]
    codes = used_codes(basis, x, low)
    _, singular, directions = np.linalg.svd(codes)
    unused = directions[np.sum(singular > 1e-6):]
    assert len(unused)
    np.testing.assert_allclose(unused @ (new - basis[:, 0]), 0, atol=1e-5)
    best = codes @ np.linalg.lstsq(codes, x.astype('float64'))[0]
    np.testing.assert_allclose(codes @ new, best, atol=1e-5)


@each_kind
@pytest.mark.parametrize('bits', BITS)
def test_all_zero_input(bits, low, run):
    basis = start_basis(bits)
    new = run(lq_refit.solve(evidence(basis, np.zeros(64, 'float32'), low, ridge=1e-8, relative=True))[0])
    assert np.isfinite(new).all()
    if low == 0:
        np.testing.assert_array_equal(new, basis)


@pytest.mark.parametrize('bits', BOUNDARY)
@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_leaves_the_basis_of_its_channel(bad, bits, run):
    basis = start_basis(bits, 2)
    x = np.random.default_rng(1).normal(size=(200, 2)).astype('float32') * 4
    x[7, 1] = bad
    g = lq.grid(tf.constant(basis), -1)
    y, new = run([lq.quantize(tf.constant(x), g, observe=False)[0], lq_refit.solve(evidence(basis, x, -1))[0]])
    assert np.isfinite(y).all() and np.isfinite(new).all()
    np.testing.assert_array_equal(new[:, 1], basis[:, 1])
    assert (new[:, 0] != basis[:, 0]).any()


@pytest.mark.parametrize('bits', BOUNDARY)
@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('relu', [True, False])
def test_activation_that_is_not_finite_leaves_the_basis(relu, bad, bits, run):
    x = np.ones(64, 'float32')
    x[3] = bad
    seen = []
    y = lq.LQ(bits).activation(tf.constant(x), relu=relu, lower=0.0, tower=Tower(seen), observe=True)
    (_, variable, row), = seen
    y, new, now = run([y, lq_refit.solve(row)[0], variable])
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(new, now)


def test_moving_average_is_bias_corrected(run):
    variable = tf.get_variable('basis', initializer=np.float32([[3.0], [5.0]]), trainable=False)
    new = tf.placeholder(tf.float32, [2, 1])
    step = variable.assign(lq_refit.moving_average(variable, new, 0.8))
    solutions = np.random.default_rng(0).normal(size=(5, 2, 1)).astype('float32')
    biased = np.zeros([2, 1])
    for t, solution in enumerate(solutions, 1):
        run(step, {new: solution})
        biased = 0.8 * biased + 0.2 * solution
        np.testing.assert_allclose(run(variable), biased / (1 - 0.8 ** t), rtol=1e-5)
        if t == 1:
            np.testing.assert_allclose(run(variable), solution, rtol=1e-6)
    assert {v.op.name for v in tf.global_variables()} == {'basis', 'basis/biased', 'basis/local_step'}
    assert run(tf.global_variables()[-1]) == 5


# The quantizer as layers use it.

def assigned(basis):
    """The variable that a quantizer of this scope will find."""
    tf.get_variable('basis', initializer=np.float32(basis), trainable=False)
    tf.get_variable_scope().reuse_variables()


@pytest.mark.parametrize('bits', [1, 2, 3, 8])
def test_start_values(bits, run):
    lq.LQ(bits).activation(tf.zeros([8]), relu=True, lower=0.0, tower=Tower(), observe=False)
    with tf.variable_scope('w'):
        lq.LQ(bits).weight(tf.zeros([3, 3, 2, 4]), fan_out=36, tower=Tower(), observe=False)
    activation, weight = run(tf.global_variables())
    powers = 2.0 ** np.arange(bits)
    np.testing.assert_allclose(activation[:, 0], 0.6745 * 2 / (2 ** bits - 1) * powers, rtol=1e-6)
    expected = 0.6745 * np.sqrt(2 / 36) / 2 ** (bits - 1) * powers
    np.testing.assert_allclose(weight, np.tile(expected[:, None], 4), rtol=1e-6)
    assert not tf.trainable_variables()


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_weight_gradient_is_the_identity(bits, run):
    basis, values = case(bits, -1)
    assigned(basis)
    w, dy = tf.constant(values), np.random.default_rng(0).normal(size=values.shape).astype('float32')
    y = lq.LQ(bits).weight(w, fan_out=9, tower=Tower(), observe=False)
    np.testing.assert_array_equal(run(tf.gradients(y, w, dy)[0]), dy)


@pytest.mark.parametrize('relu', [True, False])
@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_activation_gradient_ends_above_the_largest_level(bits, relu, run):
    basis = start_basis(bits)
    top = basis.sum(dtype='float32')
    assigned(basis)
    values = np.float32([-3, -1e-30, -0.0, 0, 1e-30, 0.1, beside(top, -1), top, beside(top, 1), 50])
    x, dy = tf.constant(values), np.arange(1, 11, dtype='float32')
    y = lq.LQ(bits).activation(x, relu=relu, lower=0.0, tower=Tower(), observe=False)
    expected = np.where((values <= top) & ((values > 0) | (not relu)), dy, 0)
    np.testing.assert_array_equal(run(tf.gradients(y, x, dy)[0]), expected)


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_largest_level_of_a_negative_basis_is_not_its_sum(bits, run):
    basis = start_basis(bits)
    basis[0] *= -1
    assigned(basis)
    top = np.float32(basis[basis > 0].sum())
    x = tf.constant(np.stack([top, beside(top, 1)]).astype('float32'))
    y = lq.LQ(bits).activation(x, relu=False, lower=0.0, tower=Tower(), observe=False)
    np.testing.assert_array_equal(run(tf.gradients(y, x)[0]), [1, 0])


def test_no_gradient_reaches_the_basis():
    y = lq.LQ(2).activation(tf.zeros([8]), relu=True, lower=0.0, tower=Tower(), observe=False)
    assert tf.gradients(y, tf.global_variables()) == [None]


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_rectified_activation(bits, run):
    """A ReLU comes first, also where the lowest level is negative."""
    basis = start_basis(bits)
    basis[-1] *= -1
    assigned(basis)
    values = np.random.default_rng(2).normal(size=64).astype('float32') * 4
    (levels, _), = oracle_grid(basis, 0)
    y = run(lq.LQ(bits).activation(tf.constant(values), relu=True, lower=0.0, tower=Tower(), observe=False))
    np.testing.assert_array_equal(y, levels[oracle_index(np.maximum(values, 0), levels)])


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_signed_activation_counts_from_its_lower_bound(bits, run):
    lower = -0.2785
    basis = start_basis(bits)
    assigned(basis)
    values = np.concatenate([[lower], np.random.default_rng(2).uniform(lower, 9, size=63)]).astype('float32')
    x, seen = tf.constant(values), []
    y = lq.LQ(bits).activation(x, relu=False, lower=lower, tower=Tower(seen), observe=True)
    dy = np.arange(1, 65, dtype='float32')
    (levels, _), = oracle_grid(basis, 0)
    shifted = values - np.float32(lower)
    got, gradient, table = run([y, tf.gradients(y, x, dy)[0], seen[0][2].table])
    np.testing.assert_allclose(got, levels[oracle_index(shifted, levels)] + lower, rtol=1e-6, atol=1e-6)
    assert got[0] == np.float32(lower)
    np.testing.assert_array_equal(gradient, np.where(shifted <= levels[-1], dy, 0))
    np.testing.assert_allclose(table[1, 0], shifted.sum(), rtol=1e-5)


def test_lower_bound_means_nothing_behind_a_relu(run):
    assigned([[1.0]])
    y = lq.LQ(1).activation(tf.constant([0.0, 1.0]), relu=True, lower=-0.5, tower=Tower(), observe=False)
    np.testing.assert_array_equal(run(y), [0, 1])


def test_what_is_not_observed_costs_nothing():
    lq.LQ(2).activation(tf.zeros([8]), relu=True, lower=0.0, tower=Tower(), observe=False)
    assert 'PopulationCount' not in {op.type for op in tf.get_default_graph().get_operations()}


def test_empty_batch(run):
    """A step in which no sample reaches a gated block."""
    values = tf.placeholder_with_default(np.zeros([0, 8], 'float32'), [None, 8])
    seen = []
    y = lq.LQ(2).activation(values, relu=True, lower=0.0, tower=Tower(seen), observe=True)
    assert run(y).shape == (0, 8)
    new, now = run([lq_refit.solve(seen[0][2])[0], seen[0][1]])
    np.testing.assert_array_equal(new, now)


@pytest.mark.parametrize('options, message', [
    ({'bits': 0}, 'bits=0'), ({'bits': 9}, 'bits=9'), ({'bits': 2.0}, 'bits=2.0'), ({'bits': True}, 'bits=True'),
    ({'decay': 1}, 'decay=1'), ({'decay': -0.1}, 'decay=-0.1'), ({'update': 'first'}, "update='first'")])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        lq.LQ(**options)


def test_basis_size():
    assert lq.LQ(3).basis_size(16) == 48


# Any basis, any input.

def floats(least, most):
    return st.floats(least, most, width=32, allow_subnormal=False)


@st.composite
def cases(draw):
    bits, low = draw(st.integers(1, 6)), draw(st.sampled_from([-1, 0]))
    basis = draw(st.lists(floats(-2, 2), min_size=bits, max_size=bits))
    x = draw(st.lists(floats(-8, 8), min_size=1, max_size=40))
    return low, np.float32(basis)[:, None], np.float32(x)


def check_encoding(x, y, levels):
    assert set(y) <= set(levels)
    distance = np.abs(x.astype('float64')[:, None] - levels).min(1)
    np.testing.assert_allclose(np.abs(x.astype('float64') - y), distance, atol=1e-5)


def check_refit(x, y, g, new):
    """With the codes held, least squares with its ridge is no worse than the present basis."""
    assert np.isfinite(new).all()
    codes = g.codes[0][np.sum(x[:, None] > g.thresholds[:, 0], axis=1)].astype('float64')
    after, before = np.sum((x - codes @ new[:, 0]) ** 2), np.sum((x.astype('float64') - y) ** 2)
    assert after <= before + 1e-3 * (1 + before)


@settings(max_examples=15, deadline=None)
@given(cases())
def test_laws_for_any_basis(drawn):
    low, basis, x = drawn
    with tf.Graph().as_default(), Runner().session as session:
        row = evidence(basis, x, low)
        y = lq.quantize(tf.constant(x), row.grid, observe=False)[0]
        y, g, (new, counts) = session.run([y, row.grid, lq_refit.solve(row)])
    assert np.all(np.diff(g.levels[:, 0]) >= 0)
    np.testing.assert_allclose(g.levels[:, 0], oracle_grid(basis, low)[0][0], atol=1e-5)
    assert counts.min() >= 0 and counts.sum() == len(x)
    check_encoding(x, y, g.levels[:, 0])
    check_refit(x, y, g, new)
