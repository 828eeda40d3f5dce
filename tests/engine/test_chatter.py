"""What libraries say while they are loaded: their errors reach the terminal, the rest does not."""

import os
import subprocess
import sys

import pytest

from engine import chatter
from tests.paths import ROOT

LOADED = b"""WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795771414.318223   22995 port.cc:153] oneDNN custom operations are on.
W0000 00:00:1795771414.318223   22995 x.cc:1] computation placer already registered
E0000 00:00:1795771414.318223   22995 x.cc:1] Unable to register cuFFT factory
To enable the following instructions: AVX2 FMA, rebuild TensorFlow
E0000 00:00:1795771414.318223   22995 x.cc:1] libcudnn.so.9 is too old
disk full
"""
KEPT = [b'E0000 00:00:1795771414.318223   22995 x.cc:1] libcudnn.so.9 is too old', b'disk full']

PROGRAM = """
import os, sys
from engine.entry import quiet
quiet(sys.argv[1:])
os.write(2, b'before\\n')
import tensorflow
os.write(2, b'after\\n')
print(os.environ.get('TF_CPP_MIN_LOG_LEVEL'))
"""


def loading(folder, code: str, *argv: str) -> subprocess.CompletedProcess:
    """A program that loads something of the name of TensorFlow that runs ``code``."""
    (folder / 'tensorflow.py').write_text(code)
    environment = {'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}', 'PYTHONDONTWRITEBYTECODE': '1'}
    command = [sys.executable, '-c', PROGRAM, *argv]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=60)


@pytest.fixture
def supported(monkeypatch):
    if not chatter.runs_tensorflow():
        pytest.skip('TensorFlow does not run on this processor, which is said at once')


def test_errors_are_kept_and_chatter_is_not(tmp_path, supported):
    done = loading(tmp_path, f'import os\nos.write(2, {LOADED!r})')
    assert done.stderr.splitlines() == [b'before', *KEPT, b'after']
    assert done.stdout.strip() in (b'2', b'3')


@pytest.mark.parametrize('flag', ['-v', '--verbose'])
def test_everything_is_shown_on_request(flag, tmp_path):
    done = loading(tmp_path, f'import os\nos.write(2, {LOADED!r})', flag)
    assert done.stderr == b'before\n' + LOADED + b'after\n' and done.stdout == b'None\n'


HOMELESS = """
import sys
from engine.entry import quiet
quiet(sys.argv[1:])
import matplotlib
matplotlib.get_cachedir()
"""


@pytest.mark.parametrize('flags, told', [((), False), (('-v',), True)])
def test_a_home_that_cannot_be_written(flags, told):
    """Pictures need none: matplotlib's advice about its caches is shown on request."""
    pytest.importorskip('matplotlib')
    environment = {'HOME': '/dev/null', 'PATH': os.environ['PATH'], 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', HOMELESS, *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ('MPLCONFIGDIR' in done.stderr) == told
    assert told or not done.stderr


def test_an_exception_comes_through(tmp_path):
    done = loading(tmp_path, 'raise ImportError("libcudart is missing")')
    assert done.returncode == 1 and b'ImportError: libcudart is missing' in done.stderr


def test_how_it_ended_is_said_where_the_terminal_is(tmp_path):
    code = 'import signal\nfrom engine.entry import leave\nleave(signal.SIGTERM)'
    done = loading(tmp_path, code)
    assert (done.returncode, done.stderr) == (143, b'before\nterminated\n')


@pytest.mark.parametrize(
    'driver, visible, level',
    [(True, None, '2'), (True, '0', '2'), (True, '', '3'), (True, '-1', '3'), (False, None, '3')],
)
def test_errors_of_cuda_are_shown_where_there_could_be_a_gpu(driver, visible, level, monkeypatch):
    monkeypatch.setattr(chatter, 'has_driver', lambda: driver)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    assert chatter.level() == level


@pytest.mark.parametrize('flags, runs', [('fpu avx avx2', True), ('fpu sse2', False)])
def test_processors_that_tensorflow_does_not_run_on(flags, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(chatter.platform, 'machine', lambda: 'x86_64')
    (tmp_path / 'cpuinfo').write_text(f'flags : {flags} \n')
    assert chatter.runs_tensorflow(tmp_path / 'cpuinfo') is runs
    monkeypatch.setattr(chatter.platform, 'machine', lambda: 'aarch64')
    assert chatter.runs_tensorflow(tmp_path / 'cpuinfo')
