"""The lock of a run folder: one winner, dead owners, other machines, damaged locks."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import UsageError, WorkerError
from engine.runs import lock as locks
from engine.runs.lock import held
from tests.paths import ROOT

# Takes the lock of a folder, says so, and holds it until its input ends.
HOLDER = '\n'.join(
    [
        'import sys',
        'from pathlib import Path',
        'from engine.runs.lock import held',
        'if sys.argv[2:]:',
        '    sys.stdin.readline()',
        'with held(Path(sys.argv[1])):',
        '    print("held", flush=True)',
        '    sys.stdin.read()',
    ]
)


def start(folder: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-c', HOLDER, str(folder), *more],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``run``."""
    process = start(tmp_path / 'run')
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()
    process.wait()


def lock_of(folder: Path, *, number: int = 1, age: float = 0.0, **owner) -> Path:
    """A lock as a process of another machine leaves it."""
    folder.mkdir(exist_ok=True)
    path = folder / f'.lock-{number}'
    fields = {'host': 'far', 'pid': 7, 'since': 'noon', 'machine': 'another', 'began': '5'}
    path.write_text(json.dumps({**fields, **owner}))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_a_held_folder_is_refused_within_a_second_with_its_owner(holder, tmp_path):
    begun = time.monotonic()
    with pytest.raises(UsageError) as caught, held(tmp_path / 'run'):
        pass
    assert time.monotonic() - begun < 1
    message = str(caught.value)
    assert f'--logdir {tmp_path / "run"}: process {holder.pid} on {os.uname().nodename}' in message
    assert os.listdir(tmp_path / 'run') == ['.lock-1']


@pytest.mark.parametrize('reaped', [True, False])
def test_a_killed_owner_is_followed_at_once(reaped, holder, tmp_path, capsys):
    holder.send_signal(signal.SIGKILL)
    if reaped:
        holder.wait()
    else:  # a zombie still has a number
        time.sleep(0.2)
    begun = time.monotonic()
    with held(tmp_path / 'run'):
        assert time.monotonic() - begun < 1
        assert os.listdir(tmp_path / 'run') == ['.lock-2']
    assert f'process {holder.pid} on' in capsys.readouterr().out
    assert os.listdir(tmp_path / 'run') == []


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path):
    mine = locks._myself()
    lock_of(tmp_path, machine=mine.machine, pid=mine.pid, began='1')
    with held(tmp_path):
        pass
    for pid in (0, -1, 2**40):
        lock_of(tmp_path, machine=mine.machine, pid=pid, began='')
        with held(tmp_path):
            pass
    lock_of(tmp_path, machine=mine.machine, pid=mine.pid, began=mine.began)
    refused = pytest.raises(UsageError, match=f'process {mine.pid} on far since noon trains in it')
    with refused, held(tmp_path):
        pass


@pytest.mark.parametrize('text', ['', '{', '[1]', '{"pid": "x"}', '{"pid": true}', '\x00\xff'])
def test_an_owner_elsewhere_is_known_by_its_sign_of_life(text, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, 'BEAT', 0.05)
    path = lock_of(tmp_path, age=20)
    refused = pytest.raises(WorkerError, match=r'process 7 on far since noon .* 60 s after')
    with refused, held(tmp_path):
        pass
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(WorkerError, match='process 0 on'), held(tmp_path):
        pass
    for age in (100, -5000):  # or it wrote by a clock that has jumped
        path.write_bytes(text.encode('latin-1'))
        os.utime(path, (time.time() - age, time.time() - age))
        with held(tmp_path):
            assert not path.exists()
        assert os.listdir(tmp_path) == []


def test_a_lock_that_changes_while_it_is_watched_lives(tmp_path, monkeypatch):
    path = lock_of(tmp_path, age=4000)
    monkeypatch.setattr(locks.time, 'sleep', lambda _: os.utime(path, (9, 9)))
    with pytest.raises(WorkerError, match='process 7 on far'), held(tmp_path):
        pass


