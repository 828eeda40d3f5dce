"""The learned correction of LQ's basis: levels, gradients, and refits that leave it alone."""

import numpy as np
import pytest

from quant.lq.quantizer import LQ
from quant.quantizer import parse
from quant.scope import refit
from quant.state import declared
from tests.quant.asking import ask
from tests.quant.towers import activate, quantization, variable, weigh

RNG = np.random.default_rng(8)


def coded(x, basis, low):
    """Levels of x and their codes, [N] and [N, K], a tie at the lower one."""
    bits = len(basis)
    numbers = np.arange(2**bits)[:, None]
    codes = np.where(numbers >> np.arange(bits) & 1, 1, low)
    levels = codes @ basis.astype('float64')
    order = np.argsort(levels, kind='stable')
    middles = (levels[order][1:] + levels[order][:-1]) / 2
    place = (x[:, None] > middles).sum(1)
    return levels[order][place], codes[order][place]


@pytest.mark.parametrize('bits', [1, 2, 3, 4])
def test_weights(bits, run):
    """Of each channel; above 8 thresholds by search."""
    w = RNG.normal(size=(3, 3, 4, 3)).astype('float32')
    upstream = RNG.normal(size=w.shape).astype('float32')
    basis = RNG.uniform(0.2, 1, size=(bits, 3))
    offset = RNG.normal(size=(bits, 3)) / 20
    state = {'basis': basis, 'correction': offset}
    found = ask(run, f'lq(bits={bits}, correction=0.5)', w, upstream, state=state)
    np.testing.assert_array_equal(found.gx, upstream)
    np.testing.assert_array_equal(found.coded(), found.y)
    for c in range(3):
        used = (basis + offset)[:, c].astype('float32')
        expected, codes = coded(w[..., c].ravel(), used, -1)
        np.testing.assert_allclose(found.y[..., c].ravel(), expected, atol=1e-5)
        gradient = upstream[..., c].ravel() @ codes / np.sqrt(w[..., c].size)
        np.testing.assert_allclose(found.gradients['correction'][:, c], gradient, rtol=1e-4)


@pytest.mark.parametrize('lower, relu', [(0.0, True), (-0.25, False), (-np.inf, False)])
@pytest.mark.parametrize('bits', [2, 4])
def test_activations(bits, lower, relu, run):
    """Values above the highest level, too; a ReLU hides what lies below zero."""
    x = np.append(RNG.normal(size=60) * 2, [0, 0, 1e30, -1e30]).astype('float32')
    if lower == -0.25:
        x = np.maximum(x, lower)
    upstream = RNG.normal(size=x.shape).astype('float32')
    basis = RNG.uniform(0.2, 0.6, size=(bits, 1))
    offset = np.append([-0.3], RNG.normal(size=bits - 1) / 20)[:, None]
    found = ask(
        run,
        f'lq(bits={bits}, correction=1.0)',
        x,
        upstream,
        half='activation',
        state={'basis': basis, 'correction': offset},
        relu=relu,
        lower=lower,
    )
    read = np.maximum(x, 0) if relu else x
    base = np.float32(lower if np.isfinite(lower) else 0)
    used = (basis + offset)[:, 0].astype('float32')
    expected, codes = coded(read - base, used, -1 if lower == -np.inf else 0)
    np.testing.assert_allclose(found.y, expected + base, atol=1e-5)
    gradient = upstream @ codes / 8
    np.testing.assert_allclose(found.gradients['correction'][:, 0], gradient, rtol=1e-4)


def test_a_correction_starts_at_nothing(run):
    weigh(quantization('lq(bits=2, correction=0.5)'), np.ones([3, 2], 'float32'))
    correction = variable('conv/weight_quant/correction')
    assert declared()[correction.op.name].lr_factor == 0.5
    assert not run(correction).any()


def test_refits_go_on_as_without(run):
    """The least-squares basis of the codes in use, not of what is corrected, is kept."""
    x = np.abs(RNG.normal(size=400)).astype('float32')
    q = quantization('lq(bits=2, correction=1.0, decay=0.0)', half='activation')
    activate(q, x)
    updates = refit([q])
    run([])
    variable('quant1/basis').load([[0.4], [0.9]], run.session)
    variable('quant1/correction').load([[0.1], [-0.2]], run.session)
    run(updates)
    _, codes = coded(x, np.float32([0.5, 0.7]), 0)
    expected, *_ = np.linalg.lstsq(codes.astype('float64'), x.astype('float64'))
    np.testing.assert_allclose(run(variable('quant1/basis'))[:, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(run(variable('quant1/correction'))[:, 0], [0.1, -0.2])


def test_levels_are_no_whole_numbers():
    weigh(quantization('lq(bits=2, correction=1.0)'), np.zeros([2, 2], 'float32'))
    states = [state for name, state in declared().items() if 'weight_quant' in name]
    assert len(states) == 2
    assert not any(state.snapped for state in states)


@pytest.mark.parametrize('value', [-1, True, 'x', float('nan')])
def test_wrong_factors(value):
    with pytest.raises(ValueError, match='correction'):
        LQ(correction=value)
    assert parse('lq(correction=0.0)') == LQ()
