"""SAN: variables, encodings, initial values, loss, and that one encoding is an RS-Net."""

import re

import numpy as np
import pytest

import nets
from engine.runs.checkpoint import Restore
from nets.layers.blocks import Blocks
from nets.layers.kernels import generate
from nets.losses import Teaching
from nets.points import Point
from nets.san import SAN
from quant import Policy
from quant.backend import tf
from tests.conftest import bare_blocks

PARTS = ('gamma', 'beta', 'mean/EMA', 'variance/EMA')


def san(**options):
    return nets.create(
        'san', **{'arch': 'resnet8', 'mode': 'pytorch', 'sizes': (28, 20), 'classes': 5, **options}
    )


def noise(sizes, batch=2):
    images = (
        np.random.default_rng(1).normal(size=(batch, max(sizes), max(sizes), 3)).astype('float32')
    )
    return {size: tf.constant(images[:, :size, :size]) for size in sizes}


def build(net, *, training=False):
    blocks = Blocks(Policy(), net.points, training=training, padding=net.padding)
    return blocks, net.outputs(noise(net.sizes), blocks)


def bare(net):
    """Builds kernels only."""
    blocks = bare_blocks(net.points)
    net.outputs({size: tf.zeros([1, size, size, 3]) for size in net.sizes}, blocks)
    return blocks


def names(pattern=''):
    return {v.op.name for v in tf.global_variables() if re.search(pattern, v.op.name)}


