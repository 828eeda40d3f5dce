"""scripts.study quantizers: its trainings, the rate that each method gets, and going on."""

import csv
import dataclasses
import functools
import io
import json

import numpy as np
import pytest

from engine.config import cli
from engine.config.resolve import resolve
from engine.results import formats, study_records
from engine.results.study_records import HOLDOUT, TEST, Study
from quant import pairs
from scripts import export, quantizer_study, study, study_tasks
from scripts.quantizer_study import FULL, QUICK, Form, Plan
from tests.paths import ROOT
from tests.scripts import instant

SMALL = Form(seeds=2, rates=(0.02, 0.005), steps=3, parent_epochs=1)


def measured(result):
    """Better for smaller rates."""
    return {'top1': {'s28': 100 - 100 * result.rate} if result.scored else {}}


@pytest.fixture
def workers(monkeypatch):
    return instant.installed(monkeypatch, measured)


def run(folder, *flags):
    line = ['quantizers', '--folder', str(folder), '--processes', '2', *flags]
    return study.main(line)


def all_tasks(form, folder):
    """Every task of a study whose rates are all as good."""
    alike = {'top1': {'s28': 50.0}}
    return instant.all_tasks(functools.partial(Plan, form, folder), lambda result: alike)


@pytest.mark.parametrize('form', [FULL, QUICK, SMALL])
def test_tasks_are_counted_and_ordered(form, tmp_path):
    tasks = all_tasks(form, tmp_path)
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names) == Plan(form, tmp_path, {}).total()
    for place, task in enumerate(tasks):
        assert set(task.needs) <= set(names[:place])


def test_commands_are_those_of_the_programs(tmp_path):
    """Those of what differs: a method's own flags are the same for every seed and rate."""
    seen = set()
    for task in all_tasks(SMALL, tmp_path):
        result = task.result
        kind = task.program, result.scored, result.method.label
        if kind in seen or (result.scored == HOLDOUT and result.weight != pairs.DEFAULT):
            continue
        seen.add(kind)
        if task.program == 'export':
            export.parse_args([task.run, *task.arguments, '--out', 'x.onnx'])
            continue
        args = cli.parse([*task.arguments, *(['-ec', task.run] if task.program == 'score' else [])])
        if task.program == 'train':
            config, _, _ = resolve({**cli.explicit(args), 'load': None})
            assert (config.qw, config.qa) == (result.bits, result.bits)
            assert (config.seed, config.lr) == (result.seed, result.rate)
            assert config.score_holdout == (result.scored == HOLDOUT)
            assert config.holdout > 0 and not config.private_basis


def test_rates_are_chosen_without_the_test_set(tmp_path):
    tasks = all_tasks(SMALL, tmp_path)
    for pair in quantizer_study.methods(SMALL):
        own = [task.result for task in tasks if task.result.method == pair]
        choice = [result for result in own if result.scored == HOLDOUT]
        assert [(one.seed, one.rate) for one in choice] == [(0, rate) for rate in SMALL.rates]
        # Both score the same: the smaller one is taken.
        tested = [(result.seed, result.rate) for result in own if result.scored == TEST]
        assert tested == [(0, 0.005), (1, 0.005)]


def test_a_rate_without_a_number_loses(tmp_path):
    pair = pairs.methods((2,))[0]
    plan = Plan(SMALL, tmp_path, {})
    found = {}
    for task in plan.tasks():
        result = task.result
        if result.method == pair and result.scored == HOLDOUT:
            values = {'top1': {'s28': 20.0}} if result.rate == 0.02 else {'failed': 'no number'}
            found[task.name] = dataclasses.replace(result, **values)
    assert Plan(SMALL, tmp_path, found).rate(pair) == 0.02
    failed = {name: dataclasses.replace(one, top1={}) for name, one in found.items()}
    assert Plan(SMALL, tmp_path, failed).rate(pair) is None
    assert plan.rate(pair) is None


def test_a_stopped_study_goes_on(tmp_path, workers, monkeypatch, capsys):
    monkeypatch.setattr(quantizer_study, 'BITS', (2,))
    quantizer_study.groups.cache_clear()
    flags = ('--seeds', '1', '--rates', '0.02', '0.01', '--steps', '7')
    workers.stop_at = 9
    assert run(tmp_path / 'study', *flags) == 130
    first = list(workers.names)
    workers.stop_at = None
    workers.names.clear()
    assert run(tmp_path / 'study', *flags) == 0
    assert not set(first) & set(workers.names)
    tasks = (tmp_path / 'study' / study_tasks.TASKS).glob('*.json')
    assert {path.stem for path in tasks} == {*first, *workers.names}
    text = capsys.readouterr().out
    assert '99.00' in text and 'table: ' in text
    assert study.main(['quantizers', '--table', str(tmp_path / 'study')]) == 0
    again = capsys.readouterr().out.strip()
    assert again and again in text
    assert run(tmp_path / 'study', '--quick') == 2
    assert 'holds a study of another form' in capsys.readouterr().err
    quantizer_study.groups.cache_clear()