def test_it_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, 'BEAT', 0.02)
    with held(tmp_path):
        path = tmp_path / '.lock-1'
        os.utime(path, (9, 9))
        for _ in range(100):
            time.sleep(0.02)
            if path.stat().st_mtime > 9:
                break
        assert time.time() - path.stat().st_mtime < 5


@pytest.mark.parametrize('gone', [True, False])
def test_an_owner_that_was_taken_for_dead_writes_nothing_more(gone, tmp_path):
    with held(tmp_path) as lock:
        lock.check()
        (tmp_path / '.lock-1').unlink()
        lock_of(tmp_path, number=2 if gone else 1)
        with pytest.raises(WorkerError, match='process 7 on far since noon has taken it over'):
            lock.check()
    assert os.listdir(tmp_path) == ['.lock-2' if gone else '.lock-1']


def test_a_folder_that_was_made_goes_if_it_stays_empty(tmp_path):
    with held(tmp_path / 'a' / 'b'):
        pass
    assert os.listdir(tmp_path) == []
    with held(tmp_path / 'a' / 'b'):
        (tmp_path / 'a' / 'b' / 'config.json').touch()
    assert os.listdir(tmp_path / 'a' / 'b') == ['config.json']


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(locks.errno.EPERM, 'no links here')

    monkeypatch.setattr(locks.os, 'link', link)
    with held(tmp_path), pytest.raises(UsageError, match='trains in it'), held(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def race(folder: Path, starters: int) -> list[subprocess.Popen]:
    """Processes that try for the lock at the same moment; those that got it are still alive."""
    processes = [start(folder, 'wait') for _ in range(starters)]
    time.sleep(1.5)
    for process in processes:
        process.stdin.write('\n')
        process.stdin.flush()
    first = [process.stdout.readline() for process in processes]
    winners = [process for process, line in zip(processes, first) if line]
    for process in processes:
        if process not in winners:
            assert 'trains in it' in process.communicate()[1]
    return winners


@pytest.mark.slow
@pytest.mark.parametrize('dead', [False, True])
def test_of_several_at_the_same_moment_one_wins(dead, tmp_path):
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        if dead:
            lock_of(folder, number=3, machine=locks._machine(), pid=2**22 + 1)
        winners = race(folder, 4)
        assert len(winners) == 1
        winners[0].communicate()
        assert not folder.exists() or os.listdir(folder) == []


@pytest.mark.slow
def test_of_two_commands_at_the_same_moment_one_trains(tmp_path):
    """20 times in one folder, whose owner is killed each time."""
    line = [sys.executable, 'imagenet_tf.py', '--data', 'animals28', '--sizes', '16']
    line += ['--width', '.25', '--epochs', '1', '--steps-per-epoch', '9', '--logdir']
    for _ in range(20):
        two = []
        for _ in range(2):
            process = subprocess.Popen(
                [*line, str(tmp_path / 'run')], cwd=ROOT, stderr=subprocess.PIPE, text=True
            )
            two.append(process)
        limit = time.monotonic() + 60
        while time.monotonic() < limit and all(process.poll() is None for process in two):
            time.sleep(0.02)
        (winner,) = [process for process in two if process.poll() is None]
        two.remove(winner)
        assert two[0].returncode == 2
        assert f'process {winner.pid} on' in two[0].communicate()[1]
        assert winner.poll() is None
        winner.kill()
        winner.communicate()


def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(tmp_path, monkeypatch):
    def mkdir(path, **_):  # as in /proc
        raise FileNotFoundError(errno.ENOENT, 'No such file or directory')

    monkeypatch.setattr(Path, 'mkdir', mkdir)
    refused = pytest.raises(UsageError, match=r'cannot be written \(No such file or directory\)')
    with refused, held(tmp_path / 'run'):
        pass
