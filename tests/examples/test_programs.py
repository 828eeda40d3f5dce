"""The short programs in examples/: each is run, with small networks."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.paths import ROOT

SMALL = shlex.split('--arch resnet8 --width 0.25 --steps_per_epoch 2 --epochs 1 --batch_size 8')
PROGRAMS = ('train_and_choose', 'own_data', 'own_quantizer', 'deploy')


def run(folder, program, *words):
    """Exit status and output of a program."""
    done = subprocess.run(
        [sys.executable, ROOT / 'examples' / f'{program}.py', *words],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize('program', PROGRAMS)
def test_the_page_shows_the_command(program):
    command = f'python examples/{program}.py '
    assert command in (ROOT / 'examples' / 'README.md').read_text()
    assert command in (ROOT / 'examples' / f'{program}.py').read_text()


def test_a_quantizer_of_ones_own(tmp_path):
    pytest.importorskip('onnxruntime')
    status, output = run(tmp_path, 'own_quantizer', 'run', *SMALL, '--sizes', '16')
    assert status == 0, output
    assert 'W4A4 by max_abs(bits=4)' in output
    assert (tmp_path / 'run.onnx').exists()


@pytest.mark.slow
def test_train_choose_and_deploy(tmp_path):
    pytest.importorskip('onnxruntime')
    status, output = run(tmp_path, 'train_and_choose', 'run', *SMALL)
    assert status == 0, output
    assert [line.split(':')[0] for line in output.splitlines()[-3:]] == [
        'within 2M',
        'within 5M',
        'within 10M',
    ]
    image = np.load(ROOT / 'engine' / 'resources' / 'animals28.npz')['image'][0]
    Image.fromarray(image).save(tmp_path / 'bear.jpg')
    status, output = run(tmp_path, 'deploy', 'run', 'net.onnx', 'bear.jpg')
    assert status == 0, output
    for point in ('s28', 's24', 's20', 's16', 's12'):
        assert f'Python: {point}: ' in output


@pytest.mark.slow
def test_own_data(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (('train', 16), ('val', 6)):
        for label, name in enumerate(('cat', 'dog')):
            for number in range(count):
                path = tmp_path / 'photos' / part / name / f'{number}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(60, size=(36, 40, 3)) + 90 * (label == np.arange(3))
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    status, output = run(tmp_path, 'own_data', 'photos', 'run', *SMALL)
    assert status == 0, output
    assert ' of 12 are wrong' in output
