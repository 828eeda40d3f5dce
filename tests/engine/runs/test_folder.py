"""Run folders: what opens, what is refused untouched, where a run resumes, atomic files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config.config import Config, read_config
from engine.data.folder import FOLDER
from engine.data.identity import Identity
from engine.data.sources import FileSource, Source, Subset
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.runs import history as records
from engine.runs.folder import checkpoint_step, checkpoints, open_run

CONFIG = Config.from_values(data='animals28', steps_per_epoch=10, epochs=5)
OTHER = CONFIG.replacing(qw=2, sizes=(28, 24))


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob('*')
    }


def add_checkpoint(folder: Path, step: int) -> str:
    for end in ('index', 'data-00000-of-00001'):
        (folder / f'model-{step}.{end}').touch()
    return str(folder / f'model-{step}')


def write_history(folder: Path, *epochs: int) -> None:
    rows = [{'epoch_num': epoch, 'global_step': 10 * epoch, 'loss': 1.0} for epoch in epochs]
    (folder / 'stats.json').write_text(json.dumps(rows))


def history(folder: Path) -> list[int]:
    return [row['epoch_num'] for row in json.loads((folder / 'stats.json').read_text())]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run of CONFIG with checkpoints and history of three epochs."""
    path = tmp_path / 'log' / 'run'
    open_run(CONFIG, path, None)
    for epoch in (1, 2, 3):
        add_checkpoint(path, 10 * epoch)
    write_history(path, 1, 2, 3)
    return path


@pytest.mark.parametrize('action', [None, 'k', 'd', 'n'])
@pytest.mark.parametrize('empty', [False, True])
def test_a_fresh_folder(action, empty, tmp_path):
    path = tmp_path / 'a' / 'b'
    if empty:
        path.mkdir(parents=True)
    run = open_run(CONFIG, path, action)
    assert (run.checkpoint, run.step) == (None, 0)
    assert read_config(run.path / 'config.json') == CONFIG
    assert run.path == path or (empty and action == 'n' and run.path.parent == path.parent)


@pytest.mark.parametrize('action', [None, 'k'])
def test_the_same_configuration_resumes(action, folder):
    before = contents(folder)
    run = open_run(CONFIG, folder, action)
    assert (run.path, run.checkpoint, run.step) == (folder, str(folder / 'model-30'), 30)
    assert contents(folder) == before


@pytest.mark.parametrize('action', [None, 'k'])
def test_another_configuration_is_refused(action, folder):
    before = contents(folder.parent)
    with pytest.raises(UsageError) as caught:
        open_run(OTHER, folder, action)
    message = str(caught.value)
    assert f'--logdir {folder}' in message
    assert 'qw: 32 there, 2 here' in message
    assert 'sizes: (224, 192, 160, 128, 96) there, (28, 24) here' in message
    assert [key for key in ('arch', 'lr', 'epochs') if f'{key}:' in message] == []
    assert [text for text in ('-a n', '--logdir') if text not in message] == []
    assert '-a d' not in message and 'delete' not in message  # it is a good run
    assert contents(folder.parent) == before


@pytest.mark.parametrize('config', [CONFIG, OTHER])
def test_delete_when_asked(config, folder):
    run = open_run(config, folder, 'd')
    assert (run.path, run.checkpoint, run.step) == (folder, None, 0)
    assert set(contents(folder)) == {'config.json'}
    assert read_config(folder / 'config.json') == config


@pytest.mark.parametrize('config', [CONFIG, OTHER])
def test_new_folder_beside(config, folder):
    before = contents(folder)
    run = open_run(config, folder, 'n')
    assert run.path.parent == folder.parent
    assert run.path.name.startswith('run-')
    assert (run.checkpoint, run.step) == (None, 0)
    assert read_config(run.path / 'config.json') == config
    assert contents(folder) == before


@pytest.mark.parametrize('action', [None, 'k', 'd'])
def test_a_folder_that_is_no_run_is_refused(action, tmp_path):
    (tmp_path / 'thesis.txt').write_text('precious')
    before = contents(tmp_path)
    with pytest.raises(UsageError, match='not empty and not a run'):
        open_run(CONFIG, tmp_path, action)
    assert contents(tmp_path) == before


@pytest.mark.parametrize('action', [None, 'k', 'd'])
def test_a_file_is_refused(action, tmp_path):
    path = tmp_path / 'file'
    path.write_text('precious')
    with pytest.raises(UsageError, match='is a file'):
        open_run(CONFIG, path, action)
    assert path.read_text() == 'precious'


FILES = FileSource(Path('/data'), ['train/a/1.JPEG', 'train/a/2.JPEG', 'train/b/3.JPEG'], [0, 0, 1])


def identity(train: Source) -> Identity:
    """What a data set with these training images is."""
    val = FileSource(Path('/data'), ['val/a/1.JPEG', 'val/b/2.JPEG'], [0, 1])
    return Identity(Dataset('data', FOLDER, ('a', 'b'), train, val))


