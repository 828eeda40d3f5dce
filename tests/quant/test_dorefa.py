"""DoReFa against its formulas in numpy: values, gradients, codebooks, degenerate input."""

import numpy as np
import pytest

from quant import Rule
from quant import specs as registry
from quant.backend import tf
from quant.dorefa import DoReFa
from tests.quant.towers import activate, quantization, shipped, weigh

RNG = np.random.default_rng(0)
each_bits = pytest.mark.parametrize('bits', [1, 2, 8])


def weight_oracle(w, bits, upstream, stop_max):
    """Values and gradient in float64."""
    w = w.astype('float64')
    n = 2**bits - 1
    if bits == 1 and not stop_max:
        return np.where(w >= 0, 1, -1) * np.abs(w).mean(), upstream
    t = np.tanh(w)
    largest = np.abs(t).max() or 1.0
    unit = t / largest / 2 + 0.5
    gradient = upstream / largest
    if not stop_max:
        top = np.abs(t) == largest
        total = (upstream * t).sum() / largest**2
        gradient = gradient - total * np.sign(t) * top / max(top.sum(), 1)
    return 2 * np.round(unit * n) / n - 1, gradient * (1 - t**2)


def run_weights(run, w, spec, upstream):
    q = quantization(spec, half='weight')
    values = tf.constant(w)
    y = weigh(q, values)
    book = q.codebooks['conv/weight_quant']()
    return run([y, tf.gradients(y, values, tf.constant(upstream))[0], book])


@each_bits
@pytest.mark.parametrize('stop_max', [False, True])
def test_weights(stop_max, bits, run):
    w = RNG.normal(size=(3, 3, 4, 5)).astype('float32')
    w[0, 0, 0] = [0, -0.0, 1e-3, -1e-3, 2.5]
    upstream = RNG.normal(size=w.shape).astype('float32')
    expected = weight_oracle(w, bits, upstream, stop_max)
    spec = f'dorefa(bits={bits}, stop_max={stop_max})'
    y, gradient, book = run_weights(run, w, spec, upstream)
    np.testing.assert_allclose(y, expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=2e-5, atol=1e-5)
    np.testing.assert_array_equal(shipped(book, w), y)
    index = np.arange(2**bits)[:, None]
    np.testing.assert_allclose(book.offset + book.step * index, book.levels, rtol=1e-5, atol=1e-6)


@each_bits
def test_degenerate_weights(bits, run):
    """Zero takes the upper of the two levels beside it, alone too."""
    tensors = np.tile(np.float32([0, 0.3, -1e-30, 1e30, 1e-42])[:, None], 8)
    q = quantization(f'dorefa(bits={bits})', half='weight')
    results = []
    for i, w in enumerate(tensors):
        with tf.variable_scope(f'tensor{i}'):
            values = tf.constant(w)
            y = weigh(q, values)
            book = q.codebooks[f'tensor{i}/conv/weight_quant']()
            results.append((y, tf.gradients(y, values)[0], book))
    for w, (y, gradient, book) in zip(tensors, run(results)):
        assert np.isfinite(y).all() and np.isfinite(gradient).all()
        np.testing.assert_allclose(shipped(book, w[:, None])[:, 0], y, rtol=1e-6)
        if bits > 1 and not w.any():
            np.testing.assert_allclose(y, 1 / (2**bits - 1), atol=1e-6)


def run_activations(run, x, bits, **options):
    q = quantization(f'dorefa(bits={bits})', half='activation')
    values = tf.constant(x)
    y = activate(q, values, **options)
    gradient = tf.gradients(y, values, tf.fill(x.shape, 3.0))[0]
    return run([y, gradient, q.codebooks['quant1']()])


