"""MSDNet files of both published codes become runs.

Options from shapes, logits of the published network, hold-out.
"""

import functools
import re
from collections import Counter

import numpy as np
import pytest

from engine.config.config import read_config
from engine.errors import UsageError
from engine.graph.tower import Model
from engine.importers import msdnet, msdnet_t7, pytorch
from engine.runs import checkpoint, holdout
from nets.layers.blocks import Blocks
from nets.points import Point
from quant.backend import tf
from scripts import import_checkpoint
from tests.engine.importers.t7_writer import Object, write_t7
from tests.engine.importers.torch_format import of, write
from tests.engine.importers.torch_writer import random_tensors, write_published
from tests.parity.fixtures import draw, fill, load
from tests.paths import SHARED

OPTIONS = (
    'nBlocks',
    'stepmode',
    'step',
    'base',
    'nChannels',
    'growthRate',
    'grFactor',
    'bnFactor',
    'prune',
    'bottleneck',
    'reduction',
)
with_fixtures = pytest.mark.skipif(not SHARED.exists(), reason='shared fixtures are not there')


@functools.cache
def fixture(name):
    return load(SHARED / f'{name}.json')


def published(name):
    return {row['name']: fill(row) for row in fixture(name).tensors()}


def imports(file, out, *flags):
    return import_checkpoint.main([str(file), '--out', str(out), *flags])


def values(run):
    return {
        name: value
        for name, value in checkpoint.read(str(run / 'model-0'), flag='-ec').values.items()
        if name != 'global_step'
    }


def logits(run, images):
    """[exits, N, classes], shallowest first."""
    source = checkpoint.read(checkpoint.find(str(run), None, '-ec'), flag='-ec')
    model, size = Model(source.config, data_format='NHWC'), images.shape[1]
    with tf.Graph().as_default(), tf.Session() as session:
        blocks = Blocks(
            source.config.quantization.to_policy(),
            model.net.points,
            training=False,
            padding=model.net.padding,
        )
        outputs = model.net.outputs({size: tf.constant(images)}, blocks)
        checkpoint.Restore(source.values).init(session)
        return session.run(
            [outputs.logits[Point(size=size, exit=k)] for k in range(model.net.exits)]
        )


@with_fixtures
@pytest.mark.parametrize(
    'name',
    [
        'msd_cifar_anytime',
        'msd_cifar_batch5',
        'msd_cifar_batch7',
        'msd_cifar_min',
        'msd_cifar_nobottleneck',
        'msd_imagenet',
    ],
)
def test_options_from_shapes(name):
    shapes = {
        row['name']: np.broadcast_to(np.float32(0), row['shape']) for row in fixture(name).tensors()
    }
    found = msdnet.options('x', shapes)
    model = fixture(name).data['model']
    expected = {
        key: tuple(model[key]) if isinstance(model[key], list) else model[key] for key in OPTIONS
    }
    assert {key: found[key] for key in OPTIONS} == expected
    assert (found['classes'], found['stem_bias']) == (
        (1000, True) if name == 'msd_imagenet' else (10, False)
    )


def block(conv, norm, outputs, inputs, kernel):
    """A convolution with its normalisation."""
    return {
        f'{conv}.weight': (outputs, inputs, kernel, kernel),
        **{
            f'{norm}.{leaf}': (outputs,)
            for leaf in ('weight', 'bias', 'running_mean', 'running_var')
        },
        f'{norm}.num_batches_tracked': (),
    }


def branch(name, inputs, outputs, width):
    return {
        **block(f'{name}.net.0', f'{name}.net.1', min(inputs, width), inputs, 1),
        **block(f'{name}.net.3', f'{name}.net.4', outputs, min(inputs, width), 3),
    }


