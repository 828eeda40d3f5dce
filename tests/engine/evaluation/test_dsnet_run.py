"""DS-Net from the command line.

Supernet and its teacher, calibration, gate, the chain of both stages.
"""

import functools
import json
import shutil

import numpy as np
import pytest

import imagenet_tf
from engine.config.cli import explicit, parse
from engine.config.config import read_config
from engine.config.resolve import resolve
from engine.evaluation import calibrate
from engine.files import write_json
from engine.graph.tower import Model
from engine.results.records import read_layers
from engine.results.tables import read_run
from engine.runs import checkpoint
from nets import cost
from scripts import calibrate as script
from tests import test_grid
from tests.checkpoints import values
from tests.engine.runs.test_checkpoint import save
from tests.engine.training.test_train import accuracies, main, records

pytestmark = pytest.mark.usefixtures('few_validation_images', 'short_slimmable')
TINY = [
    '--net',
    'dsnet',
    '--data',
    'animals28',
    '--width',
    '0.1',
    '--batch-size',
    '16',
    '--threads',
    '0',
]
GATE = [*TINY, '--stage', 'gate', '--routes', '0', '5', '--epochs', '1', '--steps-per-epoch', '3']
EMA = 0.9


@pytest.fixture(scope='module')
def trained(tmp_path_factory, few_validation_images, short_slimmable):
    """Two epochs of one step, so that there is a checkpoint of every step."""
    run = tmp_path_factory.mktemp('trained') / 'run'
    main(
        *TINY,
        '--ema',
        EMA,
        '--epochs',
        '2',
        '--steps-per-epoch',
        '1',
        '--warmup',
        '0',
        '--logdir',
        run,
    )
    return run


@pytest.fixture(scope='module')
def calibrated(trained, tmp_path_factory):
    run = shutil.copytree(trained, tmp_path_factory.mktemp('calibrated') / 'run')
    assert script.main([str(run), '--images', '100', '--widths', '0', '5', '--threads', '0']) == 0
    return run


def refused(capsys, *flags) -> str:
    capsys.readouterr()
    assert imagenet_tf.main([str(flag) for flag in flags]) == 2
    return capsys.readouterr().err


def statistics_only(name: str) -> bool:
    return name.endswith('/EMA')


def test_the_supernet_trains(trained):
    config = read_config(trained / 'config.json')
    assert (config.net, config.arch) == ('dsnet', 'mobilenetv1_small')
    assert (config.stage, config.sizes) == ('supernet', (28,))
    history = json.loads((trained / 'stats.json').read_text())
    assert {
        'train/loss/largest',
        'train/loss/random1',
        'train/loss/random2',
        'train/loss/smallest',
        'val/top1/w14',
        'val/top1/w00',
    } <= set(history[-1])
    first, second = values(trained / 'model-1'), values(trained / 'model-2')
    assert all(np.isfinite(value).all() for value in second.values())
    assert not np.array_equal(
        first['group1/block0/pointwise/W'], second['group1/block0/pointwise/W']
    )
    assert set(records(trained)) == {'w14', 'w00'}


def test_the_teacher_follows_by_the_decay(trained):
    before, after = values(trained / 'model-1'), values(trained / 'model-2')
    followed = {name.removeprefix('teacher/') for name in after if name.startswith('teacher/')}
    assert {
        'conv0/W',
        'linear/b',
        'conv0/bn/gamma',
        'group2/block0/pointwise/bn/variance/EMA',
    } <= followed
    for name in followed:
        expected = EMA * before[f'teacher/{name}'] + (1 - EMA) * after[name]
        np.testing.assert_allclose(
            after[f'teacher/{name}'], expected, rtol=1e-5, atol=1e-6, err_msg=name
        )
    assert not np.allclose(after['teacher/linear/W'], after['linear/W'], rtol=1e-6, atol=0)


