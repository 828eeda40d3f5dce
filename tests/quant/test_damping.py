"""Damping of oscillating weights against its formula in numpy."""

import numpy as np
import pytest

from quant import damping, quantizer
from quant.backend import tf
from tests.quant.asking import ask
from tests.quant.test_every_quantizer import specs
from tests.quant.towers import activate, quantization, weigh

RNG = np.random.default_rng(3)


def expected(w, thresholds):
    """Sum of squared distances, and its gradient, by a loop over the weights; [N, C] both."""
    total, gradient = 0.0, np.zeros_like(w, 'float64')
    for (row, channel), value in np.ndenumerate(w.astype('float64')):
        t = thresholds[:, min(channel, thresholds.shape[1] - 1)].astype('float64')
        ends = np.concatenate([[2 * t[0] - t[1]], t, [2 * t[-1] - t[-2]]])
        middles = (ends[1:] + ends[:-1]) / 2
        if middles[0] <= value <= middles[-1]:
            miss = value - middles[(value > t).sum()]
            total += miss**2
            gradient[row, channel] = 2 * miss
    return total, gradient


@pytest.mark.parametrize('spec', specs('weight'))
def test_distances(spec, run):
    """Of every quantizer with more than two levels, as far from the middles as thresholds say."""
    w = RNG.normal(size=(3, 3, 4, 2)).astype('float32') / 4
    book = ask(run, spec, w).book
    thresholds = book['thresholds']
    x = tf.constant(w)
    q = quantization(spec, half='weight')
    with tf.variable_scope('damped'):
        weigh(q, x, first=lambda: x)
        total = damping.distances(q)
    gradient = tf.gradients(total, x)[0]
    if len(thresholds) < 2:
        assert gradient is None and run(total) == 0
        return
    if spec.startswith('lq'):
        thresholds = thresholds * 9  # of another deviation of initial weights
    total, gradient = run([total, gradient])
    by_hand, slopes = expected(w.reshape(-1, 2), thresholds)
    np.testing.assert_allclose(total, by_hand, rtol=1e-4)
    np.testing.assert_allclose(gradient.reshape(-1, 2), slopes, atol=1e-5)
    uniform = 'step' in book and quantizer.parse(spec).refuses('head', weights=True) == ''
    if uniform:
        y = ask(run, spec, w).y
        levels = book['levels']
        inside = (w >= levels[0]) & (w <= levels[-1])
        np.testing.assert_allclose((w - y)[inside], gradient[inside] / 2, atol=1e-5)


def test_activations_are_not_damped(run):
    q = quantization('lsq(bits=2)', half='activation')
    x = tf.constant(np.abs(RNG.normal(size=(4, 3))).astype('float32'))
    activate(q, x)
    assert run(damping.distances(q)) == 0


def test_coefficient(run):
    """Half a cosine from a quarter of the training on."""
    shares = np.linspace(0, 1, 9)
    found = [float(run(damping.coefficient(tf.constant(share, tf.float32)))) for share in shares]
    rest = np.clip((shares - 0.25) / 0.75, 0, 1)
    np.testing.assert_allclose(found, (1 - np.cos(np.pi * rest)) / 2, atol=1e-6)
    assert found[0] == found[2] == 0