def layer(name, unit, read, kept):
    """A layer that adds 4 units to scales ``kept``; scale s has 2^s times as many channels."""
    shapes = {}
    for i, s in enumerate(kept):
        outputs = 4 * 2**s // (1 + (s - 1 in read))
        shapes |= branch(f'{name}.layers.{i}.conv_normal', unit * 2**s, outputs, 2**s * outputs)
        if s - 1 in read:
            shapes |= branch(
                f'{name}.layers.{i}.conv_down', unit * 2 ** (s - 1), outputs, 2 ** (s - 1) * outputs
            )
    return shapes


def head(k, inputs, classes):
    name = f'classifier.{k}'
    return {
        **block(f'{name}.m.0.net.0', f'{name}.m.0.net.1', 128, inputs, 3),
        **block(f'{name}.m.1.net.0', f'{name}.m.1.net.1', 128, 128, 3),
        f'{name}.linear.weight': (classes, 128),
        f'{name}.linear.bias': (classes,),
    }


def tiny(classes):
    """Shapes of a network of three scales and two blocks of one layer; the second drops a scale."""
    shapes = {}
    for s, (inputs, outputs) in enumerate(((3, 4), (4, 8), (8, 16))):
        shapes |= block(
            f'blocks.0.0.layers.{s}.net.0', f'blocks.0.0.layers.{s}.net.1', outputs, inputs, 3
        )
    shapes |= layer('blocks.0.1', 4, (0, 1, 2), (0, 1, 2)) | layer(
        'blocks.1.0', 8, (0, 1, 2), (1, 2)
    )
    for i, s in enumerate((1, 2)):
        shapes |= block(
            f'blocks.1.1.m.{i}.net.0', f'blocks.1.1.m.{i}.net.1', 6 * 2**s, 12 * 2**s, 1
        )
    return shapes | head(0, 8 * 4, classes) | head(1, 6 * 4, classes)


