"""MSDNet from the command line.

Training with images set aside, exits, thresholds, resuming, what is refused.
"""

import itertools
import json
import shlex
import shutil

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import read_config
from engine.data import datasets
from engine.evaluation.evaluators import exits
from engine.graph.tower import Model
from engine.results import exit_thresholds
from engine.results.records import read_layers
from engine.runs import history, holdout
from engine.runs.checkpoint import Restore
from engine.training import train
from nets import cost
from quant.backend import tf
from tests.checkpoints import values
from tests.engine.command_line import RUN, tree
from tests.engine.deployment.test_early_exit import log_softmax
from tests.engine.runs.test_checkpoint import numbers, save, shapes
from tests.engine.training.test_train import accuracies, main, records

pytestmark = pytest.mark.usefixtures('few_validation_images')
NET = [
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
    '--batch-size',
    '8',
    '--steps-per-epoch',
    '2',
    '--threads',
    '0',
]
TINY = [*NET, '--sizes', '28', '20', '--holdout', '30', '--epochs', '2']
POINTS = {f's{size}-x{k}' for size in (28, 20) for k in range(3)}


@pytest.fixture(scope='module')
def trained(tmp_path_factory, few_validation_images):
    run = tmp_path_factory.mktemp('trained') / 'run'
    main(*TINY, '--logdir', run)
    return run


@pytest.fixture(scope='module')
def evaluated(trained):
    """A copy with what evaluation adds, its records from training, and those of evaluation."""
    run = trained.with_name('evaluated')
    shutil.copytree(trained, run)
    before = records(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exits, 'draw', lambda *_: [])
        patch.setattr(exits, 'ROUNDS', 1)
        main('--eval', '-ec', run, '--threads', '0')
    return run, before, records(run)


def answers(run, size):
    with np.load(run / 'exits' / f's{size}.npz') as arrays:
        return dict(arrays)


def test_a_run_records_exits_and_holdout(trained):
    config = read_config(trained / 'config.json')
    assert (config.net, config.arch, config.sizes, config.holdout) == (
        'msdnet',
        'msdnet',
        (28, 20),
        30,
    )
    ensembles = {f'ensemble-s{size}-x{k}' for size in (28, 20) for k in (1, 2)}
    assert set(records(trained)) == POINTS | ensembles
    assert set(read_layers(trained)) == POINTS
    rows = history.read(trained, '')
    assert {f'train/loss/{point}' for point in POINTS} | {
        f'val/top1/{point}' for point in POINTS
    } <= set(rows[0])
    np.testing.assert_array_equal(holdout.read(trained), holdout.draw(8000, 30, config.seed))
    assert all(np.isfinite(value).all() for value in values(trained / 'model-4').values())


def test_evaluation_repeats_the_training_records(evaluated):
    run, before, after = evaluated
    assert accuracies(before) == accuracies(after)
    for size in (28, 20):
        found = answers(run, size)
        assert found['confidence'].shape == (30, 3) and found['test_right'].shape == (40, 3)
        for k in range(3):
            assert after[f's{size}-x{k}']['top1'] == pytest.approx(
                100 * found['test_right'][:, k].mean()
            )


def test_thresholds_are_set_on_the_images_that_were_set_aside(evaluated):
    """What was recorded of the hold-out is what the network says of those training images."""
    run, source = evaluated[0], datasets.open_dataset('animals28').train
    chosen = holdout.read(run)
    model = Model(read_config(run / 'config.json'), data_format='NHWC')
    with tf.Graph().as_default(), tf.Session() as session:
        logits = model.net.outputs(
            model.views([tf.constant(np.stack([source.read(i) for i in chosen]))]),
            model.blocks(training=False),
        ).logits
        Restore(values(run / 'model-4')).init(session)
        expected = session.run({str(point): value for point, value in logits.items()})
    for size, k in itertools.product((28, 20), range(3)):
        found, one = answers(run, size), expected[f's{size}-x{k}']
        np.testing.assert_allclose(found['confidence'][:, k], log_softmax(one).max(1), atol=1e-4)
        np.testing.assert_array_equal(found['right'][:, k], one.argmax(1) == source.labels[chosen])


def write_policy(path, **changes):
    given = {
        'size': 28,
        'exits': (0, 1, 2),
        'thresholds': (-2.0, -2.0, exit_thresholds.ALWAYS),
        'budget': 2e6,
        'cost': 2e6,
        'unit': 'MAdds',
        'source': 'run/model-4',
    }
    exit_thresholds.ExitPolicy(**{**given, **changes}).write(path)


def test_thresholds_from_a_file(evaluated, tmp_path, capsys):
    """Real early exit measures what the recorded answers say."""
    run, found = evaluated[0], answers(evaluated[0], 20)
    confidence = found['test_confidence']
    # Between two answers, so that rounding does not decide.
    limits = [*(np.sort(confidence, axis=0)[[19, 20], :2].mean(0).tolist()), exit_thresholds.ALWAYS]
    write_policy(tmp_path / 'half.json', size=20, thresholds=tuple(limits))
    before = tree(run)
    main('--eval', '-ec', run, '--thresholds', tmp_path / 'half.json', '--threads', '0')
    layers = read_layers(run)
    madds = np.array([cost.madds(cost.cumulative(layers, f's20-x{k}')) for k in range(3)], float)
    top1, spent, shares = exit_thresholds.dynamic(
        confidence, found['test_right'], np.array(limits), madds
    )
    measured = json.loads((run / 'exits' / 'half-measured.json').read_text())
    assert (
        measured['early exit']['shares'] == pytest.approx(shares.tolist()) and 0.4 < shares[0] < 0.6
    )
    assert measured['early exit']['top1'] == pytest.approx(top1)
    assert measured['early exit']['madds'] == pytest.approx(spent)
    assert measured['all exits']['top1'] == pytest.approx(evaluated[2]['s20-x2']['top1'])
    assert 'early exit' in capsys.readouterr().out
    after = tree(run)
    assert after.keys() - before.keys() == {'exits/half-measured.json'}
    assert [name for name in before if before[name] != after[name]] == []


