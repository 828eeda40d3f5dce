"""Checkpoints that are complete or absent, the newest good one, and which ones stay."""

import json
import resource
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.config.config import Config
from engine.errors import UsageError
from engine.files import read_json
from engine.runs import checkpoint, history
from engine.runs.folder import Run, checkpoints, open_run
from engine.training import saving
from engine.training.saving import KEPT, SPACING, Resume, SaveBest, outdated, write
from quant.backend import tf

CONFIG = Config.from_values(data='animals28', steps_per_epoch=10, epochs=5)
CHECK = partial(checkpoint.read_variables, flag='--logdir')


class Killed(BaseException):
    """What no handler takes for an error."""


@pytest.fixture
def saver(run):
    """Writes checkpoints of one variable x, whose value is given."""
    variable = tf.get_variable('x', [1000])
    ours, value = tf.train.Saver(max_to_keep=None), tf.placeholder(tf.float32, [])
    assign = variable.assign(tf.fill([1000], value))

    def save(prefix: Path, number: float) -> None:
        run(assign, {value: number})
        write(ours, tf.get_default_session(), prefix)

    return save


def x(prefix) -> float:
    return CHECK(str(prefix))['x'][-1]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def files(name: str) -> set[str]:
    return {f'{name}.index', f'{name}.data-00000-of-00001'}


def test_a_checkpoint_is_written_and_replaced(saver, tmp_path):
    for number in (1, 2):
        saver(tmp_path / 'best', number)
        assert x(tmp_path / 'best') == number
        assert names(tmp_path) == files('best')