def test_quick_says_what_it_is_not(tmp_path, workers, capsys):
    assert run(tmp_path / 'study', '--quick') == 0
    assert quantizer_study.QUICK_IS_NOT in capsys.readouterr().out
    assert not any(name.endswith(('-test', '-file')) for name in workers.names)


def test_the_documented_table_is_that_of_its_records(capsys):
    records = ROOT / 'docs' / 'measured' / 'quantizers.json'
    assert study.main(['quantizers', '--table', str(records), '--format', 'markdown']) == 0
    table = capsys.readouterr().out.strip()
    assert table in (ROOT / 'docs' / 'quantizers_measured.md').read_text()


def test_formats(tmp_path, capsys):
    records = ROOT / 'docs' / 'measured' / 'quantizers.json'
    found = {}
    for style in formats.FORMATS:
        assert study.main(['quantizers', '--table', str(records), '--format', style]) == 0
        found[style] = capsys.readouterr().out
    assert max(map(len, found['text'].splitlines())) <= formats.WIDTH
    rows = list(csv.DictReader(io.StringIO(found['csv'])))
    same = json.loads(found['json'])['methods']
    assert [row['weights'] for row in rows] == [row['weights'] for row in same]
    for row, one in zip(rows, same):
        sizes = [one['top1_s28'], one['top1_s20'], one['top1_s12']]
        assert one['top1'] == pytest.approx(np.mean(sizes)) == pytest.approx(float(row['top1']))
    assert found['latex'].count(r'\\') == len(rows) + 1


@pytest.mark.parametrize('style', ['text', 'json', 'csv'])
def test_data_are_alone_on_the_standard_output(style, tmp_path, capsys):
    study_records.write(tmp_path, Study({'seeds': 1, 'rates': [0.1]}, []))
    assert study.main(['quantizers', '--table', str(tmp_path), '--format', style]) == 0
    printed = capsys.readouterr()
    note = printed.out if style == 'text' else printed.err
    assert 'nothing is scored yet' in note and quantizer_study.QUICK_IS_NOT in note
    assert style == 'text' or 'scored' not in printed.out


@pytest.mark.parametrize(
    ('flags', 'text'),
    [
        (['demo', '--quick'], '--quick: only `quantizers` and `bits` have it'),
        (['demo', '--format', 'csv'], '--format csv: only `quantizers` and `bits` have it'),
        (['study', '--rates', '0.1'], '--rates: only `quantizers` has it'),
        (['bits', '--rates', '0.1'], '--rates: only `quantizers` has it'),
        (['quantizers', '--rates', '0'], '--rates 0.0: must be greater than 0'),
        (['quantizers', '--seeds', '0'], '--seeds 0: must be at least 1'),
        (['quantizers', '--bf16'], '--bf16: `quantizers` trains in float32'),
    ],
)
def test_refused_flags(flags, text, capsys):
    with pytest.raises(SystemExit) as stopped:
        study.main(flags)
    assert stopped.value.code == 2
    assert text in capsys.readouterr().err


def test_no_records(tmp_path, capsys):
    assert study.main(['quantizers', '--table', str(tmp_path / 'none')]) == 2
    assert 'no such file; give the folder of a study' in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_study(tmp_path, monkeypatch, capsys):
    """Real trainings, scores and a file, by processes; a lost record is made again alone."""
    pair = pairs.methods((2,))[0]
    monkeypatch.setattr(quantizer_study, 'groups', lambda form: [[pair]])
    form = Form(seeds=1, rates=(0.01, 0.02), steps=2, parent_epochs=1)
    monkeypatch.setattr(quantizer_study, 'KIND', quantizer_study.KIND._replace(full=form))
    folder = tmp_path / 'study'
    assert run(folder) == 0
    records = study_records.read(folder).results
    kinds = sorted((one.bits, one.scored) for one in records)
    assert kinds == [(2, ''), (2, HOLDOUT), (2, HOLDOUT), (2, TEST), (32, TEST)]
    for one in records:
        assert one.cpu_seconds > 0 and not one.failed
        if one.scored:
            assert list(one.top1) == ['s28', 's20', 's12'] and one.weight_bytes > 0
        else:
            assert (
                one.file_bytes == (folder / f'{one.task.removesuffix("-file")}.onnx').stat().st_size
            )
    text = (folder / 'table.md').read_text()
    (lost,) = [one for one in records if one.scored == TEST and one.bits == 2]
    (folder / study_tasks.TASKS / f'{lost.task}.json').unlink()
    capsys.readouterr()
    assert run(folder) == 0
    (again,) = [one for one in study_records.read(folder).results if one.task == lost.task]
    assert again.top1 == lost.top1
    assert (folder / 'table.md').read_text() == text
    assert (folder / 'quantizers.svg').exists()