def variable(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found


def resnet_layers(groups, count):
    """Generated convolutions: a projection only where a group changes the shape."""
    return {
        f'group{g}/block{i}/conv{n}' for g in range(groups) for i in range(count) for n in (1, 2)
    } | {f'group{g}/block0/convshortcut' for g in range(1, groups)}


def mobilenet_layers():
    """The first block has no expansion."""
    return {'conv0', 'conv_last', 'block0/depthwise', 'block0/project'} | {
        f'block{i}/{part}' for i in range(1, 17) for part in ('expand', 'depthwise', 'project')
    }


FORMS = {
    'resnet8': (resnet_layers(3, 1), {'conv0'}),
    'resnet18': (resnet_layers(4, 2), {'conv0'}),
    'mobilenetv2': (mobilenet_layers(), set()),
}


@pytest.mark.parametrize('arch', FORMS)
def test_names_of_variables(arch):
    """No projection but those in use, no ensemble, only normalisation is private to a size."""
    generated, plain = FORMS[arch]
    net = san(arch=arch, sizes=(32, 24) if arch == 'resnet8' else (32,), kd=True)
    blocks, _ = build(net)
    kernels = {f'{layer}/{part}' for layer in generated for part in ('slope', 'offset')}
    norms = {
        f'{layer}/bn/s{size}/{part}'
        for layer in generated | plain
        for size in net.sizes
        for part in PARTS
    }
    assert names() == kernels | norms | {f'{layer}/W' for layer in plain} | {'linear/W', 'linear/b'}
    records = blocks.layers['s32']
    assert {row.name for row in records if row.generated} == generated
    assert {row.name for row in records if not row.generated} == plain | {'linear'}


@pytest.mark.parametrize('encoding', [320.0, 40])
@pytest.mark.parametrize('sizes', [(224, 160, 96), (96, 224, 160)])
def test_encodings_follow_the_sizes_whatever_their_order(sizes, encoding):
    net = san(sizes=sizes, encoding=encoding)
    assert net.sizes == [224, 160, 96] and net.points == (
        Point(size=224),
        Point(size=160),
        Point(size=96),
    )
    assert net.encodings == {size: pytest.approx(size / encoding) for size in sizes}


def test_encoded_as_another_size():
    net = san(sizes=(208, 192, 100), encoding=320.0)
    other = net.encoded_as({208: 192, 100: 96})
    assert other.encodings == {
        208: pytest.approx(0.6),
        192: pytest.approx(0.6),
        100: pytest.approx(0.3),
    }
    assert (
        net.encodings[208] == pytest.approx(0.65) and net.encoded_as({}).encodings == net.encodings
    )
    assert other.points == net.points and isinstance(other, SAN)


def test_a_borrowed_encoding_gives_the_lenders_kernel(run):
    net = san(sizes=(28, 20), encoding=40.0).encoded_as({28: 20})
    blocks, _ = build(net)
    kernels = {
        op.inputs[1]
        for op in tf.get_default_graph().get_operations()
        if op.type == 'Conv2D' and op.name.startswith('group0/block0/conv1')
    }
    run([])
    run(generate())
    slope, offset = run(
        [variable('group0/block0/conv1/slope'), variable('group0/block0/conv1/offset')]
    )
    (kernel,) = run(list(kernels))
    np.testing.assert_allclose(kernel, slope * 0.5 + offset, rtol=1e-5, atol=1e-6)


def starts(arch, run, **options):
    """Initial slope, offset by layer."""
    bare(san(arch=arch, sizes=(32,), classes=10, **options))
    layers = sorted(name.removesuffix('/slope') for name in names('/slope$'))
    assert layers
    return {
        layer: run([variable(f'{layer}/slope'), variable(f'{layer}/offset')]) for layer in layers
    }


@pytest.mark.parametrize('arch', ['resnet8', 'resnet18'])
def test_published_start_of_a_resnet_is_uniform(arch, run):
    found = starts(arch, run)
    both = np.concatenate([value.ravel() for values in found.values() for value in values])
    assert -1 <= both.min() < -0.999 and 0.999 < both.max() < 1
    assert both.mean() == pytest.approx(0, abs=0.01) and both.std() == pytest.approx(
        1 / np.sqrt(3), rel=0.01
    )
    assert all(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.2 for a, b in found.values())


def test_published_start_of_a_mobilenet_is_a_narrow_normal(run):
    found = starts('mobilenetv2', run)
    slopes = np.concatenate([slope.ravel() for slope, _ in found.values()])
    assert slopes.mean() == pytest.approx(0, abs=1e-4) and slopes.std() == pytest.approx(
        0.01, rel=0.01
    )
    assert np.abs(slopes).max() > 0.03
    assert not any(offset.any() for _, offset in found.values())


@pytest.mark.parametrize('arch', ['resnet18', 'mobilenetv2'])
def test_scaled_start_has_the_variance_of_an_ordinary_kernel(arch, run):
    """It is 2 / fan_out at encoding .5.

    An expanded depthwise kernel counts all its channels, as its published start does.
    """
    checked = 0
    for layer, (slope, offset) in starts(arch, run, init='scaled').items():
        height, width, inputs, outputs = slope.shape
        fan_out = height * width * (inputs if layer.endswith('depthwise') else outputs)
        kernel = 0.5 * slope + offset
        assert kernel.var() == pytest.approx(2 / fan_out, rel=6 * np.sqrt(2 / kernel.size)), layer
        checked += kernel.size > 1000
    assert checked > 10


def divergence(teacher, student):
    def log_softmax(x):
        x = x.astype('float64') - x.max(1, keepdims=True)
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    p, q = log_softmax(teacher), log_softmax(student)
    return (np.exp(p) * (p - q)).sum(1).mean()


def cross_entropy(logits, labels):
    shifted = logits - logits.max(1, keepdims=True)
    return (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean()


class Fake:
    """Outputs of a network."""

    def __init__(self, net, scale=3.0):
        self.values = [
            np.random.default_rng(n).normal(0, scale, (4, 5)) for n in range(len(net.points))
        ]
        # A tie of all classes, and a teacher that is certain.
        self.values[0][0], self.values[-1][1] = 0, [0, 0, 100, 0, 0]
        self.logits = dict(zip(net.points, map(tf.constant, self.values)))
        self.extras = {}
        self.teaching = Teaching()
        self.for_cascades = False


LABELS = np.array([0, 4, 2, 2], 'int32')


@pytest.mark.parametrize('sizes', [(28, 24, 20, 16), (28, 20), (20,)])
@pytest.mark.parametrize('kd', [True, False])
def test_loss(sizes, kd, run):
    net = san(sizes=sizes, kd=kd)
    fake = Fake(net)
    parts = run(net.loss(fake, tf.constant(LABELS)))
    pairs = [(i, j) for i in range(len(sizes)) for j in range(i + 1, len(sizes))]
    expected = {
        f'loss/s{size}': cross_entropy(value, LABELS) for size, value in zip(sizes, fake.values)
    }
    if kd and pairs:
        expected['loss/distillation'] = sum(
            divergence(fake.values[i], fake.values[j]) for i, j in pairs
        )
    assert set(parts) == set(expected)
    for name, value in expected.items():
        assert parts[name] == pytest.approx(value, rel=1e-5), name


def test_distillation_teaches_downwards_only(run):
    net = san(sizes=(28, 24, 20), kd=True)
    fake = Fake(net, scale=1.0)
    parts = net.loss(fake, tf.constant(LABELS))
    gradients = tf.gradients(
        parts['loss/distillation'], list(fake.logits.values()), unconnected_gradients='zero'
    )
    sizes = [np.abs(one).max() for one in run(gradients)]
    assert sizes[0] == 0 and min(sizes[1:]) > 1e-3


def random_values():
    """Values for the variables outside of ``plain``; variances stay positive."""
    rng = np.random.default_rng(3)
    shapes = {
        v.op.name: v.shape.as_list()
        for v in tf.global_variables()
        if not v.op.name.startswith('plain/')
    }
    return {
        name: (
            rng.uniform(0.5, 2, shape)
            if name.endswith(('variance/EMA', 'gamma'))
            else rng.normal(0, 0.3, shape)
        ).astype('float32')
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize('size', [28, 20])
def test_one_encoding_is_an_rsnet_with_its_kernels(size):
    """The network is the plain one but for where its kernels come from."""
    _, outputs = build(san(sizes=(size,), encoding=40.0))
    with tf.variable_scope('plain'):
        _, expected = build(
            nets.create('rsnet', arch='resnet8', mode='pytorch', sizes=(size,), classes=5)
        )
    ours = random_values()
    plain = {
        name: value for name, value in ours.items() if not name.endswith(('/slope', '/offset'))
    }
    plain |= {
        name.replace('/slope', '/W'): np.float32(size / 40) * value
        + ours[name.replace('/slope', '/offset')]
        for name, value in ours.items()
        if name.endswith('/slope')
    }
    with tf.Session() as session:
        Restore(ours | {f'plain/{name}': value for name, value in plain.items()}).init(session)
        found, wanted = session.run([*outputs.logits.values(), *expected.logits.values()])
    assert {f'plain/{name}' for name in plain} == names('^plain/') and wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_every_trained_variable_has_a_gradient():
    net = san(kd=True)
    _, outputs = build(net, training=True)
    loss = tf.add_n(list(net.loss(outputs, tf.zeros([2], tf.int32)).values()))
    trained = tf.trainable_variables()
    assert [v.op.name for v, g in zip(trained, tf.gradients(loss, trained)) if g is None] == []
    # Stem and classifier, eight generated kernels, nine normalisations of two sizes.
    assert len(trained) == 3 + 2 * 8 + 2 * 2 * 9


@pytest.mark.parametrize(
    'options, message',
    [
        ({'init': 'he'}, 'init he: unknown; there are published, scaled'),
        ({'kd_type': 'ens'}, 'kd_type ens: unknown; there are topdown'),
        ({'mode': 'preact'}, "mode 'preact' is unknown to san; there is pytorch"),
        (
            {'arch': 'resnet19'},
            "arch 'resnet19' is unknown; did you mean .* There are resnet8, .*18",
        ),
        ({'arch': 'vgg'}, "arch 'vgg' is unknown; there are .*resnet18.*mobilenetv2"),
        ({'encoding': 0.0}, 'encoding 0.0: must be greater than 0'),
        ({'encoding': -1}, 'encoding -1: must be greater than 0'),
        ({'encoding': float('inf')}, 'encoding inf: must be a finite number greater than 0'),
        ({'encoding': float('nan')}, 'encoding nan: must be a finite number'),
    ],
)
def test_invalid_options_name_what_is_known(options, message):
    with pytest.raises(ValueError, match=message):
        san(**options)
