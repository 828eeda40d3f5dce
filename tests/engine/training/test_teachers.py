"""The network that ``--teacher`` names: which one it is, and what cannot be one."""

import dataclasses
import json
import shlex
import shutil

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import Config
from engine.deployment import run_backend
from engine.errors import UsageError
from engine.runs.checkpoint import Checkpoint
from engine.runs.folder import Run
from engine.training import teachers
from tests.checkpoints import values

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
        monkeypatch.setattr(teachers, 'teacher', Made)
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
        ('RUN:s20', ['--teacher RUN:s20', 'no point s20', 's16 s12'], NAMES),
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


TINY = shlex.split(
    '--data animals28 -d 8 --width 0.25 --mode preact --batch-size 8 --steps-per-epoch 2 '
    '--threads 0'
)


def main(*flags):
    assert imagenet_tf.main([str(flag) for flag in flags]) == 0


@pytest.mark.slow
@pytest.mark.parametrize('gpus', ['0', '0,1'])
def test_a_training_that_is_interrupted_learns_the_same(gpus, tmp_path, few_validation_images):
    """To the bit, with any number of towers, and from a teacher that has moved and gone on."""
    lent = tmp_path / 'lent'
    main(*TINY, '--sizes', 16, '--epochs', 1, '--logdir', lent)
    flags = [*TINY, '--sizes', 16, 12, '--qw', 2, '--qa', 2, '--seed', 3, '--gpu', gpus]
    flags += ['--schedule', 'step']
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    main(*flags, '--epochs', 2, '--teacher', lent, '--logdir', whole)
    main(*flags, '--epochs', 1, '--teacher', f'{lent}:s16', '--logdir', parts)
    moved = tmp_path / 'moved'
    shutil.move(lent, moved)
    main(*TINY, '--sizes', 16, '--epochs', 2, '--logdir', moved, '-a', 'p')
    main(*flags, '--epochs', 2, '--teacher', moved, '--logdir', parts)
    expected, found = values(whole / 'model-4'), values(parts / 'model-4')
    assert expected.keys() == found.keys()
    assert not any('outside' in name for name in found)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)
