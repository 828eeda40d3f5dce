"""The LQ quantizer as layers use it: starts, values of every kind, pseudo-gradients."""

import numpy as np
import pytest

from quant.backend import tf
from quant.lq import refit
from quant.lq.quantizer import LQ
from quant.quantizer import Activations, Weights
from tests.quant.test_lq import (
    BOUNDARY,
    Tower,
    any_basis,
    beside,
    case,
    oracle_grid,
    oracle_index,
    start_basis,
)


def weights(init_std):
    return Weights(Tower(), init_std, first=None, collect=False)


def assigned(basis):
    """The variable that a quantizer of this scope will find."""
    tf.get_variable('basis', initializer=np.float32(basis), trainable=False)
    tf.get_variable_scope().reuse_variables()


@pytest.mark.parametrize('bits', [1, 2, 3, 8])
def test_start_values(bits, run):
    LQ(bits).activation(tf.zeros([8]), Activations(Tower(), True, 0.0, False))
    with tf.variable_scope('w'):
        LQ(bits).weight(tf.zeros([3, 3, 2, 4]), weights(np.sqrt(2 / 36)))
    activation, weight = run(tf.global_variables())
    powers = 2.0 ** np.arange(bits)
    np.testing.assert_allclose(activation[:, 0], 0.6745 * 2 / (2**bits - 1) * powers, rtol=1e-6)
    expected = 0.6745 * np.sqrt(2 / 36) / 2 ** (bits - 1) * powers
    np.testing.assert_allclose(weight, np.tile(expected[:, None], 4), rtol=1e-6)
    assert not tf.trainable_variables()


def test_start_of_computed_weights(run):
    """The deviation may be a tensor."""
    LQ(2).weight(tf.zeros([4, 5]), weights(lambda: tf.constant(3.0)))
    (basis,) = tf.global_variables()
    np.testing.assert_allclose(
        run(basis), np.tile(0.6745 * 3 / 2 * np.array([[1], [2]]), 5), rtol=1e-6
    )


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_weight_gradient_is_the_identity(bits, run):
    basis, values = case(bits, -1)
    assigned(basis)
    w, dy = (
        tf.constant(values),
        np.random.default_rng(0).normal(size=values.shape).astype('float32'),
    )
    y = LQ(bits).weight(w, weights(0.5))
    np.testing.assert_array_equal(run(tf.gradients(y, w, dy)[0]), dy)


@pytest.mark.parametrize('relu', [True, False])
@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_activation_gradient_ends_above_the_largest_level(bits, relu, run):
    basis = start_basis(bits)
    top = basis.sum(dtype='float32')
    assigned(basis)
    values = np.float32([-3, -1e-30, -0.0, 0, 1e-30, 0.1, beside(top, -1), top, beside(top, 1), 50])
    x, dy = tf.constant(values), np.arange(1, 11, dtype='float32')
    y = LQ(bits).activation(x, Activations(Tower(), relu, 0.0, False))
    expected = np.where((values <= top) & ((values > 0) | (not relu)), dy, 0)
    np.testing.assert_array_equal(run(tf.gradients(y, x, dy)[0]), expected)


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_largest_level_of_a_negative_basis_is_not_its_sum(bits, run):
    basis = start_basis(bits)
    basis[0] *= -1
    assigned(basis)
    top = np.float32(basis[basis > 0].sum())
    x = tf.constant(np.stack([top, beside(top, 1)]).astype('float32'))
    y = LQ(bits).activation(x, Activations(Tower(), False, 0.0, False))
    np.testing.assert_array_equal(run(tf.gradients(y, x)[0]), [1, 0])


def test_no_gradient_reaches_the_basis():
    y = LQ(2).activation(tf.zeros([8]), Activations(Tower(), True, 0.0, False))
    assert tf.gradients(y, tf.global_variables()) == [None]


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_rectified_activation(bits, run):
    """A ReLU comes first, also where the lowest level is negative."""
    basis = start_basis(bits)
    basis[-1] *= -1
    assigned(basis)
    values = np.random.default_rng(2).normal(size=64).astype('float32') * 4
    ((levels, _),) = oracle_grid(basis, 0)
    y = run(LQ(bits).activation(tf.constant(values), Activations(Tower(), True, 0.0, False)))
    np.testing.assert_array_equal(y, levels[oracle_index(np.maximum(values, 0), levels)])


