"""scripts.study: what its experiments train, in which order, and the table over seeds."""

import json

import pytest

from engine.config import cli
from scripts import study
from scripts.trainings import Trainer, finished_epochs


def trainer(folder, experiment):
    return Trainer(experiment, study.PRESETS[experiment].scored, folder, 2, {})


@pytest.mark.parametrize('experiment', study.experiments())
def test_commands_are_those_of_imagenet_tf(experiment, tmp_path):
    for job in study.jobs(experiment):
        first, *others = trainer(tmp_path, experiment).commands(job)
        args = cli.parse(first)
        assert (args.preset, args.logdir) == (experiment, str(tmp_path / job.name))
        assert args.load == (str(tmp_path / job.after) if job.after else None)
        for command in others:
            assert cli.parse(command).eval


def test_low_bits_are_those_of_the_preset(tmp_path):
    commands = [trainer(tmp_path, 'demo-dsnet').commands(job) for job in study.jobs('demo-dsnet')]
    bits = [(cli.parse(first).qw, cli.parse(first).qa) for first, *_ in commands]
    assert bits == [(None, None), (4, 4), (2, 4), (2, 2)]
    teachers = [cli.parse(first).teacher for first, *_ in commands]
    assert teachers == [None, *[f'{tmp_path}/float'] * 3]
    starts = [cli.parse(first).load for first, *_ in commands]
    assert starts == [None, f'{tmp_path}/float', f'{tmp_path}/float', f'{tmp_path}/w2a4']
    scored = [command[-1] for _, *evaluations in commands[:1] for command in evaluations]
    assert scored == [f'{tmp_path}/float', f'{tmp_path}/float-gate']


def test_a_job_waits_for_what_it_starts_from(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(Trainer, '_call', lambda self, arguments, name: called.append(name))
    assert trainer(tmp_path, 'demo').run(study.jobs('demo'))
    assert called.index('rs_kd') < called.index('rs_kd_w2a2')
    assert set(called) == {job.name for job in study.jobs('demo')}


def test_nothing_starts_after_a_failure(tmp_path, monkeypatch):
    called = []

    def fail(self, arguments, name):
        called.append(name)
        return 1

    monkeypatch.setattr(Trainer, '_call', fail)
    assert not trainer(tmp_path, 'demo-san').run(study.jobs('demo-san'))
    assert called == ['float']


def test_table_over_seeds(tmp_path):
    todo = [job for job in study.jobs('study') if job.row in ('RS + kd', 'individual 28')]
    for number, job in enumerate(todo):
        folder = tmp_path / job.name / 'eval'
        folder.mkdir(parents=True)
        for bn in ('s28', 's20') if job.foreign else ('s28',):
            record = {'point': 's28', 'bn': bn, 'top1': 90.0 + number, 'top5': 99.0}
            (folder / f's28@{bn}.json').write_text(json.dumps(record))
    table = study.seeds_table(todo, tmp_path).splitlines()
    rows = {
        cells[0]: cells[1:] for cells in ([c.strip() for c in r.split('|')[1:-1]] for r in table)
    }
    assert rows['top-1 at'] == ['28']
    assert rows['RS + kd'] == ['92.0 ±2.0']
    assert rows['individual 28'] == rows['individual 28, tested at'] == ['93.0 ±2.0']


@pytest.mark.parametrize(('text', 'epochs'), [('', 0), ('[]', 0), ('[{"epoch_num": 3}]', 3)])
def test_finished_epochs(text, epochs, tmp_path):
    (tmp_path / 'stats.json').write_text(text)
    assert finished_epochs(tmp_path) == epochs
