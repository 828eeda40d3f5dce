"""LSQ against its formulas in numpy: values, gradients, starts, degenerate input, codebooks."""

import numpy as np
import pytest

from quant import Policy, QuantizationOptions, Rule
from quant import specs as registry
from quant.backend import tf
from quant.lsq import LSQ
from quant.scope import Quantization
from quant.state import Kind, declared
from quant.uniform import codebook, gradient_scale, positive, quantize
from quant.updates import starts
from tests.quant.towers import activate, quantization, variable, weigh

RANGES = [(0, 1), (0, 3), (0, 255), (-2, 1), (-1, 1), (-4, 3), (-128, 127)]
each_range = pytest.mark.parametrize('low, high', RANGES)


def oracle(x, step, low, high, upstream):
    """Values, gradient of x and gradient of the step in float64; one step per column."""
    ratio = x.astype('float64') / step
    inside = (ratio >= low) & (ratio <= high)
    clipped = np.clip(ratio, low, high)
    y = np.round(clipped) * step
    slope = np.where(inside, np.round(clipped) - ratio, clipped)
    scale = 1 / np.sqrt(x.size * high)
    axes = tuple(range(x.ndim - 1)) if np.size(step) > 1 else None
    return y, np.where(inside, upstream, 0), scale * np.sum(upstream * slope, axes)


def hard_inputs(step, low, high):
    """Noise, zeros, levels, ties, both ends with their neighbours, values far outside."""
    levels = np.arange(low, high + 1, dtype='float32') * np.float32(step)
    ties = levels[:-1] + np.float32(step) / 2
    ends = levels[[0, -1]]
    beside = [ends * np.float32(1 + 1e-6), ends * np.float32(1 - 1e-6), [1e-6, -1e-6]]
    noise = np.random.default_rng(high).normal(size=60) * step * (high - low) / 2
    return np.concatenate([noise, levels, ties, *beside, [0, -0.0, 1e6, -1e6]]).astype('float32')


def run_quantizer(run, x, step, low, high, upstream):
    x, step = tf.constant(x), tf.constant(np.atleast_1d(step).astype('float32'))
    scale = gradient_scale(x, 1, high, 'tensor')
    y = quantize(x, positive(step), low, high, scale=scale)
    return run([y, *tf.gradients(y, [x, step], tf.constant(upstream))])


@each_range
def test_values_and_gradients(low, high, run):
    # A power of two, so that ties are exact.
    x = hard_inputs(0.25, low, high)
    upstream = np.random.default_rng(1).normal(size=x.shape).astype('float32')
    expected = oracle(x, 0.25, low, high, upstream)
    y, gx, gs = run_quantizer(run, x, 0.25, low, high, upstream)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(gx, expected[1])
    np.testing.assert_allclose(gs[0], expected[2], rtol=1e-4, atol=1e-4)


def test_ties_go_to_the_even_integer(run):
    x = np.float32([0.5, 1.5, 2.5, -0.5, -1.5])
    y, _, _ = run_quantizer(run, x, 1.0, -4, 3, np.ones_like(x))
    np.testing.assert_array_equal(y, [0, 2, 2, 0, -2])


def test_steps_per_channel(run):
    rng = np.random.default_rng(2)
    steps = np.float32([0.25, 1e-4, 64.0])
    x = (rng.normal(size=(3, 3, 2, 3)) * 2 * steps).astype('float32')
    upstream = rng.normal(size=x.shape).astype('float32')
    expected = oracle(x, steps, -2, 1, upstream)
    y, gx, gs = run_quantizer(run, x, steps, -2, 1, upstream)
    np.testing.assert_allclose(y, expected[0], rtol=1e-6)
    np.testing.assert_array_equal(gx, expected[1])
    np.testing.assert_allclose(gs, expected[2], rtol=1e-4, atol=1e-5)


def test_a_negative_step_is_its_mirror_image(run):
    x = hard_inputs(0.25, 0, 3)
    upstream = np.random.default_rng(1).normal(size=x.shape).astype('float32')
    y, gx, gs = run_quantizer(run, x, 0.25, 0, 3, upstream)
    mirrored = run_quantizer(run, x, -0.25, 0, 3, upstream)
    np.testing.assert_array_equal(mirrored[0], y)
    np.testing.assert_array_equal(mirrored[1], gx)
    np.testing.assert_allclose(mirrored[2], -gs, rtol=1e-5)