@pytest.fixture(scope='module')
def ported(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ported')
    file = write_published(folder / 'model_best.pth.tar', random_tensors(tiny(100)), arch='msdnet')
    assert imports(file, folder / 'run', '--data', 'cifar100') == 0
    return folder / 'run'


def test_the_port(ported):
    config = read_config(ported / 'config.json')
    assert (
        config.net,
        config.arch,
        config.mode,
        config.sizes,
        config.image_size,
        config.inputs,
        config.holdout,
    ) == ('msdnet', 'msdnet', 'pytorch', (32,), 32, 'cifar100_rgb', 0)
    assert (
        config.nBlocks,
        config.base,
        config.step,
        config.nChannels,
        config.growthRate,
        config.grFactor,
    ) == (2, 1, 1, 4, 4, (1, 2, 4))
    stored, found = random_tensors(tiny(100)), values(ported)
    assert len(found) == sum(not name.endswith('num_batches_tracked') for name in stored)
    np.testing.assert_array_equal(
        found['block1/layer0/map0/down/conv2/W'],
        stored['blocks.1.0.layers.0.conv_down.net.3.weight'].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(
        found['block1/transition1/map1/bn/s32/variance/EMA'],
        stored['blocks.1.1.m.1.net.1.running_var'],
    )
    np.testing.assert_array_equal(found['head1/linear/W'], stored['classifier.1.linear.weight'].T)


@with_fixtures
@pytest.mark.slow
def test_a_published_network_from_file_to_logits(tmp_path):
    file = write_published(
        tmp_path / 'model_best.pth.tar', published('msd_cifar_min'), arch='msdnet'
    )
    assert imports(file, tmp_path / 'run') == 0
    spec = fixture('msd_cifar_min')
    found = logits(tmp_path / 'run', draw(spec.data['inputs'][0]).transpose(0, 2, 3, 1))
    assert len(found) == 4
    for k, ours in enumerate(found, 1):
        theirs = spec.arrays[f'logits_{k}']
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.std())


def sequential(*modules):
    return Object('nn.Sequential', {'modules': list(modules), 'train': False})


def convs(tensors, *names, old=False):
    """Convolution, normalisation, ReLU for every pair of names; ``old``: as the first Torch7 stored
    them.
    """
    found = []
    for conv, norm in zip(names[::2], names[1::2], strict=True):
        weight = tensors[f'{conv}.weight']
        fields = {
            'kW': weight.shape[3],
            'kH': weight.shape[2],
            'nInputPlane': weight.shape[1],
            'weight': weight.reshape(len(weight), -1).copy() if old else weight,
            'gradInput': np.empty(0, '<f4'),
        }
        if f'{conv}.bias' in tensors:
            fields['bias'] = tensors[f'{conv}.bias']
        stored = {
            leaf: tensors[f'{norm}.{leaf}']
            for leaf in ('weight', 'bias', 'running_mean', 'running_var')
        }
        if old:
            stored['running_std'] = (
                (stored.pop('running_var').astype('f8') + 1e-5) ** -0.5
            ).astype('<f4')
        found += [
            Object('cudnn.SpatialConvolution', fields),
            Object('nn.SpatialBatchNormalization', {**stored, 'eps': 1e-5, 'affine': True}),
            Object('nn.ReLU', {'inplace': True}),
        ]
    return found


def original(tensors, **options):
    """The module tree of the Lua code that has these tensors."""

    def nets(name):
        return [
            f'{name}.net.{i}'
            for i in (0, 1, 3, 4)
            if any(key.startswith(f'{name}.net.{i}.') for key in tensors)
        ]

    def map_of_layer(name):
        branches = [
            sequential(*convs(tensors, *nets(f'{name}.conv_{kind}'), **options))
            for kind in ('down', 'normal')
            if nets(f'{name}.conv_{kind}')
        ]
        return sequential(
            Object('nn.ParallelTable', {'modules': [Object('nn.Identity', {}), *branches]}),
            Object('nn.JoinTable', {'dimension': 2.0}),
        )

    def item(name):
        def parts(kind):
            return sorted(
                {
                    m[1]
                    for key in tensors
                    if (m := re.match(rf'({re.escape(name)}\.{kind}\.\d+)\.', key))
                }
            )

        if name == 'blocks.0.0':
            plain = [
                f'{name}.layers.0.{i}' for i in (0, 1) if f'{name}.layers.0.0.weight' in tensors
            ]
            maps = [
                sequential(*convs(tensors, *(nets(part) or plain), **options))
                for part in parts('layers')
            ]
            return Object('nn.MSDNet_Layer_first', {'modules': maps, 'opt': {'base': 4}})
        if layers := parts('layers'):
            return Object('nn.MSDNet_Layer', {'modules': [map_of_layer(part) for part in layers]})
        return Object(
            'nn.ParallelTable',
            {
                'modules': [
                    sequential(*convs(tensors, *nets(part), **options)) for part in parts('m')
                ]
            },
        )

    def exit_head(k):
        name = f'classifier.{k}'
        linear = Object(
            'nn.Linear', {leaf: tensors[f'{name}.linear.{leaf}'] for leaf in ('weight', 'bias')}
        )
        return sequential(
            *convs(tensors, *nets(f'{name}.m.0'), *nets(f'{name}.m.1'), **options),
            Object('nn.SpatialAveragePooling', {'kW': 2, 'kH': 2}),
            Object('nn.Reshape', {}),
            linear,
        )

    items = Counter(
        key.split('.')[1]
        for key in {key.rsplit('.', 1)[0] for key in tensors}
        if key.startswith('blocks')
    )
    blocks = []
    for b in range(len(items)):
        count = 1 + max(int(key.split('.')[2]) for key in tensors if key.startswith(f'blocks.{b}.'))
        blocks.append(sequential(*(item(f'blocks.{b}.{j}') for j in range(count))))
    heads = [exit_head(k) for k in range(len(blocks))]
    return sequential(
        Object('nn.JointTrainModule', {'modules': [*blocks, *heads], 'nBlocks': len(blocks)})
    )


def test_the_original(ported, tmp_path):
    """The same tensors as the port's give the same run."""
    file = write_t7(tmp_path / 'model.t7', original(random_tensors(tiny(100))))
    assert imports(file, tmp_path / 'run', '--data', 'cifar100') == 0
    assert read_config(tmp_path / 'run' / 'config.json') == read_config(ported / 'config.json')
    ours, theirs = values(tmp_path / 'run'), values(ported)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_an_old_original(tmp_path):
    """Flat kernels, and inverse deviations, which give the variance to their rounding."""
    tensors = {name: value for name, value in random_tensors(tiny(10)).items() if value.ndim}
    file = write_t7(
        tmp_path / 'model.t7', original(tensors, old=True), versions=False, prefix='Cuda'
    )
    found = msdnet_t7.read_original(str(file))
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-5 if name.endswith('var') else 0, err_msg=name
        )


