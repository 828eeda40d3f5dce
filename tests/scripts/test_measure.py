"""scripts.measure: what was measured is kept with its commit, and not measured again."""

import json

import pytest

from engine.results import rendering, tables
from engine.runs import environment
from scripts import measure, measured, page_tables, study
from scripts.bench import everything


@pytest.fixture
def called(monkeypatch):
    """Experiments that were run, in place of hours."""
    calls = []

    def content(name, command, folder):
        calls.append((name, folder))
        return {'rows': [{'run': name, 'top1': 90.0}]}

    found = {
        'short': measure.Experiment('scripts.study demo', 1, content),
        'long': measure.Experiment('scripts.study study', 60, content),
    }
    monkeypatch.setattr(measure, 'experiments', lambda: found)
    return calls


def at(monkeypatch, commit, changed=False):
    monkeypatch.setattr(environment, 'checkout', lambda **_: (commit, changed))


def run(tmp_path, *words):
    return measure.main([*words, '--out', str(tmp_path), '--folder', str(tmp_path / 'runs')])


def test_measured_once_for_each_commit(called, tmp_path, monkeypatch, capsys):
    at(monkeypatch, 'a' * 40)
    assert run(tmp_path, 'short') == 0
    assert run(tmp_path) == 0
    assert called == [
        ('short', tmp_path / 'runs' / 'aaaaaaaaaaaa' / 'short'),
        ('long', tmp_path / 'runs' / 'aaaaaaaaaaaa' / 'long'),
    ]
    assert 'long, 1 of 1, about 1.0 hours left' in capsys.readouterr().err
    origin = measured.origin('short', tmp_path)
    assert origin.command == 'python -m scripts.study demo'
    assert origin.commit == 'a' * 40 and 'cores of' in origin.machine
    assert measured.rows('short', tmp_path) == [{'run': 'short', 'top1': 90.0}]
    at(monkeypatch, 'b' * 40)
    assert run(tmp_path, 'short') == 0
    assert len(called) == 3
    assert measured.origin('short', tmp_path).commit == 'b' * 40


@pytest.mark.parametrize(
    'words, commit, changed, part',
    [
        (['shrt'], 'a' * 40, False, "shrt: unknown; did you mean 'short'?"),
        ([], 'a' * 40, True, 'commit what is changed first'),
        ([], '', False, 'commit what is changed first'),
    ],
)
def test_wrong_input(words, commit, changed, part, called, tmp_path, monkeypatch, capsys):
    at(monkeypatch, commit, changed)
    assert run(tmp_path, *words) == 2
    assert part.split(';')[0] in capsys.readouterr().err
    assert not called


def test_the_list_says_when(called, tmp_path, monkeypatch, capsys):
    at(monkeypatch, 'c' * 40)
    run(tmp_path, 'short')
    capsys.readouterr()
    assert run(tmp_path, '--list') == 0
    short, long = capsys.readouterr().out.splitlines()
    assert 'ccccccc' in short and 'not measured' in long and '60 min' in long


def test_experiments_are_those_of_the_pages():
    known = measure.experiments()
    demos = [name for name, one in known.items() if one.content is measure.of_demo]
    assert demos == [demo.name for demo in page_tables.DEMOS]
    for demo in page_tables.DEMOS:
        rows = measured.rows(demo.name)
        assert demo.short in {row['run'] for row in rows}
        points = [(row['run'], row['qw'], row['qa'], row['point'], row['bn']) for row in rows]
        assert len(set(points)) == len(points)
    for name in measured.names():
        assert name in known or name in ('cascade', 'bench-peers', 'recompute')


def test_a_benchmark_has_its_figures(tmp_path, monkeypatch):
    ratio = {'median': 2.5, 'lower': 2.25, 'upper': 2.75}
    commands = []
    monkeypatch.setattr(
        everything, 'ran', lambda name, words: commands.append(words) or {'ratio': ratio}
    )
    command = measure.experiments()['bench-bits'].command
    found = measure.of_bench('bench-bits', command, tmp_path)
    assert commands == [['bits', '--steps', '12']]
    assert found['ratio'] == ratio
    assert list(found['figures'].values()) == [2.5, 2.25, 2.75]
    # What was written by hand has the names that the benchmark gives.
    assert set(measured.figures('bench-bits')) == set(found['figures'])


def test_seeds_become_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(study, 'main', lambda words: 0)
    job = study.Job('RS', 'rs_seed0', (), 1)
    monkeypatch.setattr(study, 'jobs', lambda name: [job])
    scores = {'RS': {'28': [90.0, 92.0], '12': [80.0]}}
    monkeypatch.setattr(study, 'seeds_scores', lambda jobs, folder: scores)
    rows = measure.of_study('study', 'scripts.study study', tmp_path)['rows']
    assert rows == [
        {'row': 'RS', 'size': '28', 'top1': 91.0, 'deviation': pytest.approx(2**0.5), 'seeds': 2},
        {'row': 'RS', 'size': '12', 'top1': 80.0, 'deviation': None, 'seeds': 1},
    ]
    measured.write(tmp_path / 'x.json', measured.Origin('c', 'a', 'm', 'd'), {'rows': rows})
    assert json.loads((tmp_path / 'x.json').read_text())['rows'] == rows


def test_rows_of_a_demo_are_its_points(tmp_path, monkeypatch):
    """Points that answer together are none of them; one that two stages score is there once."""
    monkeypatch.setattr(study, 'main', lambda words: 0)
    monkeypatch.setattr(tables, 'read_runs', lambda paths, device: paths)
    kept = ['s28-x1', 's28-x0']
    rows = []
    for point in [*kept, 'ensemble', 'ensemble-s28-x1', 's28-x0']:
        rows.append({**dict.fromkeys(measure.FIELDS), 'point': point, 'top1': len(rows)})
    monkeypatch.setattr(rendering, 'render', lambda *_: json.dumps({'rows': rows}))
    found = measure.of_demo('demo-msdnet', 'scripts.study demo-msdnet', tmp_path)['rows']
    assert [row['point'] for row in found] == kept
    assert [row['top1'] for row in found] == [0, 1]
    assert {row['run'] for row in found} == {'MSDNet'}
