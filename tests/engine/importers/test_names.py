"""Names and layouts of the published PyTorch networks.

By hand, and every name of the stored parity fixtures.
"""

import json
import re

import numpy as np
import pytest

from engine.config.config import Config
from engine.graph.tower import Model
from engine.importers.names import convert, from_pytorch
from tests.paths import SHARED

SIZES = (224, 192, 160, 128, 96)
NETWORKS = (
    'rsf_parallel_resnet18',
    'rsf_parallel_resnet50',
    'rsf_parallel_mobilenetv2',
    'rsf_meta_resnet18',
    'rsf_meta_mobilenetv2',
)
RNG = np.random.default_rng(0)


def ours(name, arch='resnet18', san=False, sizes=SIZES, kind=None):
    return from_pytorch(name, arch=arch, kind=kind or ('san' if san else 'rsnet'), sizes=sizes)


@pytest.mark.parametrize(
    'arch, san, name, expected',
    [
        ('resnet18', False, 'alpha', 'alpha'),
        ('resnet18', False, 'conv1.module.weight', 'conv0/W'),
        ('resnet18', True, 'conv1.module.weight', 'conv0/W'),
        ('resnet18', False, 'bn1.bn_0.weight', 'conv0/bn/s224/gamma'),
        ('resnet18', False, 'bn1.bn_4.bias', 'conv0/bn/s96/beta'),
        ('resnet18', False, 'layer1.0.conv1.module.weight', 'group0/block0/conv1/W'),
        (
            'resnet18',
            False,
            'layer4.1.bn2.bn_2.running_mean',
            'group3/block1/conv2/bn/s160/mean/EMA',
        ),
        ('resnet18', False, 'layer2.0.downsample.0.module.weight', 'group1/block0/convshortcut/W'),
        (
            'resnet18',
            False,
            'layer2.0.downsample.1.bn_1.running_var',
            'group1/block0/convshortcut/bn/s192/variance/EMA',
        ),
        ('resnet50', False, 'layer1.0.conv3.module.weight', 'group0/block0/conv3/W'),
        ('resnet50', False, 'layer3.5.bn3.bn_3.weight', 'group2/block5/conv3/bn/s128/gamma'),
        ('resnet101', False, 'layer3.22.conv1.module.weight', 'group2/block22/conv1/W'),
        ('resnet18', False, 'fc.module.weight', 'linear/W'),
        ('resnet18', False, 'fc.module.bias', 'linear/b'),
        ('resnet18', True, 'fc.module.bias', 'linear/b'),
        ('resnet18', True, 'layer1.1.fc2.weight', 'group0/block1/conv2/slope'),
        ('resnet18', True, 'layer1.1.fc2.bias', 'group0/block1/conv2/offset'),
        ('resnet18', True, 'layer2.0.fc3.weight', 'group1/block0/convshortcut/slope'),
        (
            'resnet18',
            True,
            'layer2.0.bn3.bn_1.running_var',
            'group1/block0/convshortcut/bn/s192/variance/EMA',
        ),
        ('resnet34', True, 'layer4.0.fc3.bias', 'group3/block0/convshortcut/offset'),
        ('resnet50', True, 'layer1.0.fc3.bias', 'group0/block0/conv3/offset'),
        ('resnet50', True, 'layer1.0.fc4.bias', 'group0/block0/convshortcut/offset'),
        ('resnet50', True, 'layer1.0.bn4.bn_0.bias', 'group0/block0/convshortcut/bn/s224/beta'),
        ('mobilenetv2', False, 'features.0.0.module.weight', 'conv0/W'),
        ('mobilenetv2', False, 'features.0.1.bn_0.running_mean', 'conv0/bn/s224/mean/EMA'),
        ('mobilenetv2', False, 'features.1.conv.0.module.weight', 'block0/depthwise/W'),
        ('mobilenetv2', False, 'features.1.conv.3.module.weight', 'block0/project/W'),
        ('mobilenetv2', False, 'features.1.conv.4.bn_0.weight', 'block0/project/bn/s224/gamma'),
        ('mobilenetv2', False, 'features.2.conv.0.module.weight', 'block1/expand/W'),
        ('mobilenetv2', False, 'features.2.conv.3.module.weight', 'block1/depthwise/W'),
        ('mobilenetv2', False, 'features.17.conv.6.module.weight', 'block16/project/W'),
        ('mobilenetv2', False, 'features.17.conv.7.bn_4.bias', 'block16/project/bn/s96/beta'),
        ('mobilenetv2', False, 'conv.0.module.weight', 'conv_last/W'),
        ('mobilenetv2', False, 'conv.1.bn_1.weight', 'conv_last/bn/s192/gamma'),
        ('mobilenetv2', False, 'classifier.module.weight', 'linear/W'),
        ('mobilenetv2', True, 'features.0.fc.weight', 'conv0/slope'),
        ('mobilenetv2', True, 'features.0.bn.bn_1.weight', 'conv0/bn/s192/gamma'),
        ('mobilenetv2', True, 'features.1.fc1.weight', 'block0/depthwise/slope'),
        ('mobilenetv2', True, 'features.1.fc2.bias', 'block0/project/offset'),
        ('mobilenetv2', True, 'features.1.bn2.bn_0.bias', 'block0/project/bn/s224/beta'),
        ('mobilenetv2', True, 'features.2.fc1.bias', 'block1/expand/offset'),
        ('mobilenetv2', True, 'features.10.fc3.weight', 'block9/project/slope'),
        ('mobilenetv2', True, 'conv.fc.weight', 'conv_last/slope'),
        ('mobilenetv2', True, 'conv.bn.bn_2.running_var', 'conv_last/bn/s160/variance/EMA'),
    ],
)
def test_by_hand(arch, san, name, expected):
    assert ours(name, arch, san) == expected


