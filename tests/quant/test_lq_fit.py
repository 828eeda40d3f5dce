"""Starts from LQ's levels: refits of known values against least squares in numpy."""

import numpy as np
import pytest

from quant import first_steps
from quant.backend import tf
from quant.lq import fit
from quant.scope import starts
from tests.quant.towers import activate, quantization, variable, weigh


def settled(x, bits, low):
    """Levels of values after ``fit.ROUNDS`` rounds of coding and least squares, in float64."""
    x = np.asarray(x, 'float64')
    size = np.sqrt((x**2).mean())
    units = x / size
    numbers = np.arange(2**bits)[:, None]
    codes = np.where(numbers >> np.arange(bits) & 1, 1, low)  # [L, K]
    start = 0.6745 * (2 / (2**bits - 1) if low == 0 else 2.0 ** (1 - bits))
    basis = start * 2.0 ** np.arange(bits)
    ridge = 1e-8 * len(x) if low == 0 else 1e-4
    for _ in range(fit.ROUNDS):
        levels = codes @ basis
        order = np.argsort(levels, kind='stable')
        middles = (levels[order][1:] + levels[order][:-1]) / 2
        used = codes[order][(units[:, None] > middles).sum(1)]  # [N, K]
        gram = used.T @ used + ridge * np.eye(bits)
        basis = np.linalg.solve(gram, used.T @ units + ridge * basis)
    return size * np.sort(codes @ basis)


def binned(table):
    """What a table of counts stands for."""
    return np.repeat(first_steps.centres(), table.astype(int))


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_top_of_weights(bits, run):
    """Of each channel, whatever its size; of the tensor; 0 of zeros."""
    rng = np.random.default_rng(bits)
    w = rng.normal(size=(3, 3, 8, 4)).astype('float32') * np.float32([1, 1e-20, 1e20, 0])
    w[..., 0] = np.abs(w[..., 0])
    found = run(fit.top_of_values(tf.constant(w), 4, bits))
    for channel in range(3):
        expected = settled(w[..., channel].ravel(), bits, -1)[-1]
        np.testing.assert_allclose(found[channel], expected, rtol=1e-3)
    assert found[3] == 0
    whole = rng.normal(size=500).astype('float32')
    (found,) = run(fit.top_of_values(tf.constant(whole), 1, bits))
    np.testing.assert_allclose(found, settled(whole, bits, -1)[-1], rtol=1e-3)


@pytest.mark.parametrize('low', [0, -1])
@pytest.mark.parametrize('factor', [1.0, 1e-25])
@pytest.mark.parametrize('bits', [1, 2, 3])
def test_top_of_activations(bits, factor, low, run):
    """Of what tensors hold together, in bins."""
    x = np.random.default_rng(bits).normal(size=2000)
    if low == 0:
        x = np.maximum(x, 0)
    x = (x * factor).astype('float32')
    table = first_steps.counts(tf.constant(x[:300])) + first_steps.counts(tf.constant(x[300:]))
    found, table = run([fit.top_of_counts(table, bits, both_signs=low < 0), table])
    np.testing.assert_allclose(found, [settled(binned(table), bits, low)[-1]], rtol=1e-3)


@pytest.mark.parametrize('x', [np.zeros([0]), np.zeros([9])])
def test_nothing_reaches_nowhere(x, run):
    table = first_steps.counts(tf.constant(x, tf.float32))
    assert run(fit.top_of_counts(table, 2, both_signs=False)) == [0]


@pytest.mark.parametrize(
    'spec, low, high',
    [
        ('lsq(bits=2, start="lq")', -2, 1),
        ('lsq(bits=2, start="lq", symmetric=True)', -1, 1),
        ('lsq(bits=3, start="lq", centred=True, per_channel=True)', -4, 3),
    ],
)
def test_lsq_starts_as_wide_as_lq(spec, low, high, run):
    w = np.random.default_rng(4).normal(size=(3, 3, 4, 2)).astype('float32')
    weigh(quantization(spec), w)
    columns = w.reshape(-1, 2).T if 'per_channel' in spec else [w.ravel()]
    bits = 3 if high == 3 else 2
    expected = []
    for column in columns:
        expected.append(2 * settled(column, bits, -1)[-1] / (high - low))
    np.testing.assert_allclose(run(variable('conv/weight_quant/step')), expected, rtol=1e-3)


@pytest.mark.parametrize('lower', [0.0, -np.inf])
def test_activations_start_as_wide_as_lq(lower, run):
    """The step of LSQ and the clips of PACT."""
    x = np.random.default_rng(6).normal(size=(40, 10)).astype('float32')
    if lower == 0:
        x = np.abs(x)
    table = run(first_steps.counts(tf.constant(x)))
    top = settled(binned(table), 2, -1 if lower < 0 else 0)[-1]
    found = {}
    for name in ('lsq', 'pact'):
        with tf.variable_scope(name):
            q = quantization(f'{name}(bits=2, start="lq")', half='activation')
            activate(q, x, relu=False, lower=lower)
        for start, op in starts([q]).items():
            run(op)
            found[f'{name}/{start}'] = run(variable(f'{name}/{start}'))
    width = top if lower == 0 else 2 * top
    np.testing.assert_allclose(found['lsq/quant1/step'], [width / 3], rtol=1e-3)
    np.testing.assert_allclose(found['pact/quant1/clip'], [top], rtol=1e-3)
    if lower < 0:
        np.testing.assert_allclose(found['pact/quant1/low_clip'], [-top], rtol=1e-3)