@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_activation_counts_from_its_lower_bound(bits, run):
    lower = -0.2785
    basis = start_basis(bits)
    assigned(basis)
    values = np.concatenate([[lower], np.random.default_rng(2).uniform(lower, 9, size=63)]).astype(
        'float32'
    )
    x, seen = tf.constant(values), []
    y = LQ(bits).activation(x, Activations(Tower(seen), False, lower, True))
    dy = np.arange(1, 65, dtype='float32')
    ((levels, _),) = oracle_grid(basis, 0)
    shifted = values - np.float32(lower)
    got, gradient, table = run([y, tf.gradients(y, x, dy)[0], seen[0][2].table])
    np.testing.assert_allclose(
        got, levels[oracle_index(shifted, levels)] + lower, rtol=1e-6, atol=1e-6
    )
    assert got[0] == np.float32(lower)
    np.testing.assert_array_equal(gradient, np.where(shifted <= levels[-1], dy, 0))
    np.testing.assert_allclose(table[1, 0], shifted.sum(), rtol=1e-5)


def signed_inputs(basis):
    """Noise, zeros, levels and thresholds with their neighbours, and values far outside."""
    ((levels, _),) = oracle_grid(basis, -1)
    thresholds = ((levels[1:] + levels[:-1]) / 2).astype('float32')
    edges = np.concatenate([thresholds, levels[[0, -1]].astype('float32')])
    noise = np.random.default_rng(3).normal(size=100) * levels[-1]
    near = [beside(edges, side) for side in (-1, 1)]
    return np.concatenate([noise, levels, edges, *near, [0, -0.0, 100, -100]]).astype(
        'float32'
    ), levels


@pytest.mark.parametrize('basis', ['ascending', 'any'])
@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY])
def test_signed_activation(bits, basis, run):
    """Without a lower bound codes are -1/+1; the gradient ends outside the levels on both sides."""
    basis = (
        start_basis(bits)
        if basis == 'ascending'
        else any_basis(np.random.default_rng(bits), bits, 1)
    )
    values, levels = signed_inputs(basis)
    assigned(basis)
    x, seen, dy = tf.constant(values), [], np.arange(1, len(values) + 1, dtype='float32')
    y = LQ(bits).activation(x, Activations(Tower(seen), False, -np.inf, True))
    got, gradient, (new, counts) = run([y, tf.gradients(y, x, dy)[0], refit.solve([seen[0][2]])])
    index = oracle_index(values, levels)
    np.testing.assert_array_equal(got, levels[index])
    np.testing.assert_array_equal(gradient, np.where(np.abs(values) <= levels[-1], dy, 0))
    np.testing.assert_array_equal(counts[:, 0], np.bincount(index, minlength=len(levels)))
    codes = oracle_grid(basis, -1)[0][1][index]
    best = codes @ np.linalg.lstsq(codes, values.astype('float64'))[0]
    np.testing.assert_allclose(codes @ new[:, 0], best, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'lower, relu, low', [(-np.inf, False, -1), (-np.inf, True, 0), (0.0, False, 0)]
)
def test_codes_follow_from_the_lower_bound(lower, relu, low, run):
    seen = []
    LQ(3).activation(tf.zeros([8]), Activations(Tower(seen), relu, lower, True))
    basis, codes = run([seen[0][1], seen[0][2].grid.codes])
    assert codes.min() == low
    start = 0.6745 / 4 if low else 0.6745 * 2 / 7
    np.testing.assert_allclose(basis[:, 0], start * np.array([1, 2, 4]), rtol=1e-6)


def test_lower_bound_means_nothing_behind_a_relu(run):
    assigned([[1.0]])
    y = LQ(1).activation(tf.constant([0.0, 1.0]), Activations(Tower(), True, -0.5, False))
    np.testing.assert_array_equal(run(y), [0, 1])


def test_statistics_that_nobody_wants_cost_nothing():
    LQ(2).activation(tf.zeros([8]), Activations(Tower(), True, 0.0, False))
    assert 'PopulationCount' not in {op.type for op in tf.get_default_graph().get_operations()}


def test_empty_batch(run):
    """A step in which no sample reaches a gated block."""
    values = tf.placeholder_with_default(np.zeros([0, 8], 'float32'), [None, 8])
    seen = []
    y = LQ(2).activation(values, Activations(Tower(seen), True, 0.0, True))
    assert run(y).shape == (0, 8)
    new, now = run([refit.solve([seen[0][2]])[0], seen[0][1]])
    np.testing.assert_array_equal(new, now)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'bits': 0}, 'bits=0'),
        ({'bits': 9}, 'bits=9'),
        ({'bits': 2.0}, 'bits=2.0'),
        ({'bits': True}, 'bits=True'),
        ({'decay': 1}, 'decay=1'),
        ({'decay': -0.1}, 'decay=-0.1'),
        ({'update': 'first'}, "update='first'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LQ(**options)


def test_stored_values():
    assert LQ(3).stored_values(16) == 48
