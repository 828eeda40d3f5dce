"""MSDNet as a network.

Sizes x exits, early exit, laziness, quantization, losses, recipes, initial values, errors.
"""

import re

import numpy as np
import pytest

import nets
from engine.importers.names import from_pytorch
from nets import cost
from nets.layers.blocks import Blocks
from nets.msdnet import STARTS
from nets.msdnet_plan import operations
from nets.outputs import Outputs
from nets.points import Point
from quant import Policy, low_bit
from quant.backend import tf
from tests.conftest import bare_blocks

# Three layers; a scale ends after each of the first two.
TINY = {
    'nBlocks': 3,
    'base': 1,
    'step': 1,
    'nChannels': 4,
    'growthRate': 2,
    'grFactor': (1, 2, 4),
    'bnFactor': (1, 2, 4),
    'sizes': (20,),
    'classes': 5,
}
TWO_SCALES = {'nBlocks': 2, 'grFactor': (1, 2), 'bnFactor': (1, 2)}
CIFAR = {
    'nChannels': 16,
    'growthRate': 6,
    'grFactor': (1, 2, 4),
    'bnFactor': (1, 2, 4),
    'sizes': (32,),
    'classes': 10,
}
IMAGENET = {'nBlocks': 5, 'sizes': (224,), 'classes': 1000, 'stem_bias': True}
# FACTS: options, lazy operations of every exit and parameters, both in millions.
RECIPES = {
    'cifar10 anytime': (
        {**CIFAR, 'nBlocks': 10, 'step': 2, 'base': 4},
        [13.38, 23.44, 35.42, 50.91, 60.87, 72.60, 86.10, 99.95, 110.02, 121.56],
        4.840,
    ),
    'cifar10 batch, 7 exits': (
        {**CIFAR, 'nBlocks': 7, 'stepmode': 'lin_grow', 'step': 1, 'base': 1},
        [5.95, 12.73, 25.21, 45.77, 74.98, 108.78, 137.20],
        3.885,
    ),
    'cifar10 batch, 5 exits': (
        {**CIFAR, 'nBlocks': 5, 'stepmode': 'lin_grow', 'step': 1, 'base': 1},
        [5.95, 12.73, 24.69, 40.45, 58.42],
        2.021,
    ),
    'cifar100 anytime': (
        {**CIFAR, 'nBlocks': 7, 'step': 2, 'base': 4, 'classes': 100},
        [13.39, 23.46, 36.07, 45.15, 56.01, 66.96, 75.94],
        3.068,
    ),
    'imagenet step 4': (
        {**IMAGENET, 'step': 4, 'base': 4},
        [255.82, 614.97, 964.74, 1254.47, 1360.53],
        23.958,
    ),
    'imagenet step 6': (
        {**IMAGENET, 'step': 6, 'base': 6},
        [412.92, 1084.64, 1793.87, 2431.49, 2742.06],
        56.529,
    ),
    'imagenet step 7': (
        {**IMAGENET, 'step': 7, 'base': 7},
        [505.12, 1340.22, 2226.95, 2967.42, 3253.79],
        62.314,
    ),
}
QUICK = ('cifar10 anytime', 'cifar10 batch, 5 exits', 'imagenet step 4')


def msdnet(**options):
    return nets.create('msdnet', **{'arch': 'msdnet', 'mode': 'pytorch', **TINY, **options})


def noise(sizes, batch=3):
    images = (
        np.random.default_rng(1).normal(size=(batch, max(sizes), max(sizes), 3)).astype('float32')
    )
    return {size: images[:, :size, :size] for size in sizes}


def build(net, *, training=False, policy=None, batch=3):
    blocks = Blocks(policy or Policy(), net.points, training=training, padding=net.padding)
    return blocks, net.outputs(
        {size: tf.constant(x) for size, x in noise(net.sizes, batch).items()}, blocks
    )


def names(pattern=''):
    return {v.op.name for v in tf.global_variables() if re.search(pattern, v.op.name)}


def normalised(layers):
    """Layers before a normalisation: all but the classifiers."""
    return {layer for layer in layers if not layer.endswith('/linear')}


@pytest.mark.parametrize(
    'recipe',
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in RECIPES],
)
def test_recipes(recipe):
    options, published, parameters = RECIPES[recipe]
    net = nets.create('msdnet', arch='msdnet', mode='pytorch', **options)
    blocks = bare_blocks(net.points)
    net.outputs({size: tf.zeros([1, size, size, 3]) for size in net.sizes}, blocks)
    lazy = [
        sum(map(operations, cost.cumulative(blocks.layers, f's{net.sizes[0]}-x{k}')))
        for k in range(net.exits)
    ]
    assert [round(count / 1e6, 2) for count in lazy] == published
    layers = cost.cumulative(blocks.layers, str(net.points[0]))
    affine = sum(2 * layer.kernel[3] for layer in layers if not layer.name.endswith('/linear'))
    assert round(sum(layer.weights + layer.bias for layer in layers) + affine, -3) == round(
        1e6 * parameters
    )


