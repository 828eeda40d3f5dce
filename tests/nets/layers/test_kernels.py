"""Generated kernels: values, gradients, how often they are made, and their quantizers."""

import numpy as np
import pytest

from engine.runs.checkpoint import Restore
from nets.layers.blocks import Blocks
from nets.layers.kernels import GENERATED, MetaConv, generate
from nets.points import Point
from quant import Policy, low_bit
from quant.backend import tf

LARGE, SMALL = Point(size=8), Point(size=6)
RNG = np.random.default_rng(0)
# Exact zeros, a tie of slope and offset, a value far out.
SLOPE = np.concatenate([RNG.normal(size=33), [0, 0, 1e4]]).astype('float32').reshape(3, 3, 2, 2)
OFFSET = np.concatenate([RNG.normal(size=33), [0, -1, 1e4]]).astype('float32').reshape(3, 3, 2, 2)
IMAGE = RNG.normal(size=(2, 8, 8, 2)).astype('float32')
W2 = low_bit('lq(bits=2)', 'float')


def start(_):
    return tf.constant_initializer(SLOPE), tf.constant_initializer(OFFSET)


def drawn(_):
    return tf.random_normal_initializer(stddev=3.0), tf.random_uniform_initializer(-1, 1)


def blocks(policy=None, *, training):
    return Blocks(policy or Policy(), [LARGE, SMALL], training=training)