@pytest.mark.parametrize(
    'kind, name, expected',
    [
        ('aig', 'conv1.weight', 'conv0/W'),
        ('aig', 'bn1.weight', 'conv0/bn/s224/gamma'),
        ('aig', 'bn1.running_mean', 'conv0/bn/s224/mean/EMA'),
        ('aig', 'layer1.0.conv1.weight', 'group0/block0/conv1/W'),
        ('aig', 'layer4.2.conv3.weight', 'group3/block2/conv3/W'),
        ('aig', 'layer3.5.bn3.bias', 'group2/block5/conv3/bn/s224/beta'),
        ('aig', 'layer2.0.shortcut.0.weight', 'group1/block0/convshortcut/W'),
        (
            'aig',
            'layer2.0.shortcut.1.running_var',
            'group1/block0/convshortcut/bn/s224/variance/EMA',
        ),
        ('aig', 'layer2.0.fc1.weight', 'group1/block0/gate1/W'),
        ('aig', 'layer2.0.fc1.bias', 'group1/block0/gate1/b'),
        ('aig', 'layer2.0.fc1bn.weight', 'group1/block0/gate1/bn/s224/gamma'),
        ('aig', 'layer2.0.fc1bn.running_var', 'group1/block0/gate1/bn/s224/variance/EMA'),
        ('aig', 'layer2.0.fc2.weight', 'group1/block0/gate2/W'),
        ('aig', 'layer2.0.fc2.bias', 'group1/block0/gate2/b'),
        ('aig', 'linear.weight', 'linear/W'),
        ('aig', 'linear.bias', 'linear/b'),
        ('aig', 'layer1.0.fc1bn.num_batches_tracked', None),
        ('rsnet', 'conv1.weight', 'conv0/W'),
        ('rsnet', 'bn1.bias', 'conv0/bn/s224/beta'),
        ('rsnet', 'layer1.0.bn1.num_batches_tracked', None),
        ('rsnet', 'layer4.1.bn2.weight', 'group3/block1/conv2/bn/s224/gamma'),
        ('rsnet', 'layer2.0.downsample.0.weight', 'group1/block0/convshortcut/W'),
        (
            'rsnet',
            'layer2.0.downsample.1.running_mean',
            'group1/block0/convshortcut/bn/s224/mean/EMA',
        ),
        ('rsnet', 'fc.weight', 'linear/W'),
        ('rsnet', 'fc.bias', 'linear/b'),
    ],
)
def test_networks_of_one_size(kind, name, expected):
    assert ours(name, 'resnet50', kind=kind, sizes=(224,)) == expected