@with_fixtures
@pytest.mark.parametrize('name', ['msd_cifar_batch5', 'msd_cifar_nobottleneck', 'msd_imagenet'])
def test_names_of_other_originals(name, tmp_path):
    """Growing blocks, transitions of fewer scales, one convolution per branch, ImageNet's stem."""
    tensors = {
        row['name']: np.zeros([min(n, 3) if n != 7 else 7 for n in row['shape']], '<f4')
        for row in fixture(name).tensors()
        if not row['name'].endswith('num_batches_tracked')
    }
    found = msdnet_t7.read_original(str(write_t7(tmp_path / 'model.t7', original(tensors))))
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in tensors.items()
    }


@pytest.mark.parametrize(
    'content, part',
    [
        ({'epoch': 300, 'modelFile': 'model.t7'}, 'holds no MSDNet .*give model.t7'),
        ([1], 'holds no MSDNet'),
        (sequential(Object('nn.Linear', {})), 'holds no MSDNet'),
        (sequential(), 'holds no MSDNet'),
        ('text', 'holds no'),
    ],
)
def test_other_torch7_files(content, part, tmp_path, capsys):
    assert imports(write_t7(tmp_path / 'x.t7', content), tmp_path / 'run') == 2
    assert re.search(f'x.t7: {part}', capsys.readouterr().err)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'change, flags, part',
    [
        ({}, '--sizes 32 24', 'has one input size, got --sizes 32 24'),
        ({}, '--sizes 16', 'pixels'),
        ({'blocks.0.0.layers.2.net.0.weight': None}, '', 'holds no complete MSDNet .*the stem has'),
        (
            {'blocks.1.0.layers.1.conv_down.net.3.weight': None},
            '',
            'holds no complete MSDNet .*KeyError: .*conv_down',
        ),
        (
            {'blocks.1.0.layers.1.conv_down.net.4.weight': None},
            '',
            'lacks: block1/layer0/map1/down/conv2/bn',
        ),
        ({'classifier.1.linear.weight': None}, '', 'lacks: head1/linear/W'),
        ({'classifier.0.linear.bias': (7,)}, '', 'does not fit'),
        (
            {'blocks.999999999.0.layers.0.conv_normal.net.3.weight': (6, 6, 3, 3)},
            '',
            'holds no complete MSDNet .*numbers of its blocks',
        ),
        ({'classifier.0.linear.bias': ()}, '', r'has shape \[\]'),
        ({'classifier.0.linear.bias': (0,)}, '', r'has shape \[0\]'),
        ({'blocks.0.1.layers.0.conv_normal.net.3.weight': (5,)}, '', 'MSDNet|does not fit'),
        ({'blocks.0.0.more.weight': (1,)}, '', 'blocks.0.0.more.weight is no part of an MSDNet'),
        (
            {'blocks.9.0.layers.0.conv_normal.net.3.weight': (6, 6, 3, 3)},
            '',
            'holds no complete MSDNet',
        ),
    ],
)
def test_files_that_do_not_fit(change, flags, part, tmp_path, capsys):
    tensors = random_tensors(
        {name: shape for name, shape in (tiny(10) | change).items() if shape is not None}
    )
    file = write_published(tmp_path / 'x.pth.tar', tensors, arch='msdnet')
    assert imports(file, tmp_path / 'run', *flags.split()) == 2
    assert re.search(part, capsys.readouterr().err)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('count', [300, 3000])
