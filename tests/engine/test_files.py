"""Records in JSON: what is read, and how what cannot be read is refused."""

import contextlib
import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from engine import files
from engine.errors import UsageError
from engine.files import read_json, read_record
from engine.runs.folder import merge_layers
from nets.cost import LayerRecord

LAYER = LayerRecord('conv', 'body', (1, 1, 1, 1), (1, 1))


def test_a_record_is_read(tmp_path):
    (tmp_path / 'x.json').write_text('{"top1": 1.5}')
    assert read_record(tmp_path / 'x.json', '') == {'top1': 1.5}


@pytest.mark.parametrize(
    ('text', 'message'),
    [(None, 'cannot be read'), ('{', 'damaged'), ('[1]', 'a JSON object expected')],
)
def test_what_is_no_record(text, message, tmp_path):
    path = tmp_path / 'x.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_record(path, 'make it again')
    assert str(error.value).startswith(f'{path}: ')
    assert str(error.value).endswith('; make it again')
    assert message in str(error.value)


def test_any_value_is_read(tmp_path):
    (tmp_path / 'x.json').write_text('[1, 2]')
    assert read_json(tmp_path / 'x.json', '') == [1, 2]


def test_damaged_layer_records_are_refused(tmp_path):
    merge_layers(tmp_path, {'s28': [LAYER]})
    merge_layers(tmp_path, {'s20': [LAYER]})
    assert list(read_record(tmp_path / 'layers.json', '')) == ['s28', 's20']
    (tmp_path / 'layers.json').write_text('{"s28": ')
    with pytest.raises(UsageError, match='layers.json: damaged'):
        merge_layers(tmp_path, {'s20': [LAYER]})


class Full:
    """A file on a disk without room."""

    def __init__(self, **_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, _):
        raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.fixture
def full(monkeypatch):
    monkeypatch.setattr(files.tempfile, 'TemporaryFile', Full)


def test_a_target_is_tried_before_the_work(tmp_path, full):
    for target in (files.output_file(str(tmp_path / 'x')), files.making(tmp_path / 'x', '--out')):
        with pytest.raises(UsageError, match='cannot be written.*No space left'), target:
            raise AssertionError('the work began')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('target', ['/dev/null', 'folder', 'missing/x'])
def test_no_target(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    with pytest.raises(UsageError, match=target), files.output_file(target):
        raise AssertionError('the work began')
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)


def test_the_target_of_a_link_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / 'link').symlink_to('x')
    with files.output_file(str(tmp_path / 'link')) as temporary:
        temporary.write_text('new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'x').read_text() == 'new'


@pytest.mark.parametrize('fails', [False, True])
def test_a_folder_is_made_whole_or_not_at_all(fails, tmp_path):
    target = tmp_path / 'a' / 'made'
    with contextlib.suppress(ZeroDivisionError), files.making(target, '--out') as folder:
        (folder / 'deep').mkdir(parents=True)
        (folder / 'deep' / 'x').write_text('1')
        assert not target.exists()
        if fails:
            raise ZeroDivisionError
    assert (target / 'deep' / 'x').exists() is not fails
    assert [path.name for path in target.parent.iterdir()] == ['made'][: not fails]
    (tmp_path / 'there').mkdir()
    with (
        pytest.raises(UsageError, match='there: exists'),
        files.making(tmp_path / 'there', '--out'),
    ):
        raise AssertionError('the work began')


def test_results_of_what_cannot_be_written_come_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert files.writable(tmp_path / 'run' / 'profile.json') == tmp_path / 'run' / 'profile.json'
    tried = files.check_writable

    def read_only(folder, flag):
        if folder.name == 'run':
            raise UsageError(f'{flag}: {folder} cannot be written')
        tried(folder, flag)

    monkeypatch.setattr(files, 'check_writable', read_only)
    found = files.writable(tmp_path / 'run' / 'profile.json')
    assert (
        found == Path('run-profile.json') and 'goes to run-profile.json' in capsys.readouterr().err
    )


def test_what_dead_writers_left_is_swept(tmp_path):
    with subprocess.Popen(['true']) as process:
        process.wait()
    names = ['.hidden', '.5', f'.x.json.{process.pid}', f'.x.json.{os.getppid()}', 'x.json.5']
    (tmp_path / 'eval').mkdir()
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / 'eval' / name).touch()
    files.sweep(tmp_path)
    for folder in (tmp_path, tmp_path / 'eval'):
        left = {path.name for path in folder.iterdir() if path.is_file()}
        assert left == set(names) - {names[2]}
