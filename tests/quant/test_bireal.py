"""Bi-Real Net against its formulas in numpy: signs, gradients, scales, degenerate input."""

import numpy as np
import pytest

from quant import Rule
from quant import specs as registry
from quant.bireal import BiReal
from tests.quant.asking import DEGENERATE, ask, check_finite

# Zeros, the ends of the gradients with their neighbours, values far outside.
ENDS = np.float32([1, 1 - 1e-6, 1 + 1e-6, 0.5, 1e-6, 1e-30, 1.5, 100, 1e30])
HARD = np.concatenate([ENDS, -ENDS, np.float32([0.0, -0.0])])

SLOPES = {
    'quadratic': lambda x: np.maximum(2 - 2 * np.abs(x), 0),
    'clipped': lambda x: np.abs(x) <= 1,
    'identity': np.ones_like,
    'swish': lambda x: 5 * (2 - 5 * x * np.tanh(2.5 * x)) / (1 + np.cosh(5 * x)),
}
each_zero = pytest.mark.parametrize('zero', [-1, 0, 1])


def signs(x, zero):
    return np.where(x == 0, zero, np.sign(x))


@each_zero
@pytest.mark.parametrize('gradient', ['', *SLOPES])
@pytest.mark.filterwarnings('ignore:overflow')
def test_activations(gradient, zero, run):
    upstream = np.random.default_rng(0).normal(size=HARD.shape)
    spec = f'bireal(zero={zero}, gradient={gradient!r})'
    found = ask(run, spec, HARD, upstream, half='activation')
    np.testing.assert_array_equal(found.y, signs(HARD, zero))
    slope = SLOPES[gradient or 'quadratic'](HARD.astype('float64'))
    np.testing.assert_allclose(found.gx, upstream * slope, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.coded(), found.y)


@pytest.mark.parametrize('options', [{'relu': True}, {'lower': 0.0}, {'lower': -0.25}])
def test_the_sign_is_that_of_the_value_itself(options, run):
    found = ask(run, 'bireal', HARD, half='activation', **options)
    np.testing.assert_array_equal(found.y, signs(HARD, -1))


def test_a_relu_before_the_sign_changes_nothing(run):
    rectified = ask(run, 'bireal', np.maximum(HARD, 0), half='activation')
    np.testing.assert_array_equal(rectified.y, signs(HARD, -1))


def test_zero_and_one(run):
    found = ask(run, "bireal(unsigned=True, gradient='clipped')", HARD, half='activation')
    np.testing.assert_array_equal(found.y, HARD > 0)
    np.testing.assert_array_equal(found.gx, np.abs(HARD) <= 1)
    np.testing.assert_array_equal(found.coded(), found.y)


@each_zero
@pytest.mark.parametrize('options', ['', ', scaled_gradient=True', ', scale=0.5'])
def test_weights(options, zero, run):
    rng = np.random.default_rng(1)
    w = rng.normal(size=(3, 3, 2, 4)) * [1, 1e-3, 3, 1]
    w.flat[:3] = 0
    upstream = rng.normal(size=w.shape)
    found = ask(run, f'bireal(zero={zero}{options})', w, upstream)
    scale = np.full(4, 0.5) if 'scale=' in options else np.abs(w).mean((0, 1, 2))
    np.testing.assert_allclose(found.y, scale * signs(w, zero), rtol=1e-5)
    slope = np.abs(w) <= 1
    if 'scaled' in options:
        slope = slope * scale
    np.testing.assert_allclose(found.gx, upstream * slope, rtol=1e-5)
    np.testing.assert_array_equal(found.coded(), found.y)
    levels = found.book['levels']
    index = np.arange(len(levels))[:, None]
    np.testing.assert_allclose(found.book['offset'] + found.book['step'] * index, levels)


@pytest.mark.parametrize(
    'name, half', [('bireal', 'weight'), ('xnor', 'weight'), ('reactnet', 'activation')]
)
def test_degenerate_input(name, half, run):
    for x in DEGENERATE.values():
        found = ask(run, name, x, half=half)
        check_finite(found)
        largest = np.abs(x).max().astype('float32') + (half == 'activation')
        assert (np.abs(found.y) <= largest).all()


@each_zero
def test_nan_stays_nan(zero, run):
    x = np.float32([[np.nan, 1.0], [-2.0, 0.5]])
    found = ask(run, f'reactnet(zero={zero})', x, half='activation')
    np.testing.assert_array_equal(np.isnan(found.y), np.isnan(x))
    for name in ('bireal', 'xnor'):
        assert np.isnan(ask(run, f'{name}(zero={zero})', x).y[:, 0]).all()


@pytest.mark.parametrize(
    'options, message',
    [
        ({'bits': 2}, 'bits=2: a binary quantizer has bits=1'),
        ({'bits': True}, 'bits=True'),
        ({'zero': 2}, 'zero=2 must be -1, 0 or 1'),
        ({'zero': True}, 'zero=True'),
        ({'gradient': 'linear'}, "gradient='linear' must be one of '', 'quadratic'"),
        ({'unsigned': 1}, 'unsigned=1'),
        ({'unsigned': True, 'zero': 1}, 'zero=1 with unsigned'),
        ({'scale': -1}, 'scale=-1'),
        ({'scaled_gradient': 0}, 'scaled_gradient=0'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BiReal(**options)


@pytest.mark.parametrize('name', ['bireal', 'reactnet', 'xnor'])
def test_pooled_values_have_one_sign(name):
    Rule(roles=('head', 'gate'), weight=name)
    with pytest.raises(ValueError, match=f'{name} for activations of role head: .* all signs'):
        Rule(roles=('head',), activation=name)


def test_stored_size():
    parse = registry.parse
    assert (parse('bireal').stored_values(16), parse('bireal(scale=1.0)').stored_values(16)) == (
        16,
        1,
    )
    assert (parse('bireal').packed_bits, parse('bireal(zero=0)').packed_bits) == (1, 1.6)
