"""The layer vocabulary: quantized how often, with whose variables, recorded how."""

import numpy as np
import pytest

from nets.cost import LayerRecord
from nets.layers.activation import SWISH_MIN
from nets.layers.blocks import Blocks
from nets.layers.kernels import generate
from nets.layers.norm import BN_EPSILON
from nets.points import Point
from quant import Policy, Rule, low_bit
from quant.backend import tf

LARGE, SMALL = Point(size=8), Point(size=6)
RNG = np.random.default_rng(0)


def blocks(policy=None, *, training=True, **options):
    return Blocks(policy or Policy(), [LARGE, SMALL], training=training, **options)


def names(which=None):
    return {v.op.name for v in which or tf.global_variables()}


def variable(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found


def types():
    return [op.type for op in tf.get_default_graph().get_operations()]


def image(channels=4, size=8):
    return tf.constant(RNG.normal(size=(2, size, size, channels)), tf.float32)


@pytest.mark.parametrize('kind', ['conv', 'depthwise_conv', 'dense'])
def test_layer_is_the_float_layer_with_quantized_weights(kind, run):
    quantized = blocks(
        low_bit('lq(bits=2)', 'float') if kind != 'dense' else Policy((Rule(weight='lq(bits=2)'),))
    )
    plain = blocks()
    x = image() if kind != 'dense' else image()[:, 0, 0]
    sizes = {'conv': (5, 3), 'depthwise_conv': (3,), 'dense': (5,)}[kind]
    y = getattr(quantized, kind)('layer', x, *sizes)
    with tf.variable_scope('plain'):
        z = getattr(plain, kind)('layer', x, *sizes)
    shape = variable('layer/W').shape.as_list()
    flat = [*shape[:2], 1, shape[2]] if kind == 'depthwise_conv' else shape
    with tf.variable_scope('layer', reuse=True):
        role = {'conv': 'body', 'depthwise_conv': 'depthwise', 'dense': 'head'}[kind]
        w = quantized.quantization.weight(
            tf.reshape(variable('layer/W'), flat), scope='layer', role=role, init_std=1
        )
    w = run(tf.reshape(w, shape))
    assert len(np.unique(w.reshape(flat)[..., 0])) <= 4
    run(variable('plain/layer/W').assign(w))
    y, z = run([y, z])
    assert y.std() > 0
    np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)


def test_weight_of_two_points_is_quantized_once():
    b = blocks(low_bit('lq(bits=2)', 'float'))
    for point, size in ((LARGE, 8), (SMALL, 6)):
        with b.at(point):
            b.conv('conv', image(size=size), 5, 3)
    assert types().count('TopKV2') == 1
    assert types().count('Conv2D') == 2
    assert names() == {'conv/W', 'conv/weight_quant/basis'}
    assert len(b.kernels) == 1
    assert [len(row.statistics) for row in b.quantization.collected.values()] == [1]


def test_activation_of_two_points_shares_a_basis():
    b = blocks(low_bit('float', 'lq(bits=2)'))
    for point, size in ((LARGE, 8), (SMALL, 6)):
        with b.at(point):
            b.act('quant1', image(size=size))
    assert names() == {'quant1/basis'}
    assert [len(row.statistics) for row in b.quantization.collected.values()] == [2]


@pytest.mark.parametrize('update, count', [('all', 2), ('strongest', 1)])
def test_strongest_is_the_first_point(update, count):
    b = blocks(low_bit('float', f'lq(bits=2, update={update!r})'))
    for point in (SMALL, LARGE):
        with b.at(point):
            b.act('quant1', image())
    assert [len(row.statistics) for row in b.quantization.collected.values()] == [count]


def normalized(x, gamma, beta, mean, variance):
    return (x - mean) / np.sqrt(variance + BN_EPSILON) * gamma + beta


def test_norm_in_training(run):
    x = RNG.normal(1, 2, size=(4, 3, 3, 3)).astype('float32')
    y = blocks().norm('bn', tf.constant(x))
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    gamma, beta = [0.5, 1, 2], [3, 2, 1]
    run([])
    run([variable('bn/s8/gamma').assign(gamma), variable('bn/s8/beta').assign(beta)])
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(
        run(y), normalized(x, gamma, beta, mean, variance), rtol=1e-4, atol=1e-4
    )
    run(updates)
    np.testing.assert_allclose(run(variable('bn/s8/mean/EMA')), 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(
        run(variable('bn/s8/variance/EMA')), 0.9 + 0.1 * x.var((0, 1, 2), ddof=1), rtol=1e-4
    )


def test_norm_at_inference(run):
    x = RNG.normal(1, 2, size=(4, 3, 3, 3)).astype('float32')
    y = blocks(training=False).norm('bn', tf.constant(x))
    values = {
        'gamma': [0.5, 1, 2],
        'beta': [3, 2, 1],
        'mean/EMA': [1, 0, -1],
        'variance/EMA': [4, 1, 0.5],
    }
    run([])
    run([variable(f'bn/s8/{name}').assign(value) for name, value in values.items()])
    np.testing.assert_allclose(
        run(y), normalized(x, *map(np.float32, values.values())), rtol=1e-4, atol=1e-4
    )
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)


