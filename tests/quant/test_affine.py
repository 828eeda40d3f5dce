"""Affine quantization against its formulas in numpy: ranges, values, gradients, what is odd."""

import numpy as np
import pytest

from quant import Rule
from quant.affine import Affine
from quant.backend import tf
from quant.specs import parse
from tests.quant.asking import DEGENERATE, ask, check_finite


def oracle(x, step, low, high, offset=0.0):
    """Values, and where gradients pass."""
    whole = np.round((x - offset) / step)
    return np.clip(whole, low, high) * step + offset, (whole >= low) & (whole <= high)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype('float32')


@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('narrow', [False, True])
def test_weights(narrow, per_channel, bits, run):
    w = noise([3, 3, 2, 4]) * np.float32([1, 1e-3, 3, 1])
    w.flat[:2] = 0.0, -0.0
    upstream = noise(w.shape, 1)
    high = 2 ** (bits - 1) - 1
    low = -high if narrow else -high - 1
    span = high if narrow else (2**bits - 1) / 2
    step = np.abs(w).max((0, 1, 2) if per_channel else None) / span
    spec = f'affine(bits={bits}, per_channel={per_channel}, narrow={narrow})'
    found = ask(run, spec, w, upstream)
    np.testing.assert_allclose(found.state['step'], np.atleast_1d(step), rtol=1e-6)
    y, inside = oracle(w, step, low, high)
    # The largest magnitude may lie between two integers.
    apart = np.abs(np.abs(w) / step - span) > 1e-3
    np.testing.assert_allclose(found.y[apart], y[apart], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.gx[apart], (upstream * inside)[apart], rtol=1e-5)
    assert not found.gradients
    assert (found.y[w == 0] == 0).all()


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('sign', ['both', 'positive', 'negative', 'above'])
def test_activations(sign, bits, run):
    x = noise([4, 50])
    x = {'both': x, 'positive': np.abs(x), 'negative': -np.abs(x), 'above': 3 + np.abs(x)}[sign]
    upstream = noise(x.shape, 1)
    n = 2**bits - 1
    lowest, highest = min(x.min(), 0), max(x.max(), 0)
    step = (highest - lowest) / n
    found = ask(run, f'affine(bits={bits})', x, upstream, half='activation')
    offset = np.clip(np.round(lowest / step), -n, 0) * step
    y, inside = oracle(x, step, 0, n, offset)
    apart = np.abs(((x - offset) / step) % 1 - 0.5) > 1e-3
    np.testing.assert_allclose(found.y[apart], y[apart], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.gx[apart], (upstream * inside)[apart], rtol=1e-5)
    assert np.abs(found.book['levels']).min() == 0
    np.testing.assert_allclose(found.coded()[apart], found.y[apart], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('half', ['weight', 'activation'])
def test_delta_scales_gradients_by_the_rounding_error(half, run):
    x = noise([4, 50])
    upstream = noise(x.shape, 1)
    plain, scaled = (
        ask(run, f'affine(bits=3, per_channel=False, delta={delta})', x, upstream, half=half)
        for delta in (0, 0.3)
    )
    np.testing.assert_array_equal(scaled.y, plain.y)
    error = (x - plain.y) / plain.book['step']
    expected = plain.gx * (1 + 0.3 * np.sign(upstream) * error)
    np.testing.assert_allclose(scaled.gx, expected, rtol=1e-4, atol=1e-5)


def test_a_relu_comes_first(run):
    found = ask(run, 'affine(bits=2)', [-9.0, 0.2, 3.0], half='activation', relu=True)
    np.testing.assert_allclose(found.state['range'], [0, 3])
    np.testing.assert_allclose(found.y, [0, 0, 3])
    np.testing.assert_allclose(found.gx, [0, 1, 1])


def test_percentile(run):
    """A single far value is left out; the range is that of the others, a bin of counts at most."""
    x = np.append(np.linspace(-1, 2, 999), 100).astype('float32')
    found = ask(run, "affine(method='percentile', percentile=99.9)", x, half='activation')
    low, high = found.state['range']
    assert -1 <= low <= -0.95 and 2 <= high < 2.1
    # Nothing is left out of few values.
    found = ask(run, "affine(method='percentile')", x, half='activation')
    np.testing.assert_array_equal(found.state['range'], [-1, 100])
    found = ask(run, "affine(method='percentile', percentile=99.0)", x[:, None])
    np.testing.assert_allclose(found.state['step'], [np.sort(np.abs(x))[989] / 127], rtol=1e-6)


@pytest.mark.parametrize('half', ['weight', 'activation'])
def test_least_squares_clip_what_is_far_at_few_bits(half, run):
    x = np.append(noise([2000]), 30).astype('float32')[:, None]
    errors = {}
    for method in ('minmax', 'mse'):
        found = ask(run, f'affine(bits=4, method={method!r})', x, half=half)
        errors[method] = ((found.y - x) ** 2).mean()
    assert errors['mse'] < 0.6 * errors['minmax']


def test_the_step_of_every_step_is_differentiated(run):
    """As Brevitas has it: through the largest magnitude of a channel."""
    w = noise([5, 3, 4])
    upstream = noise(w.shape, 1)
    found = ask(run, 'affine(bits=4, through=True)', w, upstream)
    columns, gradients = w.reshape(-1, 4), upstream.reshape(-1, 4).astype('float64')
    largest = np.abs(columns).argmax(0)
    step = np.abs(columns).max(0) / 7
    slope = np.round(columns / step) - columns / step
    expected = gradients.copy()
    for c, row in enumerate(largest):
        expected[row, c] += np.sign(columns[row, c]) * (gradients * slope)[:, c].sum() / 7
    np.testing.assert_allclose(found.gx.reshape(-1, 4), expected, rtol=1e-4, atol=1e-4)
    assert not found.state


@pytest.mark.parametrize('value', [0.5, 2.0, -2.0, 0.0])
def test_a_learned_highest_value(value, run):
    x, upstream = noise([300]), noise([300], 1)
    found = ask(
        run,
        'affine(bits=2, learned=True)',
        x,
        upstream,
        half='activation',
        lower=0.0,
        state={'value': [value]},
    )
    if not value:
        check_finite(found)
        return
    step = abs(value) / 3
    ratio = np.maximum(x, 0) / step
    whole = np.round(ratio)
    inside = whole <= 3
    np.testing.assert_allclose(found.y, np.minimum(whole, 3) * step, rtol=1e-5)
    np.testing.assert_allclose(found.gx, upstream * (inside & (x > 0)), rtol=1e-5)
    slope = np.where(inside, whole - ratio, 3)
    expected = np.sign(value) * (upstream * slope).sum() / 3
    np.testing.assert_allclose(found.gradients['value'], [expected], rtol=1e-3)


def test_a_learned_value_is_for_what_is_not_negative(run):
    with pytest.raises(ValueError, match='these activations can be negative'):
        ask(run, 'affine(learned=True)', np.ones([2]), half='activation')


@pytest.mark.parametrize(
    'method, names',
    [
        ('minmax', [*DEGENERATE]),
        ('percentile', ['zeros', 'denormal']),
        pytest.param('percentile', [*DEGENERATE], marks=pytest.mark.slow),
        pytest.param('mse', [*DEGENERATE], marks=pytest.mark.slow),
    ],
)
def test_degenerate_input(method, names, run):
    spec = f'affine(bits=4, method={method!r})'
    for name in names:
        found = ask(run, spec, DEGENERATE[name])
        check_finite(found)
        assert (np.abs(found.y) <= np.abs(DEGENERATE[name]).max() * 1.001).all(), name
    for name in {'zeros', 'constant', 'large'} & {*names}:
        check_finite(ask(run, spec, DEGENERATE[name], half='activation'))


def test_nan(run):
    """In a first batch it is an error, later it stays."""
    with pytest.raises(tf.errors.InvalidArgumentError, match='activations of a first batch'):
        ask(run, 'affine', [np.nan, 1.0], half='activation')
    assert np.isnan(ask(run, 'affine(per_channel=False)', [np.nan, 1.0]).y[0])


@pytest.mark.parametrize(
    'options, message',
    [
        ({'bits': 9}, 'bits=9'),
        ({'method': 'max'}, "method='max' must be one of 'minmax'"),
        ({'percentile': 50}, 'percentile=50 must be above 50'),
        ({'percentile': True}, 'percentile=True'),
        ({'narrow': 1}, 'narrow=1'),
        ({'private': 0}, 'private=0'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Affine(**options)


def test_weights_of_one_bit_are_refused():
    with pytest.raises(ValueError, match='signed integers of 1 bit'):
        Rule(roles=('body',), weight='affine(bits=1)')


def test_stored_size():
    assert parse('affine').stored_values(16) == 16
    assert parse('affine(per_channel=False)').stored_values(16) == 1