@pytest.mark.parametrize('action', [[], ['-a', 'k']])
def test_resuming_keeps_what_was_set_aside(action, trained, tmp_path, monkeypatch):
    """The record counts, not the seed."""
    run, begun = tmp_path / 'run', []
    shutil.copytree(trained, run)
    for path in run.glob('model-4.*'):
        path.unlink()
    history.write(run, history.read(run, '')[:1])
    own = np.arange(0, 8000, 200)
    holdout.write(run, own, 8000)
    (run / 'data.json').unlink()
    monkeypatch.setattr(
        train, 'train', lambda config, dataset, opened, **_: begun.append((dataset, opened))
    )
    main(*TINY, '--logdir', run, *action)
    ((dataset, opened),) = begun
    assert opened.step == 2
    np.testing.assert_array_equal(dataset.holdout.indices, own)
    np.testing.assert_array_equal(dataset.train.indices, np.setdiff1d(np.arange(8000), own))
    np.testing.assert_array_equal(holdout.read(run), own)
    main(*TINY, '--logdir', run, '-a', 'd')
    np.testing.assert_array_equal(begun[1][0].holdout.indices, holdout.draw(8000, 30, 0))


@pytest.mark.slow
def test_two_bits_train_evaluate_and_leave_early(tmp_path):
    run = tmp_path / 'run'
    main(
        *NET,
        '--nBlocks',
        '2',
        '--grFactor',
        '1',
        '2',
        '--bnFactor',
        '1',
        '2',
        '--sizes',
        '12',
        '--image-size',
        '12',
        '--epochs',
        '1',
        '--qw',
        '2',
        '--qa',
        '2',
        '--logdir',
        run,
    )
    state = values(run / 'model-2')
    assert any(name.endswith('quant/basis') for name in state) and all(
        np.isfinite(v).all() for v in state.values()
    )
    assert not (run / 'holdout.npz').exists()
    write_policy(
        tmp_path / 'all.json',
        size=12,
        exits=(0, 1),
        thresholds=(exit_thresholds.NEVER, exit_thresholds.ALWAYS),
    )
    main('--eval', '-ec', run, '--thresholds', tmp_path / 'all.json', '--threads', '0')
    found = json.loads((run / 'exits' / 'all-measured.json').read_text())
    assert found['early exit']['shares'] == found['all exits']['shares'] == [0, 1]
    # One activation that crosses a threshold can turn an answer.
    assert found['early exit']['top1'] == pytest.approx(records(run)['s12-x1']['top1'], abs=2.5)


@pytest.fixture
def refused(trained, tmp_path, monkeypatch, capsys):
    """``refused(line)``: the message of a command that must fail and leave everything as it was."""

    def check(line):
        before = tree(tmp_path)
        assert imagenet_tf.main(shlex.split(line)) == 2
        assert tree(tmp_path) == before
        return capsys.readouterr().err.splitlines()[-1]

    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, 'run')
    write_policy(tmp_path / 'good.json')
    write_policy(tmp_path / 'size.json', size=24)
    save(numbers(shapes(RUN)), tmp_path / 'plain' / 'model-20')
    (tmp_path / 'plain' / 'config.json').write_text(json.dumps(RUN.to_json()))
    (tmp_path / 'broken').mkdir()
    for path in ('run/config.json', 'run/model-4.index', 'run/model-4.data-00000-of-00001'):
        shutil.copy(path, 'broken')
    (tmp_path / 'broken' / 'holdout.npz').write_bytes(b'')
    return check


def test_bad_input(refused):
    line = shlex.join(NET)
    for flags, parts in (
        (f'{line} --thresholds good.json', ('--thresholds', '--eval')),
        ('--eval -ec run/model-2 --thresholds size.json', ('size.json', 'size 24', 'sizes 28 20')),
        (
            '--eval -ec plain --thresholds good.json',
            ('--thresholds good.json', '--net rsnet has no exits'),
        ),
        ('--eval -ec broken', ('broken/holdout.npz', 'holdout.npz: damaged')),
        ('--data animals28 --growthRate 4', ('--growthRate', '--net rsnet has no such option')),
        ('--net aig --data animals28 --nBlocks 4', ('--nBlocks', '--net aig has no such option')),
        (f'{line} --target 0.5', ('--targets', '--net msdnet has no such option')),
        (f'{line} --exit-weights 1 1', ('--net msdnet', 'exit_weights has 2 entries for 3 exits')),
        (f'{line} --logdir run --holdout 20', ('--logdir run', 'another configuration')),
    ):
        message = refused(flags)
        for part in parts:
            assert part in message
