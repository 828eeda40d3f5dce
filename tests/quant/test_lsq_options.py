"""LSQ's options against their formulas in numpy; its plain form is in ``test_lsq.py``."""

import numpy as np
import pytest

from quant.backend import tf
from quant.lsq import LSQ
from tests.quant.towers import activate, quantization, variable, weigh

RNG = np.random.default_rng(4)
W = RNG.normal(size=(3, 3, 2, 4)).astype('float32') * np.float32([1, 0.01, 30, 1])
W[0, 0] = 0
UPSTREAM = RNG.normal(size=W.shape).astype('float32')


def run_weights(spec, w, run):
    """Values, gradients of w and of the step, the step, the codebook."""
    q = quantization(spec)
    tensor = tf.constant(w)
    with tf.variable_scope('conv'):
        y = q.weight(tensor, scope='conv', role='body', init_std=9.0)
    step = variable('conv/weight_quant/step')
    gradients = tf.gradients(y, [tensor, step], tf.constant(UPSTREAM))
    (make,) = q.codebooks.values()
    return run([y, *gradients, step, make()])


@pytest.mark.parametrize('bits, per_channel', [(1, False), (2, False), (2, True), (4, True)])
def test_centred_levels(bits, per_channel, run):
    """Values, gradients and starts are LSQ's for levels (k + 1/2) s; zeros take the upper one."""
    spec = f'lsq(bits={bits}, centred=True, per_channel={per_channel})'
    y, gx, gs, step, book = run_weights(spec, W, run)
    axes = (0, 1, 2) if per_channel else None
    most = 2 ** (bits - 1) - 0.5
    mean = np.abs(W).mean(axes)
    np.testing.assert_allclose(step, np.atleast_1d(2 * mean / np.sqrt(most)), rtol=1e-5)
    v = W.astype('float64') / step
    inside = np.abs(v) <= most
    level = np.clip(np.floor(v) + 0.5, -most, most)
    np.testing.assert_allclose(y, level * step, rtol=1e-6)
    np.testing.assert_array_equal(gx, np.where(inside, UPSTREAM, 0))
    slope = np.where(inside, level - v, level)
    expected = (UPSTREAM * slope).sum(axes) / np.sqrt(W.size * most)
    np.testing.assert_allclose(gs, np.atleast_1d(expected), rtol=1e-4, atol=1e-5)
    assert (y[0, 0] > 0).all()
    np.testing.assert_allclose(book.levels, -book.levels[::-1], rtol=1e-6)
    assert len(book.levels) == 2**bits


def test_gradient_scale_by_channel(run):
    """N counts the values of a channel, or nothing is scaled."""
    found = {}
    for kind in ('tensor', 'channel', 'none'):
        with tf.Graph().as_default():
            spec = f"lsq(bits=2, per_channel=True, gradient_scale='{kind}')"
            found[kind] = run_weights(spec, W, lambda fetches: evaluated(fetches))[2]
    np.testing.assert_allclose(found['channel'], 2 * found['tensor'], rtol=1e-5)
    np.testing.assert_allclose(found['none'], np.sqrt(W.size) * found['tensor'], rtol=1e-5)


def evaluated(fetches):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches)


def test_delta_scales_gradients_by_the_rounding_error(run):
    y, gx, gs, step, _ = run_weights('lsq(bits=2, delta=0.2)', W, run)
    v = W.astype('float64') / step
    inside = (v >= -2) & (v <= 1)
    clipped = np.clip(v, -2, 1)
    level = np.round(clipped)
    scaled = UPSTREAM * (1 + 0.2 * np.sign(UPSTREAM) * (clipped - level))
    np.testing.assert_allclose(gx, np.where(inside, scaled, 0), rtol=1e-5, atol=1e-6)
    slope = np.where(inside, UPSTREAM * level - scaled * v, UPSTREAM * clipped)
    np.testing.assert_allclose(gs, [slope.sum() / np.sqrt(W.size)], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('options', ['', ', centred=True', ', per_channel=True'])
def test_weights_start_by_squared_error(options, run):
    """Steps a fifth smaller or larger lose more."""
    spec = f"lsq(bits=2, start='error'{options})"
    _, _, _, step, _ = run_weights(spec, W, run)
    centre = 0.5 if 'centred' in options else 0.0
    axes = (0, 1, 2) if len(step) > 1 else None

    def lost(step):
        levels = np.round(np.clip(W / step - centre, -2, 1)) + centre
        return ((levels * step - W) ** 2).sum(axes)

    assert (lost(step) <= lost(1.2 * step)).all() and (lost(step) <= lost(step / 1.2)).all()


@pytest.mark.parametrize('lower, low, high', [(0.0, 0, 3), (-np.inf, -2, 1)])
def test_activations_start_by_squared_error(lower, low, high, run):
    x = RNG.normal(size=999).astype('float32')
    if low == 0:
        x = np.abs(x)
    q = quantization("lsq(bits=2, start='error')")
    activate(q, x[:500], relu=False, lower=lower)
    activate(q, x[500:], relu=False, lower=lower, point='s4', strongest=False)
    (start,) = q.starts.values()
    (step,) = run(start.value(tf.add_n(start.tables)))

    def lost(step):
        return ((np.round(np.clip(x / step, low, high)) * step - x) ** 2).sum()

    assert lost(step) <= lost(1.2 * step) and lost(step) <= lost(step / 1.2)


def test_zeros_start_at_one(run):
    for options in ('', ', centred=True', ', per_channel=True'):
        with tf.variable_scope(f'net{len(options)}'):
            weigh(quantization(f"lsq(bits=2, start='error'{options})"), np.zeros([4, 5], 'float32'))
    steps = run(tf.global_variables())
    assert [step.tolist() for step in steps] == [[1], [1], [1] * 5]


@pytest.mark.parametrize(
    'options, message',
    [
        ({'start': 'max'}, "start='max' must be one of 'mean', 'error'"),
        ({'gradient_scale': 1}, "gradient_scale=1 must be one of 'tensor', 'channel', 'none'"),
        ({'delta': -1}, 'delta=-1 must be at least 0'),
        ({'centred': True, 'symmetric': True}, 'symmetric with centred'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LSQ(**options)