@pytest.mark.parametrize('step', [0.0, 1e-30, -1e-30])
@pytest.mark.parametrize('values', [[0.0] * 8, [0.0, 1.0, -1.0, 1e-20]])
def test_a_step_of_zero_is_finite(values, step, run):
    x = np.float32(values)
    for result in run_quantizer(run, x, step, -2, 1, np.ones_like(x)):
        assert np.isfinite(result).all()


def test_empty_batch(run):
    x = np.zeros([0, 4], 'float32')
    y, gx, gs = run_quantizer(run, x, 0.5, 0, 3, x)
    assert y.shape == gx.shape == (0, 4)
    np.testing.assert_array_equal(gs, [0])


@pytest.mark.parametrize('bits, high', [(2, 1), (3, 3), (8, 127)])
@pytest.mark.parametrize('per_channel', [False, True])
def test_start_of_weights(per_channel, bits, high, run):
    """From the weights themselves, whatever their initial deviation."""
    w = np.random.default_rng(bits).normal(size=(3, 3, 2, 4)).astype('float32')
    weigh(quantization(f'lsq(bits={bits}, per_channel={per_channel})'), w)
    mean = np.abs(w).mean((0, 1, 2) if per_channel else None)
    step = run(variable('conv/weight_quant/step'))
    np.testing.assert_allclose(step, np.atleast_1d(2 * mean / np.sqrt(high)), rtol=1e-5)


def test_start_of_weights_that_are_given(run):
    q = quantization('lsq(bits=2)')
    weigh(q, np.ones([4, 5], 'float32'), first=lambda: tf.fill([4, 5], -3.0))
    np.testing.assert_allclose(run(variable('conv/weight_quant/step')), [6.0])


def test_weights_of_zero_start_at_one(run):
    y = weigh(quantization('lsq(bits=2)'), np.zeros([4, 5], 'float32'))
    np.testing.assert_array_equal(run(y), np.zeros([4, 5]))
    np.testing.assert_array_equal(run(variable('conv/weight_quant/step')), [1])


def test_start_of_activations_pools_what_it_codes(run):
    """Over the sizes, behind the ReLU, each value once."""
    rng = np.random.default_rng(0)
    large, small = rng.normal(size=(4, 5)), 7 * rng.normal(size=(2, 3))
    q = quantization('lsq(bits=2)')
    activate(q, large.astype('float32'))
    activate(q, small.astype('float32'), point='s4', strongest=False)
    (op,) = starts([q]).values()
    run(op)
    values = np.maximum(np.concatenate([large.ravel(), small.ravel()]), 0)
    expected = 2 * values.mean() / np.sqrt(3)
    np.testing.assert_allclose(run(variable('quant1/step')), [expected], rtol=1e-5)


def test_start_of_activations_pools_towers_and_workers(run):
    values = np.float32([1.0, 2.0]), np.float32([3.0, 4.0]), np.float32([8.0])
    towers = []
    for name, x in zip(('tower0', 'tower1'), values):
        with tf.variable_scope(name):
            towers.append(quantization('lsq(bits=2)'))
            with tf.variable_scope('layer'):
                activate(towers[-1], x)
    there = tf.constant([1.0, 8.0], tf.float64)
    (op,) = starts(towers, add=lambda tables: [table + there for table in tables]).values()
    run(op)
    for name in ('tower0', 'tower1'):
        step = run(variable(f'{name}/layer/quant1/step'))
        np.testing.assert_allclose(step, [2 * 3.6 / np.sqrt(3)], rtol=1e-6)


@pytest.mark.parametrize('x', [np.zeros([4], 'float32'), np.zeros([0, 4], 'float32')])
def test_activations_of_zero_start_at_one(x, run):
    q = quantization('lsq(bits=2)')
    activate(q, x)
    (op,) = starts([q]).values()
    run(op)
    np.testing.assert_array_equal(run(variable('quant1/step')), [1])


def test_relu_comes_first(run):
    x = np.float32([-2, -0.3, 0, 0.3, 0.7, 9])
    y = activate(quantization('lsq(bits=2)'), x)
    gradient = tf.gradients(
        y, [op for op in y.graph.get_operations() if op.type == 'Const'][0].outputs
    )
    values, found = run([y, gradient[0]])
    np.testing.assert_array_equal(values, [0, 0, 0, 0, 1, 3])
    np.testing.assert_array_equal(found, [0, 0, 0, 1, 1, 0])


