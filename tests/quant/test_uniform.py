"""Uniform levels against their formulas in numpy: values, gradients, scales, codebooks."""

import itertools

import numpy as np
import pytest

from quant.backend import tf
from quant.specs import with_options
from quant.uniform import Slopes, codebook, gradient_scale, nearest, positive, quantize, snapped
from tests.quant.asking import ask

SLOPES = [
    Slopes(),
    Slopes(delta=0.2),
    Slopes(delta=0.2, inner=False),
    Slopes(passes='open', clip_ends=True),
    Slopes(clip_ends=True, inner=False),
    Slopes(delta=0.2, passes='all'),
]


def oracle(x, step, low, high, offset, slopes, upstream, *, floor=False):
    """Values and the gradients of x, step and offset in float64; one step per column."""
    v = (x.astype('float64') - offset) / step
    end = high + floor
    clipped = np.clip(v, low, end)
    rounded = np.minimum(np.floor(clipped), high) if floor else np.round(clipped)
    at_end = (v == low) | (v == end)
    beyond = (v < low) | (v > end)
    scaled = upstream * (1 + slopes.delta * np.sign(upstream) * (clipped - rounded))
    stopped = {'closed': beyond, 'open': beyond | at_end, 'all': np.zeros_like(beyond)}
    gx = np.where(stopped[slopes.passes], 0, scaled)
    outside = beyond | (at_end & slopes.clip_ends)
    within = (upstream * rounded - scaled * clipped) * slopes.inner
    axes = tuple(range(x.ndim - 1)) if np.size(step) > 1 else None
    toward_step = np.where(outside, upstream * rounded, within).sum(axes)
    toward_offset = np.where(outside, upstream, upstream - scaled).sum(axes)
    return rounded * step + offset, gx, toward_step, toward_offset


def hard_inputs(step, low, high, offset):
    """[n, channels] noise, levels, ties, ends with their neighbours, zeros, values far outside."""
    rng = np.random.default_rng(high)
    columns = []
    for size, middle in zip(np.atleast_1d(step), np.atleast_1d(offset)):
        levels = np.arange(low, high + 1, dtype='float32') * size + middle
        ties = levels[:-1] + size / 2
        ends = levels[[0, -1]]
        noise = rng.normal(size=60) * size * (high - low + 1) / 2 + middle
        far = [0, -0.0, 1e-30, 1e6, -1e6, 1e30, -1e30]
        beside = [*ends * np.float32(1 + 1e-6), *ends * np.float32(1 - 1e-6)]
        columns.append(np.concatenate([noise, levels, ties, ends, beside, far]))
    return np.stack(columns, 1).astype('float32')


# Powers of two, so that ties and ends are exact.
@pytest.mark.parametrize('slopes', SLOPES)
@pytest.mark.parametrize(
    'low, high, step, offset',
    [
        (0, 1, [0.25], [0.0]),
        (0, 3, [0.5], [-0.25]),
        (-2, 1, [0.5], [0.25]),
        (-8, 7, [0.25, 2.0, 2**-20], [0.0, 1.0, 2**-21]),
        (0, 255, [0.5], [-64.0]),
    ],
)
def test_values_and_gradients(low, high, step, offset, slopes, run):
    check_values_and_gradients(low, high, step, offset, slopes, run)


@pytest.mark.parametrize('slopes', SLOPES[1::2])
def test_the_level_below(slopes, run):
    check_values_and_gradients(-2, 1, [0.5], [0.25], slopes, run, floor=True)


