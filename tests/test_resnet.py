"""Resolution-switchable ResNets: every registered form is built small; names, sharing and the laws of sub-networks."""

import re

import numpy as np
import pytest

import nets
from nets import cost
from nets.blocks import Blocks
from nets.resnet import DEPTHS, MODES, ResNet
from quant import Policy, low_bit
from quant.backend import tf
from tests.conftest import bare_blocks

BITS = {'float': Policy(), 'w2a32': low_bit('lq(bits=2)', 'float'), 'w2a2': low_bit('lq(bits=2)', 'lq(bits=2)')}
CIFAR = (8, 20, 32, 56, 110)
MODE_BITS = [(mode, bits) for mode in MODES for bits in BITS if (mode, bits) != ('resnet', 'w2a2')]
# What is run, by depth: sizes, and a number of blocks per group that has all kinds of block and is built in a second.
RUN = {8: ((33, 20), (1, 1, 1)), 20: ((28,), (1, 2, 1)), 18: ((12,), (2, 1, 1, 1)), 50: ((20,), (1, 2, 1, 1))}
HARDEST = [('resnet', 'w2a32'), ('preact', 'w2a2'), ('preact_typeA', 'w2a2')]
BUILT = [(depth, *row) for depth in RUN for row in (MODE_BITS if depth in (8, 18) else HARDEST)]


def build(*, depth=8, mode='preact', bits='float', sizes=(28, 20), training=True, batch=2, counts=None, **options):
    """A network with its blocks and outputs for fixed noise images."""
    net = nets.get('resnet')(depth=depth, mode=mode, sizes=sizes, classes=options.pop('classes', 5), **options)
    net.counts = counts or net.counts
    blocks = Blocks(BITS[bits], net.points, training=training)
    noise = np.random.default_rng(1).normal(size=(batch, 33, 33, 3)).astype('float32')
    return net, blocks, net.outputs({size: tf.constant(noise[:, :size, :size]) for size in sizes}, blocks)


def names(pattern=''):
    return {v.op.name for v in tf.global_variables() if re.search(pattern, v.op.name)}


def shape(name):
    found, = (v for v in tf.global_variables() if v.op.name == name)
    return found.shape.as_list()


def main_layers(layers):
    return [layer for layer in layers if layer.role != 'shortcut']


def check_layers(depth, mode, layers):
    """The depth of a network counts its layers, shortcuts aside."""
    groups = 3 if depth in CIFAR else 4
    projections = 0 if mode == 'preact_typeA' else groups if depth >= 50 and depth not in CIFAR else groups - 1
    assert len(main_layers(layers)) == depth
    assert len(layers) - depth == projections
    assert [layer.role for layer in main_layers(layers)] == ['stem', *['body'] * (depth - 2), 'head']


def check_sharing(sizes):
    """Only normalisation is private to a size, and every size has the same of it."""
    private = {size: names(f'/s{size}/') for size in sizes}
    for size, found in private.items():
        assert found
        own = re.compile(rf'/bn(_preact|_last)?/s{size}/(gamma|beta|mean/EMA|variance/EMA)$')
        assert all(own.search(name) for name in found)
        assert {name.replace(f'/s{size}/', '/') for name in found} == {
            name.replace(f'/s{sizes[0]}/', '/') for name in private[sizes[0]]}


def check_bases(bits):
    weights = names('weight_quant/basis$')
    assert bool(weights) == (bits != 'float')
    assert bool(names('basis$') - weights) == (bits == 'w2a2')
    assert not names(r'^(conv0|linear)/.*basis')


@pytest.mark.parametrize('depth, mode, bits', BUILT)
def test_network(depth, mode, bits, run):
    sizes, counts = RUN[depth]
    net, blocks, outputs = build(depth=depth, mode=mode, bits=bits, sizes=sizes, counts=counts)
    assert [point.size for point in outputs.logits] == sorted(sizes, reverse=True)
    check_sharing(sizes)
    check_bases(bits)
    for layers in blocks.layers.values():
        inner = {layer.weight_bits for layer in layers if layer.role not in ('stem', 'head')}
        assert inner == {32 if bits == 'float' else 2}
    parts = net.loss(outputs, tf.zeros([2], tf.int32))
    gradients = tf.gradients(sum(parts.values()), tf.trainable_variables())
    assert [v.op.name for v, g in zip(tf.trainable_variables(), gradients) if g is None] == []
    logits = run(list(outputs.logits.values()))
    assert {one.shape for one in logits} == {(2, 5)}
    assert all(np.isfinite(one).all() and np.std(one) > 0 for one in logits)