def test_zero_gamma(run):
    blocks().norm('bn', image(), zero_gamma=True)
    assert not run(variable('bn/s8/gamma')).any()


PRIVATE = {f'bn/{point}/{part}' for point in ('s8', 's6') for part in ('mean/EMA', 'variance/EMA')}


@pytest.mark.parametrize(
    'share_affine, affine',
    [
        (False, {'bn/s8/gamma', 'bn/s8/beta', 'bn/s6/gamma', 'bn/s6/beta'}),
        (True, {'bn/gamma', 'bn/beta'}),
    ],
)
def test_norm_variables(share_affine, affine):
    b = blocks(share_affine=share_affine)
    for point in (LARGE, SMALL):
        with b.at(point):
            b.norm('bn', image())
    assert names() == affine | PRIVATE
    assert names(tf.trainable_variables()) == affine
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == 4


def every_layer(data_format):
    """Variables and records of a stack of all layers; built, not run."""
    channels, axis = 3, (3 if data_format == 'NHWC' else 1)
    shape = [2, 7, 7]
    shape.insert(axis, channels)
    with tf.Graph().as_default():
        b = blocks(low_bit('lq(bits=2)', 'lq(bits=3)'), data_format=data_format)
        with b.at(LARGE):
            x = b.max_pool(b.conv('conv0', tf.zeros(shape), 8, 3, stride=2, role='stem'), 3, 1)
            x = b.act('quant1', b.norm('conv0/bn', x))
            x = b.pad_channels(b.avg_pool(b.depthwise_conv('depth', x, 3), 2), 12)
            assert b.channels(x) == 12
            b.dense('linear', b.global_pool(x), 5)
        return {v.op.name: v.shape.as_list() for v in tf.global_variables()}, b.layers


def test_data_formats_differ_in_nothing_kept():
    assert every_layer('NCHW') == every_layer('NHWC')


def test_layer_records():
    _, layers = every_layer('NHWC')
    assert layers == {
        's6': [],
        's8': [
            LayerRecord('conv0', 'stem', (3, 3, 3, 8), (4, 4), inputs=147),
            LayerRecord(
                'depth',
                'depthwise',
                (3, 3, 1, 8),
                (4, 4),
                weight_bits=2,
                basis=16,
                activation_bits=3,
                inputs=128,
            ),
            LayerRecord('linear', 'head', (1, 1, 12, 5), (1, 1), bias=5, inputs=12),
        ],
    }


def test_variable_names_and_shapes():
    variables, _ = every_layer('NHWC')
    private = {f'conv0/bn/s8/{part}': [8] for part in ('gamma', 'beta', 'mean/EMA', 'variance/EMA')}
    assert variables == {
        'conv0/W': [3, 3, 3, 8],
        'quant1/basis': [3, 1],
        'depth/W': [3, 3, 8, 1],
        'depth/weight_quant/basis': [2, 8],
        'linear/W': [12, 5],
        'linear/b': [5],
        **private,
    }


def test_at_restores_the_point_after_an_exception():
    b = blocks()
    with pytest.raises(KeyError), b.at(SMALL):
        with b.at(LARGE):
            pass
        b.conv('inner', image(), 5, 3)
        raise KeyError
    b.conv('outer', image(), 5, 3)
    assert [row.name for row in b.layers['s6']] == ['inner']
    assert [row.name for row in b.layers['s8']] == ['outer']
    assert tf.get_variable_scope().reuse is False


def test_average_pool_of_odd_sizes_leaves_the_padding_out(run):
    x = np.arange(9, dtype='float32').reshape(1, 3, 3, 1)
    y = run(blocks().avg_pool(tf.constant(x), 2))
    np.testing.assert_allclose(y[0, :, :, 0], [[2, 3.5], [6.5, 8]])


def test_padded_channels_are_appended_zeros(run):
    x = RNG.normal(size=(1, 2, 2, 3)).astype('float32')
    y = run(blocks().pad_channels(tf.constant(x), 5))
    np.testing.assert_array_equal(y[..., :3], x)
    np.testing.assert_array_equal(y[..., 3:], 0)


