"""Refit of an LQ basis against least squares in float64, and its moving average."""

import numpy as np
import pytest

from quant.backend import tf
from quant.lq import levels, refit
from quant.lq.quantizer import LQ
from quant.quantizer import Activations
from tests.quant.test_lq import (
    BITS,
    BOUNDARY,
    Tower,
    each_bits,
    each_kind,
    flat_shape,
    oracle_grid,
    oracle_index,
    start_basis,
    statistics,
)


def oracle_refit(x, index, levels_codes, now, ridge):
    """Normal equations of one channel with a ridge toward the present basis, codes written out."""
    codes = levels_codes[1][index]
    gram = codes.T @ codes + ridge * np.eye(len(now))
    return np.linalg.solve(gram, codes.T @ x.astype('float64') + ridge * now.astype('float64'))


@each_kind
@each_bits
def test_refit_is_least_squares(bits, low, run):
    rng = np.random.default_rng([3, bits])
    basis = start_basis(bits, 3 if low else 1, step=1 / 8 if bits < 6 else 1 / 64)
    x = (rng.normal(size=(1200, basis.shape[1])) * basis.sum(0) / 2).astype('float32')
    x = x if low else np.abs(x)
    ridge = 1e-4 if low else 1e-8
    new, counts = run(
        refit.solve([statistics(basis, flat_shape(x), low, ridge=ridge, relative=not low)])
    )
    for c, grid in enumerate(oracle_grid(basis, low)):
        index = oracle_index(x[:, c], grid[0])
        np.testing.assert_array_equal(counts[:, c], np.bincount(index, minlength=2**bits))
        expected = oracle_refit(x[:, c], index, grid, basis[:, c], ridge * (1 if low else len(x)))
        np.testing.assert_allclose(new[:, c], expected, rtol=2e-4, atol=2e-5)
        free = np.linalg.lstsq(grid[1][index], x[:, c].astype('float64'))[0]
        np.testing.assert_allclose(new[:, c], free, rtol=1e-3, atol=1e-4)


@each_kind
def test_refit_of_any_basis(low, run):
    """Equal, negative and unsorted entries: the codes in use are those of the sorted table."""
    basis = np.float32([[0.75], [-0.5], [0.75]])
    x = np.random.default_rng(5).normal(size=400).astype('float32')
    new, _ = run(refit.solve([statistics(basis, x, low, ridge=1e-2)]))
    (grid,) = oracle_grid(basis, low)
    expected = oracle_refit(x, oracle_index(x, grid[0]), grid, basis[:, 0], 1e-2)
    np.testing.assert_allclose(new[:, 0], expected, rtol=1e-4, atol=1e-4)


def used_codes(basis, x, low):
    (grid,) = oracle_grid(basis, low)
    return grid[1][oracle_index(x, grid[0])]


ONE_LEVEL, PAIR, LOWEST = [5.0] * 40, [2.6] * 30 + [5.0] * 20, [0.0] * 24 + [0.1] * 24


@each_kind
@pytest.mark.parametrize('bits', [2, 3, 5])
@pytest.mark.parametrize(
    'values', [ONE_LEVEL, PAIR, LOWEST], ids=['one level', 'two levels', 'lowest']
)
def test_unused_directions_keep_the_basis(values, bits, low, run):
    basis, x = start_basis(bits), np.float32(values)
    new = run(refit.solve([statistics(basis, x, low, ridge=1e-8, relative=True)])[0])[:, 0]
    codes = used_codes(basis, x, low)
    _, singular, directions = np.linalg.svd(codes)
    unused = directions[np.sum(singular > 1e-6) :]
    assert len(unused)
    np.testing.assert_allclose(unused @ (new - basis[:, 0]), 0, atol=1e-5)
    best = codes @ np.linalg.lstsq(codes, x.astype('float64'))[0]
    np.testing.assert_allclose(codes @ new, best, atol=1e-5)


