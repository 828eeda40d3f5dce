"""The ResNet backbone: every registered form is built small; layers, shapes, names, order."""

import re

import numpy as np
import pytest

from nets.backbones.resnet import ARCHS, FORMS, MODES, ResNet
from nets.layers.blocks import Blocks
from nets.points import Point
from quant import Policy, low_bit
from quant.backend import tf
from tests.conftest import bare_blocks

BITS = {
    'float': Policy(),
    'w2a32': low_bit('lq(bits=2)', 'float'),
    'w2a2': low_bit('lq(bits=2)', 'lq(bits=2)'),
}
MODE_BITS = [(mode, bits) for mode in MODES for bits in BITS if (mode, bits) != ('resnet', 'w2a2')]
# By architecture: size, and blocks per group that have all kinds of block and are built
# in a second.
RUN = {
    'resnet8': (33, (1, 1, 1)),
    'resnet20': (28, (1, 2, 1)),
    'resnet18': (12, (2, 1, 1, 1)),
    'resnet50': (20, (1, 2, 1, 1)),
    'resnext50_32x4d': (20, (1, 2, 1, 1)),
}
# Tried by default; every other mode and bits of an architecture takes two seconds.
QUICK = {
    'resnet8': MODE_BITS,
    'resnet20': [('preact', 'w2a2')],
    'resnet18': [('preact_typeA', 'w2a2'), ('pytorch', 'w2a2')],
    'resnet50': [('preact', 'w2a2')],
    'resnext50_32x4d': [('pytorch', 'w2a2')],
}
BUILT = []
for arch in RUN:
    for row in MODE_BITS:
        if 'x' in arch and row[0] != 'pytorch':
            continue
        marks = [] if row in QUICK[arch] else [pytest.mark.slow]
        BUILT.append(pytest.param(arch, *row, marks=marks))


def build(
    *, arch='resnet8', mode='preact', bits='float', size=20, training=False, blocks=None, **options
):
    """Blocks and logits of a backbone with few blocks per group, for two fixed noise images."""
    net = ResNet(arch=arch, mode=mode, classes=options.pop('classes', 5), **options)
    net.form = net.form._replace(blocks=blocks or net.form.blocks)
    b = Blocks(BITS[bits], [Point(size=size)], training=training, padding=net.padding)
    noise = np.random.default_rng(1).normal(size=(2, 33, 33, 3)).astype('float32')
    return b, net.logits(tf.constant(noise[:, :size, :size]), b)


def names(pattern=''):
    return {v.op.name for v in tf.global_variables() if re.search(pattern, v.op.name)}


