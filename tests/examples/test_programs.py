"""The short programs in examples/: each is run, with small networks."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from quant import specs
from quant.backend import tf
from tests.paths import ROOT
from tests.quant.towers import quantization, shipped, weigh

SMALL = shlex.split('--arch resnet8 --width 0.25 --steps_per_epoch 2 --epochs 1 --batch_size 8')
PROGRAMS = ('train_and_choose', 'own_data', 'own_quantizer', 'deploy', 'refine')


def started(folder, program, *words):
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


@pytest.fixture
def max_abs(monkeypatch):
    """Makes the quantizer of the example known to a test."""
    monkeypatch.syspath_prepend(str(ROOT / 'examples'))
    monkeypatch.setattr(specs, '_QUANTIZERS', dict(specs._QUANTIZERS))
    specs.register('max_abs', 'own_quantizer.MaxAbs')
    yield
    specs.parse.cache_clear()


def test_its_weights(max_abs, run):
    w = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype('float32')
    w[0, 0, 0] = [0, -0.0, 3.5, -3.5, 0.25]  # 0.25 lies between two levels: the even one
    q = quantization('max_abs(bits=4)', half='weight')
    values = tf.constant(w)
    y = weigh(q, values)
    gradient = tf.gradients(y, values)[0]
    y, gradient, book = run([y, gradient, q.codebooks['conv/weight_quant']()])
    step = np.float32(np.abs(w).max() / 7)
    np.testing.assert_allclose(y, np.round(w / step) * step, rtol=1e-6)
    np.testing.assert_array_equal(y[0, 0, 0], [0, 0, 3.5, -3.5, 0])
    np.testing.assert_array_equal(gradient, np.ones_like(w))
    np.testing.assert_allclose(shipped(book, w), y, rtol=1e-6)


def test_a_name_is_given_once(max_abs):
    specs.register('max_abs', 'own_quantizer.MaxAbs')
    with pytest.raises(ValueError, match="'max_abs' is the quantizer own_quantizer.MaxAbs"):
        specs.register('max_abs', 'other.MaxAbs')
    with pytest.raises(ValueError, match="'lq' is the quantizer quant"):
        specs.register('lq', 'own_quantizer.MaxAbs')
    assert 'max_abs' in specs.names()
    assert specs.parse('max_abs(bits=3)').bits == 3


@pytest.mark.slow
def test_a_quantizer_of_ones_own(tmp_path):
    pytest.importorskip('onnxruntime')
    status, output = started(tmp_path, 'own_quantizer', 'run', *SMALL, '--sizes', '16')
    assert status == 0, output
    assert 'W4A4 by max_abs(bits=4)' in output
    assert (tmp_path / 'run.onnx').exists()


@pytest.mark.slow
def test_train_choose_and_deploy(tmp_path):
    pytest.importorskip('onnxruntime')
    status, output = started(tmp_path, 'train_and_choose', 'run', *SMALL)
    assert status == 0, output
    assert [line.split(':')[0] for line in output.splitlines()[-3:]] == [
        'within 2M',
        'within 5M',
        'within 10M',
    ]
    image = np.load(ROOT / 'engine' / 'resources' / 'animals28.npz')['image'][0]
    Image.fromarray(image).save(tmp_path / 'bear.jpg')
    status, output = started(tmp_path, 'deploy', 'run', 'my net.onnx', 'bear.jpg')
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
    status, output = started(tmp_path, 'own_data', 'photos', 'run', *SMALL)
    assert status == 0, output
    assert ' of 12 are wrong' in output


def test_wrong_words_are_told(tmp_path):
    """A wrong number of them, and a file that is no part of the other."""
    status, said = started(tmp_path, 'refine', 'first.lqn')
    assert status == 2 and "refine.py: error: missing a required argument: 'whole'" in said
    assert 'python examples/refine.py first.lqn net.lqn bear.jpg' in said
    for name in ('first.lqn', 'net.lqn'):
        (tmp_path / name).write_text(name)
    status, said = started(tmp_path, 'refine', 'first.lqn', 'net.lqn', 'bear.jpg')
    assert status == 2 and 'refine.py: error: net.lqn: does not begin with first.lqn' in said