def variable(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found


def types():
    return [op.type for op in tf.get_default_graph().get_operations()]


def convolve(b, encoding, point=LARGE, first=start, layer='conv'):
    """A convolution with a generated kernel, and what it was computed with."""
    with b.at(point), b.generated(MetaConv(encoding, first)):
        y = b.conv(layer, tf.constant(IMAGE[:, : point.size, : point.size]), 2, 3)
    return y, y.op.inputs[1]


def behind(tensor):
    """All operations that a tensor is computed from."""
    seen, waiting = set(), [tensor.op]
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            waiting += [x.op for x in op.inputs] + list(op.control_inputs)
    return seen


def generated_names():
    return {v.op.name for v in tf.get_collection(GENERATED)}


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('encoding', [0.7, 0.3, 0.0, 1.0])
def test_a_kernel_is_slope_times_encoding_plus_offset(training, encoding, run):
    b = blocks(training=training)
    y, kernel = convolve(b, encoding)
    run([])
    run(generate())
    expected = SLOPE * np.float32(encoding) + OFFSET
    np.testing.assert_allclose(run(kernel), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        run(y), run(tf.nn.conv2d(IMAGE, expected, 1, 'SAME')), rtol=1e-4, atol=1e-3
    )
    assert [row.generated for row in b.layers['s8']] == [True]
    assert (variable('conv/slope').shape, variable('conv/offset').shape) == (
        SLOPE.shape,
        SLOPE.shape,
    )
    assert len(tf.global_variables()) == 2


def test_initial_values_follow_from_the_fan_out(run):
    def first(fan_out):
        return tf.constant_initializer(fan_out), tf.constant_initializer(-fan_out)

    convolve(blocks(training=True), 0.5, first=first)
    assert (run(variable('conv/slope')) == 3 * 3 * 2).all() and (
        run(variable('conv/offset')) == -3 * 3 * 2
    ).all()


def test_inference_generates_once(run):
    """The forward pass does not multiply: a kernel stays until it is generated again."""
    y, kernel = convolve(blocks(training=False), 0.5)
    assert {op.type for op in behind(y)} & {'Mul', 'Add', 'AddV2'} == set()
    run([])
    run(generate())
    before = run([y, kernel])
    run(variable('conv/slope').assign(2 * SLOPE))
    np.testing.assert_array_equal(run(kernel), before[1])
    np.testing.assert_array_equal(run(y), before[0])
    run(generate())
    np.testing.assert_allclose(
        run(kernel), 2 * SLOPE * np.float32(0.5) + OFFSET, rtol=1e-6, atol=1e-7
    )
    assert np.abs(run(y) - before[0]).max() > 1


def test_training_generates_in_every_step(run):
    y, kernel = convolve(blocks(training=True), 0.5)
    assert 'Mul' in {op.type for op in behind(y)} and not generated_names()
    run([])
    run(variable('conv/slope').assign(2 * SLOPE))
    np.testing.assert_allclose(
        run(kernel), 2 * SLOPE * np.float32(0.5) + OFFSET, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize('policy', [Policy(), W2], ids=['float', 'quantized'])
def test_gradients_of_all_points_add_up(policy, run):
    """The gradient of a kernel reaches the offset as it is and the slope times the encoding."""
    b = blocks(policy, training=True)
    (large, first), (small, second) = convolve(b, 0.7), convolve(b, 0.3, SMALL)
    loss = tf.reduce_sum(large**2) + tf.reduce_sum(small)
    of_kernels = tf.gradients(loss, [first, second])
    found = run(
        [*tf.gradients(loss, [variable('conv/slope'), variable('conv/offset')]), *of_kernels]
    )
    assert np.abs(found[2]).max() > 0 and np.abs(found[3]).max() > 0
    np.testing.assert_allclose(found[0], 0.7 * found[2] + 0.3 * found[3], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found[1], found[2] + found[3], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('other, kernels', [(0.7, 1), (0.3, 2)])
def test_a_kernel_is_made_once_per_encoding(training, other, kernels):
    b = blocks(training=training)
    (_, first), (_, second) = convolve(b, 0.7), convolve(b, other, SMALL)
    assert (first is second) == (kernels == 1)
    assert len(tf.get_collection(GENERATED)) == (0 if training else kernels)
    assert sorted(t.op.inputs[0].op.name for t in b.kernels) == ['conv/offset', 'conv/slope']
    assert types().count('Conv2D') == 2


@pytest.mark.parametrize('encoding, count', [(None, 1), (0.7, 2), (0.3, 2)])
def test_weight_decay_sees_every_variable_once(encoding, count):
    b = blocks(W2, training=True)
    for point in (LARGE, SMALL):
        with b.at(point), b.generated(encoding and MetaConv(encoding * point.size / 8, start)):
            b.conv('conv', tf.constant(IMAGE[:, : point.size, : point.size]), 2, 3)
    assert len(b.kernels) == count == len(tf.trainable_variables())
    assert {t.op.inputs[0].op.name for t in b.kernels} == {
        v.op.name for v in tf.trainable_variables()
    }


def test_only_layers_inside_are_generated():
    b = blocks(training=True)
    x = tf.constant(IMAGE)
    with b.generated(MetaConv(0.5, drawn)):
        with b.generated(None):
            b.conv('plain', x, 2, 3)
        b.depthwise_conv('depthwise', x, 3, fan_out=9)
        with pytest.raises(KeyError), b.generated(MetaConv(0.1, drawn)):
            raise KeyError
    b.conv('after', x, 2, 3)
    assert {v.op.name for v in tf.global_variables()} == {
        'plain/W',
        'depthwise/slope',
        'depthwise/offset',
        'after/W',
    }
    assert [row.generated for row in b.layers['s8']] == [False, True, False]
    assert variable('depthwise/slope').shape == [3, 3, 2, 1]


UNIT = 0.6745 / 2  # first row of a 2-bit basis of unit scale


def random(seed, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=(3, 3, 2, 2))).astype('float32')


def quantized(training):
    """Two points whose kernels have very different scales."""
    b = blocks(W2, training=training)
    return b, [
        convolve(b, encoding, point, drawn)[1] for encoding, point in ((0.9, LARGE), (0.01, SMALL))
    ]


def kernels_of(slope, offset):
    return {'s8': slope * np.float32(0.9) + offset, 's6': slope * np.float32(0.01) + offset}


def check_bases(session, kernels):
    for point, kernel in kernels.items():
        basis = session.run(variable(f'conv/weight_quant/{point}/basis'))
        assert basis.shape == (2, 2)
        expected = UNIT * np.sqrt(np.mean(kernel.astype('float64') ** 2))
        np.testing.assert_allclose(basis, np.array([[1, 1], [2, 2]]) * expected, rtol=1e-4)


@pytest.mark.parametrize('training', [True, False])
def test_a_basis_starts_at_the_scale_of_its_kernel(training):
    """Whatever the order in which variables are initialised."""
    quantized(training)
    assert {v.op.name for v in tf.global_variables()} == {
        'conv/slope',
        'conv/offset',
        'conv/weight_quant/s8/basis',
        'conv/weight_quant/s6/basis',
    }
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        slope, offset = session.run([variable('conv/slope'), variable('conv/offset')])
        kernels = kernels_of(slope, offset)
        assert kernels['s8'].std() > 2 * kernels['s6'].std()
        check_bases(session, kernels)


def levels(kernel):
    """Quantization by the start of a basis, in numpy."""
    unit = UNIT * np.sqrt(np.mean(kernel.astype('float64') ** 2))
    grid = np.array([-3, -1, 1, 3]) * unit
    return grid[np.abs(kernel[..., None] - grid).argmin(-1)]


@pytest.mark.parametrize('training', [True, False])
def test_a_basis_starts_at_the_scale_of_restored_kernels(training):
    _, tensors = quantized(training)
    slope, offset = random(1, 0.01), random(2, 0.02)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        Restore({'conv/slope': slope, 'conv/offset': offset}).init(session)
        kernels = kernels_of(slope, offset)
        check_bases(session, kernels)
        for tensor, kernel in zip(session.run(tensors), kernels.values()):
            np.testing.assert_allclose(tensor, levels(kernel), rtol=1e-4)


def test_restored_bases_are_kept():
    quantized(False)
    basis = np.array([[1, 2], [3, 4]], 'float32')
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        Restore(
            {'conv/slope': random(1), 'conv/offset': random(2), 'conv/weight_quant/s8/basis': basis}
        ).init(session)
        np.testing.assert_array_equal(session.run(variable('conv/weight_quant/s8/basis')), basis)
        kernels = kernels_of(random(1), random(2))
        check_bases(session, {'s6': kernels['s6']})


def test_a_shared_kernel_has_one_basis():
    b = blocks(W2, training=True)
    for point in (LARGE, SMALL):
        with b.at(point):
            b.conv('conv', tf.constant(IMAGE[:, : point.size, : point.size]), 2, 3)
    assert {v.op.name for v in tf.global_variables()} == {'conv/W', 'conv/weight_quant/basis'}


def test_a_generated_depthwise_kernel_has_a_basis_per_channel():
    b = blocks(W2, training=True)
    with b.generated(MetaConv(0.5, drawn)):
        b.depthwise_conv('depthwise', tf.constant(IMAGE), 3)
    assert variable('depthwise/weight_quant/s8/basis').shape == [2, 2]
    (row,) = b.layers['s8']
    assert (row.weight_bits, row.basis, row.kernel, row.generated) == (2, 4, (3, 3, 1, 2), True)
