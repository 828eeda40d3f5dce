"""Backends of Predictor: every runtime answers as TensorFlow, from a run and from a file."""

import concurrent.futures
import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from engine import Predictor
from engine.config.config import read_config
from engine.deployment import backend, interpreter, onnx_file, trace
from engine.deployment.description import describe
from engine.deployment.resizing import without_resize
from engine.deployment.runtimes import RUNTIMES
from engine.errors import UsageError
from engine.files import write_json
from engine.graph import freeze
from engine.graph.inference import InferenceModel
from engine.runs import checkpoint
from engine.runs.folder import merge_layers
from tests import test_grid
from tests.engine.runs.test_checkpoint import save
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures('shallow')

RNG = np.random.default_rng(4)
MIXED = []
for shape in ((16, 16, 3), (20, 31, 3), (40, 9, 3), (8, 8, 3)):
    MIXED.append(RNG.integers(256, size=shape, dtype=np.uint8))
CELLS = [
    'rsnet-sizes-w2a2',
    'san-sizes-w2a2',
    'msdnet-exits-w2a2',
    'dsnet-widths-w2a2',
    'aig-sizes-w2a2',
]


def test_nothing_is_reported_by_onnxruntime(tmp_path):
    """It keeps an identifier of the machine in the home directory where it reports."""
    pytest.importorskip('onnxruntime')
    code = 'from engine.entry import without_reports; without_reports(); import onnxruntime'
    environment = {'HOME': str(tmp_path), 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b'', b'')
    assert not list(tmp_path.rglob('*'))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Run folders that look trained, their exports and programs, each made once."""
    made = {}

    def one(cell):
        if cell not in made:
            folder = tmp_path_factory.mktemp(cell)
            run, path = written(cell, folder / 'run'), folder / 'net.onnx'
            made[cell] = run, path, export(run, path)
        return made[cell]

    return one


def written(cell, folder):
    config = test_grid.config(cell)
    model = InferenceModel(config, data_format='NHWC')
    variables, layers = model.inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    save(model.starting_values() | test_grid.numbers(shapes), folder / 'model-1')
    write_json(folder / 'config.json', config.to_json())
    merge_layers(folder, layers)
    top1 = 90.0
    for point in layers:
        record = {'point': point, 'bn': point, 'top1': top1, 'top5': 99.0, 'images': 50}
        write_json(folder / 'eval' / f'{point}.json', record)
        top1 -= 1
    return folder


def export(folder, path, *, resizes=True):
    source = checkpoint.read(str(folder / 'model-1'), flag='RUN')
    whole = trace.of_points(source, freeze.points(source))
    if not resizes:
        whole = without_resize(whole)
    found = describe(source, whole, 'packed', resizes=resizes)
    named = dataclasses.replace(found, class_names=tuple('abcdefghij'))
    onnx_file.save(whole, path, named.spelled(), packed=True, by_height=not resizes)
    return whole


def agree(found, expected):
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert found.points == expected.points and found.labels.dtype == np.int64


@pytest.mark.parametrize('name', RUNTIMES)
def test_a_file_answers_as_its_program(name, runs):
    """Of images of any size, which are cut as in evaluation."""
    folder, path, whole = runs('rsnet-sizes-w2a2')
    rule = read_config(folder / 'config.json').preprocessing
    (views,) = zip(*map(rule.eval_views, MIXED))
    found = Predictor(str(path), backend=name, threads=1)
    assert found.points == ['s16', 's12'] and found.classes == tuple('abcdefghij')
    for point in found.points:
        logits = interpreter.run(whole, point, np.stack(views))
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        answers = found.predict(MIXED, point=point)
        np.testing.assert_array_equal(answers.labels, expected.argmax(axis=1))
        np.testing.assert_allclose(answers.scores, expected.max(axis=1), atol=1e-4)
        assert answers.points == [point] * len(MIXED)
    with pytest.raises(UsageError, match=f"point 's20': {path} has s16 s12"):
        found.predict(MIXED, point='s20')


@pytest.mark.slow
@pytest.mark.parametrize('cell', CELLS)
def test_every_backend_answers_as_tensorflow(cell, runs):
    folder, path, _ = runs(cell)
    reference = Predictor(folder, threads=1)
    for name in RUNTIMES:
        by_file = Predictor(path, backend=name, threads=1)
        by_run = Predictor(folder, backend=name, threads=1)
        assert by_file.points == by_run.points
        assert set(by_file.points) <= set(reference.points)
        assert by_file.classes == tuple('abcdefghij') and by_run.classes == reference.classes
        for point in by_file.points:
            expected = reference.predict(MIXED, point=point)
            agree(by_file.predict(MIXED, point=point), expected)
            agree(by_run.predict(MIXED[:2], point=point), reference.predict(MIXED[:2], point=point))


@pytest.mark.slow
@pytest.mark.parametrize(
    'cell, point', [('aig-gates-w2a2', 's16'), ('dsnet-gates-w2a2', 'dynamic')]
)
def test_a_file_that_chooses_image_by_image(cell, point, runs, tmp_path):
    """Blocks are no operating points, widths are; a budget is the mean that was measured."""
    folder, _, _ = runs(cell)
    record = {'point': point, 'bn': point, 'top1': 70.0, 'top5': 99.0, 'images': 50}
    write_json(folder / 'eval' / f'{point}.json', record)
    measured = folder / ('routes' if point == 'dynamic' else 'gates') / 's16.json'
    write_json(measured, {'madds': 1234.5})
    source = checkpoint.read(str(folder / 'model-1'), flag='RUN')
    (choosing, *_) = source.config.network().choosing
    whole = trace.of_points(source, [choosing])
    path = tmp_path / 'net.onnx'
    onnx_file.save(whole, path, describe(source, whole, 'packed').spelled(), packed=True)
    expected = Predictor(folder, threads=1).predict(MIXED, point=point)
    for name in RUNTIMES:
        found = Predictor(path, backend=name)
        assert found.points == [choosing]
        answers = found.predict(MIXED)
        assert answers.scores.dtype == np.float32
        np.testing.assert_array_equal(answers.labels, expected.labels)
        np.testing.assert_allclose(answers.scores, expected.scores, atol=1e-4)
        if point == 'dynamic':
            assert answers.points == expected.points
            assert set(answers.points) <= {'w06', 'w00'}
        else:
            assert answers.points == [choosing] * len(MIXED)
        assert found.within(1234).point == choosing
        assert found.predict(MIXED, budget=1234).points == answers.points
        with pytest.raises(UsageError, match=f'the nearest is .* at {choosing}, top-1 70.00'):
            found.within(1000)


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNTIMES)
def test_exits_by_deadline(name, runs):
    """The deepest of those that will have ended, of a file and of a run."""
    folder, path, _ = runs('msdnet-exits-w2a2')
    for predictor in (Predictor(path, backend=name), Predictor(folder, backend=name)):
        for deadline_ms, point in ((1e6, 's16-x1'), (0, 's16-x0')):
            found = predictor.anytime(MIXED, deadline_ms=deadline_ms)
            agree(found, predictor.predict(MIXED, point=point))
        with pytest.raises(UsageError, match='anytime: .* has no exits at 12 pixels'):
            predictor.anytime(MIXED, deadline_ms=1, size=12)


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNTIMES)
def test_images_of_the_size_of_their_point(name, runs, tmp_path):
    folder, _, _ = runs('rsnet-sizes-w2a2')
    export(folder, tmp_path / 'net.onnx', resizes=False)
    found = Predictor(tmp_path / 'net.onnx', backend=name)
    assert found.points == ['s16', 's12']
    for point in found.points:
        agree(found.predict(MIXED, point=point), Predictor(folder).predict(MIXED, point=point))


def test_budgets_by_what_was_recorded(runs):
    folder, path, _ = runs('rsnet-sizes-w2a2')
    layers = json.loads((folder / 'layers.json').read_text())
    found = Predictor(path)
    costs = {point.point: point.madds for point in found._backend._texts.points}
    assert set(costs) == {'s16', 's12'} <= set(layers)
    for predictor in (found, Predictor(folder, backend='onnxruntime')):
        assert predictor.within(costs['s16']).point == 's16'
        assert predictor.within(costs['s16'] - 1).point == 's12'
        with pytest.raises(UsageError, match='the nearest is .* at s12'):
            predictor.predict(MIXED[:1], budget=costs['s12'] - 1)
        for deadline_ms, point in ((1e6, 's16'), (0, 's12')):
            assert predictor.anytime(MIXED, deadline_ms=deadline_ms).points == [point] * len(MIXED)
        with pytest.raises(UsageError, match='anytime: .* has no exits'):
            predictor.anytime(MIXED, deadline_ms=5, size=16)
    assert found.predict(MIXED[:1], budget=costs['s12']).points == ['s12']
    with pytest.raises(UsageError, match='has no configuration of a run'):
        print(found.config)


@pytest.mark.parametrize('name', RUNTIMES)
def test_threads_get_answers_of_their_own(name, runs):
    _, path, _ = runs('rsnet-sizes-w2a2')
    predictor = Predictor(path, backend=name, threads=1)
    calls = [(MIXED[k % 4 :], predictor.points[k % 2]) for k in range(24)]

    def answer(call):
        images, point = call
        return predictor.predict(images, point=point)

    expected = list(map(answer, calls))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(answer, calls))
    assert {one.points[0] for one in found} == {'s16', 's12'}
    for one, other in zip(found, expected):
        agree(one, other)


@pytest.mark.parametrize(
    'flags, said',
    [
        ({'backend': 'caffe'}, "backend 'caffe': unknown; there are tensorflow, onnxruntime, open"),
        ({'backend': 'tensorflow'}, "backend 'tensorflow': it runs run folders"),
        ({'epoch': 3}, 'epoch 3: .* is a file with one set of weights'),
        ({'weights': 'ema'}, "weights 'ema': .* is a file with one set of weights"),
    ],
)
def test_what_a_file_does_not_have(flags, said, runs):
    _, path, _ = runs('rsnet-sizes-w2a2')
    with pytest.raises(UsageError, match=said):
        Predictor(path, **flags)


@pytest.mark.parametrize('name', RUNTIMES)
def test_files_of_others(name, runs, tmp_path):
    _, path, _ = runs('rsnet-sizes-w2a2')
    other = tmp_path / 'other.onnx'
    with pytest.raises(UsageError, match=f'{other}: cannot be read .*scripts.export RUN'):
        Predictor(other, backend=name)
    for content in (b'', b'no model', path.read_bytes()[:3000]):
        other.write_bytes(content)
        with pytest.raises(UsageError, match=f'{other}: '):
            Predictor(other, backend=name)
    model = onnx.load(path)
    for _ in range(len(model.metadata_props)):
        model.metadata_props.pop()
    onnx.save(model, other)
    with pytest.raises(UsageError, match=f'{other}: was not written by python -m scripts.export'):
        Predictor(other, backend=name)


def test_a_way_to_make_images_that_is_not_known(runs, tmp_path):
    _, path, _ = runs('rsnet-sizes-w2a2')
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == 'images':
            entry.value = entry.value.replace('"area"', '"seam_carving"')
    onnx.save(model, tmp_path / 'a.onnx')
    with pytest.raises(UsageError, match='and seam_carving, which this version does not have'):
        Predictor(tmp_path / 'a.onnx').predict(MIXED)


def test_no_runtime_is_installed(runs, monkeypatch):
    _, path, _ = runs('rsnet-sizes-w2a2')
    monkeypatch.setattr(backend.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    monkeypatch.delitem(sys.modules, 'engine.deployment.onnxruntime_file', raising=False)
    with pytest.raises(UsageError, match=r"backend 'onnxruntime': .*'\.\[export\]' installs it"):
        Predictor(path)


# The runtime alone: what no program that uses it can do without.
BARE = """
import sys
import numpy as np
import cv2, onnxruntime, PIL.Image
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(open(sys.argv[1], 'rb').read(), options)
feed = {'images': np.zeros([1, 16, 16, 3], np.uint8), 'point': np.array([0])}
session.run(None, feed)
"""
FIRST = """
import sys
import numpy as np
from engine import Predictor
predictor = Predictor(sys.argv[1], backend='onnxruntime', threads=1)
predictor.predict(np.zeros([1, 16, 16, 3], np.uint8))
"""
COST = """
import json
lines = open('/proc/self/status').read().splitlines()
(peak,) = [line.split()[1] for line in lines if line.startswith('VmHWM:')]
heavy = ['tensorflow', 'onnx', 'tensorpack', 'numpy.random', 'engine.config']
print(json.dumps([int(peak) / 1024, [name for name in heavy if name in sys.modules]]))
"""


def test_a_file_needs_a_runtime_and_little_else(runs):
    """The first answer in a new process takes little more memory than the runtime alone."""
    _, path, _ = runs('rsnet-sizes-w2a2')
    costs = []
    for program in (BARE, FIRST):
        command = [sys.executable, '-c', program + COST, str(path)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        costs.append(json.loads(result.stdout))
    (bare, _), (megabytes, heavy) = costs
    assert heavy == []
    assert megabytes - bare < 15
