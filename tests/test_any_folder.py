"""Every command in folders of any name, and stopped at any moment: slow proofs."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine import Predictor
from scripts import (
    accuracy_table,
    calibrate,
    choose,
    export,
    plot,
    profile,
    report,
)
from tests.paths import ROOT

TINY = shlex.split(
    '--data animals28 --arch resnet8 --mode preact --sizes 12 --batch-size 8 --steps-per-epoch 2 '
    '--epochs 1 --threads 0'
)
NAMES = ['plain', '[1]*?\\\'" \n é中', '[!a]-$x_{$ {a,b} %s;&|<>(#~']


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_every_command_works_in_a_folder_of_any_name(name, tmp_path, monkeypatch, capsys):
    home = tmp_path / name
    home.mkdir()
    monkeypatch.chdir(home)
    run, other = str(home / f'run{name}'), f'other{name}'

    def did(main, *arguments, status=0):
        found = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert found == status, shown.err
        return shown.out

    did(imagenet_tf.main, *TINY, '--logdir', run)
    assert 'is complete' in did(imagenet_tf.main, *TINY, '--logdir', run)
    did(imagenet_tf.main, *TINY, '--lr', 0.001, '--logdir', run, status=2)
    did(imagenet_tf.main, *TINY, '--logdir', other, '--load', run)
    did(imagenet_tf.main, '--eval', '-ec', run, '--threads', 0)
    did(imagenet_tf.main, '--eval', '-ec', f'{run}/model-2', '--threads', 0, '--logdir', 'e' + name)
    did(calibrate.main, run, '--sizes', 20, '--images', 32, '--threads', 0)
    did(imagenet_tf.main, '--eval', '-ec', run, '-es', 20, '--threads', 0)
    did(export.main, run, '--point', 's12', '--out', f'export{name}')
    assert (home / f'export{name}' / 'saved_model.pb').exists()
    did(report.main, run, '-o', f'{name}.html')
    for kind in ('png', 'svg'):
        did(plot.main, run, other, '-o', f'{name}.{kind}')
    did(plot.main, run, '--curves', '-o', f'curves{name}.png')
    did(accuracy_table.main, run, '--format', 'csv', '--output', f'{name}.csv')
    did(profile.main, run, '--rounds', 1, '--batch', 2)
    Predictor(run).predict(np.zeros((2, 28, 28, 3), np.uint8))
    shown = did(choose.main, run, '--min-top1', 0)
    command = shown[shown.index('imagenet_tf.py') :].strip()
    did(imagenet_tf.main, *shlex.split(command)[1:], '--threads', 0)
    assert [path for path in home.rglob('.*') if path.is_file()] == []


COMMANDS = {
    'train': ['imagenet_tf.py', *TINY, '--logdir', 'run'],
    'evaluate': ['imagenet_tf.py', '--eval', '-ec', 'done', '--threads', '0'],
    'calibrate': ['-m', 'scripts.calibrate', 'done', '--sizes', '20', '--images', '512'],
    'export': ['-m', 'scripts.export', 'done', '--point', 's12', '--out', 'exported'],
    'profile': ['-m', 'scripts.profile', 'done', '--rounds', '3'],
    'report': ['-m', 'scripts.report', 'done', '-o', 'report.html'],
    'plot': ['-m', 'scripts.plot', 'done', '-o', 'plot.png'],
    'summary': ['-m', 'scripts.summary', '--preset', 'demo'],
}


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    """A folder with a finished run."""
    home = tmp_path_factory.mktemp('home')
    assert imagenet_tf.main([*TINY, '--logdir', str(home / 'done')]) == 0
    return home


@pytest.mark.slow
@pytest.mark.parametrize('name', COMMANDS)
def test_a_signal_at_any_moment(name, done):
    """At six moments each, from the first imports on to the end."""
    arguments = list(COMMANDS[name])
    if arguments[0] == 'imagenet_tf.py':
        arguments[0] = str(ROOT / 'imagenet_tf.py')
    began = time.monotonic()
    assert stopped(arguments, done, signal.SIGTERM, 300)[0] == 0
    whole = time.monotonic() - began
    clear(done)
    found: Counter[int] = Counter()
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        for share in np.linspace(0, 1, 6):
            # Before the first of it, Python's own start-up ends with a traceback.
            code, text = stopped(arguments, done, number, 0.5 + share * (whole - 0.5))
            assert code in (0, status), text
            assert 'Traceback' not in text and 'Exception ignored' not in text
            found[code] += 1
            for folder in (done, done / 'done', done / 'done' / 'eval'):
                assert [path for path in folder.glob('.*') if 'lock' not in path.name] == []
            clear(done)
    print(f'{name}: {dict(found)}')


def stopped(arguments, home, number, seconds):
    """Status and output of a command that gets a signal after so many seconds."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=home,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
    return process.returncode, text


def clear(home: Path) -> None:
    """Removes what a command has made, the finished run aside."""
    for path in home.iterdir():
        if path.name != 'done':
            subprocess.run(['rm', '-r', str(path)], check=True)


@pytest.mark.slow
def test_what_is_read_only_or_full_is_said_before_the_work(done, tmp_path):
    """With file systems that are read-only and full, as far as they may be mounted here."""
    read_only, full, here = tmp_path / 'read-only', tmp_path / 'full', tmp_path / 'here'
    for folder in (read_only, full, here):
        folder.mkdir()
    options = ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', str(full)]
    if subprocess.run(['mount', *options], capture_output=True).returncode:
        pytest.skip('needs the right to mount a file system')
    try:
        subprocess.run(['mount', '--bind', str(done / 'done'), str(read_only)], check=True)
        subprocess.run(['mount', '-o', 'remount,bind,ro', str(read_only)], check=True)
        (full / 'fill').write_bytes(bytes(16 << 10))
        evaluate = [str(ROOT / 'imagenet_tf.py'), '--eval', '-ec', str(read_only), '--threads', '0']
        code, text = stopped(evaluate, here, signal.SIGTERM, 300)
        assert code == 0 and 'Records go to train_log' in text
        (folder,) = (here / 'train_log').iterdir()
        assert json.loads((folder / 'eval' / 's12.json').read_text())['images'] == 2000
        code, text = stopped(
            ['-m', 'scripts.profile', str(read_only), '--rounds', '1'], here, signal.SIGTERM, 300
        )
        assert code == 0 and list(here.glob('read-only-profile-*.json'))
        for target in (read_only / 'x.png', full / 'x.png'):
            for arguments in (
                [*evaluate, '--logdir', str(target)],
                ['-m', 'scripts.export', str(read_only), '--point', 's12', '--out', str(target)],
                ['-m', 'scripts.report', str(read_only), '-o', str(target)],
                ['-m', 'scripts.plot', str(read_only), '-o', str(target)],
                [str(ROOT / 'imagenet_tf.py'), *TINY, '--logdir', str(target)],
            ):
                code, text = stopped(arguments, here, signal.SIGTERM, 300)
                assert code == 2 and 'error: ' in text and 'Traceback' not in text, text
        assert [path.name for path in full.iterdir()] == ['fill']
    finally:
        for folder in (read_only, full):
            subprocess.run(['umount', str(folder)], capture_output=True)