@pytest.mark.parametrize('old', [False, True])
@pytest.mark.parametrize(
    'function, call', [('fsync', 0), ('fsync', 1), ('replace', 0), ('replace', 1)]
)
def test_a_killed_save_leaves_a_whole_checkpoint_or_none(
    function, call, old, saver, tmp_path, monkeypatch
):
    prefix = tmp_path / 'best'
    if old:
        saver(prefix, 1)
    plain, calls = getattr(saving.os, function), []

    def dying(*args):
        calls.append(args)
        if len(calls) > call:
            raise Killed
        plain(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(saving.os, function, dying)
        saver(prefix, 2)
    if (tmp_path / 'best.index').exists():
        assert old and function == 'fsync' and x(prefix) == 1
    saver(prefix, 3)
    assert x(prefix) == 3 and names(tmp_path) == files('best')


def test_what_a_killed_process_left_is_removed(saver, tmp_path):
    (tmp_path / '.saving.model-7.index').touch()
    (tmp_path / '.saving.model-8_temp').mkdir()
    (tmp_path / '.saving.model-8_temp' / 'part').touch()
    saver(tmp_path / 'model-9', 1)
    assert names(tmp_path) == files('model-9')


@pytest.mark.parametrize(
    'error',
    [
        OSError(28, 'No space left on device'),
        tf.errors.ResourceExhaustedError(None, None, 'No space left on device'),
    ],
)
def test_a_full_disk_keeps_the_old_checkpoint(error, saver, tmp_path, monkeypatch):
    saver(tmp_path / 'best', 1)

    def full(_, session, path, **__):
        Path(f'{path}.data-00000-of-00001').write_text('a part')
        raise error

    monkeypatch.setattr(tf.train.Saver, 'save', full)
    with pytest.raises(UsageError, match=f'--logdir {tmp_path}: checkpoint best .*No space left'):
        saver(tmp_path / 'best', 2)
    assert x(tmp_path / 'best') == 1 and names(tmp_path) == files('best')


def test_the_reason_of_a_failed_save_is_told(saver, tmp_path):
    """A real error of TensorFlow's, whose first line says nothing: files may not grow."""
    saver(tmp_path / 'best', 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            UsageError, match='checkpoint best cannot be written .*[Ff]ile too large'
        ):
            saver(tmp_path / 'best', 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert x(tmp_path / 'best') == 1


def test_a_folder_that_is_gone(saver, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match='checkpoint model-1 cannot be written'):
        saver(tmp_path / 'file' / 'model-1', 1)


def broken(prefix: Path, how: str) -> None:
    data, index = Path(f'{prefix}.data-00000-of-00001'), Path(f'{prefix}.index')
    content = bytearray(data.read_bytes())
    if how == 'half the index':
        index.write_bytes(index.read_bytes()[: len(index.read_bytes()) // 2])
    elif how == 'empty index':
        index.write_bytes(b'')
    elif how == 'no data':
        data.unlink()
    elif how == 'half the data':
        data.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        data.write_bytes(content)


@pytest.mark.parametrize(
    'how', ['half the index', 'empty index', 'no data', 'half the data', 'one bit']
)
def test_the_newest_good_checkpoint_is_used_and_a_broken_one_named(how, saver, tmp_path, capsys):
    open_run(CONFIG, tmp_path, None)
    for step in (10, 20, 24):
        saver(tmp_path / f'model-{step}', step)
    (tmp_path / 'stats.json').write_text(json.dumps([{'epoch_num': 1}, {'epoch_num': 2}]))
    broken(tmp_path / 'model-24', how)
    assert open_run(CONFIG, tmp_path, None, check=CHECK).step == 20
    assert f'{tmp_path}/model-24: cannot be read' in capsys.readouterr().out
    broken(tmp_path / 'model-20', how)
    run = open_run(CONFIG, tmp_path, None, check=CHECK)
    assert (run.step, run.checkpoint) == (10, str(tmp_path / 'model-10'))
    assert history.read(tmp_path, '') == [{'epoch_num': 1}]
    broken(tmp_path / 'model-10', how)
    with pytest.raises(UsageError, match='none of its checkpoints can be read'):
        open_run(CONFIG, tmp_path, None, check=CHECK)


@pytest.mark.parametrize(
    'saved, step, gone',
    [
        ({}, 0, []),
        ({10: 0, 14: 1}, 14, []),  # stopped within the second epoch, and about to go on
        ({10: 0, 14: 1}, 20, [14]),
        ({10: 0, 14: 1, 17: 2, 20: 3, 23: 4}, 23, [14, 17]),
        ({10 * epoch: epoch for epoch in range(1, 15)}, 140, [20, 30, 40]),
        ({10 * epoch: SPACING * epoch for epoch in range(1, 15)}, 140, []),
        ({10 * epoch: SPACING * epoch / 2 for epoch in range(1, 15)}, 140, [20, 40]),
    ],
)
def test_checkpoints_that_can_go(saved, step, gone):
    assert outdated(saved, 10, step) == gone
    assert outdated({at: time for at, time in saved.items() if at not in gone}, 10, step) == []
    assert KEPT == 10


def test_averages_of_metrics_come_back_and_may_be_missing(saver, run, tmp_path):
    saver(tmp_path / 'old', 1)
    average = tf.get_local_variable('EMA/loss', initializer=0.0)
    run([average.assign(5.0)])
    write(tf.train.Saver(saving.state()), tf.get_default_session(), tmp_path / 'new')
    for name, expected in (('old', (1, -1)), ('new', (1, 5))):
        tf.get_default_session().run(
            [tf.global_variables()[0].assign(np.zeros(1000)), average.assign(-1.0)]
        )
        resume = Resume(str(tmp_path / name))
        resume._setup_graph()
        resume._run_init(tf.get_default_session())
        found = tf.get_default_session().run([tf.global_variables()[0], average])
        assert (found[0][0], found[1]) == expected
    assert checkpoints(tmp_path) == {}


@pytest.fixture
def best(run, tmp_path):
    """Ends epochs with an accuracy each; what is known of the best one, and its checkpoint."""
    variable = tf.get_variable('x', [], initializer=tf.zeros_initializer())
    value = tf.placeholder(tf.float32, [])
    assign = variable.assign(value)
    callback = SaveBest(Run(tmp_path))
    callback._setup_graph()
    rows = []

    def end_epoch(top1: float) -> tuple[history.Best, float]:
        epoch = len(rows) + 1
        run(assign, {value: top1})
        callback.trainer = SimpleNamespace(
            sess=tf.get_default_session(),
            monitors=SimpleNamespace(get_latest=lambda _: top1),
            epoch_num=epoch,
            global_step=10 * epoch,
        )
        callback._trigger_epoch()
        rows.append({'val/top1/mean': top1, 'epoch_num': epoch, 'global_step': 10 * epoch})
        history.write(tmp_path, rows)
        found = read_json(tmp_path / 'best.json', history.Best, '')
        return found, CHECK(str(tmp_path / 'best'))['x']

    return end_epoch


DAMAGES = {
    'cut': lambda path: path.write_text('{"mean_top1": 6'),
    'empty': lambda path: path.write_text(''),
    'list': lambda path: path.write_text('[1]'),
    'text': lambda path: path.write_text('{"mean_top1": "60", "step": 20, "epoch": 2}'),
    'nan': lambda path: path.write_text('{"mean_top1": NaN, "step": 20, "epoch": 2}'),
    'digit': lambda path: path.write_text(path.read_text().replace('60', '40')),
    'deep': lambda path: path.write_text('[' * 100_000),
    'gone': lambda path: path.unlink(),
}


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
def test_what_is_known_of_the_best_epoch_is_made_anew(damage, best, tmp_path):
    assert best(50) == (history.Best(50, 10, 1), 50)
    assert best(60) == (history.Best(60, 20, 2), 60)
    damage(tmp_path / 'best.json')
    assert best(55) == (history.Best(60, 20, 2), 60)
    assert best(70) == (history.Best(70, 40, 4), 70)


def test_a_best_checkpoint_of_which_nothing_is_known_is_kept(best, tmp_path):
    best(60)
    (tmp_path / 'best.json').write_text('')
    (tmp_path / 'stats.json').write_text('')
    assert best(50) == (history.Best(50, 20, 2), 50)
    kept = [path for path in tmp_path.glob('best.*.damaged-*') if path.stat().st_size]
    assert len(kept) == 2
