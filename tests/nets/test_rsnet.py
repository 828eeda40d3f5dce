"""Resolution-switchable networks.

Names, sharing, independence of the sizes, and the parts of the loss.
"""

import re

import numpy as np
import pytest

import nets
from nets import cost, losses
from nets.layers.blocks import Blocks
from nets.rsnet import KD_TYPES
from quant import Policy, low_bit
from quant.backend import tf

BITS = {
    'float': Policy(),
    'w2a32': low_bit('lq(bits=2)', 'float'),
    'w2a2': low_bit('lq(bits=2)', 'lq(bits=2)'),
}
SMALLEST = {'mobilenetv2_small': 0.1, 'resnet8': 1.0}


def build(*, arch='resnet8', mode='preact', bits='float', sizes=(28, 20), training=True, **options):
    """A network with its blocks and outputs for fixed noise images."""
    net = nets.create(
        'rsnet', arch=arch, mode=mode, sizes=sizes, classes=options.pop('classes', 5), **options
    )
    blocks = Blocks(BITS[bits], net.points, training=training, padding=net.padding)
    noise = np.random.default_rng(1).normal(size=(2, 33, 33, 3)).astype('float32')
    return (
        net,
        blocks,
        net.outputs({size: tf.constant(noise[:, :size, :size]) for size in sizes}, blocks),
    )


def names(pattern=''):
    return {v.op.name for v in tf.global_variables() if re.search(pattern, v.op.name)}


