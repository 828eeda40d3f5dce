"""ConvNet-AIG from the command line.

Training, what evaluation says about the gates, resuming, a plain start.
"""

import shutil
from typing import Any

import numpy as np
import pytest

from engine.config.cli import explicit, parse
from engine.config.config import read_config
from engine.config.resolve import resolve
from engine.files import read_json
from engine.results.records import read_layers
from engine.runs import history
from nets import cost
from tests.checkpoints import values
from tests.engine.training.test_train import accuracies, main, records

pytestmark = pytest.mark.usefixtures('few_validation_images', 'shallow_module')
TINY = [
    '--net',
    'aig',
    '--data',
    'animals28',
    '--batch-size',
    '8',
    '--epochs',
    '2',
    '--steps-per-epoch',
    '3',
    '--threads',
    '0',
]
SMALL = [*TINY, '--arch', 'resnet8', '--sizes', '20', '12']
BLOCKS = {
    'resnet8': [f'group{g}/block0' for g in range(2)],
    'resnet20': [f'group{g}/block{i}' for g in range(3) for i in range(3)],
}


@pytest.fixture(
    scope='module', params=['resnet8', pytest.param('resnet20', marks=pytest.mark.slow)]
)
def trained(request, tmp_path_factory, few_validation_images, shallow_module):
    run = tmp_path_factory.mktemp('trained') / 'run'
    main(
        *TINY,
        '--arch',
        request.param,
        '--sizes',
        '28',
        '20',
        '--target',
        '0.6',
        '--epochs',
        '1',
        '--logdir',
        run,
    )
    return run


def gates(run, name):
    return read_json(run / 'gates' / f'{name}.json', dict[str, Any], '')


def test_a_run_records_its_gates(trained):
    config = read_config(trained / 'config.json')
    assert (config.net, config.targets, config.sizes) == ('aig', (0.6,), (28, 20))
    assert set(records(trained)) == {'s28', 's20'}
    rows = history.read(trained, '')
    assert {'train/loss/s28', 'train/loss/rates/s20', 'val/activation/s28'} <= set(rows[0])
    state = values(trained / 'model-3')
    assert {'group1/block0/gate1/bn/s20/mean/EMA', 'group0/block0/gate2/b'} <= set(state)
    for size in (28, 20):
        assert rows[-1][f'val/activation/s{size}'] == pytest.approx(
            gates(trained, f's{size}')['activation']
        )


def test_evaluation_writes_what_the_gates_did(trained, capsys):
    before = records(trained)
    config = read_config(trained / 'config.json')
    shutil.rmtree(trained / 'gates')
    main('--eval', '-ec', trained)
    said = capsys.readouterr().out
    assert accuracies(records(trained)) == accuracies(before)
    for size in (28, 20):
        row, blocks = gates(trained, f's{size}'), BLOCKS[config.arch]
        assert (row['blocks'], row['targets'], row['point']) == (
            blocks,
            [0.6] * len(blocks),
            f's{size}',
        )
        consistent(row, trained)
        assert f's{size}: {100 * row["activation"]:.1f} % of the blocks executed' in said
        assert (trained / 'gates' / f's{size}.png').read_bytes().startswith(b'\x89PNG')
    speed = gates(trained, 'speed')
    assert set(speed) == {'skipping', 'all bodies'} and min(speed.values()) > 0


def consistent(row, run):
    """Rates count images; multiply-adds follow from the rates and from the recorded layers."""
    rates, by_class = np.array(row['rates']), np.array(row['by_class'])
    np.testing.assert_allclose(rates * 40, np.round(rates * 40), atol=1e-9)
    assert by_class.shape == (10, len(rates)) and by_class.min() >= 0 and by_class.max() <= 1
    # animals28 has as many images of each class.
    np.testing.assert_allclose(by_class.mean(0), rates, atol=1e-9)
    assert row['activation'] == pytest.approx(rates.mean())
    layers = read_layers(run)[row['point']]
    for key, given in (('madds', rates), ('always', 0 * rates), ('everything', 0 * rates + 1)):
        assert row[key] == pytest.approx(
            cost.expected_madds(layers, dict(zip(row['blocks'], given)))
        )
    assert 0 < row['always'] < row['everything'] == cost.madds(layers)


