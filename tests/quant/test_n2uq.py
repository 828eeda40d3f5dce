"""N2UQ against its formulas in numpy: values, gradients, starts, codebooks, degenerate input."""

import numpy as np
import pytest

from quant import specs as registry
from quant.backend import tf
from quant.n2uq import N2UQ, Thresholds, quantize
from quant.state import Kind, declared
from quant.uniform import positive
from tests.quant.towers import activate, quantization, shipped, variable, weigh

RNG = np.random.default_rng(0)
NAMES = ['interval', 'start', 'scale1', 'scale2']


def oracle(x, learned, upstream):
    """Values and gradients of x and of what is learned, in float64."""
    interval, start, scale1, scale2 = (np.float64(value) for value in learned)
    n = len(interval)
    lengths = np.maximum(interval, 1e-3)
    ends = start + np.concatenate([[0], np.cumsum(lengths)])
    u = x.astype('float64') * scale1
    levels = (u[:, None] > ends[:-1] + lengths / 2).sum(1) * 2 / n
    through = np.zeros(x.size)
    of_interval = np.zeros(n)
    for i in range(n):
        inside = (u > ends[i]) & (u <= ends[i + 1])
        slope = 2 / n / lengths[i]
        g = upstream[inside] * scale2 * slope
        through[inside] = g
        of_interval[:i] -= g.sum()
        of_interval[i] -= (g * (u[inside] - ends[i])).sum() / lengths[i]
    of_interval[interval <= 1e-3] = 0
    of_scales = (through * x).sum(), (upstream * levels).sum()
    return levels * scale2, through * scale1, of_interval, -through.sum(), *of_scales


def run_quantizer(run, x, learned, upstream):
    tensors = [tf.constant(value, tf.float32) for value in learned]
    interval, start, *scales = tensors
    values = tf.constant(x)
    y = quantize(values, Thresholds(interval, start, *map(positive, scales)))
    return run([y, *tf.gradients(y, [values, *tensors], tf.constant(upstream))])


def hard_inputs(learned):
    """Noise, zeros, thresholds and ends with their neighbours, values far outside."""
    interval, start, scale1, _ = (np.float64(value) for value in learned)
    ends = start + np.concatenate([[0], np.cumsum(np.maximum(interval, 1e-3))])
    places = np.concatenate([ends, (ends[:-1] + ends[1:]) / 2]) / scale1
    noise = RNG.normal(size=300) * 1.5
    beside = [places * (1 + 1e-5), places * (1 - 1e-5), places + 1e-5]
    x = np.concatenate([noise, *beside, [0, -0.0, 1e-30, -1e30, 1e30]]).astype('float32')
    # Rounding decides about the rest.
    apart = np.abs(x[:, None].astype('float64') - places).min(1)
    return x[apart > 3e-6 * np.maximum(1, np.abs(x))]


@pytest.mark.parametrize(
    'interval',
    [
        [2.3],
        [0.5, 1.25, 0.25],
        RNG.uniform(0.05, 0.4, 7),
        RNG.uniform(0.05, 0.2, 15),
        RNG.uniform(0.002, 0.02, 255),
    ],
)
def test_values_and_gradients(interval, run):
    learned = interval, [0.12], [0.83], [1.27]
    x = hard_inputs(learned)
    upstream = RNG.normal(size=x.size).astype('float32')
    found = run_quantizer(run, x, learned, upstream)
    for ours, expected in zip(found, oracle(x, learned, upstream)):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-4)


def test_gradients_of_intervals_below_the_smallest(run):
    learned = [0.4, -0.2, 0.0005], [-0.1], [1.0], [1.0]
    x = RNG.uniform(-0.2, 0.4, 2000).astype('float32')
    upstream = RNG.normal(size=x.size).astype('float32')
    _, gx, of_interval, *_ = run_quantizer(run, x, learned, upstream)
    expected = oracle(x, learned, upstream)
    np.testing.assert_array_equal(of_interval[1:], 0)
    np.testing.assert_allclose(of_interval[0], expected[2][0], rtol=1e-3)
    np.testing.assert_allclose(gx.max(), expected[1].max(), rtol=1e-3)


