"""Files of ConvNet-AIG and of plain ResNets become runs.

Stored logits of a published network, a start for gates.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import read_config
from engine.graph.tower import Model
from engine.results.records import read_layers
from engine.runs import checkpoint
from engine.training import starting
from nets.layers.blocks import Blocks
from quant.backend import tf
from scripts import import_checkpoint
from tests.engine.importers.torch_writer import random_tensors, torchvision18, write_published
from tests.parity.fixtures import draw, fill, load
from tests.paths import SHARED


def leaves(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """A normalisation as PyTorch 0.3.1 stores it: no counter."""
    return {
        f'{name}.{leaf}': (channels,) for leaf in ('weight', 'bias', 'running_mean', 'running_var')
    }


def aig8(classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the CIFAR form with one block per group."""
    shapes, inputs = {'conv1.weight': (16, 3, 3, 3), **leaves('bn1', 16)}, 16
    for group, channels in enumerate((16, 32, 64), 1):
        block = f'layer{group}.0'
        shapes |= {
            f'{block}.conv1.weight': (channels, inputs, 3, 3),
            f'{block}.conv2.weight': (channels, channels, 3, 3),
            f'{block}.fc1.weight': (16, inputs, 1, 1),
            f'{block}.fc1.bias': (16,),
            f'{block}.fc2.weight': (2, 16, 1, 1),
            f'{block}.fc2.bias': (2,),
            **leaves(f'{block}.fc1bn', 16),
            **leaves(f'{block}.bn1', channels),
            **leaves(f'{block}.bn2', channels),
        }
        if inputs != channels:
            shapes |= {
                f'{block}.shortcut.0.weight': (channels, inputs, 1, 1),
                **leaves(f'{block}.shortcut.1', channels),
            }
        inputs = channels
    return shapes | {'linear.weight': (classes, 64), 'linear.bias': (classes,)}


def written(path: Path, shapes, **options) -> Path:
    return write_published(path, random_tensors(shapes), arch=None, **options)


def imports(file: Path, out: Path, *flags: str) -> int:
    return import_checkpoint.main([str(file), '--out', str(out), *flags])


def logits(run: Path, images: np.ndarray) -> np.ndarray:
    source = checkpoint.read(checkpoint.find(str(run), None, '-ec'), flag='-ec')
    model = Model(source.config, data_format='NHWC')
    with tf.Graph().as_default(), tf.Session() as session:
        blocks = Blocks(
            source.config.quantization.to_policy(),
            model.net.points,
            training=False,
            padding=model.net.padding,
        )
        outputs = model.net.outputs({images.shape[1]: tf.constant(images)}, blocks)
        checkpoint.Restore(source.values).init(session)
        return session.run(outputs.logits[model.net.points[0]])


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, arch, size, inputs',
    [
        ('aig_resnet110_cifar', 'resnet110', 32, 'cifar_rgb'),
        ('aig_resnet50_imagenet', 'resnet50', 224, 'normalized_rgb'),
    ],
)
def test_a_published_network_from_file_to_logits(name, arch, size, inputs, tmp_path):
    if not (SHARED / f'{name}.json').exists():
        pytest.skip(f'{SHARED} is not there')
    fixture = load(SHARED / f'{name}.json')
    file = write_published(
        tmp_path / 'x.pth.tar', {row['name']: fill(row) for row in fixture.tensors()}, arch=None
    )
    assert imports(file, tmp_path / 'run') == 0
    config = read_config(tmp_path / 'run' / 'config.json')
    assert (config.net, config.arch, config.sizes, config.inputs, config.faithful_gates) == (
        'aig',
        arch,
        (size,),
        inputs,
        True,
    )
    found = logits(tmp_path / 'run', draw(fixture.data['inputs'][0]).transpose(0, 2, 3, 1))
    expected = fixture.arrays['logits']
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


@pytest.fixture(scope='module')
def gated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('gated')
    assert (
        imports(
            written(folder / 'x.pth.tar', aig8(10), form='legacy'),
            folder / 'run',
            '--data',
            'animals28',
        )
        == 0
    )
    return folder / 'run'


