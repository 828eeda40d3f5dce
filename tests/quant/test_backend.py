"""Sessions: exact and modest on GPUs, and made in one place."""

import os
import subprocess
import sys

import numpy as np
import pytest

from quant import backend
from quant.backend import tf
from tests.paths import ROOT

OVERRIDE = 'NVIDIA_TF32_OVERRIDE'

# What trains, as fast as GPUs can, or times how it is trained; what reads data alone.
OTHERS = (
    'scripts/bench/train.py',
    'scripts/bench/quantizers.py',
    'scripts/bench/data.py',
    'scripts/bench/data_paths.py',
)


@pytest.mark.parametrize('said', [None, '1'])
def test_sessions_are_exact_unless_the_environment_says_otherwise(said, monkeypatch):
    """Convolutions of ten bits gave another answer for 8 of 500 images on an H100."""
    monkeypatch.setenv(OVERRIDE, said or '')
    if said is None:
        monkeypatch.delenv(OVERRIDE)
    monkeypatch.setattr(tf, 'Session', lambda graph, config: (graph, config))
    graph = tf.Graph()
    given = tf.ConfigProto(intra_op_parallelism_threads=3)
    made, config = backend.session(graph, given)
    assert made is graph and config.intra_op_parallelism_threads == 3
    # Two programs share a GPU; TensorFlow's default takes nearly all of it.
    assert config.gpu_options.allow_growth
    assert os.environ[OVERRIDE] == (said or '0')


@pytest.mark.parametrize('said', [None, '1'])
def test_a_training_may_round_whatever_is_frozen_on_its_way(said, monkeypatch):
    monkeypatch.setenv(OVERRIDE, said or '')
    if said is None:
        monkeypatch.delenv(OVERRIDE)
    with backend.rounding_kept():
        backend.exact()
        assert os.environ[OVERRIDE] == (said or '0')
    assert os.environ.get(OVERRIDE) == said


def test_what_is_not_training_makes_its_sessions_so():
    found = []
    for path in (*ROOT.glob('engine/**/*.py'), *ROOT.glob('scripts/**/*.py')):
        name = path.relative_to(ROOT).as_posix()
        if 'tf.Session(' in path.read_text() and name not in OTHERS:
            found.append(name)
    assert not found


# Threads of a process after a session that leaves their number open.
THREADS = """
import os
from quant import backend
backend.pool({threads})
with backend.new_graph(), backend.session() as session:
    session.run(backend.tf.ones([3]))
print(len(os.listdir('/proc/self/task')))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc/self/task'), reason='threads are counted by Linux')
def test_a_pool_has_the_threads_that_were_asked_for():
    """Also for sessions that say nothing, as TensorFlow makes them once in a process."""
    found = []
    for threads in (1, 3, 6):
        command = [sys.executable, '-c', THREADS.format(threads=threads)]
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found.append(int(printed.stdout))
    assert found == [found[0], found[0] + 2, found[0] + 5]


def test_a_pool_is_made_where_a_number_is_asked_for(threads_of_sessions):
    backend.pool(0)
    backend.pool(2)
    assert threads_of_sessions == [2]


def function_of_two():
    """(x [N, 2] float32, rows [M] int64) -> the sum of x, and these rows of it."""
    with backend.new_graph():
        x = tf.placeholder(tf.float32, [None, 2])
        rows = tf.placeholder(tf.int64, [None])
        fetches = [tf.reduce_sum(x), tf.gather(x, rows)]
        return backend.function(backend.session(), [x, rows], fetches)


@pytest.mark.parametrize('dtype', [np.float32, np.float64, np.int32])
@pytest.mark.parametrize('step', [1, -2])
def test_arrays_of_other_types_and_strides_are_converted(dtype, step):
    x = np.arange(12).reshape(6, 2).astype(dtype)[::step]
    total, taken = function_of_two()(x, [2, 0])
    assert total == x.sum() and total.dtype == np.float32
    np.testing.assert_array_equal(taken, x[[2, 0]])


@pytest.mark.parametrize('shape', [(2, 3), (2,), (2, 2, 1)])
def test_an_array_of_another_shape_is_refused(shape):
    """TensorFlow would compute with it."""
    with pytest.raises(ValueError, match='incompatible'):
        function_of_two()(np.zeros(shape), [0])


def test_answers_stay_as_they_are_when_a_function_is_called_again():
    run = function_of_two()
    x = np.float32([[1, 2]])
    _, first = run(x, [0])
    x[:] = 5
    _, second = run(x, [0])
    np.testing.assert_array_equal([first, second], [[[1, 2]], [[5, 5]]])
