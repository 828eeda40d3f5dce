"""scripts.export: files of bit planes, their parts, and other files that are made of them."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from engine.deployment import (
    integer_program,
    native_library,
    native_reader,
    native_runtimes,
    snapping,
)
from engine.deployment.predictor import Predictor
from engine.deployment.runtimes import OF_PLANES
from engine.errors import UsageError
from engine.importers import pytorch
from scripts import export, predict, profile
from tests.conftest import make_shallow
from tests.engine.deployment.test_program import made
from tests.paths import ROOT

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(256, size=(3, 16, 16, 3), dtype=np.uint8)
POINTS = ['s16-b4', 's16-b2']


@pytest.fixture(scope='module', autouse=True)
def library(compiled_library):
    """The library is there where it can be compiled, as ``make runtime`` leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        if compiled_library is not None:
            patch.setattr(native_library, 'path', lambda: compiled_library)
        yield


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A snapped run of one size at two precisions, whose codes are nested."""
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        source = snapping.snapped(made('rsnet-sizes-b4b2', sizes=(16,), kd=False)).source
        folder = tmp_path_factory.mktemp('runs') / 'run'
        pytorch.write(pytorch.Imported(source.config, source.values, []), folder)
        yield folder


@pytest.fixture(scope='module')
def whole(run):
    """The file of all its points."""
    path = run.parent / 'net.lqn'
    assert export.main([str(run), '--out', str(path), '--verify', '4']) == 0
    return path


def exported(*flags):
    assert export.main([str(flag) for flag in flags]) == 0


def test_a_file_holds_all_points_and_says_what_it_was_checked_with(run, whole, capsys):
    file = native_reader.read(whole)
    assert file.points == ['s16-b4', 's16-b2']
    verified = json.loads(file.texts['verified'])
    names = [name for name in OF_PLANES[::-1] if native_runtimes.is_there(name)]
    assert [one['runtime'].split()[0] for one in verified] == names
    for one in verified:
        assert one['point'].split() == file.points and (one['images'], one['differing']) == (4, 0)
    exported('--show', whole)
    said = capsys.readouterr().out
    assert 'planes for bits' in said and str(file.sections[0].end) in said
    assert export.main([str(run), '--out', str(whole)]) == 2  # exists


@pytest.mark.parametrize('backend', OF_PLANES)
def test_the_first_part_is_the_network_of_fewer_bits(backend, whole, tmp_path, capsys):
    """Its rest, as it is, completes it."""
    if not native_runtimes.is_there(backend):
        pytest.skip('the library was not compiled')
    first = tmp_path / 'first.lqn'
    exported(whole, '--bits-first', '2', '--out', first)
    content = whole.read_bytes()
    assert content.startswith(first.read_bytes()) and len(content) > len(first.read_bytes())
    exported('--show', first)
    planes = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['2', 's16-b2', str(len(first.read_bytes())), 'yes'] in planes
    assert ['4', 's16-b4', str(len(content)), 'no'] in planes

    expected = {}
    with Predictor(whole, backend=backend) as predictor:
        for point in predictor.points:
            expected[point] = predictor.predict(IMAGES, point=point).scores
    with Predictor(first, backend=backend) as predictor:
        assert predictor.points == ['s16-b2']
        assert predictor.predict(IMAGES).points == ['s16-b2'] * 3
        with pytest.raises(UsageError, match="point 's16-b4': .*first.lqn has s16-b2"):
            predictor.predict(IMAGES, point='s16-b4')
        rest = content[first.stat().st_size :]
        assert predictor.append(rest[:100]) == []
        np.testing.assert_array_equal(predictor.predict(IMAGES).scores, expected['s16-b2'])
        assert predictor.append(rest[100:]) == ['s16-b4']
        assert predictor.points == list(expected)
        for point, scores in expected.items():
            np.testing.assert_array_equal(predictor.predict(IMAGES, point=point).scores, scores)
        with pytest.raises(UsageError, match='bytes, of'):
            predictor.append(b'more')
    with first.open('ab') as stream:
        stream.write(rest)
    assert first.read_bytes() == content


@pytest.mark.slow
def test_the_first_part_is_the_same_where_it_is_made_of_the_run(run, whole, tmp_path):
    first, again = tmp_path / 'first.lqn', tmp_path / 'again.lqn'
    exported(whole, '--bits-first', '2', '--out', first)
    exported(run, '--bits-first', '2', '--verify', '4', '--out', again)
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize('point', ['s16-b2', 's16-b4'])
def test_a_file_of_others_is_made_of_a_point(point, whole, tmp_path, capsys):
    small, part = tmp_path / 'small.onnx', tmp_path / 'part.lqn'
    exported(whole, '--point', point, '--out', small)
    said = capsys.readouterr().out
    assert 'images of noise' in said and 'onnxruntime' in said and f'{point} of {whole}' in said
    exported(whole, '--point', point, '--out', part)
    assert part.stat().st_size < whole.stat().st_size
    with Predictor(whole, point=point) as predictor:
        expected = predictor.predict(IMAGES)
    for path in (small, part):
        with Predictor(path) as predictor:
            assert predictor.points == [point]
            found = predictor.predict(IMAGES)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--bits-first', '3', '--out', 'a.lqn'], '--bits-first 3: .*net.lqn has 2, 4'),
        (['--bits-first', '2', '--out', 'a.onnx'], '--out NAME.lqn can be a part'),
        (['--point', 's9-b2', '--out', 'a.onnx'], "point 's9-b2': .* has s16-b4 s16-b2"),
        (['--snap', '--out', 'a.onnx'], '--snap: is for runs'),
        (['--epoch', '3', '--out', 'a.onnx'], '--epoch: is for runs'),
        (['--out', 'folder'], '--form savedmodel: is made of a run; .* packed, int8, float, nati'),
    ],
)
def test_what_a_file_cannot_become(flags, said, whole, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export.main([str(whole), *flags]) == 2
    message = capsys.readouterr().err
    assert re.search(said, message), message
    assert list(tmp_path.iterdir()) == []


def test_parts_that_are_not_there(run, whole, tmp_path, capsys):
    part = tmp_path / 'part.lqn'
    exported(whole, '--point', 's16-b2', '--out', part)
    assert export.main([str(part), '--bits-first', '4', '--out', str(tmp_path / 'b.lqn')]) == 2
    assert 'part.lqn has 2' in capsys.readouterr().err
    out = tmp_path / 'c.onnx'
    assert export.main([str(run), '--bits-first', '2', '--out', str(out), '--verify', '4']) == 2
    assert 'only .lqn files come in parts' in capsys.readouterr().err and not out.exists()


def test_cut_and_damaged_files_are_refused(whole, tmp_path):
    content = whole.read_bytes()
    path = tmp_path / 'net.lqn'
    end = native_reader.read(whole).sections[0].end
    path.write_bytes(content[: end + 5])
    with pytest.raises(
        UsageError, match=rf'net.lqn: ends after {end + 5} bytes, 5 of .* for 4 bits'
    ):
        Predictor(path)
    path.write_bytes(content[: end - 1])
    with pytest.raises(UsageError, match=f'ends after {end - 1} bytes.*can end after {end}, '):
        Predictor(path)
    path.write_bytes(content[:-9] + b'x' + content[-8:])
    with pytest.raises(UsageError, match=r'net.lqn: damaged \(section 2 has another checksum\)'):
        Predictor(path)


# Answers of a file in a new process, and what was loaded for it.
ALONE = """
import json, sys
import numpy as np
from engine import Predictor
with Predictor(sys.argv[1]) as predictor:
    labels = predictor.predict(np.load(sys.argv[2]), point='s16-b2').labels.tolist()