@pytest.mark.parametrize(
    'kind, name',
    [
        ('rsnet', 'layer1.0.fc1bn.weight'),
        ('aig', 'layer1.0.fc3bn.weight'),
        ('aig', 'alpha'),
        ('aig', 'layer1.0.shortcut.2.weight'),
        ('rsnet', 'layer1.0.downsample.weight'),
    ],
)
def test_strange_names_of_one_size(kind, name):
    with pytest.raises(ValueError, match=f'^{name} is no part of a'):
        ours(name, 'resnet50', kind=kind)


@pytest.mark.parametrize(
    'name, san',
    [
        ('bn1.bn_0.num_batches_tracked', False),
        ('bn1.bn_0.num_batches_tracked', True),
        ('layer2.0.downsample.0.module.weight', True),
        ('layer2.0.downsample.1.bn_0.running_mean', True),
    ],
)
def test_what_no_network_uses(name, san):
    assert ours(name, san=san) is None


@pytest.mark.parametrize(
    'name, arch, san',
    [
        ('alpha', 'resnet18', True),
        ('layer1.0.weight', 'resnet18', False),
        ('conv2.module.weight', 'resnet18', False),
        ('conv1.module.scale', 'resnet18', False),
        ('features.1.conv.6.module.weight', 'mobilenetv2', False),
        ('features.1.conv.7.bn_0.weight', 'mobilenetv2', False),
        ('features.1.fc3.weight', 'mobilenetv2', True),
        ('features.2.fc4.weight', 'mobilenetv2', True),
        ('features.2.conv.2.weight', 'mobilenetv2', False),
        ('', 'resnet18', False),
        ('weight', 'resnet18', False),
        ('module.conv1.module.weight', 'resnet18', False),
    ],
)
def test_strange_names_are_refused(name, arch, san):
    with pytest.raises(ValueError, match=f'^{name} is no part of a.* {arch}$'):
        ours(name, arch, san)


def test_a_position_without_a_size():
    assert ours('bn1.bn_1.weight', sizes=(32, 24)) == 'conv0/bn/s24/gamma'
    with pytest.raises(ValueError, match='bn1.bn_2.weight: position 2, but there are 2 sizes'):
        ours('bn1.bn_2.weight', sizes=(32, 24))


def test_positions_follow_the_order_of_the_sizes():
    assert ours('bn1.bn_0.weight', sizes=(24, 32)) == 'conv0/bn/s24/gamma'


def test_a_convolution_becomes_height_width_in_out():
    stored = RNG.normal(size=(5, 4, 3, 3)).astype('float32')
    found = convert(stored, 'group0/block0/conv1/W', (3, 3, 4, 5))
    assert found.shape == (3, 3, 4, 5) and found.dtype == np.float32 and found.flags.c_contiguous
    for i, j, c, o in np.ndindex(found.shape):
        assert found[i, j, c, o] == stored[o, c, i, j]


@pytest.mark.parametrize('flat', [(-1, 1), (-1,)])
@pytest.mark.parametrize('leaf', ['slope', 'offset'])
def test_a_generated_convolution(flat, leaf):
    stored = RNG.normal(size=(5, 4, 3, 2))
    found = convert(stored.reshape(flat), f'group0/block0/conv1/{leaf}', (3, 2, 4, 5))
    for i, j, c, o in np.ndindex(found.shape):
        assert found[i, j, c, o] == stored[o, c, i, j]


@pytest.mark.parametrize(
    'shape, leaf', [((6, 1, 3, 2), 'W'), ((36, 1), 'slope'), ((36,), 'offset')]
)
def test_a_depthwise_convolution_becomes_height_width_channel(shape, leaf):
    stored = RNG.normal(size=(6, 1, 3, 2))
    found = convert(stored.reshape(shape), f'block0/depthwise/{leaf}', (3, 2, 6, 1))
    assert found.shape == (3, 2, 6, 1)
    for i, j, c in np.ndindex(3, 2, 6):
        assert found[i, j, c, 0] == stored[c, 0, i, j]


def test_a_classifier_is_transposed():
    stored = RNG.normal(size=(5, 7))
    found = convert(stored, 'linear/W', (7, 5))
    assert found.shape == (7, 5) and found[6, 4] == stored[4, 6] and found[1, 2] == stored[2, 1]