def test_the_teacher_is_what_is_read(trained):
    stored, read = (
        values(trained / 'model-2'),
        checkpoint.read(str(trained / 'model-2'), flag='-ec').values,
    )
    assert not any(name.startswith('teacher/') for name in read)
    np.testing.assert_array_equal(read['linear/W'], stored['teacher/linear/W'])


def test_widths_without_statistics_are_refused(trained, capsys):
    said = refused(capsys, '--eval', '-ec', trained, '-ew', '0', '5')
    assert (
        f'no statistics for w05; python -m scripts.calibrate {trained} makes them; there are '
        'w14 w00' in said
    )
    said = refused(capsys, *GATE, '--load', trained, '--logdir', trained.parent / 'none')
    assert '--load' in said and 'no statistics for w05; python -m scripts.calibrate' in said
    assert not (trained.parent / 'none').exists()


def test_calibration_changes_statistics_only(trained, calibrated):
    before, after = (
        checkpoint.read(str(run / 'model-2'), flag='-ec') for run in (trained, calibrated)
    )
    assert after.calibrated == ['w00', 'w05'] and checkpoint.available(after) == [
        'w14',
        'w05',
        'w00',
    ]
    changed = {
        name
        for name in before.values
        if not np.array_equal(before.values[name], after.values[name])
    }
    assert changed == set(filter(statistics_only, before.values))
    table, old = (one.values['group1/block0/pointwise/bn/mean/EMA'] for one in (after, before))
    assert [row for row in range(15) if not np.array_equal(table[row], old[row])] == [0, 5]
    main('--eval', '-ec', calibrated, '--threads', '0')
    assert set(records(calibrated)) == {'w14', 'w05', 'w00'}


@pytest.fixture(scope='module')
def gated(calibrated, tmp_path_factory):
    run = tmp_path_factory.mktemp('gated') / 'run'
    main(*GATE, '--load', calibrated, '--logdir', run)
    return run


def test_only_the_gate_is_trained(calibrated, gated):
    before = checkpoint.read(str(calibrated / 'model-2'), flag='-ec').values
    after = values(gated / 'model-3')
    common = {
        name
        for name in after
        if name in before and name != 'global_step' and 'Momentum' not in name
    }
    assert {'conv0/W', 'linear/W', 'group2/block0/pointwise/bn/mean/EMA'} <= common
    assert [name for name in common if not np.array_equal(before[name], after[name])] == []
    assert {name for name in after if name.endswith('/Momentum')} == {'slimming_gate/W/Momentum'}
    assert np.abs(after['slimming_gate/W/Momentum']).min() > 0


def test_evaluation_writes_what_the_gate_did(gated, capsys, monkeypatch):
    monkeypatch.setattr(
        'engine.evaluation.evaluators.widths.images_per_second', lambda *_: {'dynamic': 1.0}
    )
    shutil.rmtree(gated / 'eval')
    main('--eval', '-ec', gated, '--threads', '0')
    found = records(gated)
    assert set(found) == {'w05', 'w00', 'dynamic'}
    row = json.loads((gated / 'routes' / 's28.json').read_text())
    layers = read_layers(gated)
    assert row['of_points'] == [cost.madds(layers[point]) for point in ('w00', 'w05')]
    np.testing.assert_allclose(
        np.array(row['shares']) * 40, np.round(np.array(row['shares']) * 40), atol=1e-9
    )
    assert row['madds'] >= np.dot(row['shares'], row['of_points']) > 0
    low, high = sorted(accuracies(found)[point][0] for point in ('w00', 'w05'))
    assert f's28: w00 {100 * row["shares"][0]:.1f} %' in capsys.readouterr().out
    if 1 in row['shares']:
        assert accuracies(found)['dynamic'][0] in (low, high)


