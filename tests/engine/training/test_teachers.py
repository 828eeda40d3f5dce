"""The network that ``--teacher`` names: which one it is, and what cannot be one."""

import dataclasses
import functools
import json
import shutil
import signal

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import Config
from engine.deployment import run_backend
from engine.errors import UsageError
from engine.runs.checkpoint import Checkpoint
from engine.runs.folder import Run, checkpoints
from engine.training import teachers
from tests.checkpoints import values
from tests.engine.training.test_fault import (
    STEPS,
    assert_same,
    finish,
    output,
    signal_after_step,
    start,
)

NAMES = ('ant', 'bee', 'cow')
RUN = Config.from_values(
    arch='resnet8', mode='resnet', width=0.25, sizes=(16, 12), image_size=16, classes=3
)


class Made:
    """In place of the graph of a teacher."""

    def __init__(self, source, name, columns, **_):
        self.columns = columns
        self.digest = f'{source.prefix} {name}'


@pytest.fixture
def find(monkeypatch, tmp_path):
    """``find(text, names of the teacher)`` with a run RUN in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'RUN').mkdir()

    def found(text, names=NAMES, folder=None, classes=NAMES, **changes):
        config = dataclasses.replace(RUN)
        source = Checkpoint(
            'RUN/model-9', {}, config.replacing(classes=len(names) or 3), class_names=names
        )
        if changes:
            source = dataclasses.replace(source, **changes)
        monkeypatch.setattr(run_backend, 'read', lambda *_: source)
        monkeypatch.setattr('engine.graph.teacher.teacher', Made)
        asked = RUN.replacing(teacher=text, classes=len(classes))
        teachers.check_there(asked)
        return teachers.find(asked, classes, folder=folder, data_format='NHWC')

    return found


@pytest.mark.parametrize('text, point', [('RUN', 's16'), ('RUN:s16', 's16'), ('RUN:s12', 's12')])
def test_the_point(find, text, point):
    assert find(text).record == teachers.TeacherRecord('model-9', point, f'RUN/model-9 {point}')


@pytest.mark.parametrize(
    'names, columns',
    [
        (NAMES, [0, 1, 2]),
        (('cow', 'ant', 'bee'), [1, 2, 0]),
        (('ape', 'cow', 'bee', 'ant'), [3, 2, 1]),
        ((), [0, 1, 2]),
    ],
)
def test_classes_are_taken_by_name(find, names, columns):
    np.testing.assert_array_equal(find('RUN', names).teacher.columns, columns)


@pytest.mark.parametrize(
    'text, parts, names',
    [
        ('GONE', ['--teacher GONE', 'no such run folder'], NAMES),
        ('GONE:s16', ['--teacher GONE:s16', 'no such run folder'], NAMES),
        ('RUN:s20', ['--teacher RUN:s20', 'point s20 is unknown', 's16, s12'], NAMES),
        ('RUN:big', ['--teacher RUN:big', "'big'", 's160-x2'], NAMES),
        ('RUN', ['only there: ape', 'only here: ant', 'same names'], ('ape', 'bee', 'cow')),
        ('RUN', ['only here: cow'], ('ant', 'bee')),
        ('RUN', ['are not among'], ('ant', 'ant', 'bee', 'cow')),
    ],
)
def test_refused(find, text, parts, names):
    with pytest.raises(UsageError) as caught:
        find(text, names)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_unnamed_classes_of_another_number(find):
    other = RUN.replacing(classes=7)
    with pytest.raises(UsageError, match='7 classes without names, the run 3'):
        find('RUN', (), config=other)


def test_a_run_goes_on_with_the_teacher_that_it_began_with(find, tmp_path):
    began = find('RUN')
    began.note(Run(tmp_path))
    record = json.loads((tmp_path / teachers.FILE).read_text())
    assert (record['checkpoint'], record['point']) == ('model-9', 's16')
    (tmp_path / 'RUN' / 'model-9.index').touch()
    assert find('RUN', folder=tmp_path).record == began.record
    with pytest.raises(UsageError, match='began to learn from another network, model-9 at s16'):
        find('RUN:s12', folder=tmp_path)
    (tmp_path / 'RUN' / 'model-9.index').unlink()
    with pytest.raises(UsageError, match='no checkpoint model-9, from which the run learned'):
        find('RUN', folder=tmp_path)


@pytest.mark.parametrize(
    'flags, part',
    [
        ('--label-weight 0', '--label_weight 0.0: needs --teacher'),
        ('--teacher-bf16', '--teacher_bf16 True: needs --teacher'),
        ('--teacher . --label-weight 0 --teacher-weight 0', 'leaves nothing to learn from'),
        ('--teacher . --teacher-weight -1', '--teacher_weight -1: must be at least 0'),
        ('--teacher nowhere', 'no such run folder or checkpoint'),
    ],
)
def test_flags_that_cannot_be_meant(flags, part, tmp_path, capsys):
    logdir = tmp_path / 'run'
    line = ['--data', 'animals28', '-d', '8', *flags.split(), '--logdir', str(logdir)]
    assert imagenet_tf.main(line) == 2
    assert part in capsys.readouterr().err
    assert not (logdir / 'config.json').exists()


@pytest.mark.slow
def test_a_training_that_is_interrupted_learns_the_same(tmp_path):
    """To the bit, from a teacher that has moved and was trained further meanwhile."""
    lent, moved = tmp_path / 'lent', tmp_path / 'moved'
    finish(lent, '--epochs', 1)
    flags = ['--epochs', 2, '--qw', 2, '--qa', 2, '--seed', 3, '--teacher']
    straight, run = tmp_path / 'straight', tmp_path / 'run'
    finish(straight, *flags, lent)
    hurt = functools.partial(signal_after_step, signal.SIGTERM, STEPS + 2)
    process = start(run, *flags, f'{lent}:s12', hurt=hurt)
    process.join()
    assert process.exitcode == 143 and max(checkpoints(run)) == STEPS + 2, output(run)
    shutil.move(lent, moved)
    finish(moved, '--epochs', 2, '-a', 'p')
    assert f'resuming at step {STEPS + 2}\n' in finish(run, *flags, moved)
    assert_same(run, straight, 2)
    assert not any('outside' in name for name in values(run / 'best'))


@pytest.mark.slow
def test_several_towers_and_other_networks(tmp_path):
    """Each tower has the teacher for itself; it is computed in bfloat16."""
    lent, run = tmp_path / 'lent', tmp_path / 'run'
    finish(lent, '--epochs', 1)
    flags = ['--mode', 'pytorch', '--net', 'san', '--gpu', '0,1', '--epochs', 1]
    said = finish(run, *flags, '--teacher', lent, '--teacher-bf16', '--teacher-weight', 2)
    assert 'teacher' in said and 'Do not know how to sync' not in said
    assert not any('outside' in name for name in values(run / 'best'))


@pytest.mark.slow
def test_no_session_comes_before_the_threads_of_a_run(tmp_path, threads_of_sessions):
    """The first one in a process decides: that which freezes a teacher leaves the number open."""
    short = ['--preset', 'demo', '--epochs', '1', '--steps-per-epoch', '1', '--threads', '1']
    runs = [str(tmp_path / name) for name in ('float', 'taught', 'dry')]
    low = [*short, '--qw', '2', '--qa', '2', '--teacher', runs[0]]
    commands = [
        [*short, '--logdir', runs[0]],
        [*low, '--logdir', runs[1]],
        [*low, '--logdir', runs[2], '--dry-run', '--measure'],
        ['--eval', '-ec', runs[1], '--threads', '1', '-es', '12'],
    ]
    for command in commands:
        threads_of_sessions.clear()
        assert imagenet_tf.main(command) == 0
        assert threads_of_sessions[0] == 1