IMAGES = identity(FILES)
SKIPPING = CONFIG.replacing(skip_list='bad.txt', max_bad=0.5)


def test_a_list_of_bad_validation_images_may_change(tmp_path):
    open_run(CONFIG, tmp_path / 'run', None, images=IMAGES)
    add_checkpoint(tmp_path / 'run', 9)
    assert open_run(SKIPPING, tmp_path / 'run', None, images=IMAGES).step == 9
    assert read_config(tmp_path / 'run' / 'config.json') == SKIPPING


@pytest.mark.parametrize(
    'images',
    [
        Subset(FILES, np.array([0, 2])),
        FileSource(Path('/data'), ['train/a/1.JPEG', 'x', 'train/b/3.JPEG'], [0, 0, 1]),
        FileSource(Path('/data'), FILES.files, [0, 1, 1]),
    ],
    ids=['skipped', 'names', 'labels'],
)
def test_other_training_images_are_refused(images, tmp_path):
    run = tmp_path / 'run'
    open_run(CONFIG, run, None, images=IMAGES)
    before = contents(run)
    with pytest.raises(
        UsageError,
        match=f'--logdir {run}: the run began with 3 training images; .* {len(images)} or',
    ):
        open_run(SKIPPING, run, None, images=identity(images))
    assert contents(run) == before
    assert open_run(SKIPPING, run, 'd', images=identity(images)).step == 0
    assert open_run(SKIPPING, run, None, images=identity(images)).step == 0


@pytest.mark.parametrize('action', [None, 'k'])
@pytest.mark.parametrize('content', ['', '{"qw": 2', '{"from_the_future": 1}'])
def test_a_corrupt_configuration_is_refused(content, action, folder):
    (folder / 'config.json').write_text(content)
    before = contents(folder)
    with pytest.raises(UsageError, match=r'config\.json'):
        open_run(CONFIG, folder, action)
    assert contents(folder) == before


def test_a_corrupt_configuration_can_be_deleted(folder):
    (folder / 'config.json').write_text('')
    assert open_run(CONFIG, folder, 'd').step == 0
    assert set(contents(folder)) == {'config.json'}


@pytest.mark.parametrize('content', ['', '[{"epoch_num": 1', 'null', '{"epoch_num": 1}', '[1]'])
def test_a_corrupt_history_is_put_aside_and_costs_no_checkpoint(content, folder, capsys):
    (folder / 'stats.json').write_text(content)
    assert open_run(CONFIG, folder, None).step == 30
    assert f'{folder}/stats.json: damaged' in capsys.readouterr().out
    (aside,) = folder.glob('stats.json.*')
    assert aside.read_text() == content and not (folder / 'stats.json').exists()
    assert open_run(CONFIG, folder, None).step == 30


@pytest.mark.parametrize('gpu', [(3,), (0, 1), (0, 1, 2, 3)])
def test_other_gpus_go_on(gpu, folder):
    assert open_run(CONFIG.replacing(gpu=gpu), folder, None).step == 30
    assert read_config(folder / 'config.json').gpu == gpu


@pytest.mark.parametrize('content', ['', '{}', '[]', 'null'])
def test_a_damaged_record_of_the_data_is_named(content, tmp_path):
    open_run(CONFIG, tmp_path / 'run', None, images=IMAGES)
    (tmp_path / 'run' / 'data.json').write_text(content)
    with pytest.raises(UsageError, match=r'data\.json: damaged'):
        open_run(CONFIG, tmp_path / 'run', None, images=IMAGES)


def test_a_full_disk_is_named_when_a_run_goes_on(folder, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    write_history(folder, 1, 2, 3, 4)
    monkeypatch.setattr('engine.runs.history.write_json', full)
    with pytest.raises(UsageError, match=f'--logdir {folder}: cannot be written .No space left'):
        open_run(CONFIG, folder, None)


def test_a_file_among_the_parents_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match='--logdir'):
        open_run(CONFIG, tmp_path / 'file' / 'run', None)


