"""Texts and records: what is read, what comes back, and how all else is refused."""

import contextlib
import dataclasses
import errno
import json
import math
import os
import stat
import subprocess
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest

from engine import files
from engine.errors import UsageError
from engine.files import Damaged, derived, read_json, read_text, write_json
from engine.runs.folder import merge_layers
from engine.schema import Metric, Part, Percent
from nets.cost import LayerRecord
from quant.options import Limits
from tests.fuzz.damage import bit_flips

LAYER = LayerRecord('conv', 'body', (1, 1, 1, 1), (1, 1))


class Pair(NamedTuple):
    left: int
    right: float = 0.5


@dataclasses.dataclass(frozen=True)
class Whole:
    name: str
    pairs: tuple[Pair, ...] = ()
    more: dict[str, list[int]] | None = None
    share: Annotated[float, Limits('', low=0, below=1)] = 0.0


@dataclasses.dataclass(frozen=True)
class Some(Part):
    top1: Percent


def refused(path, kind) -> str:
    with pytest.raises(UsageError) as error:
        read_json(path, kind, 'make it again')
    message = str(error.value)
    assert message.startswith(f'{path}: ') and message.endswith('; make it again')
    assert message.isascii() and len(message) < 1000
    return message


@pytest.mark.parametrize(
    ('text', 'kind', 'message'),
    [
        (None, Any, 'cannot be read'),
        ('', Any, 'damaged'),
        ('{', Any, 'damaged'),
        ('[1]', dict[str, Any], '[1], an object expected'),
        ('[' * 100_000, Any, 'nested too deeply'),
        ('{"a":' * 100_000, Any, 'nested too deeply'),
        ('{"a": 1, "a": 2}', Any, '"a": is there twice'),
        ('{"name": "x", "nane": 1}', Whole, '"nane": 1, none but name, pairs, more, share'),
        ('{"pairs": []}', Whole, '"name": is missing'),
        ('{"name": 3}', Whole, '"name": 3, a text expected'),
        ('{"name": "x", "share": 1}', Whole, '"share": 1, must be at least 0 and below 1'),
        ('{"name": "x", "share": "1"}', Whole, '"share": \'1\', a number expected'),
        ('{"name": "x", "share": NaN}', Whole, '"share": nan, a finite number expected'),
        (f'{{"name": "x", "share": {10**400}}}', Whole, 'a finite number expected'),
        ('{"name": "x", "pairs": 3}', Whole, '"pairs": 3, a list expected'),
        ('{"name": "x", "pairs": [{"left": true}]}', Whole, '"pairs[0].left": True, a whole'),
        ('{"name": "x", "pairs": [{"left": 1.5}]}', Whole, '"pairs[0].left": 1.5, a whole'),
        ('{"name": "x", "more": {"a": [1, "2"]}}', Whole, '"more.a[1]": \'2\', a whole number'),
        (f'{{"name": "x", "pairs": [{{"left": {2**63}}}]}}', Whole, 'at most'),
        ('{"top1": 100.5, "other": 1}', Some, '"top1": 100.5, must be at least 0 and at most 100'),
        ('[{"a": 1}, {"a": "x"}]', list[dict[str, Metric]], '"row 2.a": \'x\', a number expected'),
        ('{"\\udc80": 1}', dict[str, str], '"\\udc80": 1, a text expected'),
        (f'{{"{"k" * 9000}": 1}}', dict[str, str], 'a text expected'),
    ],
)
def test_what_is_no_record(text, kind, message, tmp_path):
    path = tmp_path / 'x.json'
    if text is not None:
        path.write_text(text)
    assert message in refused(path, kind)


@pytest.mark.parametrize(
    ('text', 'kind', 'value'),
    [
        ('{"top1": 1.5, "other": {}}', Some, Some(1.5)),
        ('[1, 2]', list[int], [1, 2]),
        ('[[1, 2]]', list[tuple[int, int]], [(1, 2)]),
        ('{"a": [1, 2]}', dict[str, tuple[int, ...]], {'a': (1, 2)}),
        ('{"name": "x", "pairs": [{"left": 1}]}', Whole, Whole('x', (Pair(1),))),
        ('{"name": "x", "more": null}', Whole, Whole('x')),
        ('3', int | str, 3),
    ],
)
def test_what_is_read(text, kind, value, tmp_path):
    (tmp_path / 'x.json').write_text(text)
    assert read_json(tmp_path / 'x.json', kind, '') == value


def test_a_metric_may_be_no_number(tmp_path):
    write_json(tmp_path / 'x.json', [{'loss': math.nan}])
    (row,) = read_json(tmp_path / 'x.json', list[dict[str, Metric]], '')
    assert math.isnan(row['loss'])


