"""The doctor names what is wrong, also where TensorFlow is missing or ends the process."""

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine import chatter
from scripts import doctor
from scripts.doctor import Finding

LOOK = doctor.tensorflow
FOUND = 'print(\'@{"gpus": ["/gpu:0"], "four": 4.0}\')'


@pytest.fixture
def healthy(monkeypatch):
    """A machine on which nothing is wrong; TensorFlow is not loaded."""
    monkeypatch.setattr(doctor, 'tensorflow', lambda: (Finding('TensorFlow', 'is loaded'), []))
    monkeypatch.setattr(doctor, 'memory', lambda free: Finding('memory', 'enough'))
    monkeypatch.setattr(doctor, 'disk', lambda folder: Finding('disk', 'enough'))
    monkeypatch.setattr(doctor, 'cpu', lambda: Finding('processor', 'fast'))


def test_a_machine_on_which_nothing_is_wrong(healthy, capsys):
    assert doctor.main(['--quick']) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == 'nothing is wrong' and 'WRONG' not in said
    for subject in ('Python', 'packages', 'source', 'GPU', 'compiled quantizers'):
        assert f'ok     {subject}: ' in said
    assert 'training step' not in said


@pytest.mark.parametrize(
    'program, how, why',
    [
        ('raise ImportError("libstdc++.so.6: too old")', 'exit status 1', 'libstdc++.so.6: too'),
        ('import os; os.abort()', 'ended by SIGABRT', 'it says nothing'),
        ('import tensorflow_that_is_missing', 'exit status 1', 'ModuleNotFoundError'),
    ],
)
def test_tensorflow_that_cannot_be_loaded(program, how, why, healthy, monkeypatch, capsys):
    monkeypatch.setattr(doctor, 'tensorflow', lambda: LOOK(program))
    assert doctor.main(['--quick']) == 1
    said = capsys.readouterr().out
    assert how in said and why in said and 'pip install' in said
    assert said.splitlines()[-1] == 'wrong: TensorFlow'
    assert 'compiled quantizers' not in said


def test_tensorflow_that_is_loaded():
    finding, gpus = LOOK(FOUND)
    assert not finding.wrong and gpus == ['/gpu:0']


def test_missing_and_other_packages():
    def version(name):
        if name == 'tensorpack':
            raise importlib.metadata.PackageNotFoundError(name)
        return {'tensorflow': '2.3.1'}.get(name, '1.0')

    finding = doctor.packages(version)
    assert 'tensorpack is missing' in finding.wrong
    assert 'tensorflow is 2.3.1, tried was 2.21' in finding.wrong
    assert not doctor.packages(lambda name: doctor.NEEDED[name] or '1').wrong


def test_an_old_python():
    assert 'needs Python 3.10' in doctor.python_version((3, 9, 1)).wrong
    assert not doctor.python_version((3, 13, 0)).wrong


@pytest.mark.parametrize(
    'driver, visible, loaded, found, wrong',
    [
        (False, None, True, [], ''),
        (True, None, True, ['/gpu:0'], ''),
        (True, '', True, [], ''),
        (True, None, False, [], ''),
        (True, None, True, [], 'tensorflow[and-cuda]'),
    ],
)
def test_a_driver_without_a_gpu(driver, visible, loaded, found, wrong, monkeypatch):
    monkeypatch.setattr(chatter, 'has_driver', lambda: driver)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    said = doctor.gpu(found, loaded=loaded).wrong
    assert wrong in said and bool(said) == bool(wrong)


def test_little_room(tmp_path, monkeypatch):
    assert '--batch_size' in doctor.memory(10**8).wrong and not doctor.memory(10**11).wrong
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda _: SimpleNamespace(free=10**6))
    assert '--logdir on another disk' in doctor.disk(tmp_path).wrong
    (tmp_path / 'meminfo').write_text('MemTotal: 9 kB\nMemAvailable:   2000 kB\n')
    assert doctor.available_memory(tmp_path / 'meminfo') == 2_048_000
    assert doctor.available_memory(Path('/none')) > 0


def test_what_fails_is_a_finding():
    def look():
        raise ValueError('no\nfiles')

    finding = doctor.tried('training step', look)
    assert finding.line() == 'WRONG  training step: fails\n       ValueError: no'


def test_images_are_read(monkeypatch):
    monkeypatch.setattr(doctor, 'READING', 0.2)
    finding = doctor.reading()
    assert not finding.wrong and float(finding.text.split()[0]) > 0


@pytest.mark.slow
def test_a_step_is_taken():
    finding = doctor.step()
    assert 'ms (ResNet-8, W2A2' in finding.text and not finding.wrong
