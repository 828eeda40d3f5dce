"""SAWB against its formulas in numpy."""

import numpy as np
import pytest

from quant.backend import tf
from quant.sawb import SAWB, WITH_ZERO, WITHOUT_ZERO
from quant.specs import parse
from tests.quant.towers import quantization, shipped, weigh

RNG = np.random.default_rng(4)


def run_weights(spec, w, run, upstream=None):
    """Values, gradient of w, and the codebook."""
    q = quantization(spec, half='weight')
    tensor = tf.constant(w)
    y = weigh(q, tensor)
    if upstream is None:
        upstream = np.ones_like(w)
    (gradient,) = tf.gradients(y, tensor, tf.constant(upstream))
    (make,) = q.codebooks.values()
    return run([y, gradient, make()])


@pytest.mark.parametrize('clipped, per_channel', [(False, False), (True, True)])
@pytest.mark.parametrize(
    'zero, bits', [*((False, bits) for bits in WITHOUT_ZERO), *((True, bits) for bits in WITH_ZERO)]
)
def test_values_and_gradients(zero, bits, clipped, per_channel, run):
    w = (RNG.normal(size=(3, 3, 8, 4)) * [1, 0.01, 30, 1]).astype('float32')
    w[0, 0, 0] = 0
    upstream = RNG.normal(size=w.shape).astype('float32')
    options = f'bits={bits}, zero={zero}, clipped={clipped}, per_channel={per_channel}'
    y, gx, book = run_weights(f'sawb({options})', w, run, upstream)
    axes = (0, 1, 2) if per_channel else None
    wide = w.astype('float64')
    c1, c2 = (WITH_ZERO if zero else WITHOUT_ZERO)[bits]
    clip = c1 * np.sqrt((wide**2).mean(axes)) - c2 * np.abs(wide).mean(axes)
    clip = np.where(clip > 0, clip, np.abs(wide).max(axes))
    steps = 2**bits - 1 - zero
    ratio = (np.clip(w / clip, -1, 1) / 2 + 0.5) * steps
    expected = (2 * np.round(ratio) / steps - 1) * clip
    near_tie = np.abs(ratio % 1 - 0.5) < 1e-4
    near_tie[0, 0, 0] = False
    same = np.isclose(y, expected, rtol=1e-5, atol=1e-6 * np.abs(clip).max())
    assert (same | near_tie).all()
    np.testing.assert_array_equal(gx, np.where(clipped & (np.abs(w) > clip), 0, upstream))
    assert len(book.levels) == steps + 1
    np.testing.assert_allclose(book.levels[-1], np.atleast_1d(clip), rtol=1e-5)
    np.testing.assert_array_equal(shipped(book, y), y)
    np.testing.assert_array_equal(shipped(book, np.zeros([1, 4], 'float32')), y[0, 0, :1])
    assert (y[0, 0, 0] == 0).all() == zero


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('bits, zero', [(2, False), (4, False), (8, True)])
def test_degenerate_weights_are_finite(bits, zero, per_channel, run):
    """Where no clip fits, equally large ones keep their size; zeros come out at next to zero."""
    columns = [[0.0] * 4, [0.5, 0.5, -0.5, 0.5], [1e30, -1e30] * 2, [1e-30] * 4, [1e-42] * 4]
    w = np.float32(np.transpose(columns))
    y, gx, book = run_weights(f'sawb(bits={bits}, zero={zero}, per_channel={per_channel})', w, run)
    assert np.isfinite(y).all() and np.isfinite(book.levels).all()
    np.testing.assert_array_equal(gx, np.ones_like(w))
    if per_channel:
        np.testing.assert_allclose(y[:, 0], 0, atol=1e-9)
    if per_channel and bits > 2:
        np.testing.assert_allclose(y[:, 1], w[:, 1], rtol=1e-5)


def test_delta_scales_gradients_by_the_rounding_error(run):
    w = RNG.normal(size=(50, 2)).astype('float32')
    upstream = RNG.normal(size=w.shape).astype('float32')
    y, gx, book = run_weights('sawb(bits=2, delta=0.2)', w, run, upstream)
    error = np.clip(w / book.step, -1.5, 1.5) - y / book.step
    expected = upstream * (1 + 0.2 * np.sign(upstream) * error)
    np.testing.assert_allclose(gx, expected, rtol=1e-4, atol=1e-5)


def test_it_has_no_variables_and_refuses_activations():
    weigh(quantization('sawb', half='weight'), np.ones([4, 5], 'float32'))
    assert not tf.global_variables()
    assert 'weights alone' in parse('sawb').refuses('body', weights=False)
    assert parse('sawb').stored_values(16) == 1
    assert parse('sawb(zero=True, per_channel=True)').stored_values(16) == 16


@pytest.mark.parametrize(
    'options, message',
    [
        ({'bits': 6}, 'bits=6 with zero=False: it has 2, 3, 4, 5, 8'),
        ({'bits': 3, 'zero': True}, 'bits=3 with zero=True: it has 2, 4, 7, 8'),
        ({'bits': 1}, 'bits=1 with zero=False'),
        ({'clipped': 'yes'}, "clipped='yes' must be True or False"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SAWB(**options)
