"""MobileNetV2: channels, cost, residual rule, what is quantized, and that everything learns."""

import math
import re

import numpy as np
import pytest

import nets
from nets import cost
from nets.backbones.mobilenet import Form, MobileNetV2, round_channels
from nets.layers.blocks import Blocks
from quant import Policy, low_bit
from quant.backend import tf
from tests.conftest import bare_blocks

# Stem, output channels of the seven stages, last convolution.
CHANNELS = {
    0.35: (16, 8, 8, 16, 24, 32, 56, 112, 1280),
    0.5: (16, 8, 16, 16, 32, 48, 80, 160, 1280),
    0.75: (24, 16, 24, 24, 48, 72, 120, 240, 1280),
    1.0: (32, 16, 24, 32, 64, 96, 160, 320, 1280),
    1.4: (48, 24, 32, 48, 88, 136, 224, 448, 1792),
}
FIRST_OF_STAGE = {'mobilenetv2': (0, 1, 3, 6, 10, 13, 16), 'mobilenetv2_small': (0, 1, 3, 5, 7)}
BLOCKS = {'mobilenetv2': 17, 'mobilenetv2_small': 8}
W4A4 = low_bit('lq(bits=4)', 'lq(bits=4)')
STATISTICS = 2 * 17056


def network(**options):
    return nets.create(
        'rsnet',
        **{'arch': 'mobilenetv2', 'mode': 'pytorch', 'sizes': (32,), 'classes': 5, **options},
    )


def layers(size=32, **options):
    """Layer records by name, of kernels alone."""
    net = network(sizes=(size,), **options)
    blocks = bare_blocks(net.points)
    blocks.padding = net.padding
    net.outputs({size: tf.zeros([1, size, size, 3])}, blocks)
    return {row.name: row for row in blocks.layers[f's{size}']}


def build(net, *, policy=None, training=False, batch=2):
    blocks = Blocks(policy or Policy(), net.points, training=training, padding=net.padding)
    noise = np.random.default_rng(1).normal(size=(batch, 32, 32, 3)).astype('float32')
    return blocks, net.outputs(
        {size: tf.constant(noise[:, :size, :size]) for size in net.sizes}, blocks
    )


def names(pattern=''):
    return {v.op.name for v in tf.global_variables() if re.search(pattern, v.op.name)}


@pytest.mark.parametrize(
    'wanted, expected',
    [
        (0.1, 8),
        (8, 8),
        (11.2, 16),
        (11.999, 16),
        (12, 16),
        (12.001, 16),
        (16, 16),
        (22.4, 24),
        (33.6, 32),
        (44.8, 48),
        (89.6, 88),
        (134.4, 136),
        (19.9, 24),
        (17, 16),
        (17.8, 24),
        (8.8, 8),
        (8.9, 16),
        (1792, 1792),
    ],
)
def test_rounding_to_eight_loses_at_most_a_tenth(wanted, expected):
    assert round_channels(wanted) == expected


@pytest.mark.parametrize('width', CHANNELS)
def test_channels_of_a_width(width):
    found = layers(width=width)
    stages = [found[f'block{i}/project'].kernel[3] for i in FIRST_OF_STAGE['mobilenetv2']]
    assert (found['conv0'].kernel[3], *stages, found['conv_last'].kernel[3]) == CHANNELS[width]
    for i in range(1, 17):
        inputs = found[f'block{i - 1}/project'].kernel[3]
        assert found[f'block{i}/expand'].kernel == (1, 1, inputs, 6 * inputs)
        assert found[f'block{i}/depthwise'].kernel == (3, 3, 1, 6 * inputs)
        assert found[f'block{i}/project'].kernel[:3] == (1, 1, 6 * inputs)
    assert 'block0/expand' not in found and found['block0/depthwise'].kernel == (
        3,
        3,
        1,
        CHANNELS[width][0],
    )


