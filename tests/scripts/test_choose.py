"""scripts.choose: what it prints over several runs, and what it refuses."""

import csv
import io
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from engine.config.cli import parse
from engine.results import formats
from scripts import choose
from tests.engine.results.conftest import SMALL
from tests.engine.results.run_folders import layer, score, write_run


def test_the_script_chooses_over_runs(static, gated, routed, capsys):
    runs = list(map(str, (static, gated, routed)))
    assert choose.main([*runs, '--madds', '2M']) == 0
    first, command = capsys.readouterr().out.splitlines()
    assert first.startswith(f'{routed} at dynamic, top-1 87.00 %, 1.20 M multiply-adds')
    assert command == f'    python imagenet_tf.py --eval -ec {routed}'
    for flags, expected in (
        (['--latency', '5ms'], f'{static} at s28'),
        (['--min-top1', '80'], f'{routed} at dynamic'),
        (['--memory', '20B'], f'{static} at s28'),
        (['--memory', '3B', '--madds', '9M'], None),
    ):
        assert choose.main([*runs, *flags]) == (0 if expected else 2)
        shown = capsys.readouterr()
        assert shown.out.startswith(expected or '') and ('nearest is' in shown.err) != bool(
            expected
        )


def test_the_script_shows_the_front(static, gated, routed, exits, capsys):
    runs = list(map(str, (static, gated, routed)))
    assert choose.main([*runs, '--format', 'csv']) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    # A less accurate one has smaller weights.
    assert [(row['run'], row['point'], int(row['weight_bytes'])) for row in rows] == [
        (str(routed), 'w00', 16),
        (str(routed), 'dynamic', 64),
        (str(gated), 's28', 8),
        (str(static), 's20', 4),
        (str(routed), 'w03', 64),
        (str(static), 's28', 4),
    ]
    assert choose.main([str(exits[0])]) == 0
    assert 'thresholds' in capsys.readouterr().out


