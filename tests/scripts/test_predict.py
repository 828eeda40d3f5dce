"""The script that predicts: lists, parts of several jobs, interruptions, what it says."""

import csv
import json
import os
import shutil

import pytest

from engine.errors import UsageError
from scripts import predict
from tests.engine.deployment import test_answers
from tests.engine.deployment.test_answers import NAMES

backend = test_answers.backend
files = test_answers.files


@pytest.fixture
def folder(files, tmp_path):
    """Seven images of three colours, one of which is torn, in folders."""
    place = tmp_path / 'images'
    (place / 'more').mkdir(parents=True)
    for number in range(7):
        shutil.copy(files[number % 3], place / f'{number}.png')
    shutil.copy(files[0], place / 'more' / 'z.png')
    (place / '3.png').write_bytes(files[0].read_bytes()[:50])
    (place / 'notes.txt').write_text('no image')
    return place


def said(capsys, *argv):
    status = predict.main([str(word) for word in argv])
    found = capsys.readouterr()
    return status, found.out, found.err


def rows(path):
    with path.open(newline='') as stream:
        return list(csv.DictReader(stream))


def test_a_table(backend, folder, capsys):
    status, out, _ = said(capsys, 'run', folder / '1.png', folder / 'more', '--top', 2)
    assert status == 0
    assert '1.png' in out and 'green 0.987, blue' in out and 'z.png' in out
    assert max(map(len, out.splitlines())) <= 100
    status, out, error = said(capsys, 'run', folder, '--top', 2, '--format', 'json')
    assert len(json.loads(out)['predictions']) == 7 and '1 image cannot be read' in error


def test_what_a_folder_has_beside_images(folder, tmp_path, monkeypatch):
    """Pipes would never end, hidden files are those of other programs; links are followed once."""
    os.mkfifo(folder / 'pipe.png')
    (folder / 'folder.png').mkdir()
    for name in ('._0.png', '.hidden/0.png'):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / '0.png', folder / name)
    (folder / 'nowhere.png').symlink_to('gone')
    (folder / 'more' / 'circle').symlink_to(folder)
    outside = tmp_path / 'outside'
    outside.mkdir()
    shutil.copy(folder / '0.png', outside / 'comma, "quote"\n.png')
    (folder / 'elsewhere').symlink_to(outside)
    found = [os.path.relpath(name, folder) for name in predict.found_images([str(folder)], None)]
    numbered = [f'{number}.png' for number in range(7)]
    assert found == [
        *numbered,
        'elsewhere/comma, "quote"\n.png',
        'more/z.png',
        'nowhere.png',
    ]

    def refused(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(os, 'scandir', refused)
    with pytest.raises(UsageError, match=f'IMAGE: {folder} cannot be listed: Permission denied'):
        predict.found_images([str(folder)], None)


def test_a_file_and_a_page(backend, folder, tmp_path, capsys):
    out, page = tmp_path / 'out.csv', tmp_path / 'page.html'
    status, text, _ = said(capsys, 'run', folder, '--csv', out, '--html', page, '--top', 2)
    assert status == 0
    assert '8 images' in text and '1 image cannot be read' in text and '3.png' in text
    found = rows(out)
    assert [int(row['number']) for row in found] == list(range(8))
    for number, row in enumerate(found[:7]):
        assert row['image'] == str(folder / f'{number}.png')
        if number == 3:
            assert 'not a complete image' in row['error'] and not row['name1']
        else:
            assert row['name1'] == NAMES[number % 3] and row['point'] == 's16'
    assert page.read_text().count('<figure>') == 8
    status, _, error = said(capsys, 'run', folder, '--csv', out)
    assert status == 2 and 'exists' in error


def test_jobs_and_what_joins_them(backend, folder, tmp_path, capsys):
    whole = tmp_path / 'whole.csv'
    assert said(capsys, 'run', folder, '--csv', whole)[0] == 0
    parts = []
    for index in (3, 1, 2):
        parts.append(tmp_path / f'part-{index}.csv')
        said(capsys, 'run', folder, '--csv', parts[-1], '--shard', f'{index}/3')
    joined = tmp_path / 'joined.csv'
    status, text, _ = said(capsys, '--join', *parts, '--csv', joined)
    assert status == 0 and '8 images of 3 parts' in text
    for one, other in zip(rows(whole), rows(joined), strict=True):
        assert {**one, 'ms': ''} == {**other, 'ms': ''}
    status, _, error = said(capsys, '--join', *parts[1:], '--csv', tmp_path / 'x.csv')
    assert status == 2 and 'no part has' in error


def test_the_same_command_goes_on(backend, folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / 'out.csv'
    answer = backend.answer

    def stop_at_third(batch, point):
        # Behind two runs that warm up.
        if len(backend.counts) == 5:
            raise KeyboardInterrupt
        return answer(batch, point)

    monkeypatch.setattr('engine.deployment.views.LARGEST_BATCH', 1)
    monkeypatch.setattr(backend, 'answer', stop_at_third)
    assert said(capsys, 'run', folder, '--csv', out)[0] == 130
    assert not out.exists()
    monkeypatch.setattr(backend, 'answer', answer)
    status, _, error = said(capsys, 'run', folder, '--csv', out, '--point', 's12')
    assert status == 2 and 'begun with --point None, not s12' in error
    backend.counts.clear()
    status, text, _ = said(capsys, 'run', folder, '--csv', out)
    assert status == 0 and 'goes on behind 3 images' in text
    assert sum(backend.counts) == 2 + 4
    assert len(rows(out)) == 8
    assert sorted(path.name for path in tmp_path.glob('out*')) == ['out.csv']


def test_no_image_that_can_be_read(backend, folder, capsys):
    status, _, error = said(capsys, 'run', folder / '3.png', folder / 'none.png')
    assert status == 2 and 'IMAGE: not one of 2 can be read: ' in error
    assert '3.png' in error and 'none.png' in error


@pytest.mark.parametrize(
    'argv, words',
    [
        (['run'], 'IMAGE: none given'),
        ([], 'RUN: give'),
        (['run', 'a.png', '--shard', '4/3'], '--shard 4/3'),
        (['run', 'a.png', '--shard', '0/3'], '--shard 0/3'),
        (['run', 'a.png', '--shard', 'x'], '--shard x'),
        (['run', 'a.png', '--top', '0'], '--top 0'),
        (['run', 'a.png', '--csv', 'nowhere/out.csv'], 'no folder nowhere'),
        (['run', '--list', 'none.txt'], 'none.txt'),
        (['--join', 'a.csv'], '--join: give the parts and --csv'),
        (['run', 'a.png', '--point', 's16', '--budget', '3M'], 'give one of them'),
    ],
)
def test_what_is_refused(argv, words, backend, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = said(capsys, *argv)
    assert status == 2 and words in error