def test_the_gradient_is_that_of_a_line(run):
    """The difference quotient of the line through the ends, for everything but the levels."""
    learned = [np.float64(v) for v in ([0.5, 1.25, 0.25], [0.1], [0.9], [1.2])]

    def line(x, interval, start, scale1, scale2):
        ends = start + np.concatenate([[0], np.cumsum(interval)])
        return scale2 * np.interp(x * scale1, ends, np.arange(4) * 2 / 3)

    x = np.float32([0.33, 0.8, 1.7, 2.05, -1, 5])
    found = run_quantizer(run, x, learned, np.ones_like(x))
    for k in range(3):
        for i in range(learned[k].size):
            moved = [value.copy() for value in learned]
            moved[k][i] += 1e-6
            slope = (line(x, *moved) - line(x, *learned)).sum() / 1e-6
            np.testing.assert_allclose(found[2 + k][i], slope, rtol=1e-4)


def test_negative_scales_are_mirror_images(run):
    x = RNG.normal(size=50).astype('float32')
    learned = [0.5, 1.25, 0.25], [0.1], [0.9], [1.2]
    mirrored = [0.5, 1.25, 0.25], [0.1], [-0.9], [-1.2]
    found = run_quantizer(run, x, learned, np.ones_like(x))
    turned = run_quantizer(run, x, mirrored, np.ones_like(x))
    for i, sign in enumerate([1, 1, 1, 1, -1, -1]):
        np.testing.assert_array_equal(found[i], sign * turned[i])


def test_degenerate_activations_are_finite(run):
    x = np.float32([[0, 0, 0], [1e-30, -1e-30, 1e-42], [1e30, -1e30, 3]])
    for learned in (
        ([0.0] * 3, [0.0], [0.0], [0.0]),
        ([-5.0, 1e30, 1e-30], [-1.0], [1e-30], [1.0]),
    ):
        for result in run_quantizer(run, x, learned, np.ones_like(x)):
            assert np.isfinite(result).all()


def test_empty_batch(run):
    x = np.zeros([0, 3], 'float32')
    learned = [2 / 3] * 3, [0.0], [1.0], [1.0]
    y, *gradients = run_quantizer(run, x, learned, x)
    assert y.shape == (0, 3) and not any(value.any() for value in gradients)


@pytest.mark.parametrize('bits', [1, 4])
def test_what_is_no_number_stays_none(bits, run):
    q = quantization(f'n2uq(bits={bits})')
    x = np.float32([[np.nan, 1], [0.5, 1]])
    y = run([activate(q, x), weigh(q, x)])
    np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x))
    np.testing.assert_array_equal(np.isnan(y[1]), [[True, False]] * 2)


@pytest.mark.parametrize('bits', [1, 5])
def test_activations_of_a_layer(bits, run):
    """Starts, the ReLU before, a lower bound, and what is shipped."""
    n = 2**bits - 1
    x = np.concatenate([RNG.normal(size=90), [0, -0.0, 9]]).astype('float32')
    q = quantization(f'n2uq(bits={bits})')
    results = []
    for options in ({}, {'relu': False, 'lower': -0.25}, {'relu': False, 'lower': -np.inf}):
        values = tf.constant(x)
        y = activate(q, values, **options)
        results.append((y, tf.gradients(y, values)[0], q.codebooks['quant1']()))
    starts = run([variable(f'quant1/{name}') for name in NAMES])
    for found, expected in zip(starts, ([2 / n] * n, [0], [1], [1])):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for (y, gradient, book), lower in zip(run(results), (0, -0.25, 0)):
        shifted = np.clip(x - lower, 0, 2)
        np.testing.assert_allclose(np.abs(y - lower - shifted).max(), 1 / n, atol=0.3 / n)
        np.testing.assert_array_equal(gradient > 0, (x - lower > 0) & (x - lower <= 2))
        np.testing.assert_array_equal(shipped(book, x), y)
        index = np.arange(n + 1)[:, None]
        np.testing.assert_allclose(book.offset + book.step * index, book.levels, atol=1e-6)


def test_thresholds_that_no_rectified_value_reaches(run):
    q = quantization('n2uq(bits=2)')
    x = np.float32([-3, 0, 0.2, 9])
    y = activate(q, x)
    book = q.codebooks['quant1']()
    run(y)
    variable('quant1/start').load([-1.2], run.session)
    y, book = run([y, book])
    np.testing.assert_array_equal(y, np.float32([4, 4, 4, 6]) / 3)
    np.testing.assert_array_equal(book.thresholds[:2, 0], -np.inf)
    np.testing.assert_array_equal(shipped(book, x), y)