def test_start_of_kernels(run):
    """Truncated normal by fan-out for convolutions, normal by fan-in for the classifier."""
    b = blocks()
    b.conv('conv', image(32), 64, 3)
    b.dense('linear', tf.zeros([2, 512]), 100)
    kernel, linear = run([variable('conv/W'), variable('linear/W')])
    stddev = np.sqrt(1.3 * 2 / (9 * 64))
    assert kernel.std() == pytest.approx(stddev * 0.8796, rel=0.03)
    assert np.abs(kernel).max() <= 2 * stddev * 1.001
    assert linear.std() == pytest.approx(np.sqrt(2 / 512), rel=0.03)
    assert np.abs(linear).max() > 2.5 * np.sqrt(2 / 512)
    assert not run(variable('linear/b')).any()


@pytest.mark.parametrize(
    'kind, sizes, fan_out', [('conv', (5, 3), 45), ('depthwise_conv', (3,), 9), ('dense', (5,), 5)]
)
def test_start_of_bases(kind, sizes, fan_out, run):
    b = blocks(Policy((Rule(weight='lq(bits=2)'),)))
    getattr(b, kind)('layer', image() if kind != 'dense' else image()[:, 0, 0], *sizes)
    basis = run(variable('layer/weight_quant/basis'))
    np.testing.assert_allclose(
        basis / np.array([[1], [2]]), 0.6745 * np.sqrt(2 / fan_out) / 2, rtol=1e-6
    )


def test_own_initializers_and_fan_out(run):
    b = blocks()
    b.dense(
        'linear',
        tf.zeros([2, 3]),
        4,
        start=tf.constant_initializer(5),
        bias_start=tf.constant_initializer(7),
    )
    b.depthwise_conv('depth', tf.zeros([2, 8, 8, 512]), 3, fan_out=90000)
    w, bias, depth = run([variable('linear/W'), variable('linear/b'), variable('depth/W')])
    assert (w == 5).all() and (bias == 7).all()
    assert depth.std() == pytest.approx(np.sqrt(1.3 * 2 / 90000) * 0.8796, rel=0.05)


HARD = np.float32([-1e9, -1, -1e-6, -0.0, 0, 1e-6, 3, 5.999999, 6, 6.000001, 7, 1e9])


@pytest.mark.parametrize(
    'function, expected',
    [('relu', np.maximum(HARD, 0)), ('relu6', np.clip(HARD, 0, 6)), ('none', HARD)],
)
def test_float_activation_functions(function, expected, run):
    np.testing.assert_array_equal(
        run(blocks().act('quant', tf.constant(HARD), function=function)), expected
    )


@pytest.mark.parametrize('start', [0.5, 4.0])
def test_quantized_relu6_clips_first(start, run):
    """Levels 0, start, 2 start, 3 start; the gradient ends at the clip or at the largest level."""
    b = blocks(low_bit('float', 'lq(bits=2)'))
    x = tf.constant(HARD)
    y = b.act('quant', x, function='relu6')
    (gradient,) = tf.gradients(y, x)
    run([])
    run(variable('quant/basis').assign([[start], [2 * start]]))
    levels = start * np.arange(4)
    clipped = np.clip(HARD.astype('float64'), 0, 6)
    expected = levels[(clipped[:, None] > (levels[1:] + levels[:-1]) / 2).sum(1)]
    np.testing.assert_array_equal(run(y), expected)
    np.testing.assert_array_equal(run(gradient), (HARD > 0) & (HARD < 6) & (levels[-1] >= HARD))