def test_a_gate_is_a_matrix():
    stored = RNG.normal(size=(16, 7, 1, 1))
    found = convert(stored, 'group0/block0/gate1/W', (7, 16))
    assert found.shape == (7, 16) and found[6, 4] == stored[4, 6, 0, 0]


def test_vectors_stay_as_they_are():
    for name in ('linear/b', 'alpha', 'conv0/bn/s224/mean/EMA'):
        np.testing.assert_array_equal(convert(np.arange(5.0), name, (5,)), np.arange(5.0))


@pytest.mark.parametrize(
    'stored, shape',
    [
        ((5, 4, 3, 3), (3, 3, 4, 6)),
        ((7,), (8,)),
        ((5, 7), (7, 6)),
        ((35, 1), (3, 3, 2, 2)),
        ((), (2,)),
    ],
)
def test_another_number_of_values(stored, shape):
    message = re.escape(f'conv0/W: {list(stored)} does not fit {list(shape)}')
    with pytest.raises(ValueError, match=message):
        convert(np.zeros(stored), 'conv0/W', shape)


@pytest.mark.parametrize(
    'stored, name, shape, turned',
    [
        ((7, 5), 'linear/W', (7, 5), True),
        ((1, 1, 5, 7), 'gate1/W', (7, 5), True),
        ((4, 5, 3, 3), 'group0/block0/conv1/W', (3, 3, 4, 5), True),
        ((3, 3, 4, 5), 'group0/block0/conv1/W', (3, 3, 4, 5), True),
        ((180, 1), 'group0/block0/conv1/W', (3, 3, 4, 5), False),
        ((5, 4, 3, 3), 'group0/block0/conv1/slope', (3, 3, 4, 5), False),
        ((1, 180), 'group0/block0/conv1/slope', (3, 3, 4, 5), True),
        ((1, 6, 3, 3), 'block0/depthwise/W', (3, 3, 6, 1), True),
        ((3, 12), 'block0/depthwise/slope', (3, 2, 6, 1), False),
        ((5, 1), 'conv0/bn/s224/gamma', (5,), False),
        ((1, 5), 'linear/b', (5,), False),
        ((35,), 'linear/W', (7, 5), False),
    ],
)
def test_as_many_values_in_another_shape(stored, name, shape, turned):
    said = 'its transpose would fit' if turned else 'no transpose of it would fit'
    with pytest.raises(ValueError, match=said):
        convert(np.zeros(stored), name, shape)


def fixture(name):
    path = SHARED / f'{name}.json'
    if not path.exists():
        pytest.skip(f'{path} is not there')
    data = json.loads(path.read_text())
    return data['model'], {row['name']: tuple(row['shape']) for row in data['tensors']}


def variables(arch, san, sizes):
    """Shapes of our variables by name. Only the first size is built: all have the same."""
    config = Config.from_values(
        net='san' if san else 'rsnet',
        arch=arch,
        mode='pytorch',
        sizes=(sizes[0],),
        kd=True,
        kd_type='topdown' if san else 'ens_topdown',
    )
    built, _ = Model(config, data_format='NHWC').inspect()
    shapes = {}
    for name, state in built.items():
        for size in sizes:
            shapes[name.replace(f'/s{sizes[0]}/', f'/s{size}/')] = state.shape
    return shapes | ({} if san else {'alpha': (len(sizes),)})


@pytest.mark.parametrize('name', NETWORKS)
def test_every_published_tensor_is_one_variable(name):
    """One to one: distinct names, which are exactly those of our network, in as many values."""
    model, tensors = fixture(name)
    kind, arch = model['arch'].split('_')
    names = {one: ours(one, arch, kind == 'meta', model['sizes']) for one in tensors}
    used = {one: our for one, our in names.items() if our is not None}
    assert len(set(used.values())) == len(used)
    shapes = variables(arch, kind == 'meta', model['sizes'])
    assert set(used.values()) == set(shapes)
    for one, our in used.items():
        assert (
            convert(np.broadcast_to(np.float32(0), tensors[one]), our, shapes[our]).shape
            == shapes[our]
        )
    unused = set(names) - set(used)
    assert all(re.search(r'^layer\d\.0\.downsample\.', one) for one in unused)
    assert bool(unused) == (name == 'rsf_meta_resnet18')
