"""examples/c: flags, texts and pixels with a runtime that writes down what it gets; real ones."""

import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from engine.data import animals28
from engine.data.opencv import cv2
from engine.deployment import texts
from tests.paths import ROOT

pytest.importorskip('onnxruntime')

from tests.examples import networks  # noqa: E402

SOURCES = ROOT / 'examples' / 'c'
RNG = np.random.default_rng(3)

# A network of three classes that keeps its images.
RECORDER = """
#include "classify.h"
#include <stdio.h>
#include <stdlib.h>
struct network { size_t size; bool ran; };
struct network *network_load(const struct model *model, int point)
{
    struct network *network = allocate(1, sizeof *network);
    network->size = (size_t)(model->point[point].side * model->point[point].side * 3);
    return network;
}
const float *network_run(struct network *network, const unsigned char *view, size_t *count)
{
    static const float LOGITS[] = {1, 3, 2};
    FILE *file = network->ran ? NULL : fopen(getenv("VIEW"), "wb");
    if (file) {
        fwrite(view, 1, network->size, file);
        fclose(file);
    }
    network->ran = true;
    *count = 3;
    return LOGITS;
}
const char *network_runtime(const struct network *network)
{
    return network ? "recorder 1" : "";
}
void network_free(struct network *network)
{
    free(network);
}
"""


SANITIZED = pytest.param(['-fsanitize=address,undefined'], marks=pytest.mark.slow, id='sanitized')


@pytest.fixture(scope='module', params=[pytest.param([], id='plain'), SANITIZED])
def recorder(request, tmp_path_factory):
    """The program with that network, and its answer to flags and files."""
    compiler = shutil.which('cc')
    if compiler is None:
        pytest.skip('there is no C compiler')
    folder = tmp_path_factory.mktemp('recorder')
    (folder / 'recorder.c').write_text(RECORDER)
    parts = [
        SOURCES / name
        for name in ('classify.c', 'common.c', 'model.c', 'onnx.c', 'jpeg.c', 'view.c')
    ]
    flags = ['-std=c11', '-D_POSIX_C_SOURCE=200809L', '-g', *request.param]
    made = subprocess.run(
        [compiler, *flags, f'-I{SOURCES}', folder / 'recorder.c', *parts]
        + ['-ljpeg', '-lcjson', '-lm', '-o', folder / 'classify'],
        capture_output=True,
        text=True,
    )
    if 'No such file or directory' in made.stderr:
        pytest.skip(f'libjpeg or cJSON is not installed: {made.stderr.splitlines()[0]}')
    assert made.returncode == 0, made.stderr
    program = folder / 'classify'

    def run(*arguments):
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {'VIEW': str(folder / 'view'), 'LC_ALL': 'C'},
        )

    run.view = folder / 'view'
    return run


