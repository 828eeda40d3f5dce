"""Models at whose end images choose: the same answers, of no more branches than images take."""

import numpy as np
import pytest

from engine.deployment import interpreter, onnx_file
from engine.deployment.openvino_file import OpenVinoFile
from tests.engine.deployment.test_choices import MADE, three_exits


def loaded(whole, path):
    onnx_file.save(whole, path, {}, packed=True)
    return OpenVinoFile(path.read_bytes(), 1)


@pytest.fixture
def sizes(monkeypatch):
    """Numbers of operations of the models that are compiled while a test runs."""
    found = []
    execute = OpenVinoFile._execute

    def noted(self, model):
        found.append(len(model.get_ops()))
        return execute(self, model)

    monkeypatch.setattr(OpenVinoFile, '_execute', noted)
    return found


@pytest.mark.parametrize('whole', MADE.values(), ids=MADE)
def test_answers_are_those_of_the_program(whole, tmp_path):
    whole = whole()
    ((name, point),) = whole.points.items()
    shape = (16, point.side, point.side, 3)
    images = np.random.default_rng(1).integers(256, size=shape)
    images = (images * np.linspace(0, 1, 16)[:, None, None, None]).astype(np.uint8)
    run = loaded(whole, tmp_path / 'a.onnx').at(0, point.side)
    answers, executed = interpreter.answers(whole, name, images)
    assert len(np.unique(executed, axis=0)) > 1
    # The last ones again: what a branch has answered does not change another answer.
    for number in (*range(16), 2, 15, 2):
        before = images[number].copy()
        found = run(images[number][None])
        expected = np.concatenate([answers[number], executed[number]])
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(images[number], before)


def test_a_branch_is_compiled_when_it_is_taken(sizes, tmp_path):
    """Of three exits the first, then the last, whose choice is one of its own, then the second."""
    whole = three_exits()
    images = np.random.default_rng(1).integers(256, size=(1, 4, 4, 3), dtype=np.uint8)
    opened = loaded(whole, tmp_path / 'a.onnx')
    counts = []
    runs = [opened.at(0, 4, thresholds) for thresholds in ((-1e9,) * 3, (1e9,) * 3)]
    for run in (*runs, runs[0]):
        run(images)
        counts.append(len(sizes))
    assert counts == [2, 5, 5]
    assert np.argmax(sizes) in (0, 2)


def test_of_blocks_all_is_compiled(sizes, tmp_path):
    """Of several choices one after the other no part is handed to another."""
    run = loaded(MADE['blocks'](), tmp_path / 'a.onnx').at(0, 6)
    for bright in (0, 255, 0):
        run(np.full((1, 6, 6, 3), bright, np.uint8))
    assert len(sizes) == 1