def test_new_folder_beside_the_current_one(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert open_run(CONFIG, Path('.'), 'n').path.resolve().parent == folder.parent


def test_delete_behind_a_link(folder):
    link = folder.parent / 'link'
    link.symlink_to(folder)
    assert open_run(CONFIG, link, 'd').step == 0
    assert link.is_symlink()
    assert set(contents(folder)) == {'config.json'}


def test_delete_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert open_run(CONFIG, Path('.'), 'd').step == 0
    assert set(contents(folder)) == {'config.json'}


@pytest.mark.parametrize(
    'saved, recorded, step, kept',
    [
        ((10, 20, 30), (1, 2, 3), 30, [1, 2, 3]),
        ((10, 20, 30), (1, 2), 20, [1, 2]),  # killed between checkpoint and history
        ((10, 20), (1, 2, 3), 20, [1, 2]),  # checkpoint lost
        ((20,), (1, 2, 3), 20, [1, 2]),  # older ones rotated away
        ((30,), (1, 2), 0, []),
        ((10, 20, 30, 34), (1,), 34, [1]),  # history lost
        ((10, 20, 30), (), 30, []),
        ((9, 10), (), 9, []),
        ((), (1, 2), 0, []),
        ((90, 100), tuple(range(1, 11)), 100, list(range(1, 11))),
    ],
)  # steps compare as numbers
def test_resumes_where_checkpoint_and_history_agree(saved, recorded, step, kept, tmp_path):
    open_run(CONFIG, tmp_path, None)
    for number in saved:
        add_checkpoint(tmp_path, number)
    write_history(tmp_path, *recorded)
    run = open_run(CONFIG, tmp_path, None)
    assert (run.step, run.checkpoint) == (step, str(tmp_path / f'model-{step}') if step else None)
    assert history(tmp_path) == kept


def test_resuming_twice_changes_nothing_more(folder):
    add_checkpoint(folder, 40)
    first = open_run(CONFIG, folder, None)
    before = contents(folder)
    assert open_run(CONFIG, folder, None) == first
    assert contents(folder) == before


@pytest.mark.parametrize('saved', [(), (10,)])
def test_no_history_starts_afresh(saved, tmp_path):
    open_run(CONFIG, tmp_path, None)
    for step in saved:
        add_checkpoint(tmp_path, step)
    assert open_run(CONFIG, tmp_path, None).step == 0
    assert not (tmp_path / 'stats.json').exists()


def test_cutting_the_history_keeps_the_rows_before(folder):
    rows = records.read(folder, '')
    (folder / 'model-30.index').unlink()
    open_run(CONFIG, folder, None)
    assert records.read(folder, '') == rows[:2]


def test_half_a_checkpoint_is_none(tmp_path):
    (tmp_path / 'model-10.data-00000-of-00001').touch()
    (tmp_path / 'model-last.index').touch()
    (tmp_path / 'best.index').touch()
    assert checkpoints(tmp_path) == {}


def test_checkpoints_ascend_by_number(tmp_path):
    for step in (100, 9, 20):
        add_checkpoint(tmp_path, step)
    assert list(checkpoints(tmp_path).items()) == [
        (step, str(tmp_path / f'model-{step}')) for step in (9, 20, 100)
    ]


@pytest.mark.parametrize(
    'prefix, step', [('a/model-600000', 600000), ('model-0', 0), ('run-5/best', None)]
)
def test_checkpoint_step(prefix, step):
    assert checkpoint_step(prefix) == step


def test_write_json_makes_folders_and_leaves_no_temporary(tmp_path):
    path = tmp_path / 'a' / 'b.json'
    for data in ({'x': [1, 2.5, None]}, []):
        write_json(path, data)
        assert read_json(path, Any, '') == data
        assert [entry.name for entry in path.parent.iterdir()] == ['b.json']


@pytest.mark.parametrize('bad', [{'x': object()}, {'x': {1, 2}}])
def test_write_json_keeps_the_old_file_when_it_fails(bad, tmp_path):
    path = tmp_path / 'a.json'
    write_json(path, {'x': 1})
    with pytest.raises(TypeError):
        write_json(path, bad)
    assert read_json(path, Any, '') == {'x': 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ['a.json']


def test_write_json_keeps_the_old_file_when_the_process_dies(tmp_path, monkeypatch):
    path = tmp_path / 'a.json'
    write_json(path, {'x': 1})

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('engine.files.os.replace', die)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {'x': 2})
    assert read_json(path, Any, '') == {'x': 1}


def test_a_folder_whose_creation_was_killed_is_fresh(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr('engine.files.os.replace', die)
        open_run(CONFIG, tmp_path / 'run', None)
    assert open_run(CONFIG, tmp_path / 'run', None).step == 0


@pytest.mark.parametrize(
    'saved, recorded, step, kept',
    [
        ((3,), (), 3, []),  # stopped within the first epoch, before there is a history
        ((10, 20, 24), (1, 2), 24, [1, 2]),
        (
            (10, 20, 24, 30),
            (1, 2),
            24,
            [1, 2],
        ),  # killed between the checkpoint of the third epoch and its record
        ((10, 14), (1, 2), 14, [1]),
        ((10, 24), (1,), 24, [1]),
    ],
)  # part of the history lost
def test_resumes_within_an_epoch(saved, recorded, step, kept, tmp_path):
    open_run(CONFIG, tmp_path, None)
    for number in saved:
        add_checkpoint(tmp_path, number)
    if recorded:
        write_history(tmp_path, *recorded)
    assert open_run(CONFIG, tmp_path, None).step == step
    assert (history(tmp_path) if recorded else []) == kept


def test_broken_checkpoints_are_named_and_older_ones_used(folder, capsys):
    def check(prefix):
        if not prefix.endswith('-10'):
            raise UsageError(f'{prefix}: broken')

    run = open_run(CONFIG, folder, None, check=check)
    assert (run.step, history(folder)) == (10, [1])
    assert [line.partition(':')[0] for line in capsys.readouterr().out.splitlines()] == [
        f'{folder}/model-{step}' for step in (30, 20)
    ]