@pytest.fixture
def files(tmp_path):
    """A file of a network and an image."""
    (tmp_path / 'net.onnx').write_bytes(networks.described())
    image = RNG.integers(256, size=(28, 28, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.jpg'), image)
    return tmp_path / 'net.onnx', tmp_path / 'a.jpg'


@pytest.mark.parametrize('augmentation', ['shift', 'area_crop', 'area_crop:0.95'])
@pytest.mark.parametrize('resize', ['area', 'antialias', 'antialias_cubic'])
def test_views_are_those_of_evaluation(augmentation, resize, recorder, tmp_path):
    net, path = tmp_path / 'net.onnx', tmp_path / 'a.jpg'
    for height, width in ((28, 28), (56, 84), (37, 300), (3, 5), (1, 400), (300, 224)):
        image = RNG.integers(256, size=(height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
        image = cv2.imread(str(path))
        for side in (28, 45):
            net.write_bytes(networks.described(augmentation, resize, side=side))
            assert recorder(net, path).returncode == 0
            found = np.fromfile(recorder.view, np.uint8).reshape(side, side, 3)
            networks.compare_views(found, image, augmentation, resize)


@pytest.mark.parametrize('quality', [30, 95])
def test_pixels_are_those_of_opencv(quality, recorder, files):
    """Of colour and grey files, without the rotation that EXIF asks for."""
    net, path = files
    smooth = cv2.resize(RNG.integers(256, size=(5, 5, 3), dtype=np.uint8), (28, 28))
    for image in (smooth, smooth[:, :, 0]):
        _, stored = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        turned = bytes.fromhex('ffe1 0022 457869660000 4d4d002a00000008 0001 0112 0003 00000001')
        turned += bytes.fromhex('00060000 00000000')
        path.write_bytes(stored[:2].tobytes() + turned + stored[2:].tobytes())
        assert recorder(net, path).returncode == 0
        found = np.fromfile(recorder.view, np.uint8).reshape(28, 28, 3)
        kept = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        np.testing.assert_array_equal(found, cv2.imread(str(path), kept))
        assert not np.array_equal(found, cv2.imread(str(path)))


@pytest.mark.parametrize(
    'flags, point',
    [
        ([], 's28: top-1 93.20 %, 9.57 M multiply-adds'),
        (['--point', 's12'], 's12: top-1 89.35 %, 1.76 M multiply-adds'),
        (['--budget', '5m'], 's12: top-1 89.35 %, 1.76 M multiply-adds'),
        (['--budget', '1758848'], 's12: top-1 89.35 %, 1.76 M multiply-adds'),
        (['--budget', '.0095717121G'], 's28: top-1 93.20 %, 9.57 M multiply-adds'),
    ],
)
def test_names_scores_and_point(flags, point, recorder, files):
    net, image = files
    done = recorder(*flags, net, image)
    assert (done.returncode, done.stderr) == (0, '')
    powers = np.exp(np.array([1.0, 3.0, 2.0]))
    first, second, third = (powers / powers.sum())[[1, 2, 0]]
    *lines, last = done.stdout.splitlines()
    assert lines == [
        str(image),
        f'  {first:.4f}  böcke',
        f'  {second:.4f}  cat "tom"',
        f'  {third:.4f}  bear',
    ]
    assert last.startswith(f'{point}, ') and last.endswith(
        ' ms an image with one thread of recorder 1'
    )


def test_what_the_file_does_not_know(recorder, files):
    net, image = files
    strong = networks.texts.PointText('s28', 28, 28)
    net.write_bytes(networks.described(points=(strong,), class_names=()))
    done = recorder(net, image)
    assert '  class 1\n' in done.stdout and '\ns28: 0.0' in done.stdout
    done = recorder('--budget', '5M', net, image)
    assert done.returncode == 2 and 'records no costs; give --point' in done.stderr


def test_what_chooses_has_the_cost_that_was_measured(recorder, files):
    """And not that of the layers that are executed anyway."""
    net, image = files
    choices = (texts.ChoiceText('width', (0, 1)),)
    means = (texts.BudgetText('s28', 90.0, 5_000_000),)
    net.write_bytes(networks.described(choices=choices, budgets=means))
    done = recorder('--budget', '6M', net, image)
    assert '\ns28: top-1 90.00 %, 5.00 M multiply-adds, ' in done.stdout
    done = recorder('--budget', '4M', net, image)
    assert f'the least that a point of {net} takes is 5.00M' in done.stderr
    means = (texts.BudgetText('s28', 90.0, 5_000_000, (-0.5, -1e8)),)
    net.write_bytes(networks.described(choices=choices, budgets=means))
    assert 'records no costs; give --point' in recorder('--budget', '6M', net, image).stderr


def test_cascades_cost_the_mean_of_what_they_were_judged_on(recorder, files):
    net, image = files
    net.write_bytes(networks.of_cascade())
    done = recorder('--budget', '6M', net, image)
    assert '\ns12+s28: top-1 90.00 %, 5.00 M multiply-adds, ' in done.stdout
    net.write_bytes(networks.of_cascade(sides=(28,)))
    done = recorder(net, image)
    assert done.returncode == 2 and 'takes the image in several sizes' in done.stderr


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['{net}'], 'usage: classify [--point P | --budget MADDS] NET IMAGE.jpg...'),
        (['--size', '3', '{net}', '{image}'], 'usage: '),
        (['--point', 's99', '{net}', '{image}'], '--point s99: {net} has s28 s12'),
        (['--point', 's28', '--budget', '3M', '{net}', '{image}'], 'give one of them'),
        (['--budget', '1M', '{net}', '{image}'], 'the least that a point of {net} takes is 1.76M'),
        (
            ['--budget', '5 apples', '{net}', '{image}'],
            'expected multiply-adds such as 60M or 1.2G',
        ),
        (['--budget', '-3M', '{net}', '{image}'], 'expected multiply-adds such as 60M or 1.2G'),
        (['--budget', 'inf', '{net}', '{image}'], 'expected multiply-adds such as 60M or 1.2G'),
        (['{net}x', '{image}'], '{net}x: No such file or directory'),
        (['{net}', '{image}x'], '{image}x: No such file or directory'),
        (['{net}', '/'], '/: Is a directory'),
        (['{image}', '{image}'], '{image}: is no ONNX file'),
        (['{net}', '{net}'], '{net}: is no JPEG that can be read'),
        (['{net}', '/dev/null'], '/dev/null: is no JPEG that can be read'),
    ],
)
def test_wrong_input(arguments, said, recorder, files):
    net, image = files
    done = recorder(*(part.format(net=net, image=image) for part in arguments))
    assert done.returncode == 2
    assert said.format(net=net, image=image) in done.stderr
    assert not done.stdout


@pytest.mark.parametrize('kind', ['net', 'image'])
def test_files_that_end_early(kind, recorder, files):
    whole = dict(zip(('net', 'image'), files))
    path = whole[kind]
    stored = path.read_bytes()
    for share in np.linspace(0, 0.98, 15):
        begun = stored[: int(share * len(stored))]
        if kind == 'net' and networks.is_whole(begun):
            continue
        path.write_bytes(begun)
        done = recorder(*files)
        assert done.returncode == 2 and str(path) in done.stderr


def test_a_file_that_leaves_preprocessing_to_others(recorder, files):
    net, image = files
    net.write_bytes(networks.described(dtype='float32'))
    done = recorder(net, image)
    assert done.returncode == 2 and 'export it without --no-preprocess' in done.stderr


@pytest.fixture(scope='module')
def builds(tmp_path_factory):
    """Makes a target of the Makefile, and gives the folder that it is in."""
    folder = tmp_path_factory.mktemp('build')

    def make(target):
        return subprocess.run(
            ['make', '-C', SOURCES, f'BUILD={folder}', f'PYTHON={sys.executable}', target],
            capture_output=True,
            text=True,
        )

    def build(target):
        if not shutil.which('make') or not shutil.which('cc'):
            pytest.skip('there is no make or no C compiler')
        if target == 'classify_onnxruntime' and (done := make('headers')).returncode:
            pytest.skip(f'the header of ONNX Runtime cannot be had: {done.stderr.strip()}')
        done = make(folder / target)
        if 'No such file or directory' in done.stderr:
            pytest.skip(f'a library is not installed: {done.stderr.strip()}')
        assert done.returncode == 0, done.stderr
        return folder / target

    return build


def test_paths_with_spaces_and_the_python_of_make_setup(tmp_path):
    """The default PYTHON is found from any folder; what it names is one word for the shell."""
    if not shutil.which('make'):
        pytest.skip('there is no make')
    checkout = tmp_path / 'my nets'
    shutil.copytree(SOURCES, checkout / 'examples' / 'c')
    (checkout / 'runtime').mkdir()
    shutil.copy(ROOT / 'runtime' / 'lqn.h', checkout / 'runtime')
    python = checkout / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "/a b/package"\n')
    python.chmod(0o755)
    command = ['make', '-n', '-C', checkout / 'examples' / 'c', 'build/classify_openvino']
    done = subprocess.run([*command, 'build/classify_native'], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    words = shlex.split(done.stdout)
    for word in ('/a b/package/include', '/a b/package/libs/libopenvino_c.so.*', '/a b/package'):
        assert word in words


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('cell', ['rsnet-sizes-w2a2', 'msdnet-sizes-w2a2', 'dsnet-widths-w2a2'])
def test_the_programs_answer_as_python(runtime, cell, builds, tmp_path):
    """Of 50 images of the file's side, with one load per point."""
    pytest.importorskip(runtime)
    program = builds(f'classify_{runtime}')
    about = networks.exported(cell, tmp_path / 'net.onnx')
    dataset = animals28.SPEC.open('', 28)
    paths, images = [], []
    for i in range(50):
        side = about.points[0].side
        paths.append(str(tmp_path / f'{i}.jpg'))
        cv2.imwrite(paths[-1], networks.seen(dataset.val.read(i), 'shift', 'area', side))
        images.append(cv2.imread(paths[-1]))
    for place, point in enumerate(about.points):
        done = subprocess.run(
            [program, '--point', point.point, tmp_path / 'net.onnx', *paths],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, '')
        expected = networks.probabilities(tmp_path / 'net.onnx', np.stack(images), place)
        *lines, last = done.stdout.splitlines()
        assert last.startswith(f'{point.point}: top-1 {90 - place:.2f} %, ')
        printed = min(5, about.network.classes)
        for i, row in enumerate(expected):
            path, *answers = lines[i * (printed + 1) : (i + 1) * (printed + 1)]
            ranked = np.sort(row)[::-1][:printed]
            assert path == paths[i]
            scores = [float(answer.split()[0]) for answer in answers]
            np.testing.assert_allclose(scores, ranked, rtol=0, atol=networks.ROUND)
            assert answers[0].endswith(f'class {row.argmax()}')


def told_by_make(folder, *words):
    """What ``make`` says on the way to status 2, where nothing is compiled."""
    command = ['make', '-C', SOURCES, f'BUILD={folder}', *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and not list(folder.glob('classify*')), done.stdout
    return done.stderr + done.stdout


@pytest.mark.skipif(shutil.which('make') is None, reason='there is no make')
def test_make_names_what_it_lacks(tmp_path):
    said = told_by_make(tmp_path, 'PYTHON=/nowhere/python')
    assert 'PYTHON=/nowhere/python: no such program' in said and 'make setup' in said
    python = tmp_path / 'python of mine'
    python.write_text('#!/bin/sh\necho /nowhere/lqn.so\n')
    python.chmod(0o755)
    said = told_by_make(tmp_path, f'PYTHON={python}', f'{tmp_path}/classify_native')
    assert 'no library for .lqn files' in said and 'make runtime' in said