def test_values_count_from_their_lower_bound(run):
    x = np.float32([-0.25, 0.0, 0.8, 1.6, 9])
    y = activate(quantization('lsq(bits=2)'), x, relu=False, lower=-0.25)
    np.testing.assert_array_equal(run(y), [-0.25, -0.25, 0.75, 1.75, 2.75])


def test_without_a_bound_integers_are_signed(run):
    x = np.float32([-9, -1.2, 0.4, 9])
    y = activate(quantization('lsq(bits=2)'), x, relu=False, lower=-np.inf)
    np.testing.assert_array_equal(run(y), [-2, -1, 0, 1])


def test_steps_of_sizes_can_be_private():
    q = quantization('lsq(bits=2, private=True)')
    activate(q, np.ones([2], 'float32'))
    activate(q, np.ones([2], 'float32'), point='s4', strongest=False)
    assert set(q.starts) == {'quant1/s8/step', 'quant1/s4/step'}
    states = declared()
    assert {states[name].point for name in q.starts} == {'s8', 's4'}
    assert {states[name].shared for name in q.starts} == {'quant1/step'}


def test_steps_are_declared():
    q = quantization('lsq(bits=2, lr_factor=0.5, decay_factor=2)')
    weigh(q, np.ones([4, 5], 'float32'))
    activate(q, np.ones([2], 'float32'))
    assert {v.op.name for v in tf.trainable_variables()} == set(declared())
    for state in declared().values():
        assert (state.kind, state.fresh) == (Kind.QUANTIZER, True)
        assert (state.lr_factor, state.decay_factor) == (0.5, 2)


def test_inference_starts_nothing():
    q = quantization('lsq(bits=2)', training=False)
    activate(q, np.ones([2], 'float32'))
    assert not q.starts and starts([q]) == {}


@each_range
@pytest.mark.parametrize('step, lower', [([0.25], 0.0), ([-0.25], 0.0), ([0.25, 0.5], -0.125)])
def test_codebook_gives_what_was_trained(step, lower, low, high, run):
    size = positive(tf.constant(step))
    book = run(codebook(size, low, high, lower))
    noise = np.random.default_rng(3).normal(size=(99, len(step))) * 0.3 * (high - low)
    x = noise.astype('float32')
    expected = run(quantize(tf.constant(x), size, low, high)) + lower
    for c in range(len(step)):
        index = (x[:, c, None] + lower > book.thresholds[:, c]).sum(1)
        np.testing.assert_allclose(book.levels[index, c], expected[:, c], rtol=1e-6)
    index = np.arange(high - low + 1)[:, None]
    np.testing.assert_allclose(book.offset + book.step * index, book.levels, rtol=1e-6)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'bits': 0}, 'bits=0'),
        ({'bits': 9}, 'bits=9'),
        ({'bits': True}, 'bits=True'),
        ({'symmetric': 1}, 'symmetric=1'),
        ({'per_channel': 'no'}, "per_channel='no'"),
        ({'lr_factor': -1}, 'lr_factor=-1'),
        ({'lr_factor': '1'}, "lr_factor='1'"),
        ({'decay_factor': float('nan')}, 'decay_factor=nan'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LSQ(**options)


def test_one_bit_is_for_unsigned_activations():
    with pytest.raises(ValueError, match='weights of role body: signed integers of 1 bit have no'):
        Rule(roles=('body',), weight='lsq(bits=1)')
    with pytest.raises(ValueError, match='quantizer lsq.*1 bit have no positive one'):
        QuantizationOptions(qw=1, quantizer='lsq').to_policy()
    policy = Policy((Rule(roles=('body',), activation='lsq(bits=1)'),))
    q = Quantization(policy, training=True)
    activate(q, np.ones([2], 'float32'))
    with pytest.raises(ValueError, match='1 bit .* these activations have both signs'):
        activate(q, np.ones([2], 'float32'), relu=False, lower=-np.inf)


def test_stored_values():
    assert registry.parse('lsq(bits=2)').stored_values(16) == 1
    assert registry.parse('lsq(bits=2, per_channel=True)').stored_values(16) == 16