def test_tables_that_share_their_parts(count, tmp_path):
    """A few kilobytes that spell a hundred million modules end at once."""
    layer = Object('nn.X', {'modules': [Object('nn.Y', {'weight': np.zeros(999, '<f4')})] * count})
    part = Object('nn.MSDNet_Layer_other', {'modules': [layer] * count})
    block = Object('nn.Block', {'modules': [part] * count})
    tree = Object('nn.JointTrainModule', {'modules': [block] * (2 * count)})
    file = write_t7(tmp_path / 'x.t7', tree)
    with pytest.raises(UsageError, match='repeated too often'):
        msdnet_t7.read_original(str(file))


@pytest.mark.parametrize(
    'blocks, expected',
    [
        ([4, 2, 2, 2], ('even', 4, 2)),
        ([1, 2, 3, 4], ('lin_grow', 1, 1)),
        ([3, 3, 5], ('lin_grow', 3, 2)),
        ([7] * 5, ('even', 7, 7)),
        ([4], ('even', 4, 1)),
        ([4, 3], ('even', 4, 3)),
        ([2, 3], ('lin_grow', 2, 2)),
        ([2, 1, 1], ('even', 2, 1)),
    ],
)
def test_steps(blocks, expected):
    assert tuple(msdnet._steps(blocks)[key] for key in ('stepmode', 'base', 'step')) == expected


def order(path, numbers, kind='Long'):
    return write(path, 'zip', of(np.asarray(numbers, '<i8' if kind == 'Long' else '<f4'), kind))


@pytest.mark.parametrize('images, flag, count', [(50000, None, 5000), (60, 12, 12)])
def test_holdout(images, flag, count, tmp_path):
    numbers = np.random.default_rng(2).permutation(images)
    held, total = msdnet.read_holdout(order(tmp_path / 'index.pth', numbers), flag)
    assert total == images
    np.testing.assert_array_equal(held, sorted(numbers[-count:]))


def test_holdout_is_recorded(tmp_path, monkeypatch):
    """The command hands it to the run folder, where training and evaluation find it."""
    numbers = np.random.default_rng(2).permutation(60)
    monkeypatch.setattr(
        pytorch, 'write', lambda imported, out: (out.mkdir(), str(imported.config.holdout))[1]
    )
    file = write_published(tmp_path / 'x.pth.tar', random_tensors(tiny(10)), arch='msdnet')
    assert (
        imports(
            file,
            tmp_path / 'run',
            '--index',
            str(order(tmp_path / 'i.pth', numbers)),
            '--holdout',
            '12',
        )
        == 0
    )
    np.testing.assert_array_equal(holdout.read(tmp_path / 'run'), sorted(numbers[-12:]))


@pytest.mark.parametrize(
    'numbers, kind, count, part',
    [
        (range(60), 'Long', None, '--holdout None: say how many'),
        (range(60), 'Long', 60, '--holdout 60'),
        ([0, 0, 1], 'Long', 1, 'no permutation'),
        ([1, 2, 3], 'Long', 1, 'no permutation'),
        ([[0, 1]], 'Long', 1, 'no permutation'),
    ],
)
def test_other_indices(numbers, kind, count, part, tmp_path):
    with pytest.raises(UsageError, match=part):
        msdnet.read_holdout(order(tmp_path / 'index.pth', numbers, kind), count)


def test_holdout_without_index(tmp_path, capsys):
    assert imports(tmp_path / 'x.pth.tar', tmp_path / 'run', '--holdout', '5') == 2
    assert '--holdout 5: needs --index' in capsys.readouterr().err


def test_interrupted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pytorch, 'read', lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert imports(tmp_path / 'x.pth.tar', tmp_path / 'run') == 130
    assert capsys.readouterr().err == 'interrupted\n'
