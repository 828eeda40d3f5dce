"""scripts.thresholds --cascade on a made-up run folder, without TensorFlow."""

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from engine.files import write_json
from engine.results import cascades, chains, exit_thresholds, page, point_answers, selection
from engine.results.exit_records import HOLDOUT, VALIDATION
from engine.results.replays import Replay
from engine.runs import fingerprint, holdout
from scripts import accuracy_table, choose, plot, thresholds
from tests.engine.results.conftest import SMALL
from tests.engine.results.run_folders import layer, score, write_run
from tests.engine.results.test_cascades import SINGLE, answers


@pytest.fixture
def folder(tmp_path):
    layers = {name: [layer('conv', int(madds))] for name, madds in SINGLE.items()}
    scores = [score(name, 50.0 + 5 * k, images=700) for k, name in enumerate(SINGLE)]
    times = {'s12': 1.0, 's16': 2.0, 's20': 4.0}
    config = {**SMALL, 'sizes': [20, 16, 12], 'holdout': 400}
    run = write_run(tmp_path / 'run', config, layers, scores, times)
    (run / 'model-5.data-00000-of-00001').write_bytes(b'weights')
    holdout.write(run, np.arange(400), 1000)
    record(run)
    return run


def record(run):
    found = {HOLDOUT: answers(400, seed=1)[0], VALIDATION: answers(700, seed=2)[0]}
    (run / cascades.FOLDER).mkdir(exist_ok=True)
    identity = fingerprint.identity(str(run / 'model-5'))
    point_answers.write(run / cascades.FOLDER / point_answers.FILE, found, identity)


def call(run, *flags):
    return thresholds.main([str(run), *flags])


def read(run, name):
    return cascades.read(run / cascades.FOLDER / f'{name}.json')


@pytest.mark.parametrize('combine', chains.COMBINES)
def test_a_chain_within_a_budget(combine, folder, capsys):
    assert call(folder, '--cascade', 's12', 's20', '--budget', '3.4M', '--combine', combine) == 0
    end = '-mean' if combine == chains.MEAN else ''
    found = read(folder, f's12+s20-3.4M{end}')
    assert (found.points, found.combine, found.unit) == (('s12', 's20'), combine, 'MAdds')
    assert found.identity == fingerprint.identity(str(folder / 'model-5'))
    for seed, images, judged in ((1, 400, found.holdout), (2, 700, found.validation)):
        replay = Replay(answers(images, seed=seed)[0], combine, {})
        stages = replay.stages(['s12', 's20'])
        leaves = exit_thresholds.chosen(stages.confidence, np.array(found.thresholds))
        assert judged.images == images
        assert judged.cost == pytest.approx(np.array([2e6, 7e6])[leaves].mean())
        right = stages.right[np.arange(images), leaves]
        assert judged.top1 == pytest.approx(100 * right.mean())
        assert judged.top1_interval.low < judged.top1 < judged.top1_interval.high
    assert found.holdout.cost <= 3.4e6
    printed = capsys.readouterr().out
    assert f'{found.validation.top1:.2f}' in printed and 's12+s20' in printed
    assert f'--cascade {folder}/cascades/s12+s20-3.4M{end}.json' in printed


def test_the_best_chain(folder):
    """Neither a chain that was given, nor a fixed point, is better on the hold-out images."""
    assert call(folder, '--cascade', 'auto', '--budget', '4M') == 0
    assert call(folder, '--cascade', 's12', 's20', '--budget', '4M') == 0
    best, given = read(folder, 'auto-4M').holdout, read(folder, 's12+s20-4M').holdout
    fixed = 100 * Replay(answers(400, seed=1)[0], 'last', {}).stages(['s16']).right.mean()
    error = 100 / np.sqrt(400)
    assert best.cost <= 4e6 and best.top1 >= max(given.top1, fixed) - error


def test_an_accuracy(folder, capsys):
    assert call(folder, '--cascade', 'auto', '--accuracy', 'best-6%') == 0
    found = read(folder, 'auto-best-6%')
    replay = Replay(answers(400, seed=1)[0], 'last', {})
    best = max(100 * replay.stages([name]).right.mean() for name in SINGLE)
    assert found.holdout.top1 >= best - 6 and found.holdout.cost < 5e6
    assert call(folder, '--cascade', 's12', 's20', '--accuracy', '1') == 0
    assert read(folder, 's12+s20-1').holdout.shares[0] > 0.9
    capsys.readouterr()
    assert call(folder, '--cascade', 's12', 's20', '--accuracy', '99.9%') == 2
    assert 'the most accurate cascade has' in capsys.readouterr().err


def test_times(folder):
    out = folder / 'new' / 'own.json'
    assert call(folder, '--cascade', 's12', 's20', '--latency', '2ms', '--out', str(out)) == 0
    found = cascades.read(out)
    assert found.unit == 'ms' and 1 <= found.holdout.cost <= 2


