"""Trained ternary quantization against its formulas in numpy."""

import numpy as np
import pytest

from quant import Rule
from quant.backend import tf
from quant.state import Kind, declared
from tests.quant.asking import ask, check_finite


def inputs():
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 3, 2, 4)).astype('float32') * np.float32([1, 0.1, 0.02, 0])
    w.flat[:2] = 0.0, -0.0
    return w, rng.normal(size=w.shape)


@pytest.mark.parametrize('positive, negative', [(1.0, 1.0), (0.13, 0.21), (-0.13, 0.21), (0.0, 2)])
def test_values_and_gradients(positive, negative, run):
    w, upstream = inputs()
    state = {'positive': [positive], 'negative': [negative]}
    found = ask(run, 'ttq', w, upstream, state=state)
    edge = np.float32(0.05) * np.abs(w).max()
    above, below = w > edge, w < -edge
    up, down = abs(positive), abs(negative)
    np.testing.assert_allclose(found.y, up * above - down * below, rtol=1e-6)
    slope = np.where(above, up, np.where(below, down, 1))
    np.testing.assert_allclose(found.gx, upstream * slope, rtol=1e-5)
    expected = [-1 if positive < 0 else 1, -1] * np.array(
        [(upstream * above).sum(), (upstream * below).sum()]
    )
    gradients = [found.gradients['positive'][0], found.gradients['negative'][0]]
    np.testing.assert_allclose(gradients, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.coded(), found.y)


def test_both_scales_start_at_one(run):
    found = ask(run, 'ttq', inputs()[0])
    assert found.state == {'positive': [1], 'negative': [1]}


def test_scales_through_zero_are_finite(run):
    for scale in (0.0, 1e-30, -1e-30):
        check_finite(ask(run, 'ttq', *inputs(), state={'positive': [scale], 'negative': [scale]}))


def test_scales_are_declared(run):
    ask(run, 'ttq', inputs()[0])
    assert {v.op.name for v in tf.trainable_variables()} == set(declared())
    assert {(s.kind, s.fresh) for s in declared().values()} == {(Kind.QUANTIZER, True)}


def test_a_normalisation_has_to_follow():
    with pytest.raises(ValueError, match='weights of role head: no normalisation follows'):
        Rule(roles=('head',), weight='ttq')