@each_kind
@pytest.mark.parametrize('bits', BITS)
def test_all_zero_input(bits, low, run):
    basis = start_basis(bits)
    new = run(
        refit.solve([statistics(basis, np.zeros(64, 'float32'), low, ridge=1e-8, relative=True)])[0]
    )
    assert np.isfinite(new).all()
    if low == 0:
        np.testing.assert_array_equal(new, basis)


@pytest.mark.parametrize('bits', BOUNDARY)
@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_leaves_the_basis_of_its_channel(bad, bits, run):
    basis = start_basis(bits, 2)
    x = np.random.default_rng(1).normal(size=(200, 2)).astype('float32') * 4
    x[7, 1] = bad
    encoder = levels.encoder(levels.grid(tf.constant(basis), -1))
    y, new = run(
        [
            levels.quantize(tf.constant(x), encoder, collect=False)[0],
            refit.solve([statistics(basis, x, -1)])[0],
        ]
    )
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
    y = LQ(bits).activation(tf.constant(x), Activations(Tower(seen), relu, 0.0, True))
    ((_, variable, row),) = seen
    y, new, now = run([y, refit.solve([row])[0], variable])
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(new, now)


def test_moving_average_is_bias_corrected(run):
    variable = tf.get_variable('basis', initializer=np.float32([[3.0], [5.0]]), trainable=False)
    new = tf.placeholder(tf.float32, [2, 1])
    step = variable.assign(refit.moving_averages([variable], new, 0.8))
    solutions = np.random.default_rng(0).normal(size=(5, 2, 1)).astype('float32')
    biased = np.zeros([2, 1])
    for t, solution in enumerate(solutions, 1):
        run(step, {new: solution})
        biased = 0.8 * biased + 0.2 * solution
        np.testing.assert_allclose(run(variable), biased / (1 - 0.8**t), rtol=1e-5)
        if t == 1:
            np.testing.assert_allclose(run(variable), solution, rtol=1e-6)
    assert {v.op.name for v in tf.global_variables()} == {
        'basis',
        'basis/biased',
        'basis/local_step',
    }
    assert run(tf.global_variables()[-1]) == 5


@pytest.mark.parametrize('digits', [1, 60, 2**20], ids=['one by one', 'some', 'all'])
def test_bases_are_refit_side_by_side_as_each_alone(digits, run, monkeypatch):
    """Of different channels and ridges, a channel with NaN among them; summaries have own names."""
    monkeypatch.setattr(refit, 'MOST_DIGITS', digits)
    rng = np.random.default_rng(8)
    variables, rows = [], []
    for number, (channels, relative) in enumerate([(3, False), (1, True), (2, False), (1, True)]):
        low = 0 if relative else -1
        x = np.abs(rng.normal(size=[200, channels]).astype('float32')) * (number + 1)
        if number == 2:
            x[3, 1] = np.nan
        basis = start_basis(2, channels)
        rows.append(statistics(basis, flat_shape(x), low, ridge=10.0**-number, relative=relative))
        variables.append(tf.get_variable(f'b{number}', initializer=basis, trainable=False))
    together = refit.refit(variables, rows, 0.8)
    alone = [refit.solve([row])[0] for row in rows]
    summary, found, expected = run([tf.summary.merge_all(), together, alone])
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one.shape, other.shape)
        np.testing.assert_allclose(one, other, rtol=1e-6)
    values = {}
    for value in tf.summary.Summary.FromString(summary).value:
        values[value.tag] = value.simple_value
    assert len(values) == 4 * (2 + 4 + 2)
    for number, solution in enumerate(found):
        means = [values[f'quant/b{number}/{k}'] for k in range(2)]
        np.testing.assert_allclose(means, solution.mean(1), rtol=1e-5)
        shares = [values[f'quant/b{number}/use/{level}'] for level in range(4)]
        np.testing.assert_allclose(sum(shares), 1, rtol=1e-6)