@each_bits
@pytest.mark.parametrize('relu, lower', [(True, 0.0), (False, 0.0), (False, -0.25)])
def test_activations(lower, relu, bits, run):
    n = 2**bits - 1
    ends = np.float32([lower, lower + 1, 0, -0.0, np.nextafter(np.float32(1), 0), 1.001, -1, 9])
    x = np.concatenate([RNG.normal(size=50).astype('float32'), ends, [-1e30, 1e30]])
    x = x.astype('float32')
    y, gradient, book = run_activations(run, x, bits, relu=relu, lower=lower)
    shifted = x - np.float32(lower)
    inside = (shifted >= 0) & (shifted <= 1)
    if relu:
        inside &= x > 0
    np.testing.assert_allclose(y, np.round(np.clip(shifted, 0, 1) * n) / n + lower, atol=1e-6)
    np.testing.assert_array_equal(gradient, 3 * inside)
    np.testing.assert_allclose(shipped(book, x), y, atol=1e-6)


def test_delta_scales_gradients_by_the_rounding_error(run):
    """In steps: of activations as they are, of weights before what squashes them."""
    x = RNG.normal(size=(50, 4)).astype('float32')
    q = quantization('dorefa(bits=2, delta=0.2)')
    values = tf.constant(x)
    gradients = [tf.gradients(y, values)[0] for y in (activate(q, values), weigh(q, values))]
    activated, weighed = run(gradients)
    error = np.clip(x, 0, 1) * 3 - np.round(np.clip(x, 0, 1) * 3)
    inside = (x > 0) & (x <= 1)
    np.testing.assert_allclose(activated, inside * (1 + 0.2 * error), rtol=1e-5, atol=1e-6)
    t = np.tanh(x.astype('float64'))
    unit = (t / np.abs(t).max() / 2 + 0.5) * 3
    scaled = (1 + 0.2 * (unit - np.round(unit))).astype('float32')
    expected = weight_oracle(x, 2, scaled, stop_max=False)[1]
    np.testing.assert_allclose(weighed, expected, rtol=1e-4, atol=1e-4)


def test_ties_go_to_the_even_level(run):
    x = np.float32([0.5, 1.5, 2.5]) / 3
    y, _, _ = run_activations(run, x, 2)
    np.testing.assert_allclose(y * 3, [0, 2, 2], rtol=1e-6)


def test_activations_of_both_signs_keep_a_zero(run):
    x = np.float32([-9, -0.6, -0.4, 0, 0.4, 0.6, 1, 9])
    y, gradient, book = run_activations(run, x, 2, relu=False, lower=-np.inf)
    np.testing.assert_array_equal(y, [-1, -1, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(gradient, [0, 3, 3, 3, 3, 3, 3, 0])
    np.testing.assert_array_equal(book.levels[:, 0], [-1, 0, 1])
    with pytest.raises(ValueError, match='1 bit .* these activations have both signs'):
        run_activations(run, x, 1, relu=False, lower=-np.inf)


def test_what_is_no_number_stays_none(run):
    x = np.float32([[np.nan], [0.5]])
    assert np.isnan(run_activations(run, x, 2)[0][0])
    assert np.isnan(run_weights(run, x, 'dorefa(bits=2)', x)[0][0])
    assert np.isnan(run_weights(run, x, 'dorefa(bits=1)', x)[0]).all()


def test_weights_of_a_layer_without_norm_are_refused():
    for role in ('head', 'gate'):
        with pytest.raises(ValueError, match=f'weights of role {role}: no normalisation follows'):
            Rule(roles=(role,), weight='dorefa')
        Rule(roles=(role,), activation='dorefa')


def test_stored_values():
    assert registry.parse('dorefa(bits=1)').stored_values(16) == 1
    assert registry.parse('dorefa(bits=1, stop_max=True)').stored_values(16) == 0
    assert registry.parse('dorefa(bits=2)').stored_values(16) == 0


@pytest.mark.parametrize('options, message', [({'bits': 9}, 'bits=9'), ({'stop_max': 1}, 'max=1')])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DoReFa(**options)
