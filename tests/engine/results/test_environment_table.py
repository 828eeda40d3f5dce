"""The environment of a run in short: of one start, of several, of none, of a damaged record."""

import dataclasses
from pathlib import Path

import pytest

from engine.files import write_json
from engine.results import environment_table, page
from engine.runs import environment
from engine.runs.environment import Environment
from tests.engine.results.run_folders import plotted_run

FIRST = Environment(
    began='2026-01-02T03:04:05Z',
    step=0,
    command='python imagenet_tf.py --qw 2',
    suite='0.2.0',
    commit='0123456789abcdef',
    changed=True,
    python='3.11.7',
    packages={'tensorflow': '2.21.0', 'numpy': '2.4.6'},
    system='Linux',
    processor='Some CPU',
    features=('avx2', 'fma'),
    cores=1,
    memory=25_000_000_000,
    gpus=('H100', 'H100'),
)


def recorded(folder: Path, *starts: Environment) -> dict[str, str]:
    write_json(folder / environment.FILE, list(map(dataclasses.asdict, starts)))
    found = environment_table.table(folder)
    assert found is not None
    return dict(found.rows)


def test_one_start(tmp_path: Path) -> None:
    assert recorded(tmp_path, FIRST) == {
        'command': 'python imagenet_tf.py --qw 2',
        'began': '2026-01-02T03:04:05Z',
        'versions': 'suite 0.2.0, Python 3.11.7, tensorflow 2.21.0, numpy 2.4.6',
        'git': '01234567, with changed files',
        'machine': 'Some CPU, 1 core, 25 GB, Linux',
        'features': 'avx2 fma',
        'GPUs': 'H100, H100',
    }


def test_starts_that_differ_name_their_steps(tmp_path: Path) -> None:
    second = dataclasses.replace(FIRST, step=40, commit='', changed=False, gpus=())
    third = dataclasses.replace(second, step=60)
    rows = recorded(tmp_path, FIRST, second, third)
    assert rows['git'] == 'step 0: 01234567, with changed files; step 40: no checkout'
    assert rows['GPUs'] == 'step 0: H100, H100; step 40: none'
    assert rows['machine'] == 'Some CPU, 1 core, 25 GB, Linux'


def test_without_a_record(tmp_path: Path) -> None:
    assert environment_table.table(tmp_path) is None
    write_json(tmp_path / environment.FILE, [])
    assert environment_table.table(tmp_path) is None


def test_a_damaged_record_is_told_and_stays(tmp_path: Path) -> None:
    path = tmp_path / environment.FILE
    path.write_text('[{"step": ')
    found = environment_table.table(tmp_path)
    assert found is not None
    ((name, value),) = found.rows
    assert name == 'unknown' and 'damaged' in value and path.exists()


def test_a_report_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, 'accuracy_over', lambda curves, kind: '')
    run = plotted_run(tmp_path / 'run')
    recorded(run, FIRST)
    text = page.page([str(run)])
    assert 'python imagenet_tf.py --qw 2 ' in text and '01234567, with changed files' in text
