"""Published checkpoints become run folders.

The same logits, both sides complete, and what is said when they are not.
"""

import contextlib
import functools
import io
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import Config, read_config
from engine.data.datasets import open_dataset
from engine.graph.tower import Model
from engine.importers.names import convert, from_pytorch
from engine.results.records import read_layers
from engine.runs import checkpoint
from nets.layers.blocks import Blocks
from quant.backend import tf
from scripts import import_checkpoint
from tests.engine.importers.torch_writer import random_tensors, resnet18, write_published
from tests.engine.runs.test_checkpoint import numbers, published, save

SIZES = (40, 32)
NETS = {'rsnet': False, 'san': True}
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def classes_of_fake() -> int:
    return len(open_dataset('fake').classes)


@pytest.fixture(scope='module')
def tensors() -> dict[str, dict[str, np.ndarray]]:
    return {
        'rsnet': random_tensors(resnet18(2, classes_of_fake(), san=False)),
        'san': random_tensors(resnet18(2, 3, san=True)),
    }


@pytest.fixture(scope='module')
def files(tensors, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('files')
    return {
        'rsnet': write_published(
            folder / 'rsnet.pth.tar', tensors['rsnet'], arch='parallel_resnet18'
        ),
        'san': write_published(
            folder / 'san.pth.tar', tensors['san'], arch='meta_resnet18', form='legacy'
        ),
    }


def sizes_of(net: str) -> tuple[int, ...]:
    """A published SAN encodes its positions as .7 and .6."""
    return SIZES if net == 'rsnet' else (42, 36)


def imports(file: Path | str, out: Path, *flags: str) -> int:
    return import_checkpoint.main([str(file), '--out', str(out), *flags])


def size_flags(net: str) -> list[str]:
    return ['--sizes', *map(str, sizes_of(net))]


@pytest.fixture(scope='module')
def said() -> dict[str, str]:
    """Output of the imports of ``runs``."""
    return {}


@pytest.fixture(scope='module')
def runs(files, said, tmp_path_factory) -> dict[str, Path]:
    """Imported run folders; that of SAN names its data."""
    folder = tmp_path_factory.mktemp('runs')
    for net, file in files.items():
        data = ['--data', 'fake'] if net == 'san' else []
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert imports(file, folder / net, *size_flags(net), *data) == 0
        said[net] = printed.getvalue()
    return {net: folder / net for net in files}


def logits(config: Config, *states: dict[str, np.ndarray]) -> list[dict[int, np.ndarray]]:
    """Of fixed images, by size, with each of some values of all variables."""
    model = Model(config, data_format='NHWC')
    images = {
        size: np.random.default_rng(size).random((2, size, size, 3), 'float32')
        for size in config.sizes
    }
    with tf.Graph().as_default(), tf.Session() as session:
        policy = config.quantization.to_policy()
        blocks = Blocks(policy, model.net.points, training=False, padding=model.net.padding)
        outputs = model.net.outputs(
            {size: tf.constant(image) for size, image in images.items()}, blocks
        )
        answers = {point.size: value for point, value in outputs.logits.items()}
        found = []
        for values in states:
            checkpoint.Restore(values).init(session)
            found.append(session.run(answers))
        return found


@pytest.mark.parametrize('net', NETS)
def test_what_is_recorded(net, runs):
    config = read_config(runs[net] / 'config.json')
    assert (config.net, config.arch, config.mode, config.sizes) == (
        net,
        'resnet18',
        'pytorch',
        sizes_of(net),
    )
    assert (config.qw, config.qa, config.inputs, config.resize) == (32, 32, 'unit_rgb', 'antialias')
    assert config.classes == (
        classes_of_fake() if net == 'rsnet' else 3
    ) and config.image_size == max(sizes_of(net))
    assert config.kd and config.kd_type == ('ens_topdown' if net == 'rsnet' else 'topdown')
    if net == 'san':
        assert config.network().encodings == {42: pytest.approx(0.7), 36: pytest.approx(0.6)}
    assert set(read_layers(runs[net])) == {f's{size}' for size in sizes_of(net)}


@pytest.mark.parametrize('net', NETS)
def test_logits_are_those_of_the_published_tensors(net, runs, tensors):
    source = checkpoint.read(checkpoint.find(str(runs[net]), None, '-ec'), flag='-ec')
    variables, _ = Model(source.config, data_format='NHWC').inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    ours = {
        name: from_pytorch(name, arch='resnet18', kind=net, sizes=sizes_of(net))
        for name in tensors[net]
    }
    filled = {
        our: convert(tensors[net][name], our, shapes[our])
        for name, our in ours.items()
        if our is not None
    }
    assert set(filled) == set(shapes) == {name for name in source.values if name != 'global_step'}
    found, expected = logits(source.config, source.values, filled)
    assert set(found) == set(sizes_of(net))
    for size, values in found.items():
        np.testing.assert_array_equal(values, expected[size])
        assert values.std() > 1e-3
    assert not np.allclose(*found.values())


def test_numbers_of_a_convolution(runs, tensors):
    """Independent of the name map."""
    values = checkpoint.read(str(runs['rsnet'] / 'model-0'), flag='-ec').values
    stored = tensors['rsnet']
    np.testing.assert_array_equal(
        values['group1/block0/conv1/W'],
        stored['layer2.0.conv1.module.weight'].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(
        values['group1/block0/convshortcut/bn/s32/variance/EMA'],
        stored['layer2.0.downsample.1.bn_1.running_var'],
    )
    np.testing.assert_array_equal(values['linear/W'], stored['fc.module.weight'].T)
    values = checkpoint.read(str(runs['san'] / 'model-0'), flag='-ec').values
    flat = tensors['san']['layer2.0.fc3.weight'].reshape(128, 64, 1, 1)
    np.testing.assert_array_equal(
        values['group1/block0/convshortcut/slope'], flat.transpose(2, 3, 1, 0)
    )


def test_an_imported_run_is_evaluated(runs, capsys):
    assert imagenet_tf.main(['--eval', '-ec', str(runs['rsnet'])]) == 2
    assert 'was imported without a data set; give --data' in capsys.readouterr().err
    assert (
        imagenet_tf.main(['--eval', '-ec', str(runs['rsnet']), '--data', 'fake', '--threads', '0'])
        == 0
    )
    records = {
        path.stem: json.loads(path.read_text()) for path in (runs['rsnet'] / 'eval').glob('*.json')
    }
    assert set(records) == {'s40', 's32', 'ensemble'}
    assert {row['data'] for row in records.values()} == {'fake'}


def test_a_data_set_of_other_classes_is_refused(runs, capsys):
    assert imagenet_tf.main(['--eval', '-ec', str(runs['san']), '--data', 'fake']) == 2
    assert f'has {classes_of_fake()} classes' in capsys.readouterr().err


def test_what_is_said(runs, said):
    made = runs['san'] / 'model-0'
    about = f'{made}: san resnet18, mode pytorch, sizes 42 36, W32A32, 3 classes'
    assert about in said['san']
    # Counters of all normalisations, and three projections with theirs.
    unused = f'not used by the network: {2 * 23 + 3 * (1 + 2 * 4)} published tensors'
    assert unused in said['san']
    assert read_config(runs['san'] / 'config.json').data == 'fake'
    assert read_config(runs['rsnet'] / 'config.json').data == ''


@pytest.fixture
def refused(tmp_path, capsys):
    """``refused(file, *flags)``: message of an import that must fail and leave nothing behind."""

    def check(file, *flags: str) -> str:
        out = tmp_path / 'out' / 'run'
        assert imports(file, out, *flags) == 2
        assert not out.parent.exists()
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith('import_checkpoint: error: ')
        return message

    return check


def changed(
    tensors,
    path: Path,
    net: str,
    *,
    drop: str = '',
    add: dict | None = None,
    arch: str | None = None,
) -> Path:
    rows = {name: value for name, value in tensors[net].items() if name != drop} | (add or {})
    return write_published(
        path, rows, arch=arch or ('meta_resnet18' if NETS[net] else 'parallel_resnet18')
    )


WRONG = {
    'transposed': ('fc.module.weight', lambda w: w.T, 'its transpose would fit'),
    'turned': ('layer2.0.conv1.module.weight', lambda w: w.transpose(2, 3, 1, 0), 'transpose'),
    'flat': ('layer1.0.conv1.module.weight', lambda w: w.reshape(-1, 1), 'no transpose of it'),
    'column': ('bn1.bn_0.weight', lambda w: w[:, None], 'no transpose of it would fit'),
    'not a number': ('conv1.module.weight', lambda w: w * np.nan, '9408 of 9408 values'),
    'infinite': ('bn1.bn_0.bias', lambda w: np.where(w == w[3], np.inf, w), '(the first at [3])'),
    'negative': ('bn1.bn_1.running_var', lambda w: -w, 'negative (down to -1.'),
    'whole': ('bn1.bn_1.bias', lambda w: w.astype('<i8'), 'is of type int64, expected float32'),
    'no classes': ('fc.module.bias', lambda w: w[:0], 'has shape [0]; a layer has at least'),
    'no dimension': ('fc.module.bias', lambda w: w[0], 'has shape []; a layer has at least'),
    'a number': ('conv1.module.weight', lambda w: w[0, 0, 0, 0], 'has shape []'),
    'no channels': ('layer1.0.bn1.bn_0.running_mean', lambda w: w[:0], 'has shape [0]'),
}


@pytest.mark.parametrize('kind', WRONG)
def test_a_tensor_of_another_shape_or_no_numbers(kind, tensors, tmp_path, refused):
    name, change, part = WRONG[kind]
    wrong = np.array(change(tensors['rsnet'][name]), order='C')
    wrong = wrong if wrong.dtype.kind == 'i' else wrong.astype('<f4')
    file = changed(tensors, tmp_path / 'x.pth.tar', 'rsnet', add={name: wrong})
    message = refused(file, *size_flags('rsnet'))
    assert part in message and name in message
    if kind == 'transposed':
        assert f'[512, {len(wrong[0])}]' in message and f'[{len(wrong[0])}, 512]' in message


def test_two_tensors_of_one_variable(tensors, tmp_path, refused):
    other = {'fc.bias': tensors['rsnet']['fc.module.bias'] + 1}
    file = changed(tensors, tmp_path / 'x.pth.tar', 'rsnet', add=other)
    assert 'another tensor are both linear/b' in refused(file, *size_flags('rsnet'))


SURPLUS = {
    'unknown': (
        'layer9.attention.weight',
        'layer9.attention.weight is no part of an RS-Net resnet18',
    ),
    'known': (
        'layer4.2.conv1.module.weight',
        'has, and a network of this kind has not: layer4.2.conv1',
    ),
}


@pytest.mark.parametrize('kind', ['unknown', slow('known')])
def test_a_surplus_tensor(kind, tensors, tmp_path, refused):
    name, part = SURPLUS[kind]
    file = changed(
        tensors, tmp_path / 'x.pth.tar', 'rsnet', add={name: np.ones((4, 4, 3, 3), '<f4')}
    )
    message = refused(file, *size_flags('rsnet'))
    assert part in message and '--allow REGEX' in message
    assert 'layer' in refused(file, *size_flags('rsnet'), '--allow', 'another')
    assert (
        imports(
            file,
            tmp_path / 'run',
            *size_flags('rsnet'),
            '--allow',
            'another',
            r'^layer[49]\.(2|att)',
        )
        == 0
    )


@pytest.mark.parametrize(
    'name, ours',
    [
        ('layer1.0.conv1.module.weight', 'group0/block0/conv1/W'),
        ('bn1.bn_1.running_var', 'conv0/bn/s32/variance/EMA'),
        ('fc.module.bias', 'linear/b'),
    ],
)
def test_a_missing_tensor(name, ours, tensors, tmp_path, refused):
    file = changed(tensors, tmp_path / 'x.pth.tar', 'rsnet', drop=name)
    message = refused(file, *size_flags('rsnet'))
    assert f'lacks: {ours} (and 0 more)' in message and '--allow' in message


def test_a_missing_tensor_is_allowed(tensors, tmp_path):
    file = changed(tensors, tmp_path / 'x.pth.tar', 'rsnet', drop='bn1.bn_1.running_var')
    assert imports(file, tmp_path / 'run', *size_flags('rsnet'), '--allow', '^conv0/bn/s32/') == 0
    values = checkpoint.read(str(tmp_path / 'run' / 'model-0'), flag='-ec').values
    np.testing.assert_array_equal(values['conv0/bn/s32/variance/EMA'], np.ones(64))
    np.testing.assert_array_equal(
        values['conv0/bn/s40/variance/EMA'], tensors['rsnet']['bn1.bn_0.running_var']
    )


@pytest.mark.parametrize(
    'net, flags, part',
    [
        ('rsnet', '', 'has 2 input sizes, got --sizes 224 192 160 128 96'),
        ('rsnet', '--sizes 40', 'has 2 input sizes, got --sizes 40;'),
        ('rsnet', '--sizes 40 32 24', 'has 2 input sizes, got --sizes 40 32 24;'),
        ('rsnet', '--sizes 32 40', 'largest first'),
        ('rsnet', '--sizes 32 32', 'largest first'),
        ('rsnet', '--sizes 40 4', '--sizes 40 4: every size must be at least 8'),
        ('san', '--sizes 40 32', 'to which these sizes are not proportional'),
        ('rsnet', '--sizes 40 32 --arch vgg16', "arch 'vgg16' is unknown; there are"),
        slow('rsnet', '--sizes 40 32 --arch resnet50', '--arch resnet50 may be wrong'),
        ('rsnet', '--sizes 40 32 --arch resnet34', 'lacks: group0/block2/'),
        slow('san', '--sizes 42 36 --arch mobilenetv2', '--arch mobilenetv2'),
    ],
)
def test_flags_that_do_not_fit(net, flags, part, files, refused):
    assert part in refused(files[net], *shlex.split(flags))


def test_an_architecture_that_the_file_does_not_name(tensors, tmp_path, refused):
    file = write_published(tmp_path / 'x.pth.tar', tensors['rsnet'], arch=None)
    message = refused(file, *size_flags('rsnet'))
    assert 'does not say its architecture; give --arch, one of' in message
    assert 'resnet18' in message and 'mobilenetv2' in message
    assert imports(file, tmp_path / 'run', *size_flags('rsnet'), '--arch', 'resnet18') == 0


def test_an_unknown_architecture_in_the_file(tensors, tmp_path, refused):
    file = changed(tensors, tmp_path / 'x.pth.tar', 'rsnet', arch='parallel_shufflenet')
    assert "arch 'shufflenet' is unknown" in refused(file, *size_flags('rsnet'))


@pytest.mark.parametrize('content', [b'', b'<!doctype html>', b'PK\x03\x04 and no more'])
def test_a_file_that_is_no_checkpoint(content, tmp_path, refused):
    (tmp_path / 'x.pth.tar').write_bytes(content)
    assert 'x.pth.tar' in refused(tmp_path / 'x.pth.tar')


@pytest.mark.parametrize(
    'name, change, part',
    [
        ('imagenet/linear/W', lambda w: w * np.inf, 'are not finite'),
        (published('conv0/bn/s24/variance/EMA'), lambda w: -w, 'are negative'),
        ('imagenet/linear/b', lambda w: w[0], 'has shape []'),
        ('imagenet/linear/b', lambda w: w[:0], 'has shape [0]'),
        ('imagenet/linear/W', lambda w: w.T, 'linear/W is [4, 512] in the checkpoint, [512, 4]'),
    ],
)
def test_a_tensorflow_checkpoint_of_no_numbers(name, change, part, tmp_path, refused):
    config = Config.from_values(sizes=(24,), classes=4, image_size=24, mode='preact')
    variables, _ = Model(config, data_format='NHWC').inspect()
    values = numbers({ours: state.shape for ours, state in variables.items()})
    named = {published(ours): value for ours, value in values.items()}
    found = refused(save(named | {name: change(named[name])}, tmp_path / 'theirs' / 'model-5'))
    assert part in found


def test_other_things_than_files(runs, tmp_path, refused):
    assert 'no such checkpoint or folder' in refused(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    assert 'no checkpoint' in refused(tmp_path / 'empty')
    assert 'is no published checkpoint' in refused(runs['san'])


def test_a_file_without_private_normalisations(tensors, tmp_path, refused):
    file = write_published(
        tmp_path / 'x.pth.tar', {'conv1.weight': np.ones((4, 3, 3, 3), '<f4')}, arch='resnet18'
    )
    assert 'holds no RS-Net or SAN' in refused(file)


def test_an_existing_folder_is_left_alone(files, tmp_path, capsys):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'thesis.txt').write_text('precious')
    assert imports(files['rsnet'], tmp_path / 'run', *size_flags('rsnet')) == 2
    assert f'--out {tmp_path / "run"}: exists; choose a new name' in capsys.readouterr().err
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['thesis.txt']


@pytest.mark.parametrize(
    'mode, arch, bits, kd',
    [
        ('preact', 'resnet18', (2, 3), True),
        slow('preact_typeA', 'resnet18', (32, 32), False),
        slow('resnet', 'resnet34', (2, 32), True),
        slow('preact', 'resnet50', (32, 32), False),
    ],
)
def test_a_tensorflow_checkpoint(mode, arch, bits, kd, tmp_path, capsys):
    """Depth, mode and bits follow from its variables."""
    config = Config.from_values(
        arch=arch, mode=mode, qw=bits[0], qa=bits[1], sizes=(24,), kd=kd, classes=4, image_size=24
    )
    variables, _ = Model(config, data_format='NHWC').inspect()
    values = numbers({name: state.shape for name, state in variables.items()})
    named = {published(name): value for name, value in values.items()}
    extra = {
        'global_step': np.int64(5),
        'learning_rate': np.float32(0.1),
        'imagenet/linear/W/Momentum': values['linear/W'],
    }
    prefix = save(named | extra, tmp_path / 'theirs' / 'model-5')
    assert imports(prefix if kd else tmp_path / 'theirs', tmp_path / 'run') == 0
    assert f'mode {mode}, sizes 24, W{bits[0]}A{bits[1]}, 4 classes' in capsys.readouterr().out
    found = read_config(tmp_path / 'run' / 'config.json')
    assert (found.net, found.arch, found.mode, found.qw, found.qa, found.kd) == (
        'rsnet',
        arch,
        mode,
        *bits,
        kd,
    )
    assert (found.inputs, found.resize, found.sizes, found.classes) == (
        'normalized_bgr',
        'nearest',
        (24,),
        4,
    )
    stored = checkpoint.read(str(tmp_path / 'run' / 'model-0'), flag='-ec')
    assert all(np.array_equal(stored.values[name], value) for name, value in values.items())