def shape(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found.shape.as_list()


def check_sharing(sizes):
    """Only normalisation is private to a size, and every size has the same of it."""
    private = {size: names(f'/s{size}/') for size in sizes}
    for size, found in private.items():
        assert found
        own = re.compile(rf'/bn(_preact|_last)?/s{size}/(gamma|beta|mean/EMA|variance/EMA)$')
        assert all(own.search(name) for name in found)
        assert {name.replace(f'/s{size}/', '/') for name in found} == {
            name.replace(f'/s{sizes[0]}/', '/') for name in private[sizes[0]]
        }


@pytest.mark.parametrize(
    'arch, mode, bits, sizes',
    [
        ('resnet8', 'resnet', 'w2a32', (33, 20)),
        ('resnet8', 'preact', 'w2a2', (33, 20)),
        ('resnet8', 'preact_typeA', 'w2a2', (20, 33)),
        ('resnet8', 'pytorch', 'w2a2', (33, 20, 12)),
        ('mobilenetv2_small', 'pytorch', 'float', (20, 12)),
    ],
)
def test_only_normalisation_is_private(arch, mode, bits, sizes):
    net, blocks, outputs = build(arch=arch, mode=mode, bits=bits, sizes=sizes, width=SMALLEST[arch])
    assert [point.size for point in outputs.logits] == sorted(sizes, reverse=True)
    check_sharing(sizes)
    assert len(blocks.kernels) == len(names('/W$'))
    parts = net.loss(outputs, tf.zeros([2], tf.int32))
    gradients = tf.gradients(sum(parts.values()), tf.trainable_variables())
    assert [v.op.name for v, g in zip(tf.trainable_variables(), gradients) if g is None] == []


def test_gradients_are_finite(run):
    net, _, outputs = build(bits='w2a2', kd=True)
    loss = sum(net.loss(outputs, tf.zeros([2], tf.int32)).values())
    assert 0 < run(tf.linalg.global_norm(tf.gradients(loss, tf.trainable_variables()))) < np.inf


@pytest.mark.parametrize('classes', [2, 7])
def test_number_of_classes(classes):
    _, _, outputs = build(classes=classes, kd=True)
    assert {one.shape[1] for one in [*outputs.logits.values(), outputs.extras['ensemble']]} == {
        classes
    }
    assert shape('linear/b') == [classes]


def golden():
    """Variables of preact-8 w2a2 at 28 and 20 with distillation, one line per kind."""
    quantized = {f'group{g}/block0/conv{n}' for g in (0, 1, 2) for n in (1, 2)} | {
        'group1/block0/convshortcut',
        'group2/block0/convshortcut',
    }
    norms = {f'{layer}/bn' for layer in quantized | {'conv0'}} | {
        f'group{g}/bn_last' for g in (0, 1, 2)
    }
    activations = {
        'group0/block0/quant1',
        'group0/block0/quant2',
        'group1/block0/quant2',
        'group2/block0/quant2',
        'group0/quant_last',
        'group1/quant_last',
    }
    return (
        {'alpha', 'conv0/W', 'linear/W', 'linear/b'}
        | {f'{layer}/W' for layer in quantized}
        | {f'{layer}/weight_quant/basis' for layer in quantized}
        | {f'{layer}/basis' for layer in activations}
        | {
            f'{norm}/{size}/{part}'
            for norm in norms
            for size in ('s28', 's20')
            for part in ('gamma', 'beta', 'mean/EMA', 'variance/EMA')
        }
    )


def test_names_of_preact8():
    build(bits='w2a2', kd=True)
    assert names() == golden()
    assert len(names()) == 4 + 8 + 8 + 6 + 12 * 8


@pytest.mark.parametrize(
    'mode, training',
    [
        ('resnet', False),
        ('preact', False),
        ('preact', True),
        ('preact_typeA', False),
        ('pytorch', True),
    ],
)
def test_logits_of_a_size_do_not_depend_on_the_others(mode, training, run):
    bits = 'w2a32' if mode == 'resnet' else 'w2a2'
    options = {'mode': mode, 'bits': bits, 'training': training}
    _, _, together = build(sizes=(28, 20), **options)
    _, _, alone = build(sizes=(20,), **options)
    ((point, logits),) = alone.logits.items()
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


@pytest.mark.parametrize('kd_type', KD_TYPES)
@pytest.mark.parametrize('mode', ['preact', 'pytorch'])
def test_distillation_of_the_mode(mode, kd_type, run):
    """Soft cross entropies in the TensorFlow modes, divergences in PyTorch's; none if only the
    ensemble is learned.
    """
    net, _, outputs = build(mode=mode, kd=True, kd_type=kd_type)
    parts = net.loss(outputs, tf.zeros([2], tf.int32))
    assert ('loss/distillation' in parts) == (kd_type != 'none')
    assert 'loss/ensemble' in parts
    if kd_type != 'none':
        distance = losses.divergence if mode == 'pytorch' else losses.soft_cross_entropy
        large, small = outputs.logits.values()
        terms = [distance(outputs.extras['ensemble'], student) for student in (large, small)]
        expected = sum(terms) if kd_type == 'ens' else (sum(terms) + distance(large, small)) * 2 / 3
        np.testing.assert_allclose(*run([parts['loss/distillation'], expected]), rtol=1e-5)


def test_without_distillation():
    net, _, outputs = build()
    assert not outputs.extras and not names('alpha')
    assert set(net.loss(outputs, tf.zeros([2], tf.int32))) == {'loss/s28', 'loss/s20'}


def test_weight_decay_sees_every_kernel_once():
    _, blocks, _ = build(bits='w2a2')
    assert len(blocks.kernels) == len(names('/W$')) == 10
    assert cost.madds(blocks.layers['s28']) > cost.madds(blocks.layers['s20'])


@pytest.mark.parametrize(
    'options, message',
    [
        ({'arch': 'vgg16'}, "arch 'vgg16' is unknown; there are resnet8, .*mobilenetv2"),
        ({'arch': 'resnet19'}, "arch 'resnet19' is unknown"),
        (
            {'arch': 'mobilenetv2'},
            "mode 'preact' is unknown; mobilenetv2 is defined in mode pytorch only",
        ),
        ({'kd_type': 'topdown'}, 'kd_type topdown: unknown; did you mean ens_topdown'),
    ],
)
def test_unknown_forms_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        nets.create(
            'rsnet',
            **{'arch': 'resnet8', 'mode': 'preact', 'sizes': (28,), 'classes': 5, **options},
        )


def test_registry():
    assert {'rsnet', 'san'} <= set(nets.names())
    assert all(callable(nets.get(name)) for name in nets.names())
    with pytest.raises(
        ValueError, match="network 'vgg' is unknown; there are aig, dsnet, msdnet, rsnet, san"
    ):
        nets.get('vgg')


@pytest.mark.parametrize('arch', nets.archs())
def test_every_architecture_has_a_backbone(arch):
    net = nets.backbone(arch)(arch=arch, mode='pytorch', classes=5)
    assert net.padding == 'symmetric'
