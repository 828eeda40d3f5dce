"""Files that choose, in parts: the same answers, of no more branches than images take."""

import dataclasses

import numpy as np
import pytest

from engine.deployment import chaining, cutting, interpreter, onnx_file, program, runtimes, trace
from engine.deployment.choosing import Choosing, every_way
from engine.deployment.onnxruntime_file import OnnxRuntimeFile
from engine.deployment.openvino_file import OpenVinoFile
from tests.engine.deployment.test_chaining import POINTS, by_hand, cascade
from tests.engine.deployment.test_choices import (
    CELLS,
    MADE,
    MIXED,
    evaluated,
    halfway,
    three_exits,
    undecided,
)

FILES = {'onnxruntime': OnnxRuntimeFile, 'openvino': OpenVinoFile}


def written(whole):
    return onnx_file.serialized(whole, {'classes': '[]'}, packed=True)


@pytest.fixture
def sizes(monkeypatch):
    """Bytes of the parts that are prepared while a test runs."""
    found = []
    file = cutting.Part.file

    def noted(self):
        content = file(self)
        found.append(len(content))
        return content

    monkeypatch.setattr(cutting.Part, 'file', noted)
    return found


def test_every_runtime_is_tried():
    assert FILES.keys() == runtimes.RUNTIMES.keys()


@pytest.mark.parametrize('runtime', FILES)
@pytest.mark.parametrize('whole', MADE.values(), ids=MADE)
def test_answers_are_those_of_the_program(whole, runtime):
    whole = whole()
    ((name, point),) = whole.points.items()
    shape = (16, point.side, point.side, 3)
    images = np.random.default_rng(1).integers(256, size=shape)
    images = (images * np.linspace(0, 1, 16)[:, None, None, None]).astype(np.uint8)
    opened = FILES[runtime](written(whole), 1)
    assert opened.texts['classes'] == '[]'
    run = opened.at(0, point.side)
    answers, executed = interpreter.answers(whole, name, images)
    assert len(np.unique(executed, axis=0)) > 1
    # The last ones again: what a branch has answered does not change another answer.
    for number in (*range(16), 2, 15, 2):
        before = images[number].copy()
        found = run(images[number][None])
        expected = np.concatenate([answers[number], executed[number]])
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(images[number], before)


@pytest.mark.slow
@pytest.mark.parametrize('runtime', FILES)
@pytest.mark.parametrize('cell', ['dsnet-gates-w2a2', 'msdnet-exits-w2a2'])
@pytest.mark.usefixtures('shallow')
def test_networks_answer_as_in_evaluation(cell, runtime):
    source = undecided(cell)
    name, _ = CELLS[cell]
    thresholds = halfway(source)
    whole = trace.of_points(source, [name], thresholds)
    side = whole.points[name].side
    run = FILES[runtime](written(whole), 1).at(0, side)
    found = np.concatenate([run(image[None]) for image in MIXED[:, :side, :side]])
    expected = evaluated(source, name, thresholds)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


@pytest.mark.parametrize('runtime', FILES)
def test_a_branch_is_prepared_when_it_is_taken(runtime, sizes):
    """Of three exits the first, then the last, whose choice is one of its own, then the second."""
    content = written(three_exits())
    images = np.random.default_rng(1).integers(256, size=(1, 4, 4, 3), dtype=np.uint8)
    opened = FILES[runtime](content, 1)
    first, last = (opened.at(0, 4, thresholds) for thresholds in ((-1e9,) * 3, (1e9,) * 3))
    counts = []
    for run in (first, last, first):
        sizes.clear()
        run(images)
        counts.append(len(sizes))
    # Thresholds are inputs in ONNX Runtime; in OpenVINO each choice of them has its own parts.
    assert counts == {'onnxruntime': [1, 2, 0], 'openvino': [2, 3, 0]}[runtime]
    assert max(sizes, default=0) < len(content)


@pytest.mark.parametrize('runtime', FILES)
def test_every_way_is_prepared_before_images_take_them(runtime, sizes):
    run = FILES[runtime](written(three_exits()), 1).at(0, 4, (-0.5, -0.5, -1e9))
    colours = np.random.default_rng(1).integers(256, size=(16, 1, 1, 1, 3), dtype=np.uint8)
    images = np.broadcast_to(colours, (16, 1, 4, 4, 3))
    with every_way():
        warm = run(images[0])
    sizes.clear()
    answers = np.concatenate([run(image) for image in images])
    assert not sizes
    np.testing.assert_array_equal(answers[:1], warm)
    np.testing.assert_array_equal(np.unique(answers[:, -1]), [0, 1, 2])


def test_of_blocks_all_is_one_part():
    """Of several choices one after the other no part is handed to another."""
    assert cutting.cut_file(written(MADE['blocks']())) is None


def one_kernel(whole):
    """The points, of which each has the kernel of the first."""
    points = {}
    kernel = None
    for name, point in whole.points.items():
        operations = []
        for one in point.operations:
            if isinstance(one, program.Convolution):
                kernel = kernel or one.kernel
                one = dataclasses.replace(one, kernel=kernel)
            operations.append(one)
        points[name] = dataclasses.replace(point, operations=tuple(operations))
    return program.with_points(points, whole.constants)


def test_kernels_of_a_chain_of_sizes_are_unpacked_once():
    """By ONNX Runtime, which would do it for every part."""
    for whole, repeats in ((by_hand(), False), (one_kernel(by_hand()), True)):
        content = written(chaining.chained(whole, POINTS, cascade()))
        assert cutting.cut_file(content).repeats() == repeats
        opened = OnnxRuntimeFile(content, 1)
        assert isinstance(opened._execute, Choosing) != repeats


def test_what_is_damaged_is_left_to_the_runtime():
    content = written(three_exits())
    assert cutting.cut_file(content) is not None
    for end in range(0, len(content), 97):
        assert cutting.cut_file(content[:end]) is None
    for other in (b'', b'no file', bytes(100), b'\x3a' + b'\xff' * 30):
        assert cutting.cut_file(other) is None
