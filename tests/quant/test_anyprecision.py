"""Any-Precision DNNs against their formulas in numpy."""

import numpy as np
import pytest

from quant.anyprecision import AnyPrecision
from quant.backend import tf
from quant.specs import parse
from tests.quant.test_adabits import oracle, weights
from tests.quant.test_dorefa import run_weights
from tests.quant.towers import activate, quantization, shipped, weigh

RNG = np.random.default_rng(9)


@pytest.mark.parametrize('bits', [2, 8])
def test_weights(bits, run):
    """Those of DoReFa's formula, at one bit, too, times a mean that is no part of the gradient."""
    w = weights()
    upstream = RNG.normal(size=w.shape).astype('float32')
    _, unit, gradient = oracle(w, bits, 'original', upstream)
    size = np.abs(w.astype('float64')).mean()
    y, gx, book = run_weights(run, w, f'anyprecision(bits={bits})', upstream)
    np.testing.assert_allclose(y, size * unit, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gx, size * gradient, rtol=2e-5, atol=1e-5)
    np.testing.assert_array_equal(shipped(book, w), y)
    np.testing.assert_allclose(book.step, [2 * size / (2**bits - 1)], rtol=1e-5)


def test_weights_of_one_bit_are_negative_at_zero(run):
    w = np.float32([0, -0.0, 1, 1e-30])
    y, _, book = run_weights(run, w, 'anyprecision(bits=1)', w)
    np.testing.assert_array_equal(y, [-0.25, -0.25, 0.25, -0.25])
    np.testing.assert_array_equal(shipped(book, w), y)


def test_32_bits(run):
    """The float network of a published one has squashed weights and no clip of activations."""
    w = weights()
    q = quantization('anyprecision(bits=32)')
    tensor = tf.constant(w)
    y = weigh(q, tensor)
    (gx,) = tf.gradients(y, tensor)
    x = np.float32([-1, 0, 0.3, 7])
    both = activate(q, x, relu=False, lower=-np.inf)
    y, gx, rectified, both = run([y, gx, activate(q, x), both])
    t = np.tanh(w.astype('float64'))
    size = np.abs(w).mean()
    np.testing.assert_allclose(y, size * t / np.abs(t).max(), rtol=1e-5)
    _, _, gradient = oracle(w, 8, 'original', np.ones_like(w))
    np.testing.assert_allclose(gx, size * gradient, rtol=2e-5, atol=1e-5)
    np.testing.assert_array_equal(rectified, np.maximum(x, 0))
    np.testing.assert_array_equal(both, x)
    assert parse('anyprecision(bits=32)').stored_values(9) == 0


def test_activations_are_those_of_dorefa(run):
    x = RNG.normal(size=(60,)).astype('float32')
    found = []
    for spec in ('anyprecision(bits=3)', 'dorefa(bits=3)'):
        for lower in (0.0, -np.inf):
            q = quantization(spec, half='activation')
            tensor = tf.constant(x)
            y = activate(q, tensor, relu=False, lower=lower)
            found.append([y, tf.gradients(y, tensor)[0], q.codebooks['quant1']()])
    above, both, *expected = run(found)
    for ours, theirs in zip([above, both], expected):
        for a, b in zip([*ours[:2], *ours[2]], [*theirs[:2], *theirs[2]]):
            np.testing.assert_array_equal(a, b)


def test_bits():
    for bits in (0, 9, 31):
        with pytest.raises(ValueError, match=f'bits={bits} must be a whole number .* or 32'):
            AnyPrecision(bits=bits)