def test_points_and_variables_of_sizes_times_exits():
    """Kernels are shared, normalisation is private to a size and shared by its exits."""
    net = msdnet(sizes=(20, 28))
    blocks, outputs = build(net)
    assert [str(point) for point in net.points] == [
        's28-x2',
        's28-x1',
        's28-x0',
        's20-x2',
        's20-x1',
        's20-x0',
    ]
    assert tuple(outputs.logits) == net.points and net.exits == 3
    assert set(outputs.extras) == {f'ensemble-s{size}-x{k}' for size in (28, 20) for k in (1, 2)}
    layers = {layer.name for layer in cost.cumulative(blocks.layers, 's28-x2')}
    parts = ('gamma', 'beta', 'mean/EMA', 'variance/EMA')
    assert names() == {f'{layer}/W' for layer in layers} | {
        f'head{k}/linear/b' for k in range(3)
    } | {
        f'{layer}/bn/s{size}/{part}'
        for layer in normalised(layers)
        for size in net.sizes
        for part in parts
    }
    assert {
        'stem/map0',
        'block0/layer1/map0/normal/conv1',
        'block0/layer1/map1/down/conv2',
        'block1/transition1/map0',
        'block2/layer0/map0/down/conv1',
        'head1/conv2',
    } <= layers
    assert not any('block0/layer1/map0/down' in layer for layer in layers)


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'prune': 'min', 'bottleneck': False, 'reduction': 0.0},
        {'sizes': (80,), 'stem_bias': True, **TWO_SCALES},
    ],
)
def test_every_trainable_variable_has_a_gradient(options):
    net = msdnet(**options)
    _, outputs = build(net, training=True)
    total = tf.add_n(list(net.loss(outputs, tf.constant([0, 1, 2])).values()))
    variables = tf.trainable_variables()
    assert None not in tf.gradients(total, variables)
    assert ('stem/map0/b' in {v.op.name for v in variables}) == ('stem_bias' in options)


def test_quantized(run):
    """Heads and stem are float.

    Every feature map that feeds a body layer has its own basis, which training refits.
    """
    net = msdnet(**TWO_SCALES | {'nBlocks': 1, 'base': 2})
    blocks, outputs = build(net, training=True, policy=low_bit('lq(bits=2)', 'lq(bits=2)'))
    total = tf.add_n(list(net.loss(outputs, tf.constant([0, 1, 2])).values()))
    gradients = tf.gradients(total, tf.trainable_variables())
    assert None not in gradients
    assert all(np.isfinite(gradient).all() for gradient in run(gradients))
    records = {layer.name: layer for records in blocks.layers.values() for layer in records}
    low = {name for name, layer in records.items() if layer.weight_bits == 2}
    assert low == {name for name in records if name.startswith('block')}
    stems = {f'stem/map{scale}' for scale in range(2)}
    assert names('/quant/basis') == {f'{layer}/quant/basis' for layer in low | stems}
    assert set(blocks.quantization.collected) >= {f'{layer}/quant/basis' for layer in low | stems}


def test_an_exit_computes_only_what_it_needs():
    """Published counts: all maps so far, those that exits so far need, those that one needs."""
    net = msdnet(**CIFAR, step=2, base=2)
    blocks = bare_blocks(net.points)
    net.outputs({32: tf.zeros([1, 32, 32, 3])}, blocks)
    points = [f's32-x{k}' for k in range(3)]
    assert [sum(map(operations, cost.cumulative(blocks.layers, point))) for point in points] == [
        7897354,
        15565076,
        20988446,
    ]
    assert [sum(map(operations, blocks.layers[point])) for point in points] == [
        7897354,
        12906506,
        16039946,
    ]


def test_maps_that_no_exit_needs_are_stored_and_cost_nothing(run):
    """Four layers of three scales end with two.

    A published network has them, so its checkpoint fits.
    """
    net = msdnet(nBlocks=2, base=2, step=2)
    blocks, outputs = build(net, training=True)
    unread = {'block1/layer2/map0/normal/conv1', 'block1/layer2/map0/normal/conv2'}
    assert {name.rpartition('/')[0] for name in names('block1/layer2/map0.*/W')} == unread
    assert not unread & {layer.name for records in blocks.layers.values() for layer in records}
    variables = tf.trainable_variables()
    gradients = tf.gradients(
        tf.add_n(list(net.loss(outputs, tf.constant([0, 1, 2])).values())), variables
    )
    assert {v.op.name.split('/conv')[0] for v, g in zip(variables, gradients) if g is None} == {
        'block1/layer2/map0/normal'
    }
    (moving,) = (
        v
        for v in tf.global_variables()
        if v.op.name == 'block1/layer2/map0/normal/conv2/bn/s20/mean/EMA'
    )
    assert run(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) and np.abs(run(moving)).min() > 0