def test_precisions_in_turn(tmp_path, capsys):
    """Stages of as many multiply-adds ascend in BitOps, if the chain is chosen by these."""
    layers, scores = {}, []
    for bits in (4, 2):
        point = f's12-b{bits}'
        layers[point] = [layer('conv', 1_000_000, weight_bits=bits, activation_bits=bits)]
        scores.append(score(point, 50.0, images=700))
    config = {**SMALL, 'sizes': [12], 'bits': ['4', '2'], 'holdout': 400}
    run = write_run(tmp_path / 'run', config, layers, scores)
    (run / 'model-5.data-00000-of-00001').write_bytes(b'weights')
    holdout.write(run, np.arange(400), 1000)
    found = {}
    for name, images, seed in ((HOLDOUT, 400, 1), (VALIDATION, 700, 2)):
        whole, _ = answers(images, seed=seed)
        named = {'s12-b2': whole.points['s12'], 's12-b4': whole.points['s20']}
        found[name] = dataclasses.replace(whole, points=named)
    (run / cascades.FOLDER).mkdir(exist_ok=True)
    identity = fingerprint.identity(str(run / 'model-5'))
    point_answers.write(run / cascades.FOLDER / point_answers.FILE, found, identity)
    chain = ('--cascade', 's12-b2', 's12-b4')
    assert call(run, *chain, '--bitops', '12M') == 0
    one = read(run, 's12-b2+s12-b4-12M-bitops')
    assert one.unit == 'BitOps' and one.points == ('s12-b2', 's12-b4')
    # 2 x 2 bits for all, and 4 x 4 for those that go on.
    assert one.holdout.cost == pytest.approx(4e6 + 16e6 * one.holdout.shares[1])
    assert one.holdout.cost <= 12e6 and 0 < one.holdout.shares[1] < 1
    assert 'BitOps, M' in capsys.readouterr().out
    assert call(run, *chain, '--budget', '2M') == 2
    assert 's12-b4 costs no more than s12-b2' in capsys.readouterr().err
    assert call(run, '--bitops', '12M') == 2
    assert '--bitops: needs --cascade' in capsys.readouterr().err


def test_calibration(folder, capsys):
    flags = ('--cascade', 's12', 's20', '--budget', '4M')
    assert call(folder, *flags, '--calibrate-confidence') == 0
    found = read(folder, 's12+s20-4M-calibrated')
    assert set(found.calibration) == {'s12', 's20'}
    assert found.temperatures == tuple(one.temperature for one in found.calibration.values())
    assert all(one.calibrated_error < one.error for one in found.calibration.values())
    assert 'calibration error' in capsys.readouterr().out


def test_a_hold_out_that_is_too_small(folder, capsys):
    found = {HOLDOUT: answers(30, seed=1)[0], VALIDATION: answers(700, seed=2)[0]}
    identity = fingerprint.identity(str(folder / 'model-5'))
    point_answers.write(folder / 'cascades' / point_answers.FILE, found, identity)
    assert call(folder, '--cascade', 's12', 's20', '--budget', '2.4M') == 0
    assert 'too small to tell it from s12 alone' in capsys.readouterr().out


def test_a_sweep(folder, capsys):
    assert call(folder, '--cascade', 'auto', '--sweep', '5', '--format', 'markdown') == 0
    rows = json.loads((folder / 'cascades' / 'auto-sweep5.json').read_text())
    assert [float(row['asked']) for row in rows] == pytest.approx(np.linspace(2e6, 5e6, 5))
    assert rows[0]['points'] == ['s12'] and rows[0]['holdout']['cost'] == 2e6
    assert len(capsys.readouterr().out.splitlines()) == 2 + 5 + 2


@pytest.mark.parametrize(
    'flags, part',
    [
        ('--cascade s12 s20 --budget 1M', '--budget 1M: the smallest possible budget is 2'),
        ('--cascade s20 s12 --budget 3M', '--cascade s20 s12: s12 costs no more than s20'),
        ('--cascade s12 s18 --budget 3M', 'no point s18; there are s12 s16 s20'),
        ('--cascade s12 s16 s20 s24 s26 s28 --budget 3M', 'no point s24'),
        ('--cascade auto s12 --budget 3M', 'auto stands alone'),
        ('--cascade auto --budget 3ms', '--budget 3ms: expected multiply-adds'),
        ('--cascade auto --accuracy best+1', '--accuracy best+1: expected such as best-1%'),
        ('--cascade auto --accuracy 101', '--accuracy 101: expected'),
        ('--cascade auto --accuracy best-nan', '--accuracy best-nan: expected such as'),
        ('--cascade auto --accuracy nan', '--accuracy nan: expected such as'),
        ('--cascade auto --budget 3M --out .', '--out .: is a folder; give a file'),
        ('--cascade auto --sweep 1', '--sweep 1: at least 2'),
        ('--cascade auto --budget 3M --size 12', '--size 12 with --cascade'),
        ('--accuracy best', '--accuracy: needs --cascade'),
        ('--budget 3M --combine mean', '--combine: needs --cascade'),
    ],
)
def test_bad_flags(flags, part, folder, capsys):
    before = sorted(folder.glob('**/*'))
    assert call(folder, *flags.split()) == 2
    assert part in capsys.readouterr().err
    assert sorted(folder.glob('**/*')) == before


