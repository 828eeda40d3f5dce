"""What a run was computed with: an entry for every start, which none of them overwrites."""

import json
import subprocess

import pytest

from engine import processor
from engine.runs import environment

CPUINFO = 'processor : 0\nmodel name\t: Some CPU @ 2.5GHz\nflags\t\t: fpu avx avx2 fma amx_bf16\n'


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    monkeypatch.setattr(environment, 'gpus', lambda: ('H100', 'H100'))


def test_every_start_has_its_entry(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['imagenet_tf.py', '--logdir', 'my run'])
    environment.record(tmp_path, 0)
    environment.record(tmp_path, 40)
    first, second = environment.read(tmp_path)
    assert (first.step, second.step) == (0, 40) and first.gpus == ('H100', 'H100')
    assert first.command.endswith("imagenet_tf.py --logdir 'my run'")
    assert set(first.packages) >= {'tensorflow', 'tensorpack', 'numpy'}
    assert first.cores >= 1 and first.processor and first.python.startswith('3.')


def test_a_run_of_an_earlier_version_has_none(tmp_path):
    assert environment.read(tmp_path) == ()


def test_a_damaged_record_stops_nothing(tmp_path, capsys):
    (tmp_path / environment.FILE).write_text('[{"step": ')
    environment.record(tmp_path, 3)
    assert [entry.step for entry in environment.read(tmp_path)] == [3]
    assert 'damaged' in capsys.readouterr().out
    whole = json.loads((tmp_path / environment.FILE).read_text())
    assert whole


def test_packages_that_are_not_there_have_no_version():
    found = environment.versions(('numpy', 'no-such-package-here'))
    assert list(found) == ['numpy']


def test_state_of_the_checkout(tmp_path):
    assert environment.checkout(tmp_path) == ('', False)
    git = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b.c']
    subprocess.run([*git, 'init', '-q'], check=True)
    (tmp_path / 'file').write_text('1')
    subprocess.run([*git, 'add', 'file'], check=True)
    subprocess.run([*git, 'commit', '-q', '-m', 'one'], check=True)
    commit, changed = environment.checkout(tmp_path)
    assert len(commit) == 40 and not changed
    (tmp_path / 'new').touch()
    assert environment.checkout(tmp_path) == (commit, False)
    (tmp_path / 'file').write_text('2')
    assert environment.checkout(tmp_path) == (commit, True)


def test_without_git(tmp_path, monkeypatch):
    (tmp_path / '.git').mkdir()
    monkeypatch.setenv('PATH', str(tmp_path))
    assert environment.checkout(tmp_path) == ('', False)


def test_processor(tmp_path):
    path = tmp_path / 'cpuinfo'
    path.write_text(CPUINFO)
    assert processor.name(path) == 'Some CPU @ 2.5GHz'
    assert processor.features(path) == ('avx', 'avx2', 'fma', 'amx_bf16')
    assert processor.features(tmp_path / 'none') == () and processor.name(tmp_path / 'none')
    assert processor.memory_bytes() > 2**28 and processor.cores() >= 1
