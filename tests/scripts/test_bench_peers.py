"""scripts.bench peers: jobs, what is refused, processes that take turns, numbers of a row."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from engine.errors import UsageError
from scripts.bench import __main__ as bench
from scripts.bench import peers, turns
from tests.paths import ROOT

# A module that serves without any framework.
SERVED = """
import os

from scripts.bench import turns

def prepared():
    print('printed by a library')
    about = {'version': 'none', 'parameters': 3, 'process': os.getpid()}
    return about, lambda: sum(range(1000))

if __name__ == '__main__':
    turns.serve(prepared)
"""


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--rounds', '0'], '--rounds 0: must be at least 1'),
        (['--batch', '0'], '--batch 0: must be at least 1'),
        (['--jobs', '6'], '--jobs 6: there are 5 sizes'),
        (['--size', '100'], '--size 100: must be a multiple of 7'),
        (['--cores', '0'], '--cores 0: expected 1 to'),
        (['--python', '/no/such/python'], 'is no Python that runs'),
    ],
)
def test_usage(flags, said, capsys):
    assert bench.main(['peers', *flags]) == 2
    assert said in capsys.readouterr().err


def test_what_peers_run_needs_nothing_of_ours():
    """The environment of PyTorch has no other packages."""
    code = 'import scripts.bench.turns, scripts.bench.peer_job'
    command = [sys.executable, '-S', '-c', code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_python_without_the_package_is_told_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(peers, 'has', lambda python, package: package == 'keras')
    assert peers.available(['torch', 'torch-compile', 'keras'], None) == ['keras']
    said = capsys.readouterr().err
    assert said.count('pip install torch') == 1
    with pytest.raises(UsageError, match='--python mine has no package torch; make an environment'):
        peers.available(['torch'], 'mine')


def test_a_package_is_looked_for_where_it_is_to_run():
    assert peers.has(sys.executable, 'json')
    assert not peers.has(sys.executable, 'no_such_package')


def test_jobs_of_ours():
    assert peers.edges(224, 5) == (224, 192, 160, 128, 96)
    five = peers.Job(peers.edges(112, 5), 4, 'bf16').config()
    assert five.sizes == (112, 96, 80, 64, 48) and five.image_size == 112
    assert five.kd and five.bf16 and five.batch_size == 4 and five.qw == five.qa == 32
    one = peers.Job(peers.edges(224, 1), 8, 'f32').config()
    assert one.sizes == (224,) and not one.kd and not one.bf16


def test_processes_take_turns(tmp_path):
    """What a library prints is no answer, and a process that ends is no endless wait."""
    (tmp_path / 'served.py').write_text(SERVED)
    path = f'{turns.ROOT}{os.pathsep}{tmp_path}'
    process = turns.Process('served', [], environment={'PYTHONPATH': path})
    assert process.about['version'] == 'none' and process.about['first_step_s'] >= 0
    costs = turns.by_turns({'one': process}, 2)
    assert [len(taken) for taken in costs.values()] == [2]
    assert all(1 < taken.peak_mb < 1000 for taken in costs['one'])
    with pytest.raises(turns.Ended, match='no_such_module ended with status 1'):
        turns.Process('no_such_module', [])


def test_a_process_that_is_killed_between_two_steps_is_named(tmp_path):
    (tmp_path / 'served.py').write_text(SERVED)
    path = f'{turns.ROOT}{os.pathsep}{tmp_path}'
    process = turns.Process('served', [], environment={'PYTHONPATH': path})
    os.kill(process.about['process'], signal.SIGKILL)
    while pathlib.Path(f'/proc/{process.about["process"]}/cmdline').read_bytes():
        time.sleep(0.01)
    with pytest.raises(turns.Ended, match='served ended with status -9'):
        process.step()


def test_cores_are_given_back():
    before = os.sched_getaffinity(0)
    with peers.on_cores(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_ratios_are_taken_round_by_round():
    """One round in which the machine was ten times slower changes nothing."""
    ours = [turns.Step(1.0, 2.0, 50.0), turns.Step(10.0, 20.0, 100.0)]
    theirs = [turns.Step(3.0, 4.0, 50.0), turns.Step(30.0, 40.0, 150.0)]
    row = peers.compared(theirs, ours)
    assert row['x CPU'] == pytest.approx(3) and row['x time'] == pytest.approx(2)
    assert row['of the middle half'] == '3.000-3.000'
    assert row['MB'] == 150 and row['x MB'] == 1.5


def test_line_of_json(monkeypatch, capsys):
    def rows(job, names, python, rounds):
        values = dict.fromkeys(peers.HEADERS, 1.23456)
        return [{**values, 'who': name, 'version': 'v'} for name in ('ours', *names)]

    monkeypatch.setattr(peers, 'measured', rows)
    monkeypatch.setattr(peers, 'has', lambda python, package: True)
    assert bench.main(['peers', '--jobs', '1', '--dtypes', 'f32', '--rounds', '1']) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line['bench'] == 'peers' and line['batch'] == 8
    assert [row['who'] for row in line['rows']] == ['ours', 'torch', 'torch-compile', 'keras']
    assert line['rows'][0]['x CPU'] == 1.2346