@pytest.mark.parametrize('width, expected', [(0.25, 320), (1.0, 320), (1.4, 448)])
def test_last_channels_of_the_small_form(width, expected):
    assert layers(arch='mobilenetv2_small', width=width)['conv_last'].kernel[3] == expected


def test_multiply_adds_and_parameters():
    """As counted from the published network; nothing is run."""
    found = layers(224, classes=1000)
    convolutions = [row for row in found.values() if row.role != 'head']
    assert cost.madds(convolutions) == 299_494_272 and len(convolutions) == 52
    assert cost.madds(found.values()) == 300_774_272
    kernels = sum(row.weights + row.bias for row in found.values())
    assert sum(math.prod(v.shape.as_list()) for v in tf.trainable_variables()) == kernels
    assert kernels + 2 * sum(row.kernel[3] for row in convolutions) == 3_504_872


def test_parameters_of_the_whole_network():
    build(network(classes=1000))
    count = {
        kind: sum(
            math.prod(v.shape.as_list())
            for v in tf.global_variables()
            if bool(v.op.name.endswith('/EMA')) == (kind == 'stored')
        )
        for kind in ('trained', 'stored')
    }
    assert count == {'trained': 3_504_872, 'stored': STATISTICS}
    assert len(tf.trainable_variables()) == 52 * 3 + 2


@pytest.mark.parametrize(
    'arch, size, sides',
    [
        ('mobilenetv2', 224, (112, 112, 56, 28, 14, 14, 7, 7)),
        ('mobilenetv2_small', 32, (32, 32, 16, 8, 8, 8)),
        ('mobilenetv2_small', 27, (27, 27, 14, 7, 7, 7)),
        ('mobilenetv2', 33, (17, 17, 9, 5, 3, 3, 2, 2)),
    ],
)
def test_resolution_of_the_stages(arch, size, sides):
    found = layers(size, arch=arch)
    assert (
        tuple(
            found[name].out[0]
            for name in ('conv0', *(f'block{i}/project' for i in FIRST_OF_STAGE[arch]))
        )
        == sides
    )
    assert found['conv_last'].out == found[f'block{BLOCKS[arch] - 1}/project'].out


@pytest.mark.parametrize('arch', ['mobilenetv2', 'mobilenetv2_small'])
def test_an_input_is_added_where_the_shape_stays(arch):
    """Blocks that keep stride and channels, which are all but the first of a stage."""
    build(network(arch=arch))
    added = {
        op.name.split('/')[0]
        for op in tf.get_default_graph().get_operations()
        if re.fullmatch(r'block\d+/add(_\d+)?', op.name) and op.type in ('Add', 'AddV2')
    }
    assert added == {f'block{i}' for i in range(BLOCKS[arch]) if i not in FIRST_OF_STAGE[arch]}


def test_a_block_is_its_branch_plus_its_input(run):
    """With a zero gamma the projection vanishes: the input remains, and nothing rectifies it."""
    net = MobileNetV2(arch='mobilenetv2', mode='pytorch', classes=5)
    b = Blocks(Policy(), network().points, training=False, padding='symmetric')
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 8)).astype('float32')
    y = net._block(b, tf.constant(x), 6, 8, 1)
    run([])
    (gamma,) = (v for v in tf.global_variables() if re.search('project/bn/.*gamma', v.op.name))
    assert np.abs(run(y) - x).max() > 0.1
    run(gamma.assign(np.zeros(8)))
    np.testing.assert_array_equal(run(y), x)


def quantized_layers(blocks):
    """Every convolution but the stem."""
    layers = {
        f'block{i}/{part}' for i in range(blocks) for part in ('expand', 'depthwise', 'project')
    }
    return layers - {'block0/expand'} | {'conv_last'}


QUANTIZED_AT = quantized_layers(8)


def test_what_the_policy_quantizes():
    found = layers()
    assert {name for name, row in found.items() if W4A4.weight(name, row.role)} == quantized_layers(
        17
    )
    assert set(found) - quantized_layers(17) == {'conv0', 'linear'}