@pytest.mark.parametrize('style', formats.FORMATS)
def test_every_format_has_the_choice(style, static, gated, capsys):
    """Data go without lines of text, which are errors of groups and folders left out."""
    (gated / 'model-5.index').unlink()
    assert choose.main([str(static), str(gated), '--madds', '3M', '--format', style]) == 0
    shown = capsys.readouterr()
    assert 's20' in shown.out and '80.0' in shown.out
    assert ('left out' in shown.err) == (style in formats.DATA)
    if style == 'json':
        (row,) = json.loads(shown.out)['choices']
        assert (row['madds'], row['commands']) == (
            2_000_000,
            f'python imagenet_tf.py --eval -ec {static} -es 20',
        )


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--madds', '3ms'], '--madds 3ms: expected multiply-adds'),
        (['--latency', '3'], '--latency 3: expected a time'),
        (['--ms', '3'], '--ms 3: expected a time'),
        (['--memory', 'x'], '--memory x: expected a size'),
        (['--madds', '1'], '--madds 1: no choice keeps the limits; the nearest is'),
        (['--min-top1', '99'], '--min-top1 99: no choice keeps the limits; the nearest is'),
        (['--min-top1', '170'], '--min-top1 170: must be 0 to 100'),
    ],
)
def test_the_script_refuses(flags, message, static, capsys):
    assert choose.main([str(static), *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_script_refuses_what_is_no_run(tmp_path, static, capsys):
    assert choose.main([str(tmp_path / 'none')]) == 2
    assert 'no such run folder' in capsys.readouterr().err
    assert choose.main([str(static / 'config.json')]) == 2
    assert 'config.json: is a file; give a run folder' in capsys.readouterr().err
    for path in (static / 'eval').iterdir():
        path.unlink()
    assert choose.main([str(static)]) == 2
    assert 'no evaluation records' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        choose.main([])


@pytest.fixture
def one_class(tmp_path):
    """A run of a folder with one class: right by definition."""
    config = {**SMALL, 'data': '/data/one', 'dataset': 'folder', 'classes': 1, 'sizes': [28]}
    layers = {'s28': [layer('conv', 1_000)]}
    scored = [score('s28', 100.0, data='/data/one', dataset='folder')]
    return write_run(tmp_path / 'one class', config, layers, scored)


def test_runs_of_other_data_are_named_apart(static, one_class, capsys):
    """The best of each, and not that with the easiest images."""
    runs = [str(static), str(one_class)]
    for flags in ([], ['--madds', '9M'], ['--min-top1', '60']):
        assert choose.main([*runs, *flags]) == 0
        shown = capsys.readouterr().out
        assert 'animals28; 10 classes' in shown and 'folder; of /data/one; 1 class;' in shown
        # Of a table that does not fit, cells have several lines.
        assert 'static' in shown and 'one' in shown
    assert choose.main([*runs, '--madds', '0.1M']) == 0
    shown = capsys.readouterr().out
    assert 'no choice keeps the limits' in shown and f"-ec '{one_class}' -es 28" in shown
    assert choose.main([*runs, '--madds', '1']) == 2


@pytest.mark.parametrize(
    'change',
    [
        {'dataset': 'cifar10'},
        {'classes': 9},
        {'augmentation': 'area_crop', 'dataset': 'animals28'},
        {'resize': 'nearest'},
        {'inputs': 'unit_rgb'},
        {'data': '/a', 'dataset': 'folder'},
    ],
)
def test_other_conditions(change, static, tmp_path, capsys):
    config = {**SMALL, 'sizes': [28], **change}
    layers = {'s28': [layer('conv', 1_000)]}
    other = write_run(tmp_path / 'other', config, layers, [score('s28', 99.0)])
    assert choose.main([str(static), str(other), '--madds', '9M']) == 0
    shown = capsys.readouterr().out
    assert f'{static} at s28' in shown and f'{other} at s28' in shown


def test_moved_folders_of_the_same_images_are_compared(tmp_path, capsys):
    runs = []
    for place in ('/a', '/b'):
        config = {**SMALL, 'sizes': [28], 'data': place, 'dataset': 'folder'}
        run = tmp_path / place[1:]
        write_run(run, config, {'s28': [layer('conv', 1_000)]}, [score('s28', 99.0)])
        val = {'images': 50000, 'crc32': 5, 'content': 'abcdef0123456789'}
        (run / 'data.json').write_text(json.dumps({'val': val}))
        runs.append(str(run))
    assert choose.main([*runs, '--madds', '9M']) == 0
    assert 'validation images' not in capsys.readouterr().out


def test_records_of_a_checkpoint_elsewhere_are_not_recommended(static, tmp_path, capsys):
    """As `--eval` writes them to train_log/eval-*, beside the runs of train_log/*."""
    config = {**SMALL, 'sizes': [28], 'load': str(static / 'model-5')}
    layers = {'s28': [layer('conv', 1_000)]}
    records = write_run(tmp_path / 'eval-x-model-5', config, layers, [score('s28', 99.0)])
    (records / 'model-5.index').unlink()
    assert choose.main([str(static), str(records), '--madds', '9M']) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f'{static} at s28, top-1 90.00') and f'-ec {records}' not in shown
    assert f'{records}: records without a checkpoint, left out' in shown
    assert choose.main([str(records), '--madds', '9M']) == 2
    assert 'records without a checkpoint' in capsys.readouterr().err


def test_a_command_names_data_that_the_run_does_not_know(tmp_path, capsys):
    config = {**SMALL, 'sizes': [28], 'data': '', 'dataset': ''}
    scored = [score('s28', 99.0, data="/my data/it's", dataset='animals28')]
    run = write_run(tmp_path / 'run', config, {'s28': [layer('conv', 1_000)]}, scored)
    assert choose.main([str(run), '--madds', '9M']) == 0
    _, command = capsys.readouterr().out.splitlines()
    assert parse(shlex.split(command)[2:]).data == "/my data/it's"


@pytest.mark.parametrize('name', ['-run', 'a b', "it's", 'a"b', '[1]*?', 'ä$HOME`x`', '#run'])
def test_a_command_runs_with_any_path(name, static, tmp_path, monkeypatch, capsys):
    (tmp_path / 'static').rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert choose.main(['--madds', '9M', '--', name]) == 0
    command = capsys.readouterr().out.splitlines()[1]
    found = parse(shlex.split(command)[2:])
    assert Path(found.eval_checkpoint).samefile(name)
    line = command.strip().replace('python imagenet_tf.py', 'printf "%s|"')
    said = subprocess.run(['sh', '-c', line], capture_output=True, text=True, check=True).stdout
    assert Path(said.split('|')[2]).samefile(name)