def test_a_run_that_set_nothing_aside(folder, capsys):
    """It is said before the network is loaded."""
    (folder / 'cascades' / point_answers.FILE).unlink()
    (folder / 'holdout.npz').unlink()
    config = json.loads((folder / 'config.json').read_text())
    write_json(folder / 'config.json', config | {'holdout': 0})
    assert call(folder, '--cascade', 'auto', '--budget', '3M') == 2
    assert 'set no images aside' in capsys.readouterr().err


def test_a_chain_that_has_no_times(folder, capsys):
    """Likewise: of all points, multiply-adds are known."""
    (folder / 'cascades' / point_answers.FILE).unlink()
    (profile,) = folder.glob('profile*.json')
    profile.unlink()
    assert call(folder, '--cascade', 's12', 's20', '--latency', '2ms') == 2
    assert '--latency: no times' in capsys.readouterr().err


def test_no_run(tmp_path, capsys):
    assert call(tmp_path, '--cascade', 'auto', '--budget', '3M') == 2
    assert 'no checkpoint' in capsys.readouterr().err


def test_other_weights_have_another_identity(tmp_path):
    prefix = tmp_path / 'model-5'
    seen = set()
    for content in (b'a', b'b'):
        (tmp_path / 'model-5.data-00000-of-00001').write_bytes(content)
        (tmp_path / 'model-50.data-00000-of-00001').write_bytes(content * 2)
        seen.add(fingerprint.identity(str(prefix)))
        (tmp_path / 'model-5.calibrated.npz').write_bytes(content)
        seen.add(fingerprint.identity(str(prefix)))
        (tmp_path / 'model-5.calibrated.npz').unlink()
    assert len(seen) == 4


@pytest.mark.parametrize('flags', [(), ('--combine', 'mean', '--calibrate-confidence')])
def test_cascades_of_a_sweep_are_choices(flags, folder, capsys):
    """Their commands choose the same once more, to a file of its own."""
    assert call(folder, '--cascade', 'auto', '--sweep', '4', *flags) == 0
    found = [one for one in selection.choices(folder) if one.cascade is not None]
    assert len(found) == 4 and [one.madds for one in found] == sorted(one.madds for one in found)
    best = max(found, key=lambda one: len(one.cascade.points))
    ms = chains.costs(best.cascade.points, {'s12': 1.0, 's16': 2.0, 's20': 4.0})
    assert best.point == best.cascade.name and best.ms == pytest.approx(ms @ best.shares)
    choosing, evaluating = best.commands
    words = shlex.split(choosing)
    assert words[:3] == ['python', '-m', 'scripts.thresholds']
    assert thresholds.main(words[3:]) == 0
    file = shlex.split(evaluating)[-1]
    again = cascades.read(Path(file))
    assert again.points == best.cascade.points and again.validation == best.cascade.validation
    capsys.readouterr()
    assert choose.main([str(folder)]) == 0
    assert 'cascade' in capsys.readouterr().out


def test_the_best_choice_is_a_cascade(folder, capsys):
    assert call(folder, '--cascade', 's12', 's20', '--budget', '4M') == 0
    capsys.readouterr()
    assert choose.main([str(folder), '--madds', '4.2M']) == 0
    first, command = capsys.readouterr().out.splitlines()
    assert f'{folder} at s12+s20 as a cascade' in first
    assert command.endswith(f'--eval -ec {folder} --cascade {folder}/cascades/s12+s20-4M.json')
    assert command.strip() in page.commands(folder, selection.choices(folder))


def test_cascades_of_other_weights_are_no_choices(folder):
    assert call(folder, '--cascade', 's12', 's20', '--budget', '4M') == 0
    (folder / 'model-5.data-00000-of-00001').write_bytes(b'trained further')
    assert all(one.cascade is None for one in selection.choices(folder))


def test_tables_and_plots_have_cascades_as_a_curve(folder, tmp_path, capsys):
    assert call(folder, '--cascade', 'auto', '--sweep', '3') == 0
    capsys.readouterr()
    assert accuracy_table.main([str(folder), '--format', 'json']) == 0
    rows = json.loads(capsys.readouterr().out)['rows']
    own = [row for row in rows if row['run'] == 'run, cascades']
    kept = {(one.madds, one.top1) for one in selection.choices(folder) if one.cascade is not None}
    assert {(row['madds'], row['top1']) for row in own} == kept
    assert len(rows) == len(own) + 3
    assert plot.main([str(folder), '-o', str(tmp_path / 'p.svg')]) == 0
    assert 'cascades' in (tmp_path / 'p.svg').read_text()