RECORDS = [
    ({'name': 'x', 'pairs': [{'left': 10}], 'more': {'a': [1]}, 'share': 0.125}, Whole),
    ([{'a': 1.5, 'b': 2}, {'a': 1.25}], list[dict[str, float]]),
    ({}, dict[str, int]),
]


@pytest.mark.parametrize(('data', 'kind'), RECORDS)
def test_every_single_bit_that_flips_is_found(data, kind, tmp_path):
    path = tmp_path / 'x.json'
    write_json(path, data)
    good, value = path.read_bytes(), read_json(path, kind, '')
    for damaged in bit_flips(good):
        path.write_bytes(damaged)
        try:
            assert read_json(path, kind, '') == value, damaged
        except Damaged as error:
            assert str(path) in str(error)


def test_a_changed_value_says_what_to_do(tmp_path):
    path = tmp_path / 'x.json'
    write_json(path, {'top1': 61.5})
    path.write_text(path.read_text().replace('61.5', '67.5'))
    assert 'values are not those of the checksum' in refused(path, Some)
    data = json.loads(path.read_text())
    path.write_text(json.dumps({'top1': data['top1']}))
    assert read_json(path, Some, '') == Some(67.5)


@pytest.mark.parametrize('kept', [slice(2), slice(1, 4), slice(0, 4, 2), slice(None, None, -1)])
def test_rows_that_are_lost_or_moved_are_missed(kept, tmp_path):
    path = tmp_path / 'x.json'
    write_json(path, [{'a': number} for number in range(4)])
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(rows[kept]))
    assert '"row 1": the values are not' in refused(path, list[dict[str, int]])


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('newline', ['\n', '\r\n', '\r'])
def test_byte_order_marks_and_ends_of_lines(encoding, newline, tmp_path):
    path = tmp_path / 'x.txt'
    path.write_bytes(newline.join(['ä', 'b', '']).encode(encoding))
    assert read_text(path, '') == 'ä\nb\n'
    path.write_bytes(f'{{{newline}"a": 1}}{newline}'.encode(encoding))
    assert read_json(path, dict[str, int], '') == {'a': 1}


def test_what_is_no_text(tmp_path):
    path = tmp_path / 'x.txt'
    path.write_bytes(b'a\xff')
    with pytest.raises(Damaged, match='no text in UTF-8 .byte 1'):
        read_text(path, '')
    assert os.fsencode(read_text(path, '', errors='surrogateescape')) == b'a\xff'
    with pytest.raises(UsageError, match=r'a\\x00b.*cannot be read'):
        read_text(tmp_path / 'a\0b', '')
    with pytest.raises(UsageError, match='cannot be read'):
        read_text(tmp_path, '')


def test_a_file_without_end_is_refused():
    with pytest.raises(Damaged, match='/dev/zero: has more than'):
        read_text(Path('/dev/zero'), '')


def test_what_can_be_made_anew_is_set_aside(tmp_path, capsys):
    path = tmp_path / 'x.json'

    def read():
        return derived(path, lambda end: read_json(path, Some, end))

    assert read() is None and not capsys.readouterr().out
    path.write_text('{"top1": "x"}')
    assert read() is None and not path.exists()
    (aside,) = tmp_path.iterdir()
    assert aside.read_text() == '{"top1": "x"}'
    out = capsys.readouterr().out
    assert f'{path}: damaged' in out and aside.name in out
    write_json(path, {'top1': 3})
    assert read() == Some(3)


def test_damaged_layer_records_are_made_anew(tmp_path, capsys):
    merge_layers(tmp_path, {'s28': [LAYER]})
    merge_layers(tmp_path, {'s20': [LAYER]})
    path = tmp_path / 'layers.json'
    known = read_json(path, dict[str, list[LayerRecord]], '')
    assert known == {'s28': [LAYER], 's20': [LAYER]}
    path.write_text('{"s28": ')
    merge_layers(tmp_path, {'s20': [LAYER]})
    assert 'layers.json: damaged' in capsys.readouterr().out
    assert list(read_json(path, dict[str, Any], '')) == ['s20']
    assert len(list(tmp_path.glob('layers.json.damaged-*'))) == 1


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
    assert [path.name for path in tmp_path.glob('a/*')] == ['made'][: not fails]
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


def test_folders_that_were_made_for_nothing_are_gone(tmp_path):
    target = tmp_path / 'a' / 'b' / 'run'
    with contextlib.suppress(ZeroDivisionError), files.making(target, '--out') as folder:
        folder.mkdir()
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())
    with files.making(target, '--out') as folder:
        folder.mkdir()
    assert target.is_dir() and [path.name for path in target.parent.iterdir()] == ['run']


def test_a_path_below_the_current_folder_is_shown_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.nearby(str(tmp_path / 'runs' / 'a')) == files.nearby('runs/a') == 'runs/a'
    above = str(tmp_path.parent / 'b')
    assert files.nearby(above) == above
