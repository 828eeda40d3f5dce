"""Files of bit planes: what is read back is what was written, and nothing else is read."""

import functools

import pytest

from engine.deployment import interpreter, native_layout, native_reader, native_writer
from tests.engine.deployment.test_program import CELLS, IMAGES, traced

pytestmark = pytest.mark.usefixtures('shallow')

TEXTS = {'points': '[{"point": "ä"}]', 'empty': ''}


@functools.cache
def written(cell):
    """The program of a cell, and the file that is made of it."""
    _, whole = traced(cell)
    return whole, native_writer.serialized(whole, TEXTS)


def images_of(point):
    one = IMAGES[:2, : point.side, : point.side, : point.channels]
    return [one, *(IMAGES[:2, :side, :side, : point.channels] for _, side in point.views)]


def check_equal(found, whole, points):
    """The same answers, to the last bit."""
    assert list(found.points) == list(points)
    for name in points:
        one = whole.points[name]
        given = images_of(one)
        for expected, answer in zip(
            interpreter.answers(whole, name, *given), interpreter.answers(found, name, *given)
        ):
            assert answer.tobytes() == expected.tobytes() and answer.shape == expected.shape


@pytest.mark.parametrize('cell', CELLS)
def test_what_is_read_back_answers_alike(cell):
    whole, content = written(cell)
    file = native_reader.NativeFile(content, 'a.lqn')
    assert file.texts == TEXTS and file.points == list(whole.points)
    found = file.program()
    check_equal(found, whole, whole.points)
    # Nothing is stored that no point uses.
    assert len(found.constants) == len(file._head._tables['constants'])
    again = native_writer.serialized(found, TEXTS)
    assert native_reader.NativeFile(again, 'b.lqn').program() is not None
    assert len(again) <= len(content) + native_layout.ALIGNED
