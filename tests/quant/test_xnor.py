"""XNOR-Net's weights against their formulas in numpy."""

import numpy as np
import pytest

from quant.xnor import XNOR
from tests.quant.asking import ask


def oracle(w, upstream, zero):
    """Values and gradient of centred weights times their mean magnitude, and of the centring."""
    inputs = w.shape[-2]
    centred = w - w.mean(-2, keepdims=True) if inputs > 1 else w
    scale = np.abs(np.clip(centred, -1, 1)).mean((0, 1, 2))
    y = scale * np.where(centred == 0, zero, np.sign(centred))
    slope = np.where(np.abs(centred) < 1, scale, 0) + 1 / w[..., 0].size
    gradient = upstream * slope
    if inputs > 1:
        gradient = gradient - gradient.mean(-2, keepdims=True)
    return y, gradient


@pytest.mark.parametrize('zero', [-1, 0, 1])
@pytest.mark.parametrize('inputs', [1, 6])
def test_weights(inputs, zero, run):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 3, inputs, 4)).astype('float32') * np.float32([1, 1e-3, 3, 0])
    upstream = rng.normal(size=w.shape)
    y, gradient = oracle(w.astype('float64'), upstream, zero)
    found = ask(run, f'xnor(zero={zero})', w, upstream)
    np.testing.assert_allclose(found.y, y, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.gx, gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.coded(), found.y)


def test_activations(run):
    x = np.float32([-2, -1, -0.5, -0.0, 0.0, 1e-30, 1, 1.01, 9])
    found = ask(run, 'xnor', x, half='activation')
    np.testing.assert_array_equal(found.y, [-1, -1, -1, -1, -1, 1, 1, 1, 1])
    np.testing.assert_array_equal(found.gx, np.abs(x) <= 1)
    np.testing.assert_array_equal(found.coded(), found.y)


@pytest.mark.parametrize('options', [{'bits': 2}, {'zero': 3}])
def test_wrong_options_are_named(options):
    with pytest.raises(ValueError, match='bits=2|zero=3'):
        XNOR(**options)


def test_one_scale_for_every_channel():
    assert XNOR().stored_values(16) == 16