def test_sampled_gates_give_a_mean_and_a_deviation(trained, tmp_path, capsys):
    main(
        '--eval',
        '-ec',
        trained,
        '--gate-noise',
        '--draws',
        '3',
        '-es',
        '20',
        '--logdir',
        tmp_path / 'three',
    )
    row = records(tmp_path / 'three')['s20@gate-noise']
    assert (row['draws'], row['point'], row['images']) == (3, 's20', 40) and 0 <= row[
        'deviation'
    ] < 40
    assert f'gates sampled, deviation {row["deviation"]:.2f}' in capsys.readouterr().out
    main(
        '--eval',
        '-ec',
        trained,
        '--gate-noise',
        '--draws',
        '1',
        '-es',
        '20',
        '--logdir',
        tmp_path / 'one',
    )
    row = records(tmp_path / 'one')['s20@gate-noise']
    assert (row['draws'], row['deviation']) == (1, 0)


@pytest.mark.slow
def test_resuming_repeats_the_noise(tmp_path):
    """What is computed after the first epoch is the same to the last bit whether or not the run
    stopped there.
    """
    flags = [*SMALL, '--temperature', '2', '--last-temperature', '0.5', '--gate-lr', '0.5']
    whole, broken, other = (tmp_path / name for name in ('whole', 'broken', 'other'))
    main(*flags, '--logdir', whole)
    shutil.copytree(whole, broken)
    for path in broken.glob('model-6.*'):
        path.unlink()
    history.write(broken, history.read(whole, '')[:1])
    main(*flags, '--logdir', broken)
    main(*flags, '--seed', '1', '--logdir', other)
    expected, found = values(whole / 'model-6'), values(broken / 'model-6')
    assert [name for name in expected if not np.array_equal(expected[name], found[name])] == []
    assert not np.array_equal(expected['linear/W'], values(other / 'model-6')['linear/W'])


@pytest.mark.parametrize(
    'flags',
    [
        ['--train-skip'],
        pytest.param(['--rate-loss', 'class', '--qw', '2', '--qa', '2'], marks=pytest.mark.slow),
        pytest.param(['--targets', '1', '0.5', '--gpu', '0,1'], marks=pytest.mark.slow),
    ],
)
def test_ways_to_train(flags, tmp_path):
    main(*SMALL, '--epochs', '1', *flags, '--logdir', tmp_path / 'run')
    state = values(tmp_path / 'run' / 'model-3')
    assert all(np.isfinite(value).all() for value in state.values())
    assert any('gate' in name for name in state)
    assert any('group0/block0/gate' in name for name in state) != ('--targets' in flags)
    assert gates(tmp_path / 'run', 's12')['targets'] == (
        [1, 0.5] if '--targets' in flags else [0.7] * 2
    )
    assert any(name.endswith('quant2/basis') for name in state) == ('--qa' in flags)


@pytest.mark.slow
def test_gates_are_added_to_a_plain_network(tmp_path):
    plain, gated = tmp_path / 'plain', tmp_path / 'gated'
    main('--net', 'rsnet', '--mode', 'pytorch', *SMALL[2:], '--epochs', '1', '--logdir', plain)
    from engine.training import starting

    given = explicit(parse([*SMALL, '--load', str(plain)]))
    start = starting.starting_values(resolve(given)[0])
    saved = values(plain / 'model-3')
    assert np.array_equal(start['group1/block0/conv2/W'], saved['group1/block0/conv2/W'])
    assert not any('gate' in name for name in start)
    main(*SMALL, '--epochs', '1', '--load', plain, '--logdir', gated)
    assert set(records(gated)) == {'s20', 's12'}