def test_a_head_pools_the_first_two_by_two_positions(run):
    """The pool of a 3x3 map drops a border."""

    class Watched(Blocks):
        def norm(self, name, x, **options):
            self.last = super().norm(name, x, **options)
            return self.last

    net = msdnet(sizes=(12,), nBlocks=1, grFactor=(1,))
    blocks = Watched(Policy(), net.points, training=False, padding=net.padding)
    outputs = net.outputs({12: tf.constant(noise([12])[12])}, blocks)
    sensitive = run(tf.gradients(outputs.logits[net.points[0]], blocks.last))[0] != 0
    assert sensitive.shape[1:3] == (3, 3)
    np.testing.assert_array_equal(
        sensitive.any(axis=(0, 3)), np.pad(np.ones((2, 2), bool), [(0, 1), (0, 1)])
    )


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_ensembles_add_probabilities(run):
    net = msdnet(grFactor=(1, 2))
    _, outputs = build(net)
    logits, extras = run([outputs.logits, outputs.extras])
    shares = [softmax(logits[Point(size=20, exit=k)]) for k in range(3)]
    assert set(extras) == {'ensemble-s20-x1', 'ensemble-s20-x2'}
    np.testing.assert_allclose(extras['ensemble-s20-x1'], shares[0] + shares[1], rtol=1e-5)
    np.testing.assert_allclose(extras['ensemble-s20-x2'], sum(shares), rtol=1e-5)
    assert not build(net, training=True)[1].extras


@pytest.mark.parametrize('weights', [(), (0.5, 1, 2)])
@pytest.mark.parametrize('kd', [False, True])
def test_loss(run, weights, kd):
    """Sum over sizes and exits; later exits teach earlier ones of their own size."""
    net = msdnet(sizes=(28, 20), exit_weights=weights, kd=kd)
    labels = np.array([0, 3, 4, 1])
    logits = {
        point: np.random.default_rng(i).normal(size=(4, 5)) for i, point in enumerate(net.points)
    }
    parts = run(
        net.loss(
            Outputs({point: tf.constant(value) for point, value in logits.items()}),
            tf.constant(labels),
        )
    )
    shares = {point: softmax(value) for point, value in logits.items()}
    expected = {
        f'loss/{point}': -np.log(share[range(4), labels]).mean()
        * (weights or (1, 1, 1))[point.exit]
        for point, share in shares.items()
    }
    if kd:
        expected['loss/distillation'] = sum(
            (shares[t] * np.log(shares[t] / shares[s])).sum(axis=1).mean()
            for t in net.points
            for s in net.points
            if t.size == s.size and t.exit > s.exit
        )
    assert parts == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


@pytest.mark.parametrize('init', STARTS)
def test_initial_values(run, init):
    """Fan-out normal and no bias, or fan-in uniform with biases as PyTorch has them."""
    net = msdnet(
        sizes=(80,), nBlocks=1, nChannels=32, growthRate=32, stem_bias=True, init=init, classes=50
    )
    build(net)
    values = run({v.op.name: v for v in tf.trainable_variables()})
    for name in ('stem/map0/W', 'stem/map2/W', 'block0/layer1/map2/down/conv1/W', 'head0/conv1/W'):
        w = values[name]
        if init == 'original':
            assert w.std() == pytest.approx(np.sqrt(2 / (w.shape[0] ** 2 * w.shape[3])), rel=0.05)
            assert np.abs(w).max() > 2.5 * w.std()
        else:
            bound = 1 / np.sqrt(np.prod(w.shape[:3]))
            assert 0.98 * bound < np.abs(w).max() <= bound and w.std() == pytest.approx(
                bound / 3**0.5, rel=0.05
            )
    linear = values['head0/linear/W']
    assert 0.95 < np.abs(linear).max() * np.sqrt(len(linear)) <= 1
    for bias, fan_in in ((values['head0/linear/b'], len(linear)), (values['stem/map0/b'], 147)):
        assert (
            (bias == 0).all()
            if init == 'original'
            else 0.5 < np.abs(bias).max() * np.sqrt(fan_in) <= 1
        )