def check_values_and_gradients(low, high, step, offset, slopes, run, *, floor=False):
    step, offset = np.float32(step), np.float32(offset)
    x = hard_inputs(step, low, high, offset)
    upstream = np.random.default_rng(1).normal(size=x.shape).astype('float32')
    expected = oracle(x, step, low, high, offset, slopes, upstream, floor=floor)
    x, step, offset = inputs = [tf.constant(x), tf.constant(step), tf.constant(offset)]
    options = {'slopes': slopes, 'scale': 0.5, 'floor': floor}
    y = quantize(x, step, low, high, offset=offset, **options)
    y, gx, gs, go = run([y, *tf.gradients(y, inputs, tf.constant(upstream))])
    np.testing.assert_array_equal(y, expected[0].astype('float32'))
    np.testing.assert_allclose(gx, expected[1], rtol=1e-6, atol=1e-6)
    scale = np.abs(upstream).sum() * high
    np.testing.assert_allclose(gs, 0.5 * expected[2], rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(go, 0.5 * expected[3], rtol=1e-5, atol=1e-6 * scale)


def test_what_is_not_a_number_stays_none(run):
    x = np.float32([0.5, np.nan, -np.inf, np.inf])
    inputs = [tf.constant(x), tf.constant([0.5])]
    y = quantize(*inputs, 0, 3)
    y, gx, gs = run([y, *tf.gradients(y, inputs)])
    np.testing.assert_array_equal(y, [0.5, np.nan, 0, 1.5])
    np.testing.assert_array_equal(gx, [1, 0, 0, 0])
    assert np.isnan(gs).all()


def test_a_step_through_zero(run):
    step = tf.constant([-2.0, -1e-30, 0.0, 1e-30, 2.0])
    size = positive(step)
    size, gradient = run([size, tf.gradients(size, step)[0]])
    np.testing.assert_allclose(size, [2, 1e-12, 1e-12, 1e-12, 2])
    np.testing.assert_array_equal(gradient, [-1, -1, 1, 1, 1])


def test_offsets_at_which_zero_is_a_level(run):
    offset = tf.constant([-0.6, -0.4, 0.7, -9.0])
    y = snapped(offset, tf.constant([0.5]), 0, 3)
    y, gradient = run([y, tf.gradients(y, offset)[0]])
    np.testing.assert_array_equal(y, [-0.5, -0.5, 0, -1.5])
    np.testing.assert_array_equal(gradient, [1, 1, 1, 1])


def test_gradient_scales(run):
    x = tf.zeros([3, 5, 4])
    found = run([gradient_scale(x, 4, 3, kind) for kind in ('tensor', 'channel')])
    np.testing.assert_allclose(found, [60**-0.5 / 3**0.5, 15**-0.5 / 3**0.5], rtol=1e-6)
    assert gradient_scale(x, 4, 3, 'none') == 1
    assert np.isfinite(run(gradient_scale(tf.zeros([0, 4]), 1, 3, 'tensor')))


@pytest.mark.parametrize('low, high', [(-1, 0), (-2, 1), (-4, 3), (-8, 7)])
def test_zero_between_two_levels_takes_the_upper_one(low, high, run):
    """Trained and shipped: many weights are exactly zero."""
    step = tf.constant([0.37])
    zeros = tf.constant([0.0, -0.0])
    y, book = run([nearest(zeros, step, low, high, step / 2), codebook(step, low, high, step / 2)])
    shipped = book.levels[(np.zeros([2, 1]) > book.thresholds[:, 0]).sum(1), 0]
    np.testing.assert_array_equal(y, np.float32([0.185, 0.185]))
    np.testing.assert_array_equal(shipped, y)
    np.testing.assert_allclose(book.levels, -book.levels[::-1], rtol=1e-6)


def test_zero_that_a_bound_moves_between_two_levels_takes_the_even_one(run):
    """Behind hard swish, whose lowest value is -0.375, zero lies at 1.5 steps of a quarter."""
    step = tf.constant([0.25])
    y, book = run([nearest(tf.constant([0.375]), step, 0, 3), codebook(step, 0, 3, -0.375)])
    shipped = book.levels[(book.thresholds < 0).sum(), 0]
    assert shipped == y[0] - 0.375 == 0.125


@pytest.mark.parametrize(
    'spec, bits',
    [*itertools.product(['lsq(centred=True)', 'ewgs'], [1, 2, 4]), ('sawb', 2), ('sawb', 4)],
)
def test_what_an_offset_swallows_is_shipped_as_it_was_trained(spec, bits, run):
    """A weight of zero is a tie, and so is one that the offset of half a step swallows."""
    tiny = np.float32(2.0 ** -np.arange(20, 30))
    w = np.concatenate([tiny, -tiny, [0, -0.0, 1e-20, -1e-20, 1, -1]])[:, None]
    w = w.astype('float32')
    for factor in (1, 1.7, 1e20):
        found = ask(run, with_options(spec, {'bits': bits}), w * np.float32(factor))
        np.testing.assert_array_equal(np.sign(found.coded()), np.sign(found.y))
