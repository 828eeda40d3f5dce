"""scripts.summary and scripts.profile: known numbers, what is written, and what is refused."""

import json

import pytest

from engine import processor
from engine.config import cli
from engine.config.config import Config
from engine.files import write_json
from engine.graph.tower import Model
from engine.runs import environment
from scripts import profile, summary
from tests.engine.runs.test_checkpoint import save

RSNET = ['--net', 'rsnet', '--arch', 'resnet8', '--data', 'animals28', '--width', '0.25']
MSDNET = [
    '--net',
    'msdnet',
    '--data',
    'animals28',
    '--nBlocks',
    '3',
    '--base',
    '1',
    '--step',
    '1',
    '--nChannels',
    '4',
    '--growthRate',
    '2',
]


def rows(text, start):
    """Cells of the lines of a table that begin with ``start``."""
    return [line.split() for line in text.splitlines() if line.startswith(start)]


def point_rows(capsys, *flags):
    assert summary.main(list(flags)) == 0
    return {row[0]: list(map(float, row[1:])) for row in rows(capsys.readouterr().out, 's')}


def test_resnet18(capsys):
    """Multiply-adds as published; parameters by hand: kernels, classifier and its bias."""
    found = point_rows(
        capsys,
        '--net',
        'rsnet',
        '-d',
        '18',
        '--sizes',
        '224',
        '--data',
        'fake',
        '--mode',
        'pytorch',
    )
    kernels = (
        147 * 64
        + 9 * (4 * 64**2 + 64 * 128 + 3 * 128**2 + 128 * 256 + 3 * 256**2 + 256 * 512 + 3 * 512**2)
        + 64 * 128
        + 128 * 256
        + 256 * 512
        + 512 * 1000
        + 1000
    )
    layers, madds, bit_ops, parameters, weights, activations, low = found['s224']
    assert low == 0
    assert (layers, madds, bit_ops) == (21, 1814.073, round(1814073344 * 1024 / 1e9, 3))
    assert (parameters, weights) == (round(kernels / 1e6, 3), round(4 * kernels / 1e6, 3))
    assert activations == round(4 * (224 * 224 * 3 + 112 * 112 * 64) / 1e6, 3)


def test_bits(capsys):
    """A layer with 2-bit factors has 4 BitOps per multiply-add; stem and classifier stay float."""
    (low,) = point_rows(
        capsys, *RSNET, '--sizes', '16', '--qw', '2', '--qa', '2', '--mode', 'preact'
    ).values()
    (full,) = point_rows(capsys, *RSNET, '--sizes', '16', '--mode', 'preact').values()
    outer = 16 * 16 * 27 * 4 + 16 * 10
    assert low[:2] == full[:2] and low[3] == full[3] and low[4] < full[4]
    inner = 1e6 * full[1] - outer
    assert full[2] == pytest.approx(1024e-9 * (outer + inner), abs=1e-3)
    assert low[2] == pytest.approx(1e-9 * (1024 * outer + 4 * inner), abs=1e-3)
    assert (low[6], full[6]) == (pytest.approx(4e-9 * inner, abs=1e-3), 0)


def test_exits_include_the_earlier_ones(capsys):
    found = point_rows(capsys, *MSDNET, '--sizes', '28')
    assert list(found) == ['s28-x2', 's28-x1', 's28-x0']
    for later, earlier in zip(found.values(), list(found.values())[1:]):
        assert all(a > b for a, b in zip(later[:5], earlier[:5])) and later[5] >= earlier[5]


def test_layers(capsys):
    flags = [*RSNET, '--sizes', '16', '12', '--layers', '--qw', '2', '--format', 'json']
    assert summary.main(flags) == 0
    found = json.loads(capsys.readouterr().out)
    layers = {layer['layer']: layer for layer in found['layers']}
    shapes = {name: (row['kernel'], row['output']) for name, row in layers.items()}
    assert shapes['conv0'] == ('3x3x3x4', '16x16') and shapes['linear'] == ('1x1x16x10', '1x1')
    assert (layers['conv0']['role'], layers['linear']['role']) == ('stem', 'head')
    for name in ('madds', 'bit_ops', 'weight_bytes'):
        total = sum(layer[name] for layer in layers.values())
        assert total == pytest.approx(found['points'][0][name], abs=1)
    assert {row['weight_bits'] for name, row in layers.items() if 'group' in name} == {2}
    assert {row['point'] for row in layers.values()} == {'s16'}


def test_one_point(capsys):
    """An exit has the layers that an image passes on the way to it."""
    flags = [*MSDNET, '--sizes', '28', '--layers', '--format', 'json']
    assert summary.main([*flags, '--point', 's28-x1']) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found['points']
    assert row['point'] == 's28-x1' and row['layers'] == len(found['layers'])
    assert {layer['point'] for layer in found['layers']} == {'s28-x1'}
    assert sum(layer['madds'] for layer in found['layers']) == row['madds']


