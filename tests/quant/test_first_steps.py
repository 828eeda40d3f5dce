"""Starts of uniform levels against a search over a fine grid in numpy."""

import numpy as np
import pytest

from quant import first_steps
from quant.backend import tf
from quant.uniform import SMALLEST_STEP


def lost(x, step, low, high, offset=0.0):
    """Squared error of uniform levels."""
    v = (x - offset) / step
    return float(((np.round(np.clip(v, low, high)) * step + offset - x) ** 2).sum())


def fewest(x, low, high, centre=0.0):
    """The squared error of the best of many steps."""
    furthest = np.abs(x).max()
    return min(lost(x, s, low, high, centre * s) for s in furthest * np.geomspace(0.01, 2, 300))


def values(seed, size=1000):
    return np.random.default_rng(seed).normal(size=size)


@pytest.mark.slow
@pytest.mark.parametrize('factor', [1e-9, 1e30])
@pytest.mark.parametrize('low, high, centre', [(-2, 1, 0), (-2, 1, 0.5), (-8, 7, 0), (-1, 0, 0.5)])
def test_steps_of_weights(low, high, centre, factor, run):
    w = (values(0)[:, None] * [1, 0.1, 100]).astype('float32')
    w[:, 2] = np.abs(w[:, 2])
    scaled = tf.constant((w * factor).astype('float32'))
    steps = run(first_steps.step_of_values(scaled, 3, low, high, centre)) / factor
    for column, step in zip(w.T.astype('float64'), steps):
        best = fewest(column, low, high, centre)
        assert lost(column, step, low, high, centre * step) <= 1.02 * best


@pytest.mark.parametrize('low, high', [(0, 1), (0, 3), (0, 15), (-2, 1)])
def test_steps_of_activations(low, high, run):
    """Of what two tensors hold together, most of it exact zeros."""
    x = values(1).astype('float32')
    if low == 0:
        x = np.maximum(x, 0)
    table = first_steps.counts(tf.constant(x[:200])) + first_steps.counts(tf.constant(x[200:]))
    (step,) = run(first_steps.step_of_counts(table, low, high))
    assert lost(x, step, low, high) <= 1.03 * fewest(x, low, high)


@pytest.mark.slow
@pytest.mark.parametrize('zero', [True, False])
@pytest.mark.parametrize('bits', [2, 4])
def test_intervals(bits, zero, run):
    """Of Swish: about as good as the best interval of a finer grid."""
    x = values(2)
    x = (x / (1 + np.exp(-x))).astype('float32')
    n = 2**bits - 1
    table = first_steps.counts(tf.constant(x))
    low, high = run(first_steps.interval_of_counts(table, n, zero=zero))

    def error(low, high):
        step = (high - low) / n
        return lost(x, step, 0, n, np.round(low / step) * step if zero else low)

    lows, highs = x.min() * np.linspace(0, 1, 15), x.max() * np.linspace(0.05, 1, 25)
    best = min(error(a, b) for a in lows for b in highs)
    assert error(low, high) <= 1.1 * best


@pytest.mark.parametrize(
    'x, expected',
    [([0.0, -0.0], 0), ([], 0), ([1e-30] * 3, 1e-30), ([1e30] * 3, 1e30), ([-3.0], 3)],
)
def test_degenerate_values(x, expected, run):
    x = tf.constant(np.float32(x))
    table = first_steps.counts(x)
    found = run(
        [first_steps.step_of_counts(table, -1, 1), first_steps.step_of_values(x, 1, -1, 1, 0.0)]
    )
    if expected > SMALLEST_STEP or expected == 0:
        np.testing.assert_allclose(found, np.full([2, 1], expected), rtol=0.05)
    assert np.isfinite(found).all()


def test_counts_of_what_is_not_a_number_are_refused(run):
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(first_steps.counts(tf.constant([1.0, np.nan])))