@pytest.fixture(scope='module')
def quantized():
    """Layer records of the small W4A4 network, shapes by name, whether a basis has codes of both
    signs, and its bits.
    """
    with tf.Graph().as_default():
        blocks, _ = build(network(arch='mobilenetv2_small'), policy=W4A4, training=True)
        q = blocks.quantization
        signed = {
            name: bool((_constant(row.statistics[0].grid.codes) < 0).any())
            for name, row in q.collected.items()
        }
        return (
            blocks.layers['s32'],
            {v.op.name: v.shape.as_list() for v in tf.global_variables()},
            signed,
            {row.quantizer.bits for row in q.collected.values()},
        )


def _constant(codes):
    """The table of codes that a grid was gathered from."""
    return tf.get_static_value(codes.op.inputs[0])


def test_every_convolution_but_the_stem_is_quantized(quantized):
    records, shapes, _, bits = quantized
    assert {row.name for row in records if row.weight_bits == 4} == QUANTIZED_AT
    assert {row.name for row in records if row.weight_bits == 32} == {'conv0', 'linear'}
    assert {
        name.removesuffix('/weight_quant/basis') for name in shapes if 'weight_quant' in name
    } == QUANTIZED_AT
    assert bits == {4}


def test_a_basis_per_channel(quantized):
    records, shapes, _, _ = quantized
    for row in records:
        if row.name in QUANTIZED_AT:
            assert shapes[f'{row.name}/weight_quant/basis'] == [4, row.kernel[3]]
            assert row.basis == 4 * row.kernel[3]
    assert shapes['block1/depthwise/weight_quant/basis'] == [4, 96]


def test_linear_bottlenecks_have_codes_of_both_signs(quantized):
    """Behind a ReLU6 a value is at least zero; the input of a block can have any sign."""
    _, _, codes, _ = quantized
    activations = {name: signed for name, signed in codes.items() if 'weight_quant' not in name}
    either = {f'block{i}/quant_in/basis' for i in range(1, 8)} | {'quant_last/basis'}
    assert {name for name, signed in activations.items() if signed} == either
    rectified = {
        f'block{i}/relu_{part}/basis' for i in range(8) for part in ('expand', 'depthwise')
    }
    assert set(activations) - either == rectified - {'block0/relu_expand/basis'} | {'relu0/basis'}
    assert all(codes[name] for name in set(codes) - set(activations))


def test_every_trained_variable_learns(run):
    """In a network of few blocks, which has all kinds of them."""
    net = network(sizes=(32, 24), kd=True)
    net.backbone.form = Form(((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 1)), stem=2, last=64)
    _, outputs = build(net, policy=W4A4, training=True)
    loss = tf.add_n(list(net.loss(outputs, tf.constant([0, 4], tf.int32)).values()))
    trained = tf.trainable_variables()
    gradients = tf.gradients(loss, trained)
    assert [v.op.name for v, g in zip(trained, gradients) if g is None] == []
    values = dict(zip([v.op.name for v in trained], run(gradients)))
    assert all(np.isfinite(value).all() for value in values.values())
    # The next normalisation takes the shift of a linear bottleneck out again, but for what its
    # quantizer clips.
    idle = {name for name, value in values.items() if not value.any()}
    assert {re.sub(r'^block\d+|/s\d+', '', name) for name in idle} <= {'/project/bn/beta'}


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'arch': 'mobilenetv3'},
            "arch 'mobilenetv3' is unknown; did you mean mobilenetv2 or .*. There are ",
        ),
        (
            {'mode': 'preact'},
            "mode 'preact' is unknown; mobilenetv2 is defined in mode pytorch only",
        ),
    ],
)
def test_unknown_forms_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MobileNetV2(**{'arch': 'mobilenetv2', 'mode': 'pytorch', 'classes': 5, **options})


def test_registered():
    assert {'mobilenetv2', 'mobilenetv2_small'} <= set(nets.archs())
    assert nets.backbone('mobilenetv2_small') is MobileNetV2
