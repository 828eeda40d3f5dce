"""Tables of every class: counted by hand, and legible for many classes."""

import csv

import numpy as np
import pytest
from PIL import Image

from engine.evaluation import confusion
from engine.evaluation.evaluate import Score
from engine.evaluation.records import records

NAMES = ('cat, black', 'dog', 'empty', 'cow')
LABELS = np.array([0, 0, 0, 1, 1, 3])
ANSWERS = np.array([[0, 0], [1, 0], [1, 0], [1, 1], [1, 1], [0, 3]])


def score(labels, answers):
    correct = (answers == labels[:, None]).sum(0)
    return Score(np.stack([correct, correct], 1), {}, {}, len(labels), 0.1, None, answers, labels)


def test_tables(tmp_path):
    found = score(LABELS, ANSWERS)
    rows = records(['s28', 's20'], found, data='few', prefix='run/model-3')
    text = confusion.report(tmp_path, rows, found, NAMES)
    lines = list(csv.reader((tmp_path / 's28.classes.csv').open()))
    assert lines[0] == ['class', 'images', 'right', 'top-1', 'most often taken for', 'times']
    assert lines[1][:3] + lines[1][4:] == ['cat, black', '3', '1', 'dog', '2']
    assert [line[0] for line in lines[1:]] == ['cat, black', 'dog', 'cow']
    assert lines[2][1:] == ['2', '2', '100.0', '', '0']
    matrix = list(csv.reader((tmp_path / 's28.confusion.csv').open()))
    assert matrix[0] == ['class', *NAMES]
    assert [line[1:] for line in matrix[1:]] == [
        ['1', '2', '0', '0'],
        ['0', '2', '0', '0'],
        ['0', '0', '0', '0'],
        ['1', '0', '0', '0'],
    ]
    assert 's28: mean over the classes 44.44; the worst of 3 classes' in text
    assert (tmp_path / 's20.classes.csv').exists()


@pytest.mark.skipif(not confusion.figures.available(), reason='needs matplotlib')
@pytest.mark.parametrize('classes', [3, 150])
def test_pictures(tmp_path, classes):
    rng = np.random.default_rng(0)
    labels = np.arange(600) % classes
    wrong = rng.random(600) < 0.2
    answers = np.where(wrong, rng.integers(classes, size=600), labels)[:, None]
    found = score(labels, answers)
    rows = records(['s28'], found, data='few', prefix='run/model-3')
    names = [f'class ${k}$' for k in range(classes)]
    confusion.report(tmp_path, rows, found, names)
    with Image.open(tmp_path / 's28.confusion.png') as picture:
        # Names have a quarter of an inch each, however many classes there are.
        assert min(picture.size) >= 120 * (3 + 0.25 * min(classes, 40))
        assert max(picture.size) < 2200
