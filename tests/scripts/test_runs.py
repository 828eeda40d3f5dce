"""scripts.runs: states, what is reached, and folders that are half written or not ours."""

import csv
import io
import json
import os

import pytest

from engine.files import write_json
from engine.runs import failure, lock
from scripts import runs
from tests.engine.results.conftest import SMALL

CONFIG = {**SMALL, 'sizes': [28, 20], 'epochs': 4, 'dataset': 'animals28'}


def history(*top1):
    rows = []
    for epoch, value in enumerate(top1, 1):
        points = {'val/s28/top1': value, 'val/s20/top1': value - 1, 'val/mean/top1': 99.0}
        more = {'val/ensemble/top1': 98.0, 'loss': 1.0}
        rows.append({'epoch_num': epoch, 'global_step': 10 * epoch, **points, **more})
    return rows


def make(folder, *top1, **changes):
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps({**CONFIG, **changes}))
    (folder / 'log.log').write_text('x')
    if top1:
        (folder / 'stats.json').write_text(json.dumps(history(*top1)))
    return folder


def listed(capsys, *flags):
    assert runs.main([*map(str, flags), '--format', 'csv']) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    return {row['run']: row for row in rows}


def test_states(tmp_path, capsys):
    make(tmp_path / 'done', 50.0, 70.0, 60.0, 65.0)
    make(tmp_path / 'stopped', 50.0)
    make(tmp_path / 'begun')
    fault = make(tmp_path / 'fault', 50.0)
    with pytest.raises(ValueError), failure.noted(fault):
        raise ValueError('the loss is nan')
    killed = make(tmp_path / 'sub' / 'killed', 50.0, 60.0)
    dead = {'host': 'x', 'pid': 2**22 + 1, 'machine': lock._machine(), 'began': '1'}
    (killed / '.lock-1').write_text(json.dumps(dead))
    imported = make(tmp_path / 'imported')
    (imported / 'log.log').unlink()
    (imported / 'model-0.index').touch()
    evaluated = make(tmp_path / 'evaluated')
    (evaluated / 'log.log').unlink()
    (evaluated / 'eval').mkdir()
    score = {'point': 's28', 'top1': 42.0, 'top5': 90.0}
    (evaluated / 'eval' / 's28.json').write_text(json.dumps(score))
    with lock.held(make(tmp_path / 'now', 50.0, 55.0)), lock.held(tmp_path / 'just begun'):
        found = listed(capsys, tmp_path)
    assert {name: row['state'] for name, row in found.items()} == {
        'done': 'finished',
        'stopped': 'interrupted',
        'begun': 'interrupted',
        'fault': 'failed',
        'sub/killed': 'interrupted',
        'imported': 'imported',
        'evaluated': 'evaluation',
        'now': 'running',
        'just begun': 'running',
    }
    done = found['done']
    assert (done['epoch'], done['epochs'], done['points']) == ('4', '4', '2')
    assert (done['best_top1'], done['best_point']) == ('70.0', 's28')
    assert (done['net'], done['arch'], done['qw'], done['sizes'], done['data']) == (
        'rsnet',
        'resnet8',
        '32',
        '28 20',
        'animals28',
    )
    assert found['evaluated']['best_top1'] == '42.0'
    assert 'the loss is nan' in found['fault']['why'] and str(os.getpid()) in found['now']['why']


def test_a_training_that_goes_on_has_not_failed(tmp_path, capsys):
    run = make(tmp_path / 'run', 50.0, 60.0, 61.0, 62.0)
    with pytest.raises(ValueError), failure.noted(run):
        raise ValueError
    assert listed(capsys, tmp_path)['run']['why'] == 'ValueError'
    with failure.noted(run):
        pass
    assert listed(capsys, tmp_path)['run']['state'] == 'finished'
    with pytest.raises(KeyboardInterrupt), failure.noted(run):
        raise KeyboardInterrupt
    assert not (run / failure.FILE).exists()


@pytest.mark.parametrize(
    'file, text',
    [
        ('config.json', '{'),
        ('config.json', '[]'),
        ('config.json', '{"architectures": ["BertModel"], "sizes": "large"}'),
        ('config.json', ''),
        ('stats.json', '[{"epoch_num": 1, "lo'),
        ('stats.json', '{}'),
        ('eval/s28.json', '{"point": '),
    ],
)
def test_what_cannot_be_read_is_told_and_harms_nothing(file, text, tmp_path, capsys):
    make(tmp_path / 'good', 50.0)
    bad = make(tmp_path / 'bad', 60.0)
    (bad / file).parent.mkdir(exist_ok=True)
    (bad / file).write_text(text)
    (tmp_path / 'not a run').mkdir()
    (tmp_path / 'not a run' / 'notes.txt').write_text('x')
    found = listed(capsys, tmp_path)
    assert found['bad']['state'] == 'damaged' and file in found['bad']['why']
    assert found['good']['state'] == 'interrupted' and len(found) == 2
    assert runs.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert 'damaged' in text and max(map(len, text.splitlines()[:4])) <= 100


def test_the_latest_is_first_and_states_are_chosen(tmp_path, capsys):
    for age, name in enumerate(('new', 'old', 'older')):
        run = make(tmp_path / name, 50.0, 51.0, 52.0, 53.0)
        for path in run.iterdir():
            os.utime(path, (1e9 - 100 * age, 1e9 - 100 * age))
    make(tmp_path / 'latest', 50.0)
    assert list(listed(capsys, tmp_path)) == ['latest', 'new', 'old', 'older']
    finished = listed(capsys, tmp_path, '--state', 'finished')
    assert list(finished) == ['new', 'old', 'older']
    assert list(listed(capsys, tmp_path / 'new')) == ['.']


def test_a_link_that_leads_nowhere_hides_no_run(tmp_path, capsys):
    """Nor does a file that a training replaces meanwhile, which is missed alike."""
    run = make(tmp_path / 'run', 50.0)
    (run / 'best').symlink_to(tmp_path / 'gone')
    assert list(listed(capsys, tmp_path)) == ['run']


def test_no_runs(tmp_path, capsys):
    assert runs.main([str(tmp_path)]) == 0
    assert 'no runs' in capsys.readouterr().out
    assert runs.main([str(tmp_path / 'none')]) == 2
    assert 'no such folder' in capsys.readouterr().err


def test_a_damaged_failure_is_still_one(tmp_path, capsys):
    run = make(tmp_path / 'run', 50.0)
    write_json(run / failure.FILE, {'other': 1})
    assert listed(capsys, tmp_path)['run']['state'] == 'failed'