def test_what_is_recorded(gated):
    config = read_config(gated / 'config.json')
    assert (config.net, config.arch, config.mode, config.sizes, config.image_size) == (
        'aig',
        'resnet8',
        'pytorch',
        (32,),
        32,
    )
    assert (config.classes, config.inputs, config.resize, config.faithful_gates) == (
        10,
        'cifar_rgb',
        'antialias',
        True,
    )
    assert (config.targets, hasattr(config, 'kd')) == ((0.7,), False)
    stored, values = (
        random_tensors(aig8(10)),
        checkpoint.read(str(gated / 'model-0'), flag='-ec').values,
    )
    np.testing.assert_array_equal(
        values['group1/block0/gate1/W'], stored['layer2.0.fc1.weight'][:, :, 0, 0].T
    )
    np.testing.assert_array_equal(values['group2/block0/gate2/b'], stored['layer3.0.fc2.bias'])
    np.testing.assert_array_equal(
        values['group2/block0/gate1/bn/s32/variance/EMA'], stored['layer3.0.fc1bn.running_var']
    )
    layers = read_layers(gated)['s32']
    assert {row.gate for row in layers} == {'', *(f'group{g}/block0' for g in range(3))}


def test_an_imported_network_is_evaluated(gated, monkeypatch):
    """Its gates are reported beside its accuracy."""
    monkeypatch.setattr('engine.evaluation.evaluators.gates.images_per_second', lambda *_: {})
    assert imagenet_tf.main(['--eval', '-ec', str(gated), '--threads', '0']) == 0
    assert {path.name for path in (gated / 'eval').glob('*.json')} == {'s32.json'}
    assert json.loads((gated / 'gates' / 's32.json').read_text())['blocks'] == [
        f'group{g}/block0' for g in range(3)
    ]


@pytest.fixture(scope='module')
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('plain')
    assert imports(written(folder / 'resnet18.pth', torchvision18(5)), folder / 'run') == 0
    return folder / 'run'


def test_a_plain_resnet(plain):
    config = read_config(plain / 'config.json')
    assert (config.net, config.arch, config.mode, config.sizes, config.classes) == (
        'rsnet',
        'resnet18',
        'pytorch',
        (224,),
        5,
    )
    assert (config.inputs, config.resize, config.kd) == ('normalized_rgb', 'antialias', False)
    stored, values = (
        random_tensors(torchvision18(5)),
        checkpoint.read(str(plain / 'model-0'), flag='-ec').values,
    )
    np.testing.assert_array_equal(
        values['group1/block0/convshortcut/W'],
        stored['layer2.0.downsample.0.weight'].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(values['linear/W'], stored['fc.weight'].T)
    np.testing.assert_array_equal(values['conv0/bn/s224/mean/EMA'], stored['bn1.running_mean'])


def test_a_plain_resnet_is_a_start_for_gates(plain):
    config = read_config(plain / 'config.json')
    gated = config.replacing(net='aig', load=str(plain))
    start, saved = (
        starting.starting_values(gated),
        checkpoint.read(str(plain / 'model-0'), flag='-ec').values,
    )
    assert not any('gate' in name for name in start)
    assert {name for name in saved if name != 'global_step'} == set(start)
    assert all(np.array_equal(start[name], saved[name]) for name in start)


@pytest.mark.parametrize(
    'change, flags, part',
    [
        ({}, '--sizes 32 24', 'has one input size, got --sizes 32 24'),
        ({}, '--arch resnet20', 'lacks: group0/block1/'),
        ({}, '--arch vgg16', "arch 'vgg16' is unknown"),
        ({'layer1.0.fc1.weight': None}, '', 'lacks: group0/block0/gate1/W'),
        (
            {'layer1.0.fc3.weight': (2, 2)},
            '',
            'has, and a network of this kind has not: layer1.0.fc3.weight',
        ),
        ({'layer1.1.conv1.weight': (16, 16, 3, 3)}, '', 'no ResNet has 2 1 1 blocks'),
        ({'linear.bias': None}, '', 'holds no RS-Net or SAN'),
    ],
)
def test_files_that_do_not_fit(change, flags, part, tmp_path, capsys):
    shapes = {name: shape for name, shape in (aig8(3) | change).items() if shape}
    assert imports(written(tmp_path / 'x.pth.tar', shapes), tmp_path / 'run', *flags.split()) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_another_size(tmp_path):
    assert imports(written(tmp_path / 'x.pth.tar', aig8(3)), tmp_path / 'run', '--sizes', '28') == 0
    assert read_config(tmp_path / 'run' / 'config.json').sizes == (28,)