@pytest.mark.parametrize('activation', ['relu6', 'hswish'])
def test_functions_in_place_of_a_relu(activation, run):
    """Before quantizers and behind sums, with their bound; not before that of the stem's output."""
    b = blocks(training=True, activation=activation)
    x = np.append(HARD, [-3, -1.5, 7]).astype('float32')
    expected = np.clip(x, 0, 6)
    if activation == 'hswish':
        expected = x * np.clip(x + 3, 0, 6) / 6
    seen = []
    original = b.quantization.activation

    def noted(name, x, **options):
        seen.append((options['relu'], options['lower']))
        return original(name, x, **options)

    b.quantization.activation = noted
    tensor = tf.constant(x[None])
    found = [b.act('a', tensor), b.rectified('sum', tensor), b.act('b', tensor, role='stem')]
    b.act('c', tensor, function='none')
    b.dense('linear', tensor, 3)
    for y in run(found[:2]):
        np.testing.assert_allclose(y[0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(run(found[2])[0], np.maximum(x, 0))
    lowest = -0.375 if activation == 'hswish' else 0
    assert expected.min() >= lowest
    assert seen == [(False, lowest), (True, 0), (False, lowest), (False, lowest)]


def test_relu6_shows_the_quantizer_clipped_values(run):
    b = blocks(low_bit('float', 'lq(bits=2)'))
    b.act('quant', tf.constant(HARD), function='relu6')
    (row,) = b.quantization.collected.values()
    np.testing.assert_allclose(
        run(row.statistics[0].table)[1, 0], np.clip(HARD.astype('float64'), 0, 6).sum(), rtol=1e-6
    )


def test_signed_activation_has_codes_of_both_signs(run):
    b = blocks(low_bit('float', 'lq(bits=2)'))
    y = b.act('quant', tf.constant(HARD), function='none', lower=-np.inf)
    found = np.unique(run(y))
    np.testing.assert_allclose(found, 0.6745 / 2 * np.array([-3, -1, 1, 3]), rtol=1e-6)


@pytest.mark.parametrize('training', [True, False])
def test_statistics_that_a_training_tower_keeps(training, run):
    x = RNG.normal(1, 2, size=(4, 3, 5, 3)).astype('float32')
    with tf.variable_scope('tower'):
        b = blocks(training=training)
        for point in (LARGE, SMALL):
            with b.at(point), tf.variable_scope('group0'):
                b.norm('bn', tf.constant(x + point.size))
    operations = tf.get_default_graph().get_operations()
    assert not [op for op in operations if op.type == 'FloorDiv']  # counted for who asks
    assert set(b.statistics) == ({'group0/bn/s8', 'group0/bn/s6'} if training else set())
    for name, (mean, variance, count) in run(b.statistics).items():
        np.testing.assert_allclose(mean, x.mean((0, 1, 2)) + int(name[-1]), rtol=1e-5)
        np.testing.assert_allclose(variance, x.var((0, 1, 2), ddof=1), rtol=1e-4)
        assert count == 4 * 3 * 5
    assert b.statistics == b.statistics  # the same tensors again


@pytest.mark.parametrize('root', ['', 'tower1'])
def test_policy_sees_scopes_below_the_root(root):
    with tf.variable_scope(root):
        b = blocks(Policy((Rule(scope='^layer$', weight='lq(bits=2)', activation='lq(bits=2)'),)))
        b.conv('layer', image(), 5, 3)
        b.act('layer', image())
    assert {name.removeprefix(f'{root}/') for name in names()} == {
        'layer/W',
        'layer/weight_quant/basis',
        'layer/basis',
    }
    assert b.layers['s8'][0].name == 'layer'


@pytest.mark.parametrize(
    'policy', [None, low_bit('float', 'lq(bits=2)')], ids=['float', 'quantized']
)
def test_swish(policy, run):
    x = RNG.normal(0, 2, (2, 4, 4, 3)).astype('float32')
    y = run(blocks(policy, training=False).act('quant', tf.constant(x), function='swish'))
    expected = x / (1 + np.exp(-x))
    if policy is None:
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        return
    levels = SWISH_MIN + np.array([0, *np.cumsum([run(variable('quant/basis'))[0, 0]] * 3)])
    np.testing.assert_allclose(
        y, levels[np.abs(expected[..., None] - levels).argmin(-1)], atol=1e-6
    )


def test_builder_of_the_same_tower_in_inference_mode(run):
    """It reads its own kernels and statistics, keeps neither, and adds to the same records."""
    b = blocks(low_bit('lq(bits=2)', 'float'))
    b.norm('conv/bn', b.conv('conv', image(), 5, 3))
    with tf.variable_scope('', reuse=tf.AUTO_REUSE):
        other = b.inference()
        x = other.norm('conv/bn', other.conv('conv', image(), 5, 3))
    assert run(x).shape == (2, 8, 8, 5)
    assert (b.training, other.training) == (True, False)
    assert len(b.kernels) == len(other.kernels) == 1
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == 2
    assert not other.statistics
    assert not other.quantization.collected
    assert [record.name for record in b.layers['s8']] == ['conv', 'conv']


def test_part_of_a_kernel_is_cut_after_quantization(run):
    b = blocks(Policy((Rule(weight='lq(bits=2)'),)), training=False)
    extent = tf.placeholder(tf.int32, [])
    with tf.variable_scope('conv'):
        whole, part, again, drawn = (
            b.weights.get([3, 3, 4, 6], 'body', fan_out=54, part=part).value
            for part in (None, [3, 3, 2, 5], [3, 3, 2, 5], [3, 3, 4, extent])
        )
    assert part is again
    assert types().count('TopKV2') == 1
    run([])
    run(generate())
    whole, part, drawn = run([whole, part, drawn], {extent: 3})
    np.testing.assert_array_equal(part, whole[:, :, :2, :5])
    np.testing.assert_array_equal(drawn, whole[..., :3])