def shape(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found.shape.as_list()


def main_layers(layers):
    return [layer for layer in layers if layer.role != 'shortcut']


def check_layers(arch, mode, layers):
    """The number in a name counts its layers, shortcuts aside."""
    form, depth = FORMS[arch], int(re.findall(r'\d+', arch)[0])
    projections = 0 if mode == 'preact_typeA' else len(form.blocks) - (not form.bottleneck)
    assert len(main_layers(layers)) == depth
    assert len(layers) - depth == projections
    assert [layer.role for layer in main_layers(layers)] == [
        'stem',
        *['body'] * (depth - 2),
        'head',
    ]


def check_bases(bits):
    weights = names('weight_quant/basis$')
    assert bool(weights) == (bits != 'float')
    assert bool(names('basis$') - weights) == (bits == 'w2a2')
    assert not names(r'^(conv0|linear)/.*basis')


@pytest.mark.parametrize('arch, mode, bits', BUILT)
def test_network(arch, mode, bits, run):
    size, blocks = RUN[arch]
    b, logits = build(arch=arch, mode=mode, bits=bits, size=size, blocks=blocks, training=True)
    check_bases(bits)
    inner = {
        layer.weight_bits for layer in b.layers[f's{size}'] if layer.role not in ('stem', 'head')
    }
    assert inner == {32 if bits == 'float' else 2}
    gradients = tf.gradients(tf.square(logits), tf.trainable_variables())
    assert [v.op.name for v, g in zip(tf.trainable_variables(), gradients) if g is None] == []
    values, norm = run([logits, tf.linalg.global_norm(gradients)])
    assert values.shape == (2, 5) and np.std(values) > 0
    assert np.isfinite(values).all() and 0 < norm < np.inf


def build_bare(arch, mode, size):
    b = bare_blocks([Point(size=size)])
    logits = ResNet(arch=arch, mode=mode, classes=5).logits(tf.zeros([1, size, size, 3]), b)
    assert logits.shape == [1, 5]
    return b.layers[f's{size}']


@pytest.mark.parametrize('arch', [arch for arch in ARCHS if 'x' not in arch])
def test_typea_of_every_depth(arch):
    """Odd sizes: a pooled shortcut has as many positions as its branch."""
    check_layers(arch, 'preact_typeA', build_bare(arch, 'preact_typeA', 33))


@pytest.mark.parametrize('mode', ['resnet', 'preact', 'pytorch'])
@pytest.mark.parametrize('arch', ['resnet18', 'resnet20', 'resnet34', 'resnet50'])
def test_projections(arch, mode):
    check_layers(arch, mode, build_bare(arch, mode, 12))


@pytest.mark.parametrize('mode', ['preact_typeA', 'pytorch'])
@pytest.mark.parametrize('size', [12, 20, 33])
@pytest.mark.parametrize(
    'arch, strides', [('resnet8', [1, 1, 2, 4]), ('resnet18', [2, 4, 8, 16, 32])]
)
def test_sides_of_odd_sizes(arch, strides, size, mode):
    sides = [layer.out[0] for layer in main_layers(build_bare(arch, mode, size))[:-1]]
    assert sorted(set(sides), reverse=True) == sorted(
        {-(-size // stride) for stride in strides}, reverse=True
    )


def kernels(layers):
    return {layer.name: layer.kernel for layer in layers}


@pytest.mark.parametrize('mode', ['resnet', 'pytorch'])
def test_shapes_of_resnet50(mode):
    layers = {layer.name: layer for layer in build_bare('resnet50', mode, 64)}
    assert layers['conv0'].kernel == (7, 7, 3, 64) and layers['conv0'].out == (32, 32)
    kernel = {
        name: layer.kernel for name, layer in layers.items() if name.startswith('group1/block0/')
    }
    assert kernel == {
        'group1/block0/conv1': (1, 1, 256, 128),
        'group1/block0/conv2': (3, 3, 128, 128),
        'group1/block0/conv3': (1, 1, 128, 512),
        'group1/block0/convshortcut': (1, 1, 256, 512),
    }
    assert [layers[f'group1/block0/conv{n}'].out for n in (1, 2, 3)] == [(16, 16), (8, 8), (8, 8)]
    assert layers['linear'].kernel == (1, 1, 2048, 5)


RESNEXTS = [('resnext50_32x4d', 32, 4, 50), ('resnext101_32x8d', 32, 8, 101)]


@pytest.mark.parametrize('arch, groups, base, depth', RESNEXTS)
def test_shapes_of_resnexts(arch, groups, base, depth):
    """A group of the second convolution has ``base`` channels, doubled in every stage; the last
    convolution is that of a ResNet.
    """
    layers = build_bare(arch, 'pytorch', 33)
    check_layers(arch, 'pytorch', layers)
    found = kernels(layers)
    for g in range(4):
        middle = groups * base * 2**g
        inputs = 64 if not g else 128 * 2**g
        assert [found[f'group{g}/block0/conv{n}'] for n in (1, 2, 3)] == [
            (1, 1, inputs, middle),
            (3, 3, middle // groups, middle),
            (1, 1, middle, 256 * 2**g),
        ]


def test_groups_see_their_own_channels_only(run):
    """Where one of the 32 groups of inputs changes, one of the 32 groups of outputs does."""
    b = Blocks(Policy(), [Point(size=8)], training=False, padding='symmetric')
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 64)).astype('float32')
    other = x.copy()
    other[..., 6:8] += 1
    one, two = run(
        tf.split(b.conv('conv', tf.constant(np.concatenate([x, other])), 96, 3, groups=32), 2)
    )
    assert set(np.nonzero((one != two).any((0, 1, 2)))[0]) == {9, 10, 11}


@pytest.mark.parametrize(
    'arch, width, expected',
    [
        ('resnet8', 1.0, [16, 16, 32, 64]),
        ('resnet8', 0.5, [8, 8, 16, 32]),
        ('resnet8', 2, [32, 32, 64, 128]),
        ('resnet18', 0.25, [16, 16, 32, 64, 128]),
    ],
)
def test_width(arch, width, expected):
    b, _ = build(arch=arch, width=width, blocks=(1,) * (len(expected) - 1))
    wide = [
        kernels(b.layers['s20'])[name][3]
        for name in ('conv0', *(f'group{g}/block0/conv2' for g in range(len(expected) - 1)))
    ]
    assert wide == expected
    assert shape('linear/W') == [expected[-1], 5]


@pytest.mark.parametrize('mode', MODES)
def test_width_that_leaves_one_channel(mode):
    build(mode=mode, width=0.03)
    assert shape('conv0/W') == [3, 3, 3, 1]


def test_names_of_later_blocks():
    """From the second block on a preact block begins with its own normalisation and quantizer."""
    build(arch='resnet20', bits='w2a2', blocks=(1, 3, 1))
    assert names('^group1/block.*(quant.*/basis|bn_preact/s20/gamma)$') - names('weight_quant') == {
        f'group1/block{i}/{part}'
        for i in (0, 1, 2)
        for part in ('quant2/basis', *(['quant1/basis', 'bn_preact/s20/gamma'] if i else []))
    }


@pytest.mark.parametrize('mode', ['preact_typeA', 'pytorch'])
def test_names_of_quantizers(mode):
    build(bits='w2a2', mode=mode)
    assert names('basis$') - names('weight_quant') == {
        f'group{g}/block0/quant{n}/basis' for g in (0, 1, 2) for n in (1, 2)
    }
    assert bool(names('shortcut')) == (mode == 'pytorch')


def conv_input(name):
    return tf.get_default_graph().get_operation_by_name(f'{name}/Conv2D').inputs[0].name


@pytest.mark.parametrize('mode', ['preact', 'pytorch'])
def test_quantized_group_input_feeds_both_branches(mode):
    build(bits='w2a2', mode=mode)
    for group in ('group1', 'group2'):
        assert conv_input(f'{group}/block0/conv1') == conv_input(f'{group}/block0/convshortcut')


def test_first_shortcut_takes_the_float_tensor():
    build(arch='resnet50', bits='w2a2', size=16, blocks=(1, 1, 1, 1))
    assert conv_input('group0/block0/conv1') != conv_input('group0/block0/convshortcut')
    assert 'maxpool' in conv_input('group0/block0/convshortcut').lower().replace('_', '')


def test_an_identity_is_never_quantized(run):
    """Where branches end in zeros, blocks of pytorch-8 without projection pass their input on."""
    _, logits = build(bits='w2a2', mode='pytorch', blocks=(2, 1, 1))
    graph = tf.get_default_graph()
    relus = [op for op in graph.get_operations() if re.fullmatch(r'group0/block[01]/Relu', op.name)]
    run(logits)
    run(
        [
            v.assign(tf.zeros_like(v))
            for v in tf.global_variables()
            if re.search('group0/block./conv2/bn/s20/gamma', v.op.name)
        ]
    )
    first, second = run([op.outputs[0] for op in relus])
    assert first.std() > 0 and len(np.unique(first)) > 100
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    'mode, zeros',
    [
        ('resnet', {f'group{g}/block0/conv2/bn/s20/gamma' for g in (0, 1, 2)}),
        ('preact', set()),
        ('pytorch', set()),
    ],
)
def test_last_gamma_of_a_block_starts_at_zero_in_one_mode(mode, zeros, run):
    build(mode=mode)
    gammas = [v for v in tf.global_variables() if v.op.name.endswith('gamma')]
    assert {v.op.name for v, value in zip(gammas, run(gammas)) if not value.any()} == zeros


def test_start_of_the_classifier(run):
    """Uniform within 1 / sqrt(inputs) in mode pytorch, normal and without bias elsewhere."""
    found = {}
    for mode in ('pytorch', 'preact'):
        with tf.variable_scope(mode):
            build(mode=mode, classes=1000)
        found[mode] = run(
            [v for v in tf.global_variables() if v.op.name.startswith(f'{mode}/linear/')]
        )
    bound = 1 / np.sqrt(64)
    for values in found['pytorch']:
        assert 0.99 * bound < np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    weights, bias = found['preact']
    assert np.abs(weights).max() > 4 * bound and not bias.any()


@pytest.mark.parametrize(
    'mode, padding', [('resnet', 'same'), ('preact', 'same'), ('pytorch', 'symmetric')]
)
def test_padding_follows_from_the_mode(mode, padding):
    assert ResNet(arch='resnet18', mode=mode, classes=5).padding == padding


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'arch': 'resnet19'},
            "arch 'resnet19' is unknown; did you mean .*resnet18.* There are resnet8, resnet18, "
            'resnet20, .* resnext50_32x4d',
        ),
        (
            {'mode': 'postact'},
            "mode 'postact' is unknown; did you mean preact. There are resnet, preact, preact_",
        ),
        ({'arch': 'resnext50_32x4d'}, 'resnext50_32x4d is defined in mode pytorch'),
        ({'arch': 'resnext50_32x4d', 'mode': 'pytorch', 'width': 0.5}, 'at width 1 only'),
    ],
)
def test_unknown_forms_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**{'arch': 'resnet8', 'mode': 'preact', 'classes': 5, **options})