@pytest.mark.parametrize('bits', [1, 2, 8])
def test_weights(bits, run):
    n = 2**bits - 1
    w = RNG.normal(size=(3, 3, 4, 5)).astype('float32') * np.float32([1, 1e-3, 64, 1, 1e-30])
    w[..., 3] = 0
    w[0, 0, 0] = [0, -0.0, 1e-3, 0, 0]
    upstream = RNG.normal(size=w.shape).astype('float32')
    results = []
    for divided in (False, True):
        q = quantization(f'n2uq(bits={bits}, divided={divided})')
        values = tf.constant(w)
        with tf.variable_scope(f'divided{divided}'):
            y = weigh(q, values)
            (make,) = q.codebooks.values()
        results.append((y, tf.gradients(y, values, tf.constant(upstream))[0], make()))
    size = np.abs(w.astype('float64')).mean((0, 1, 2)) * n / 2 ** (bits - 1)
    ratio = np.clip(w / np.where(size, size, 1), -1, 1)
    expected = size * (2 * np.round((ratio + 1) * n / 2) / n - 1)
    inverse = np.where(size, 1 / np.where(size, size, 1), 0)
    for (y, gradient, book), factor in zip(run(results), (1, inverse)):
        np.testing.assert_allclose(y, expected, rtol=1e-4 if bits == 8 else 1e-5)
        np.testing.assert_allclose(gradient, upstream * factor, rtol=1e-6)
        np.testing.assert_allclose(shipped(book, w), y, rtol=1e-4)
        assert (np.sign(y[0, 0, 0, :2]) == (-1 if bits == 1 else 1)).all()


@pytest.mark.parametrize('divided', [False, True])
def test_delta_scales_gradients_of_weights_by_the_rounding_error(divided, run):
    """In steps; none is lost beyond the ends."""
    w = RNG.normal(size=(40, 3)).astype('float32') * np.float32([1, 1e-3, 0])
    upstream = RNG.normal(size=w.shape).astype('float32')
    q = quantization(f'n2uq(bits=2, delta=0.2, divided={divided})', half='weight')
    values = tf.constant(w)
    found = run(tf.gradients(weigh(q, values), values, tf.constant(upstream))[0])
    size = np.abs(w.astype('float64')).mean(0) * 3 / 2
    positive = np.where(size, size, 1)
    exact = (np.clip(w / positive, -1, 1) + 1) * 1.5
    expected = upstream + 0.2 * np.abs(upstream) * (exact - np.round(exact))
    if divided:
        expected = np.where(size, expected / positive, 0)
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=1e-4, atol=1e-4)
    assert np.isfinite(found).all()


def test_weights_that_float32_does_not_tell_from_zero_take_its_level(run):
    """What is shipped is what was trained: 1 + w / S is 1 there."""
    w = np.float32([[1.0], [-1.0], [0.5], [-1e-8], [1e-8], [-1e-30], [-2e-7], [2e-7]])
    for bits in (1, 2):
        q = quantization(f'n2uq(bits={bits})', half='weight')
        with tf.variable_scope(f'bits{bits}'):
            y = weigh(q, w)
            (make,) = q.codebooks.values()
        y, book = run([y, make()])
        np.testing.assert_allclose(shipped(book, w), y, rtol=1e-6)


def test_thresholds_of_sizes_can_be_private():
    q = quantization('n2uq(bits=2, private=True, lr_factor=0.5, decay_factor=2)')
    for point in ('s8', 's4'):
        activate(q, np.ones([2], 'float32'), point=point)
    names = {f'quant1/{point}/{name}' for point in ('s8', 's4') for name in NAMES}
    assert {v.op.name for v in tf.trainable_variables()} == names == set(declared())
    for state in declared().values():
        assert (state.kind, state.fresh) == (Kind.QUANTIZER, True)
        assert (state.lr_factor, state.decay_factor) == (0.5, 2)


def test_stored_values():
    assert registry.parse('n2uq(bits=2)').stored_values(16) == 16


@pytest.mark.parametrize(
    'options, message',
    [({'bits': 9}, 'bits=9'), ({'divided': 1}, 'divided=1'), ({'lr_factor': -1}, 'factor=-1')],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        N2UQ(**options)