@pytest.mark.slow
@pytest.mark.parametrize('net', ['rsnet', 'san', 'aig', 'msdnet', 'dsnet'])
def test_every_family_without_data(net, capsys):
    """All points and layers of what a training of the same flags would have, and their times."""
    assert summary.main(['--net', net, '--layers']) == 0
    assert max(map(len, capsys.readouterr().out.splitlines()[2:])) <= 100
    assert summary.main(['--net', net, '--ms', '--qw', '4', '--format', 'json']) == 0
    layers = json.loads(capsys.readouterr().out)['layers']
    # Gates, and heads of earlier exits, are not asked.
    assert all(layer['ms'] > 0 for layer in layers if layer['role'] not in ('gate', 'head'))


@pytest.mark.parametrize(
    'flags, classes',
    [
        (['--preset', 'msd_imagenet4'], 1000),
        (['--net', 'rsnet', '--sizes', '224', '160'], 1000),
        (['--net', 'rsnet'], 10),
        (['--preset', 'msd_imagenet4', '--data', 'animals28', '--sizes', '28'], 10),
    ],
)
def test_presets_and_large_sizes_are_of_imagenet(flags, classes):
    config, _ = summary.asked(cli.explicit(cli.parse(flags)))
    assert config.classes == classes and (max(config.sizes) == 224) == (classes == 1000)


def test_a_run_says_what_it_is(trained, capsys):
    found = point_rows(capsys, str(trained), '--layers')
    assert list(found) == ['s16', 's12']
    assert summary.main([str(trained), '--format', 'json']) == 0
    facts = json.loads(capsys.readouterr().out)['environment']
    assert {'command', 'versions', 'git', 'machine'} <= {row['fact'] for row in facts}
    assert summary.main([str(trained), '--qw', '2']) == 2
    assert 'leave --qw out' in capsys.readouterr().err
    assert summary.main([str(trained.parent)]) == 2
    assert 'no run folder' in capsys.readouterr().err


def test_milliseconds_of_layers(trained, capsys):
    """Each layer of the point takes some time."""
    assert summary.main([str(trained), '--point', 's12', '--ms', '--format', 'json']) == 0
    layers = json.loads(capsys.readouterr().out)['layers']
    assert len(layers) == 10 and {layer['point'] for layer in layers} == {'s12'}
    assert all(0 < layer['ms'] < 1e4 for layer in layers)
    assert summary.main([str(trained), '--point', 's8']) == 2
    assert 'there are s16 s12' in capsys.readouterr().err


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--sizes', '4'], '--sizes 4'),
        (['--net', 'san', '--target', '0.5'], '--targets: --net san'),
        (['--qa', '2', '--mode', 'resnet'], '--qa 2 with --mode resnet'),
        (['--data', '/nowhere'], '--data /nowhere'),
        (['--preset', 'nothing'], '--preset nothing'),
    ],
)
def test_wrong_flags(flags, message, capsys):
    assert summary.main([*RSNET, *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained') / 'run'
    config = Config.from_values(
        arch='resnet8',
        width=0.25,
        mode='preact',
        sizes=(16, 12),
        data='animals28',
        classes=10,
        image_size=16,
        resize='area',
    )
    save(Model(config, data_format='NHWC').starting_values(), folder / 'model-1')
    write_json(folder / 'config.json', config.to_json())
    environment.record(folder, 0)
    return folder


def test_profile(trained, capsys):
    assert profile.main([str(trained), '--batch', '3', '--rounds', '2', '--threads', '1']) == 0
    out = capsys.readouterr().out
    (path,) = trained.glob('profile-*.json')
    written = json.loads(path.read_text())
    device = written['device']
    assert (device['threads'], device['gpu'], device['backend']) == (1, '', 'tensorflow')
    assert device['processor'] == processor.name() and '1-thread-tensorflow' in path.name
    assert (written['threads'], written['rounds'], written['batch']) == (1, 2, 3)
    assert list(written['points']) == ['s16', 's12']
    for point, times in written['points'].items():
        assert set(times) == {'batch1_ms', 'batch1_iqr', 'batch3_ms', 'batch3_iqr'}
        assert 0 < times['batch1_ms'] < 1e4 and times['batch1_iqr'] >= 0
        (shown,) = rows(out, point)
        assert float(shown[1]) == pytest.approx(times['batch1_ms'], abs=0.01)
        assert float(shown[5]) == pytest.approx(3e3 / times['batch3_ms'], abs=0.01)
    assert f'{path}: on {processor.name()}, 1 thread, tensorflow' in out


def test_profiles_of_other_devices_stay(trained, capsys):
    before = {path.name: path.read_bytes() for path in trained.glob('profile-*.json')}
    assert profile.main([str(trained), '--rounds', '1', '--threads', '2', '--format', 'csv']) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3 and '2 threads' in err
    after = {path.name: path.read_bytes() for path in trained.glob('profile-*.json')}
    assert len(after) == 2 and before.items() < after.items()


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--batch', '1'], '--batch 1'),
        (['--rounds', '0'], '--rounds 0'),
        (['--threads', '-1'], '--threads -1'),
    ],
)
def test_wrong_numbers(flags, message, trained, capsys):
    before = sorted(trained.iterdir())
    assert profile.main([str(trained), *flags]) == 2
    assert message in capsys.readouterr().err and sorted(trained.iterdir()) == before


@pytest.mark.parametrize('name', ['missing', 'empty'])
def test_no_run(name, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    assert profile.main([str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err