heavy = ['tensorflow', 'onnx', 'onnxruntime', 'openvino', 'tensorpack', 'engine.config']
print(json.dumps([labels, [name for name in heavy if name in sys.modules]]))
"""


def test_a_predictor_of_planes_needs_numpy_and_little_else(whole, tmp_path):
    np.save(tmp_path / 'images.npy', IMAGES)
    command = [sys.executable, '-c', ALONE, str(whole), str(tmp_path / 'images.npy')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    labels, heavy = json.loads(result.stdout)
    assert heavy == []
    with Predictor(whole) as predictor:
        assert labels == predictor.predict(IMAGES, point='s16-b2').labels.tolist()


@pytest.mark.parametrize('kernels', ['portable', ''])
def test_both_runtimes_answer_alike(kernels, whole, monkeypatch):
    """In whole numbers, with plain kernels and with the best ones of this machine."""
    if not native_runtimes.is_there('native'):
        pytest.skip('the library was not compiled')
    assert integer_program.is_integer(native_reader.read(whole).program())
    monkeypatch.setenv('LQN_KERNELS', kernels)
    for point in ('s16-b4', 's16-b2'):
        found = []
        for backend in OF_PLANES:
            with Predictor(whole, backend=backend, threads=1) as predictor:
                found.append(predictor.predict(IMAGES, point=point))
        np.testing.assert_array_equal(found[0].labels, found[1].labels)
        np.testing.assert_allclose(found[0].scores, found[1].scores, rtol=1e-5)


def test_predictions_by_a_file(whole, tmp_path, capsys):
    import cv2

    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), IMAGES[0])
    assert predict.main([str(whole), str(path), '--point', 's16-b4']) == 0
    assert 's16-b4' in capsys.readouterr().out
    assert predict.main([str(whole), str(path), '--backend', 'onnxruntime']) == 2
    assert "backend 'onnxruntime': it runs other files" in capsys.readouterr().err


def test_the_example_refines_its_answers(whole, tmp_path, capsys):
    first, image = tmp_path / 'first.lqn', tmp_path / 'image.png'
    exported(whole, '--bits-first', '2', '--out', first)
    Image.fromarray(IMAGES[0]).save(image)
    capsys.readouterr()
    refine = runpy.run_path(str(ROOT / 'examples' / 'refine.py'))['main']
    assert refine(str(first), str(whole), str(image)) == 0
    points = [line.partition(':')[0] for line in capsys.readouterr().out.splitlines()]
    rest = whole.stat().st_size - first.stat().st_size
    assert points == ['s16-b2', f'{rest} bytes more', 's16-b4', 's16-b2']


@pytest.fixture(scope='module')
def refine_in_c(library, tmp_path_factory):
    """The program of examples/c."""
    if not shutil.which('make') or not shutil.which('cc') or not native_library.path().exists():
        pytest.skip('there is no make or no C compiler')
    folder = tmp_path_factory.mktemp('build')
    settings = [f'BUILD={folder}', f'PYTHON={sys.executable}', 'CFLAGS=-O0']
    settings.append(f'LIBRARY={native_library.path()}')
    done = subprocess.run(
        ['make', '-C', ROOT / 'examples' / 'c', *settings, folder / 'refine'],
        capture_output=True,
        text=True,
    )
    if 'No such file or directory' in done.stderr:
        pytest.skip(f'a library is not installed: {done.stderr.strip()}')
    assert done.returncode == 0, done.stderr
    return folder / 'refine'


def test_the_example_in_c_refines_its_answers(refine_in_c, whole, tmp_path):
    """With the probabilities of ``Predictor``; a rest that lacks bytes is refused."""
    first, image = tmp_path / 'first.lqn', tmp_path / 'image.jpg'
    exported(whole, '--bits-first', '2', '--out', first)
    Image.fromarray(IMAGES[0]).save(image)
    rest = whole.read_bytes()[first.stat().st_size :]
    predictor = Predictor(whole)
    lines = {}
    for point in predictor.points:
        answer = predictor(str(image), point=point)
        lines[point] = f'{point}: class {answer.label} {answer.score:.3f}'

    def refined(given):
        return subprocess.run(
            [refine_in_c, first, '/dev/stdin', image], input=given, capture_output=True
        )

    done = refined(rest)
    assert (done.returncode, done.stderr) == (0, b'')
    expected = [lines['s16-b2'], f'{len(rest)} bytes more', lines['s16-b4'], lines['s16-b2']]
    assert done.stdout.decode().splitlines() == expected
    done = refined(rest[:-64])
    assert done.stdout.decode().splitlines() == [lines['s16-b2']]
    assert done.returncode == 2 and done.stderr.startswith(b'refine: /dev/stdin: ')


def test_profile_of_a_run(run, capsys):
    """By the library, beside the times of TensorFlow."""
    _needs_library()
    flags = ['--backend', 'native', '--rounds', '2', '--batch', '2', '--threads', '1']
    assert profile.main([str(run), *flags, '--format', 'json']) == 0
    shown = json.loads(capsys.readouterr().out)
    (path,) = run.glob('profile-*-1-thread-native.json')
    written = json.loads(path.read_text())
    path.unlink()
    assert written['device']['backend'] == 'native' and list(written['points']) == POINTS
    for row in shown['points']:
        assert row['batch1_ms'] == written['points'][row['point']]['batch1_ms'] > 0


def test_profile_of_a_file_and_its_layers(whole, capsys):
    _needs_library()
    flags = ['--rounds', '3', '--batch', '2', '--layers', 's16-b2', '--format', 'json']
    before = sorted(whole.parent.iterdir())
    assert profile.main([str(whole), *flags]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row['point'] for row in shown['points']] == POINTS
    assert sorted(whole.parent.iterdir()) == before
    program = native_reader.read(whole).program(['s16-b2'])
    names = [operation.out for operation in program.points['s16-b2'].operations]
    found = [row['layer'] for row in shown['layers']]
    # Every convolution is one, in their order.
    convolutions = [name for name in names if 'Conv2D' in name]
    assert [name for name in found if 'Conv2D' in name] == convolutions
    assert sum(row['share'] for row in shown['layers']) == pytest.approx(100)
    assert all(row['ms'] >= 0 for row in shown['layers'])


@pytest.mark.parametrize(
    'name, flags, said',
    [
        ('whole', ['--layers', 's99'], '--layers s99: there are s16-b4 s16-b2'),
        ('first', ['--layers', 's16-b4'], '--layers s16-b4: there are s16-b2'),
        ('whole', ['--backend', 'tensorflow'], '--backend tensorflow: runs run folders'),
        ('run', ['--layers', 's16-b4'], '--layers s16-b4: is of --backend native'),
        ('missing', [], 'missing.lqn'),
        ('damaged', [], 'damaged'),
    ],
)
def test_profile_refuses(name, flags, said, run, whole, tmp_path, capsys):
    _needs_library()
    paths = {'run': run, 'whole': whole, 'missing': tmp_path / 'missing.lqn'}
    content = native_reader.read(whole).first(2)
    for part, end in (('first', len(content)), ('damaged', len(content) - 64)):
        paths[part] = tmp_path / f'{part}.lqn'
        paths[part].write_bytes(content[:end])
    assert profile.main([str(paths[name]), *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('script', ['profile', 'predict'])
def test_without_the_library(script, whole, tmp_path, monkeypatch, capsys):
    image = tmp_path / 'image.png'
    Image.fromarray(IMAGES[0]).save(image)
    monkeypatch.setattr(native_library, 'path', lambda: tmp_path / 'lqn.so')
    native_library.load.cache_clear()
    mains = {'profile': profile.main, 'predict': predict.main}
    images = [str(image)] if script == 'predict' else []
    assert mains[script]([str(whole), *images, '--backend', 'native']) == 2
    assert native_library.REMEDY in capsys.readouterr().err
    assert predict.main([str(whole), str(image)]) == 0  # in numpy


def _needs_library():
    if not native_library.path().exists():
        pytest.skip('there is no C compiler')
