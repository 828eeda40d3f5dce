"""Grouped and padded convolutions against one convolution per group and against padding by hand."""

import itertools

import numpy as np
import pytest

from nets.layers.blocks import Blocks
from nets.layers.grouped import grouped_conv
from nets.points import Point
from quant import Policy, low_bit
from quant.backend import tf

RNG = np.random.default_rng(0)


def blocks(policy=None, *, training=True, **options):
    return Blocks(policy or Policy(), [Point(size=8)], training=training, **options)


def images(height, width, channels):
    """Noise with exact zeros, ties and values far out."""
    x = RNG.normal(size=(2, height, width, channels)).astype('float32')
    x[0, 0, :, 0], x[1, :, 0], x[1, -1, -1] = 0, 1, 1e4
    return x


def symmetric(kernel):
    return [[0, 0], [kernel // 2] * 2, [kernel // 2] * 2, [0, 0]]


def per_group(x, w, stride, groups, padding):
    """One ordinary convolution for each group of input and output channels."""
    inputs, kernels = tf.split(x, groups, 3), tf.split(w, groups, 3)
    return tf.concat(
        [tf.nn.conv2d(a, b, [1, stride, stride, 1], padding) for a, b in zip(inputs, kernels)], 3
    )


@pytest.mark.parametrize(
    'side, rule', itertools.product([(9, 9), (7, 10), (2, 1)], ['SAME', 'symmetric'])
)
@pytest.mark.parametrize('kernel, stride', [(3, 1), (3, 2), (1, 2), (5, 3)])
def test_grouped_convolution(kernel, stride, side, rule, run):
    groups, inputs, outputs = 4, 3, 2
    x = tf.constant(images(*side, groups * inputs))
    w = tf.constant(RNG.normal(size=(kernel, kernel, inputs, groups * outputs)), tf.float32)
    padding = symmetric(kernel) if rule == 'symmetric' else rule
    results = []
    for convolution in (grouped_conv, per_group):
        y = convolution(x, w, stride, groups, padding)
        dy = np.random.default_rng(5).normal(size=y.shape.as_list()).astype('float32')
        results.append([y, *tf.gradients(y, [x, w], dy)])
    ours, expected = run(results)
    for one, other in zip(ours, expected):
        assert one.shape == other.shape and np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5 * np.abs(other).max())


def test_grouped_convolution_by_hand(run):
    """Two groups of one channel each, 1x1: every output sees the input of its own group only."""
    x = tf.constant([[[[2.0, 3.0]]]])
    w = tf.constant([[[[1.0, 10.0, 100.0, 1000.0]]]])
    np.testing.assert_array_equal(run(grouped_conv(x, w, 1, 2, 'SAME')), [[[[2, 20, 300, 3000]]]])


@pytest.mark.parametrize('padding', ['same', 'symmetric'])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('bits', [2, 32])
def test_training_and_inference_agree_on_groups(bits, stride, padding, run):
    """Two implementations, one layer; the quantizer has a basis per output channel."""
    policy = low_bit('lq(bits=2)' if bits == 2 else 'float', 'float')
    x, found = tf.constant(images(9, 9, 8)), []
    for training in (True, False):
        with tf.variable_scope('net', reuse=tf.AUTO_REUSE):
            b = blocks(policy, training=training, padding=padding)
            found.append(b.conv('conv', x, 12, 3, stride=stride, groups=4))
    one, other = run(found)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=0.02)
    (record,) = b.layers['s8']
    assert (record.kernel, record.weight_bits, record.basis) == (
        (3, 3, 2, 12),
        bits,
        24 if bits == 2 else 0,
    )
    assert record.madds == 9 * 2 * 12 * np.prod(one.shape[1:3])


