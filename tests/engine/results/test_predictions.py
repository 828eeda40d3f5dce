"""Predictions in a CSV file: what an interruption leaves, settings, parts of several jobs."""

import csv
import json

import pytest

from engine.errors import UsageError
from engine.results import predictions, predictions_page
from engine.results.predictions import Growing, Row

SETTINGS = {'RUN': '/run', '--point': 's16'}
ROWS = [
    Row(0, 'a.jpg', 's16', 1.25, '', ((2, 'cat', 0.75), (0, 'dog, wet', 0.25))),
    Row(1, 'b "quoted",\nof two lines.jpg', 's16', 0.5, '', ((0, 'dog, wet', 1.0),)),
    Row(2, 'c\udcff.jpg', error='c is empty'),
]


def cells(path):
    with path.open(encoding='utf-8', errors='surrogateescape', newline='') as stream:
        return list(csv.reader(stream))


def test_a_complete_file(tmp_path):
    path = tmp_path / 'out.csv'
    growing = Growing(path, SETTINGS, 2)
    for row in reversed(ROWS):
        growing.add(row)
    assert not path.exists()
    growing.complete()
    assert [file.name for file in tmp_path.iterdir()] == ['out.csv']
    header, *body = cells(path)
    assert header[:5] == ['number', 'image', 'point', 'ms', 'error']
    assert header[5:] == ['label1', 'name1', 'score1', 'label2', 'name2', 'score2']
    assert body[0] == ['0', 'a.jpg', 's16', '1.250', '', '2', 'cat', '0.750000'] + [
        '0',
        'dog, wet',
        '0.250000',
    ]
    assert [row[1] for row in body] == [row.image for row in ROWS]
    assert body[2][2:] == ['', '0.000', 'c is empty'] + 6 * ['']


@pytest.mark.parametrize('torn', ['', '3,"d', '3,d.jpg,s16', '3,"d\n.jpg",s16,1.0,,0,"do'])
def test_an_interruption_at_any_byte(torn, tmp_path):
    path = tmp_path / 'out.csv'
    growing = Growing(path, SETTINGS, 2)
    for row in ROWS:
        growing.add(row)
    growing.close()
    with (tmp_path / 'out.csv.part').open('a', newline='') as stream:
        stream.write(torn)
    again = Growing(path, SETTINGS, 2)
    assert again.rows == ROWS
    again.add(Row(3, 'd.jpg', 's16', 1.0, '', ((0, 'dog', 0.5),)))
    again.complete()
    assert [row[0] for row in cells(path)] == ['number', '0', '1', '2', '3']


def test_other_settings_are_refused(tmp_path):
    path = tmp_path / 'out.csv'
    Growing(path, SETTINGS, 2).close()
    with pytest.raises(UsageError, match='begun with --point s16, not s12'):
        Growing(path, {**SETTINGS, '--point': 's12'}, 2)
    path.write_text('precious')
    with pytest.raises(UsageError, match='exists'):
        Growing(path, SETTINGS, 2)
    assert path.read_text() == 'precious'


def test_no_row_is_so_long():
    with pytest.raises(UsageError, match='x.csv: has no rows of cells .*scripts.predict'):
        predictions.parse(f'{"x" * 200000}\n', 'x.csv')


def test_a_file_of_many_images(tmp_path, monkeypatch):
    """Larger than other texts may be."""
    path = tmp_path / 'out.csv'
    predictions.write(path, ROWS, 2)
    monkeypatch.setattr(predictions, 'LARGEST', path.stat().st_size - 1)
    with pytest.raises(UsageError, match='has more than'):
        predictions.join([path])
    monkeypatch.undo()
    assert predictions.LARGEST >= 100 * 14_197_122  # a hundred bytes for each image of ImageNet
    assert len(predictions.join([path])[0]) == len(ROWS)


@pytest.mark.parametrize('content', ['', 'a,b\n1,2\n', 'number,image\n', json.dumps({}) + '\n'])
def test_other_files(content):
    with pytest.raises(UsageError, match='other columns'):
        predictions.parse(content, 'x.csv')


def test_parts_are_joined(tmp_path):
    images = [f'{number}.jpg' for number in range(7)]
    parts = []
    for index in (1, 2, 3):
        rows = []
        for number, image in predictions.numbered(images, (index, 3)):
            rows.append(Row(number, image, 's16', 1.0, '', ((number, 'x', 1.0),)))
        parts.append(tmp_path / f'{index}.csv')
        predictions.write(parts[-1], rows, 1)
    found, top = predictions.join(parts)
    assert top == 1
    assert sorted(row.number for row in found) == list(range(7))
    assert {row.number: row.image for row in found} == dict(enumerate(images))
    with pytest.raises(UsageError, match='no part has 2 images, such as number 1'):
        predictions.join([parts[0], parts[2]])
    with pytest.raises(UsageError, match='in another part too'):
        predictions.join([*parts, parts[0]])
    predictions.write(parts[1], [], 2)
    with pytest.raises(UsageError, match='give one --top'):
        predictions.join(parts)


def test_a_page_is_whole(tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / 'a.png'), np.full((400, 300, 3), 128, np.uint8))
    rows = [
        Row(0, str(tmp_path / 'a.png'), 's16', 1.0, '', ((0, '<b>cat</b>', 0.5),)),
        Row(1, 'none.png', error='none.png & nothing'),
    ]
    text = predictions_page.page('Predictions of <x>', rows)
    assert text.count('data:image/jpeg;base64,') == 1
    assert '&lt;b&gt;cat&lt;/b&gt; 50.0%' in text and 'nothing' in text and '<x>' not in text
    assert 'http' not in text