@pytest.fixture(scope='module')
def two_sizes(tmp_path_factory, short_slimmable):
    """A gated network of two sizes with drawn weights."""
    run = tmp_path_factory.mktemp('sizes') / 'run'
    config, _, _ = resolve(explicit(parse([*GATE, '--sizes', '28', '20'])))
    model = Model(config, data_format='NHWC')
    variables, _ = model.inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    save(model.starting_values() | test_grid.numbers(shapes), run / 'model-3')
    write_json(run / 'config.json', config.to_json())
    return run


@pytest.mark.parametrize(
    'flags, points',
    [
        pytest.param(['-es', '20'], {'s20-w05', 's20-w00', 's20-dynamic'}, marks=pytest.mark.slow),
        (['-es', '28', '-ew', '5'], {'s28-w05'}),
    ],
)
def test_a_part_of_a_network_is_called_as_in_the_whole(
    flags, points, two_sizes, few_validation_images, monkeypatch
):
    monkeypatch.setattr(
        'engine.evaluation.evaluators.widths.images_per_second', lambda *_: {'dynamic': 1.0}
    )
    shutil.rmtree(two_sizes / 'eval', ignore_errors=True)
    main('--eval', '-ec', two_sizes, *flags, '--threads', '0')
    assert set(records(two_sizes)) == points
    found = {row.point: row for row in read_run(two_sizes, 'run').rows}
    assert set(found) == points and all(row.madds > 0 for row in found.values())


def test_a_target_of_multiply_adds_is_parsed():
    def config(*flags):
        return resolve(explicit(parse([*GATE, *flags])))[0]

    assert (
        config('--target_madds', '250M').target_madds
        == config('--target-madds', '0.25G').target_madds
        == 250e6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'flags',
    [
        ['--qw', '4', '--qa', '4'],
        ['--no-ieb', '--sizes', '28', '20'],
        ['--arch', 'resnet20'],
        ['--arch', 'resnet20', '--gpu', '0,1'],
    ],
)
def test_ways_to_train(flags, tmp_path):
    main(*TINY, *flags, '--epochs', '1', '--steps-per-epoch', '1', '--logdir', tmp_path / 'run')
    state = values(tmp_path / 'run' / 'model-1')
    assert all(np.isfinite(value).all() for value in state.values())
    bases = [name for name in state if name.endswith('/basis')]
    assert any('depthwise' in name for name in bases) == ('--qw' in flags)
    assert not any(
        'conv0/' in name or '/se/' in name or 'linear' in name
        for name in bases
        if 'weight_quant' in name
    )


@pytest.mark.slow
def test_all_widths(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / 'run')
    assert script.main([str(run), '--images', '100', '--threads', '0']) == 0
    main('--eval', '-ec', run, '--threads', '0')
    assert set(records(run)) == {f'w{i:02d}' for i in range(15)}


@pytest.mark.slow
def test_the_chain_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    """A kill after stage I; then the same command; then once more, with nothing left to do."""
    command = [
        '--preset',
        'demo-dsnet',
        *TINY[4:],
        '--epochs',
        '1',
        '--steps-per-epoch',
        '2',
        '--logdir',
        str(tmp_path / 'run'),
    ]
    whole = functools.partial(calibrate.calibrate_run, images=64)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, 'calibrate_run', killed)
    assert imagenet_tf.main(command) == 130
    assert {path.name for path in tmp_path.iterdir()} == {'run'}
    before = (tmp_path / 'run' / 'model-2.index').stat().st_mtime_ns
    monkeypatch.setattr(calibrate, 'calibrate_run', whole)
    main(*command)
    assert (tmp_path / 'run' / 'model-2.index').stat().st_mtime_ns == before
    gate = read_config(tmp_path / 'run-gate' / 'config.json')
    assert (gate.stage, gate.load) == ('gate', str(tmp_path / 'run'))
    assert gate.routes == (0, 4, 8, 13)
    monkeypatch.setattr(calibrate, 'calibrate_run', killed)
    capsys.readouterr()
    main(*command)
    assert capsys.readouterr().out.count('is complete') == 2
