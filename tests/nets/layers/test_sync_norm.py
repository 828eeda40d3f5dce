"""Normalisation by the statistics of several towers, against that of one tower with all images."""

import numpy as np
import pytest

from nets.layers import sync_norm
from quant.backend import tf

RNG = np.random.default_rng(0)
# A large mean, of which the square would swallow the variance.
X = (RNG.normal(size=(6, 4, 3, 5)) * RNG.uniform(0.1, 2, 5) + RNG.uniform(-30, 30, 5)).astype(
    'float32'
)
WEIGHTS = RNG.normal(size=X.shape).astype('float32')
GAMMA, BETA = RNG.uniform(0.5, 2, 5).astype('float32'), RNG.normal(size=5).astype('float32')


def expected():
    """Output, mean, unbiased variance, and the gradients of sum(WEIGHTS * output) in float64."""
    x, dy = X.astype(float), WEIGHTS.astype(float)
    mean, inverse = x.mean((0, 1, 2)), (x.var((0, 1, 2)) + 1e-5) ** -0.5
    hat = (x - mean) * inverse
    dx = GAMMA * inverse * (dy - dy.mean((0, 1, 2)) - hat * (dy * hat).mean((0, 1, 2)))
    return [
        hat * GAMMA + BETA,
        mean,
        x.var((0, 1, 2), ddof=1),
        dx,
        (dy * hat).sum((0, 1, 2)),
        dy.sum((0, 1, 2)),
    ]


@pytest.mark.parametrize('data_format', ['NHWC', 'NCHW'])
@pytest.mark.parametrize('towers', [2, 3])
def test_towers_together(towers, data_format, run):
    """Gradients are of the sum of the towers' losses.

    Those of affine parameters add up over the towers.
    """
    exchange = sync_norm.Exchange(towers)
    order, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if data_format == 'NCHW' else ((0, 1, 2, 3),) * 2
    found = []
    for x, weights in zip(np.split(X, towers), np.split(WEIGHTS, towers)):
        inputs = [tf.constant(x.transpose(order)), tf.constant(GAMMA), tf.constant(BETA)]
        y, mean, variance = sync_norm.normalise(
            *inputs, exchange, key='n', axis=1 if data_format == 'NCHW' else 3, epsilon=1e-5
        )
        dx, dgamma, dbeta = tf.gradients(tf.reduce_sum(y * weights.transpose(order)), inputs)
        found.append([y, mean, variance, dx, dgamma, dbeta])
    exchange.connect()
    y, mean, variance, dx, dgamma, dbeta = zip(*run(found))
    joined = [
        np.concatenate(y).transpose(back),
        *mean[:1],
        *variance[:1],
        np.concatenate(dx).transpose(back),
        sum(dgamma),
        sum(dbeta),
    ]
    for ours, theirs in zip(joined, expected(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())
    assert all(np.array_equal(mean[0], other) for other in mean)


def test_a_tower_that_was_not_built():
    exchange = sync_norm.Exchange(2)
    exchange.mean('conv0', tf.constant(1.0))
    with pytest.raises(ValueError, match='conv0: built by 1 of 2 towers'):
        exchange.connect()