def test_gradients_are_finite(run):
    net, _, outputs = build(bits='w2a2', kd=True)
    loss = sum(net.loss(outputs, tf.zeros([2], tf.int32)).values())
    assert 0 < run(tf.linalg.global_norm(tf.gradients(loss, tf.trainable_variables()))) < np.inf


def build_bare(depth, mode, size):
    net = ResNet(depth=depth, mode=mode, sizes=[size], classes=5)
    blocks = bare_blocks(net.points)
    (logits,) = net.outputs({size: tf.zeros([1, size, size, 3])}, blocks).logits.values()
    assert logits.shape == [1, 5]
    return blocks.layers[f's{size}']


@pytest.mark.parametrize('depth', DEPTHS)
def test_typea_of_every_depth(depth):
    """Odd sizes: a pooled shortcut has as many positions as its branch."""
    check_layers(depth, 'preact_typeA', build_bare(depth, 'preact_typeA', 33))


@pytest.mark.parametrize('mode', ['resnet', 'preact'])
@pytest.mark.parametrize('depth', [18, 20, 34, 50])
def test_projections(depth, mode):
    check_layers(depth, mode, build_bare(depth, mode, 12))


@pytest.mark.parametrize('size', [12, 20, 33])
@pytest.mark.parametrize('depth', [8, 18])
def test_typea_of_odd_sizes(depth, size):
    strides = [1, 1, 2, 4] if depth == 8 else [2, 4, 8, 16, 32]
    sides = [layer.out[0] for layer in main_layers(build_bare(depth, 'preact_typeA', size))[:-1]]
    assert sorted(set(sides), reverse=True) == sorted({-(-size // stride) for stride in strides}, reverse=True)


def kernels(layers):
    return {layer.name: layer.kernel for layer in layers}


def test_shapes_of_resnet50():
    layers = {layer.name: layer for layer in build_bare(50, 'resnet', 64)}
    assert layers['conv0'].kernel == (7, 7, 3, 64) and layers['conv0'].out == (32, 32)
    kernel = {name: layer.kernel for name, layer in layers.items() if name.startswith('group1/block0/')}
    assert kernel == {'group1/block0/conv1': (1, 1, 256, 128), 'group1/block0/conv2': (3, 3, 128, 128),
                      'group1/block0/conv3': (1, 1, 128, 512), 'group1/block0/convshortcut': (1, 1, 256, 512)}
    assert [layers[f'group1/block0/conv{n}'].out for n in (1, 2, 3)] == [(16, 16), (8, 8), (8, 8)]
    assert layers['linear'].kernel == (1, 1, 2048, 5)


@pytest.mark.parametrize('depth, width, expected', [
    (8, 1.0, [16, 16, 32, 64]), (8, 0.5, [8, 8, 16, 32]), (8, 2, [32, 32, 64, 128]), (18, 0.25, [16, 16, 32, 64, 128])])
def test_width(depth, width, expected):
    _, blocks, _ = build(depth=depth, sizes=(20,), width=width, training=False, counts=(1,) * (len(expected) - 1))
    wide = [kernels(blocks.layers['s20'])[name][3] for name in (
        'conv0', *(f'group{g}/block0/conv2' for g in range(len(expected) - 1)))]
    assert wide == expected
    assert shape('linear/W') == [expected[-1], 5]


@pytest.mark.parametrize('mode', MODES)
def test_width_that_leaves_one_channel(mode):
    build(mode=mode, sizes=(20,), width=0.03, training=False)


@pytest.mark.parametrize('classes', [2, 7])
def test_number_of_classes(classes):
    _, _, outputs = build(classes=classes, kd=True)
    assert {one.shape[1] for one in [*outputs.logits.values(), outputs.extras['ensemble']]} == {classes}
    assert shape('linear/b') == [classes]


def golden():
    """Variables of preact-8 w2a2 at 28 and 20 with distillation, one line per kind."""
    quantized = {f'group{g}/block0/conv{n}' for g in (0, 1, 2) for n in (1, 2)} | {
        'group1/block0/convshortcut', 'group2/block0/convshortcut'}
    norms = {f'{layer}/bn' for layer in quantized | {'conv0'}} | {f'group{g}/bn_last' for g in (0, 1, 2)}
    activations = {'group0/block0/quant1', 'group0/block0/quant2', 'group1/block0/quant2', 'group2/block0/quant2',
                   'group0/quant_last', 'group1/quant_last'}
    return ({'alpha', 'conv0/W', 'linear/W', 'linear/b'} | {f'{layer}/W' for layer in quantized}
            | {f'{layer}/weight_quant/basis' for layer in quantized} | {f'{layer}/basis' for layer in activations}
            | {f'{norm}/{size}/{part}' for norm in norms for size in ('s28', 's20')
               for part in ('gamma', 'beta', 'mean/EMA', 'variance/EMA')})


def test_names_of_preact8():
    build(bits='w2a2', kd=True)
    assert names() == golden()
    assert len(names()) == 4 + 8 + 8 + 6 + 12 * 8


def test_names_of_later_blocks():
    """From the second block on a preact block begins with its own normalisation and quantizer."""
    build(depth=20, bits='w2a2', sizes=(20,), training=False, counts=(1, 3, 1))
    assert names('^group1/block.*(quant.*/basis|bn_preact/s20/gamma)$') - names('weight_quant') == {
        f'group1/block{i}/{part}' for i in (0, 1, 2) for part in (
            'quant2/basis', *(['quant1/basis', 'bn_preact/s20/gamma'] if i else []))}


def test_names_of_typea():
    build(bits='w2a2', mode='preact_typeA', sizes=(20,), training=False)
    assert names('basis$') - names('weight_quant') == {
        f'group{g}/block0/quant{n}/basis' for g in (0, 1, 2) for n in (1, 2)}
    assert not names('shortcut')


def conv_input(name):
    return tf.get_default_graph().get_operation_by_name(f'{name}/Conv2D').inputs[0].name


def test_quantized_group_input_feeds_both_branches():
    build(bits='w2a2', sizes=(20,), training=False)
    for group in ('group1', 'group2'):
        assert conv_input(f'{group}/block0/conv1') == conv_input(f'{group}/block0/convshortcut')


def test_first_shortcut_takes_the_float_tensor():
    build(depth=50, bits='w2a2', sizes=(16,), training=False, counts=(1, 1, 1, 1))
    assert conv_input('group0/block0/conv1') != conv_input('group0/block0/convshortcut')
    assert 'max_pool' in conv_input('group0/block0/convshortcut').lower().replace('maxpool', 'max_pool')


def test_last_gamma_of_a_block_starts_at_zero_behind_a_relu_only(run):
    for mode, zeros in (('resnet', {f'group{g}/block0/conv2/bn/s20/gamma' for g in (0, 1, 2)}), ('preact', set())):
        with tf.variable_scope(mode):
            build(mode=mode, sizes=(20,))
        gammas = [v for v in tf.global_variables() if re.search(f'^{mode}/.*gamma$', v.op.name)]
        assert {v.op.name.removeprefix(f'{mode}/') for v, value in zip(gammas, run(gammas)) if not value.any()} == zeros


@pytest.mark.parametrize('mode, training', [
    ('resnet', False), ('preact', False), ('preact', True), ('preact_typeA', False)])
def test_logits_of_a_size_do_not_depend_on_the_others(mode, training, run):
    bits = 'w2a32' if mode == 'resnet' else 'w2a2'
    options = {'mode': mode, 'bits': bits, 'training': training}
    _, _, together = build(sizes=(28, 20), **options)
    _, _, alone = build(sizes=(20,), **options)
    (point, logits), = alone.logits.items()
    one, other = run([logits, together.logits[point]])
    np.testing.assert_array_equal(one, other)
    assert one.std() > 0


def test_sizes_give_their_own_logits(run):
    _, _, outputs = build()
    large, small = run(list(outputs.logits.values()))
    assert np.abs(large - small).max() > 1e-3


def test_parts_of_the_loss(run):
    net, _, outputs = build(kd=True, sizes=(20, 28))
    assert list(map(str, outputs.logits)) == ['s28', 's20']
    assert shape('alpha') == [2]
    parts = net.loss(outputs, tf.zeros([2], tf.int32))
    assert set(parts) == {'loss/s28', 'loss/s20', 'loss/ensemble', 'loss/distillation'}
    assert min(run(parts).values()) > 0


def test_without_distillation():
    net, _, outputs = build()
    assert not outputs.extras and not names('alpha')
    assert set(net.loss(outputs, tf.zeros([2], tf.int32))) == {'loss/s28', 'loss/s20'}


def test_weight_decay_sees_every_kernel_once():
    _, blocks, _ = build(bits='w2a2')
    assert len(blocks.kernels) == len(names('/W$')) == 10
    assert cost.madds(blocks.layers['s28']) > cost.madds(blocks.layers['s20'])


@pytest.mark.parametrize('options, message', [
    ({'depth': 19}, 'depth 19 is unknown; there are 8, 18'),
    ({'mode': 'postact'}, "mode 'postact' is unknown; there are resnet, preact")])
def test_unknown_forms_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**{'depth': 8, 'mode': 'preact', 'sizes': (28,), 'classes': 5, **options})


def test_registry():
    assert 'resnet' in nets.names()
    assert all(callable(nets.get(name)) for name in nets.names())
    with pytest.raises(ValueError, match="network 'vgg' is unknown; there are .*resnet"):
        nets.get('vgg')
