"""LSQ+ against its formulas in numpy; what it shares with LSQ is in ``test_lsq.py``."""

import numpy as np
import pytest

from quant.backend import tf
from quant.lsqplus import LSQPlus
from tests.quant.towers import activate, quantization, variable, weigh

RNG = np.random.default_rng(4)


def swish(size):
    x = RNG.normal(size=size) * 2
    return (x / (1 + np.exp(-x))).astype('float32')


def placed(spec, x, step, offset, run, upstream):
    """Values, gradients of x, step and offset, and the codebook, at a step and an offset."""
    q = quantization(spec, half='activation')
    tensor = tf.constant(x)
    y = activate(q, tensor, relu=False, lower=-np.inf)
    learned = [variable('quant1/step'), variable('quant1/offset')]
    gradients = tf.gradients(y, [tensor, *learned], tf.constant(upstream))
    run([])
    for one, value in zip(learned, (step, offset)):
        one.load([value], run.session)
    (make,) = q.codebooks.values()
    return run([y, *gradients, make()])


@pytest.mark.parametrize('bits', [1, 2, 8])
@pytest.mark.parametrize('zero, offset', [(True, -0.6), (True, 0.9), (False, -0.6)])
def test_values_and_gradients(bits, zero, offset, run):
    """Both forms; an offset above zero counts as zero where zero has to be a level."""
    x = np.append(swish(200), [0, -0.0, 1e6, -1e6, 1e-30]).astype('float32')
    upstream = RNG.normal(size=x.shape).astype('float32')
    n = 2**bits - 1
    spec = f'lsqplus(bits={bits}, zero={zero})'
    y, gx, gs, go, book = placed(spec, x, 0.5, offset, run, upstream)
    if zero:
        offset = np.clip(np.round(offset / 0.5), -n, 0) * 0.5
    v = (x.astype('float64') - np.float32(offset)) / 0.5
    inside = (v >= 0) & (v <= n)
    level = np.round(np.clip(v, 0, n))
    np.testing.assert_allclose(y, level * 0.5 + offset, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(gx, np.where(inside, upstream, 0))
    scale = 1 / np.sqrt(x.size * n)
    slope = np.where(inside, level - v, level)
    np.testing.assert_allclose(gs, [scale * (upstream * slope).sum()], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(go, [scale * upstream[~inside].sum()], rtol=1e-4, atol=1e-5)
    shipped = book.levels[(x[:, None] > book.thresholds[:, 0]).sum(1), 0]
    np.testing.assert_allclose(shipped, y, rtol=1e-6, atol=1e-7)
    assert zero == bool((y[200:202] == 0).all()) and zero == bool((book.levels == 0).any())


def test_ends_and_scale_of_ibm(run):
    """At exactly an end nothing passes to x; step and offset count it as clipped, unscaled."""
    x = np.float32([-1.5, -1.0, 0.25, 0.5, 0.75])
    spec = "lsqplus(bits=2, zero=False, middle=True, gradient_scale='none', open_ends=True)"
    y, gx, gs, go, _ = placed(spec, x, 0.5, 0.0, run, np.float32([1, 2, 4, 8, 16]))
    np.testing.assert_array_equal(y, [-1, -1, 0, 0.5, 0.5])
    np.testing.assert_array_equal(gx, [0, 0, 4, 0, 0])
    np.testing.assert_array_equal(gs, [(1 + 2) * -2 + 4 * -0.5 + 8 + 16])
    np.testing.assert_array_equal(go, [1 + 2 + 8 + 16])


@pytest.mark.parametrize('bits', [2, 4])
@pytest.mark.parametrize('per_channel', [False, True])
def test_start_of_weights(per_channel, bits, run):
    w = (RNG.normal(size=(3, 3, 2, 4)) + [0, 1, -1, 5]).astype('float32')
    axes = (0, 1, 2) if per_channel else None
    reach = np.abs(w.mean(axes)) + 3 * w.std(axes, ddof=1)
    for start, divisor in (('paper', 2 ** (bits - 1)), ('lsqplus', 2**bits - 1)):
        with tf.variable_scope(start):
            spec = f"lsqplus(bits={bits}, per_channel={per_channel}, start='{start}')"
            weigh(quantization(spec), w)
        step = run(variable(f'{start}/conv/weight_quant/step'))
        np.testing.assert_allclose(step, np.atleast_1d(reach / divisor), rtol=1e-5)


def started(spec, tensors, **options):
    """Makes step and offset after the first batch."""
    q = quantization(spec, half='activation')
    for place, x in enumerate(tensors):
        activate(q, x, point=f's{place}', strongest=not place, **options)
    assert [name.rpartition('/')[2] for name in q.starts] == ['step', 'offset']
    return [start.value(tf.add_n(start.tables))[0] for start in q.starts.values()]


def test_start_by_squared_error(run):
    """Other steps and offsets near it lose more."""
    x = swish(2000)
    tensors = x[:500], x[500:]
    step, offset = run(started('lsqplus(bits=2)', tensors, relu=False, lower=-np.inf))

    def lost(step, offset):
        lowest = np.round(offset / step) * step
        return ((np.round(np.clip((x - lowest) / step, 0, 3)) * step + lowest - x) ** 2).sum()

    assert lost(step, offset) <= min(lost(1.2 * step, offset), lost(step / 1.2, offset))
    assert lost(step, offset) <= min(lost(step, offset + step), lost(step, offset - step))


@pytest.mark.parametrize('middle, below', [(False, 0), (True, 2)])
def test_start_from_minimum_to_maximum(middle, below, run):
    spec = f"lsqplus(bits=2, middle={middle}, start='ibm')"
    x = np.float32([-1, 0, 5]), np.float32([-3, 1])
    step, offset = run(started(spec, x, relu=False, lower=-np.inf))
    np.testing.assert_allclose([step, offset], [5 / 3, -2 + below * 5 / 3], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('spec', ['lsqplus', 'lsqplus(zero=False)', "lsqplus(start='ibm')"])
def test_degenerate_values_start_finite(spec, run):
    found = []
    for place, values in enumerate(([0.0] * 4, [], [5.0] * 3, [1e30, -1e30, 1e-42])):
        with tf.variable_scope(f'net{place}'):
            found.append(started(spec, [np.float32(values)], relu=False, lower=-np.inf))
    steps, offsets = np.transpose(run(found))
    assert np.isfinite(steps).all() and (steps > 0).all() and np.isfinite(offsets).all()


def test_behind_a_relu_it_is_lsq(run):
    x = RNG.normal(size=50).astype('float32')
    y = [activate(quantization(f'{name}(bits=2)'), x) for name in ('lsq', 'lsqplus')]
    np.testing.assert_array_equal(*run(y))


@pytest.mark.parametrize(
    'options, message',
    [
        ({'start': 'mean'}, "start='mean' must be one of 'paper', 'lsqplus', 'ibm'"),
        ({'zero': 1}, 'zero=1 must be True or False'),
        ({'bits': 1, 'middle': True}, 'middle with bits=1: no integer is positive'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LSQPlus(**options)
