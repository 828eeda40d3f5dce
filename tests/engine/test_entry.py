"""How programs end: status 130 or 143 at any moment, no traceback, no half file."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from engine import entry
from engine.errors import Terminated, told
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures('no_garbage')

PROGRAM = """
import sys, time
from pathlib import Path
from engine.entry import begin, interruptible
begin()
def wait(place):
    shown = False
    while True:
        try:
            if not shown:
                shown = True
                print(place, flush=True)
            time.sleep(30)
        except BaseException:
            if not place.startswith('stubborn'):
                raise
{body}
"""
IMPORT = (
    "sys.path.insert(0, '.'); globals()['wait'] = wait; import builtins; builtins.wait = wait\n"
)
WRITE = """
from engine.files import replacing
with interruptible():
    with replacing(Path('out.txt')) as temporary:
        temporary.write_text('half')
        {then}
"""


def ended(folder, body, number, times=1):
    """Status and output of a program that gets a signal where its body waits."""
    program = folder / 'imagenet_tf.py'
    program.write_text(PROGRAM.format(body=body))
    process = subprocess.Popen(
        [sys.executable, program.name],
        cwd=folder,
        env={'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What runs in the background of a shell inherits that it ignores SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdout.readline()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.1)
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


STATUS = [(signal.SIGINT, 130, 'interrupted\n'), (signal.SIGTERM, 143, 'terminated\n')]


@pytest.mark.parametrize('number, status, word', STATUS)
def test_while_a_module_is_imported(number, status, word, tmp_path):
    """Where exceptions would be swallowed, too: TensorFlow tries imports that may fail."""
    (tmp_path / 'slow.py').write_text("wait('stubborn import')\n")
    assert ended(tmp_path, IMPORT + 'import slow', number) == (status, word)


def test_a_late_import_leaves_no_half_file(tmp_path):
    (tmp_path / 'slow.py').write_text("wait('stubborn import')\n")
    body = IMPORT + WRITE.format(then='import slow')
    assert ended(tmp_path, body, signal.SIGTERM) == (143, 'terminated\n')
    assert {path.name for path in tmp_path.iterdir()} == {'imagenet_tf.py', 'slow.py'}


def test_a_second_signal_ends_what_is_stuck(tmp_path):
    body = WRITE.format(then="wait('stubborn')")
    assert ended(tmp_path, body, signal.SIGINT, times=2) == (130, 'interrupted\n')
    assert {path.name for path in tmp_path.iterdir()} == {'imagenet_tf.py'}


@pytest.mark.parametrize('name', ['choose', 'report', 'check_data'])
def test_scripts_end_by_a_signal(name, tmp_path):
    """Whatever they are doing: here they wait for what never comes."""
    code = (
        'import runpy, sys, time; sys.argv[0] = "-m"; import scripts; print(1, flush=True);'
        f'import scripts.{name} as s; time.sleep(30)'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process.stdout.readline()
    process.terminate()
    assert (process.communicate(timeout=20)[0], process.returncode) == ('terminated\n', 143)


@pytest.fixture
def heeded():
    """Neither signal is ignored, as in the background of a shell SIGINT is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back(heeded):
    before = [signal.getsignal(number) for number in entry.STATUS]
    with entry.interruptible(), pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    with entry.interruptible(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in entry.STATUS] == before
    entry.begin()  # pytest is none of our programs
    assert [signal.getsignal(number) for number in entry.STATUS] == before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with entry.interruptible():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_no_handlers():
    done = []

    def work():
        with entry.interruptible():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_signs_that_a_terminal_lacks_are_escaped():
    """A name of a file that is no text, too, which no terminal takes."""
    program = 'from engine.entry import quiet\nquiet()\nprint("x\\udcff\\u0444\\xe4")'
    environment = os.environ | {'PYTHONIOENCODING': 'ascii:strict'}
    command = [sys.executable, '-c', program]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert ended.stdout == b'x\\udcff\\u0444\\xe4\n'


def test_messages_are_short_and_can_be_shown():
    assert told(ValueError('--data x: unknown')) == '--data x: unknown'
    assert told('a\udcff') == 'a\\udcff'
    long = told(f'--data {100_000 * "x"}: no such folder')
    assert long.startswith('--data xxx') and long.endswith('xxx: no such folder')
    assert len(long) < 2100


@pytest.mark.parametrize(
    'features, said, found',
    [
        (('avx', 'avx2'), None, '1'),
        (('avx', 'avx2', 'avx512_vnni'), None, '1'),
        (('avx', 'avx2'), '0', '0'),
        (('avx',), None, None),
        (('asimd', 'bf16'), None, None),
    ],
)
def test_onednn_computes_where_there_is_avx2(features, said, found, monkeypatch):
    monkeypatch.setattr(entry.processor, 'features', lambda: features)
    monkeypatch.setenv(entry.ONEDNN, said or '')  # put back afterwards
    if not said:
        monkeypatch.delenv(entry.ONEDNN)
    entry.with_onednn()
    assert os.environ.get(entry.ONEDNN) == found
