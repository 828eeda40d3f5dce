"""Checkpoints in folders whose names TensorFlow takes for patterns, or cannot be given at all."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import UsageError
from engine.runs import checkpoint
from engine.runs.folder import open_run
from engine.training import saving
from quant.backend import tf
from tests.engine.runs.test_folder import CONFIG

NAMES = [
    'run[1]',
    '[!a]*',
    'q?m',
    'back\\slash',
    '\'"',
    'new\nline',
    'é中 ',
    '\udc80',
    '$(x);{a,b}',
]


def session_of(value):
    """A session with one variable, and the saver of a training."""
    variable = tf.get_variable('w', initializer=np.full(3, value, np.float32))
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return session, tf.train.Saver([variable]), variable


@pytest.mark.parametrize('name', NAMES)
def test_any_folder_can_be_written_read_and_resumed(name, tmp_path):
    prefix = tmp_path / name / 'model-3'
    prefix.parent.mkdir()
    with tf.Graph().as_default():
        session, saver, variable = session_of(7)
        saving.write(saver, session, prefix)
        session.run(variable.assign([0, 0, 0]))
        resume = saving.Resume(str(prefix))
        resume._setup_graph()
        resume._run_init(session)
        assert session.run(variable).tolist() == [7, 7, 7]
    found = checkpoint.read_variables(str(prefix), flag='-ec')
    assert found['w'].tolist() == [7, 7, 7]
    files = {path.name for path in prefix.parent.iterdir()}
    assert files == {'model-3.index', 'model-3.data-00000-of-00001'}


def test_a_pattern_reads_no_other_folder(tmp_path):
    """`run[1]` is none of the names of `run1`, whose files TensorFlow would find for it."""
    with tf.Graph().as_default():
        session, saver, _ = session_of(7)
        (tmp_path / 'run1').mkdir()
        saving.write(saver, session, tmp_path / 'run1' / 'model-3')
    (tmp_path / 'run[1]').mkdir()
    with pytest.raises(UsageError, match=r'run\[1\]/model-3: cannot be read') as error:
        checkpoint.read_variables(str(tmp_path / 'run[1]' / 'model-3'), flag='-ec')
    assert '/proc/' not in str(error.value)


@pytest.mark.parametrize('name', ['a[1]-7', 'b*', 'c\\d'])
def test_a_foreign_checkpoint_of_any_name(name, tmp_path):
    with tf.Graph().as_default():
        session, saver, _ = session_of(5)
        saving.write(saver, session, tmp_path / 'model-3')
    for file in tmp_path.glob('model-3.*'):
        file.rename(file.with_name(file.name.replace('model-3', name)))
    found = checkpoint.read_variables(str(tmp_path / name), flag='-ec')
    assert found['w'].tolist() == [5, 5, 5]


def test_a_run_needs_a_name_that_is_text(tmp_path):
    with pytest.raises(UsageError, match='is no UTF-8 text'):
        open_run(CONFIG, tmp_path / '\udc80', None)


def test_nobody_is_told_to_delete_a_run_that_cannot_be_read(tmp_path):
    run = tmp_path / 'a[1]'
    open_run(CONFIG, run, None)
    for name in ('model-1', 'best'):
        (run / f'{name}.index').write_bytes(b'')

    def unreadable(prefix):
        if Path(prefix).name != 'best':
            raise UsageError(f'{prefix}: the network is down')

    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(UsageError, match='none of its checkpoints can be read') as error:
        open_run(CONFIG, run, None, check=unreadable)
    assert ' -a d' not in str(error.value) and 'delete it' not in str(error.value)
    assert f"--load '{run}/best'" in str(error.value)
    assert {path: path.read_bytes() for path in run.iterdir()} == before