@pytest.mark.parametrize(
    'options, message',
    [
        ({'arch': 'resnet18'}, "arch 'resnet18' is unknown to msdnet; there is msdnet"),
        ({'mode': 'preact'}, "mode 'preact' is unknown to msdnet"),
        ({'prune': 'none'}, 'prune none: unknown; there are max, min'),
        ({'stepmode': 'odd'}, 'stepmode odd: unknown; there are even, lin_grow'),
        ({'init': 'he'}, 'init he: unknown; there are original, torch'),
        ({'kd_type': 'ens'}, 'kd_type ens: unknown; there are topdown'),
        ({'nBlocks': 0}, 'nBlocks 0: must be at least 1'),
        ({'grFactor': ()}, 'grFactor: give at least 1'),
        ({'bnFactor': (1, 0, 1)}, 'bnFactor 0: must be at least 1'),
        ({'bnFactor': (1, 2)}, 'bnFactor has 2 entries for the 3 scales'),
        (
            {'growthRate': 3, 'grFactor': (1, 3, 4)},
            'growthRate 3 x grFactor 3 = 9 channels at scale 1: must be even',
        ),
        ({'reduction': 1.5}, 'reduction 1.5: must be at least 0 and at most 1'),
        ({'reduction': 0.05}, 'reduction 0.05: 8 x 0.05 leaves no channel after layer 2'),
        (
            {'prune': 'min', 'nBlocks': 1, 'base': 1},
            'prune min .* 3 scales need 2 layers, but the blocks 1 have 1',
        ),
        (
            {'sizes': (32,), 'grFactor': (1, 2, 4, 4), 'bnFactor': (1, 2, 4, 4)},
            'size 32 with 4 scales: 32 -> 16 -> 8 -> 4 pixels at the coarsest; heads need 5 to 12',
        ),
        ({'sizes': (28, 16)}, 'size 16 with 3 scales: 16 -> 8 -> 4 pixels'),
        ({'sizes': (128, 64)}, 'size 64 with 3 scales: 64 -> 32 -> 16 -> 8 -> 4 pixels'),
        ({'sizes': (400,)}, 'size 400 with 3 scales: 400 -> 200 -> 100 -> 50 -> 25 pixels'),
        ({'exit_weights': (1, 2)}, 'exit_weights has 2 entries for 3 exits'),
        ({'exit_weights': (1, -1, 1)}, 'exit_weights -1: must be at least 0'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        msdnet(**options)


@pytest.mark.parametrize('sizes', [(17,), (48,), (28, 20)])
def test_sizes_that_fit(sizes):
    assert msdnet(sizes=sizes).sizes == list(sizes)


@pytest.mark.parametrize('size', [160, 192, 224, 256, 288, 384])
def test_sizes_of_imagenet(size):
    options = {**IMAGENET, 'sizes': (size,)}
    assert nets.create('msdnet', arch='msdnet', mode='pytorch', **options).large


@pytest.mark.parametrize(
    'name, expected',
    [
        ('blocks.0.0.layers.2.net.0.weight', 'stem/map2/W'),
        ('blocks.0.0.layers.0.0.bias', 'stem/map0/b'),
        ('blocks.0.0.layers.0.1.running_mean', 'stem/map0/bn/s32/mean/EMA'),
        ('blocks.0.0.layers.0.net.1.bias', 'stem/map0/bn/s32/beta'),
        ('blocks.3.0.layers.1.conv_normal.net.0.weight', 'block3/layer0/map1/normal/conv1/W'),
        (
            'blocks.3.0.layers.1.conv_normal.net.4.weight',
            'block3/layer0/map1/normal/conv2/bn/s32/gamma',
        ),
        (
            'blocks.0.12.layers.0.conv_down.net.1.running_var',
            'block0/layer12/map0/down/conv1/bn/s32/variance/EMA',
        ),
        ('blocks.2.1.m.1.net.0.weight', 'block2/transition1/map1/W'),
        ('classifier.10.m.1.net.1.weight', 'head10/conv2/bn/s32/gamma'),
        ('classifier.0.linear.bias', 'head0/linear/b'),
        ('classifier.0.m.0.net.1.num_batches_tracked', None),
    ],
)
def test_published_names(name, expected):
    assert from_pytorch(name, arch='msdnet', kind='msdnet', sizes=(32,)) == expected


@pytest.mark.parametrize(
    'name',
    [
        'fc.weight',
        'classifier.0.m.2.net.0.weight',
        'blocks.0.1.layers.0.conv_up.net.0.weight',
        'blocks.0.1.layers.0.conv_normal.net.2.weight',
        'layer1.0.conv1.weight',
    ],
)
def test_names_of_other_networks(name):
    with pytest.raises(ValueError, match=f'^{name} is no part of an MSDNet'):
        from_pytorch(name, arch='msdnet', kind='msdnet', sizes=(32,))