@pytest.mark.parametrize('stride, side', [(2, 9), (2, 8), (3, 8)])
@pytest.mark.parametrize('padding', ['same', 'symmetric'])
@pytest.mark.parametrize('channels', [3, 15, 16])
def test_training_of_strided_kernels_of_one_pixel(channels, padding, stride, side, run):
    """oneDNN's gradient of those of fewer channels than a vector has values destroys memory."""
    x = tf.constant(images(side, side, channels))
    y = blocks(padding=padding).conv('conv', x, 5, 1, stride=stride)
    (w,) = tf.global_variables()
    dy = RNG.normal(size=y.shape.as_list()).astype('float32')
    gradients = tf.gradients(y, [w, x], dy)
    made = y.graph.get_operations()
    (op,) = [one for one in made if one.type == 'Conv2DBackpropFilter']
    assert op.get_attr('strides')[1] == (1 if channels < 16 else stride)
    values, kernel, found, toward_w, toward_x = run([x, w, y, *gradients])
    read = values[:, ::stride, ::stride]
    by_hand = np.zeros_like(values)
    by_hand[:, ::stride, ::stride] = dy @ kernel[0, 0].T
    of_kernel = np.einsum('nhwi,nhwo->io', read, dy)
    for one, other in (
        (found, read @ kernel[0, 0]),
        (toward_x, by_hand),
        (toward_w[0, 0], of_kernel),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def test_a_width_that_is_drawn_may_be_a_narrow_one():
    """Nobody knows its channels while the graph is built."""
    x = tf.placeholder(tf.float32, [2, 8, 8, None])
    w = tf.placeholder(tf.float32, [1, 1, None, None])
    y = blocks().convolve(x, w, 2)
    assert y.op.get_attr('strides')[1] == 1


def test_inference_keeps_the_stride_of_kernels_of_one_pixel():
    """A file is made of it, which says what a layer is."""
    y = blocks(training=False).conv('conv', tf.constant(images(8, 8, 3)), 5, 1, stride=2)
    assert y.op.type == 'Conv2D' and y.op.get_attr('strides')[1] == 2


def layer(kind, b, x, kernel, stride):
    if kind == 'max_pool':
        return b.max_pool(x, kernel, stride)
    return getattr(b, kind)('layer', x, *((5,) if kind == 'conv' else ()), kernel, stride=stride)


def padded_by_hand(kind, x, w, kernel, stride):
    """Explicit padding (with nothing, for a maximum), then windows that see the tensor alone."""
    x = tf.pad(x, symmetric(kernel), constant_values=-1e30 if kind == 'max_pool' else 0.0)
    strides = [1, stride, stride, 1]
    if kind == 'max_pool':
        return tf.nn.max_pool2d(x, [1, kernel, kernel, 1], strides, 'VALID')
    return (tf.nn.conv2d if kind == 'conv' else tf.nn.depthwise_conv2d)(x, w, strides, 'VALID')


@pytest.mark.parametrize('side', [8, 9, 3])
@pytest.mark.parametrize('kernel, stride', [(7, 2), (3, 2), (3, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize('kind', ['conv', 'depthwise_conv', 'max_pool'])
def test_symmetric_padding(kind, kernel, stride, side, run):
    x = tf.constant(images(side, side, 4))
    y = layer(kind, blocks(padding='symmetric'), x, kernel, stride)
    z = padded_by_hand(kind, x, next(iter(tf.global_variables()), None), kernel, stride)
    dy = RNG.normal(size=y.shape.as_list()).astype('float32')
    ours, expected = run([[one, tf.gradients(one, x, dy)[0]] for one in (y, z)])
    assert ours[0].shape[1] == (side - 1) // stride + 1
    for one, other in zip(ours, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize('kind', ['conv', 'depthwise_conv', 'max_pool'])
def test_padding_rules_differ_with_stride_and_even_sides_only(kind, run):
    """TensorFlow's rule then pads the bottom and right alone."""
    for stride, side, alike in ((1, 8, True), (2, 9, True), (2, 8, False)):
        x, found = tf.constant(images(side, side, 4)), []
        for padding in ('same', 'symmetric'):
            with tf.variable_scope(f'{stride}-{side}', reuse=tf.AUTO_REUSE):
                found.append(layer(kind, blocks(padding=padding), x, 3, stride))
        one, other = run(found)
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=1e-4, atol=0.01) == alike
