"""Sessions follow the machine, the towers and the size of the images."""

import pytest

from engine.config import hardware
from engine.config.config import Config
from engine.graph import sessions
from engine.graph.worker import SingleWorker
from scripts.trainings import ONE_THREAD


@pytest.fixture
def machine(monkeypatch):
    """Sets how many cores there are, and whether there is a GPU."""

    def has(cores=2, gpu=False):
        monkeypatch.setattr(hardware, 'cores', lambda: cores)
        monkeypatch.setattr(sessions, 'has_gpu', lambda: gpu)

    monkeypatch.delenv(sessions.THREADS, raising=False)
    has()
    return has


def config(**values):
    return Config.from_values(sizes=(32,), **values)


@pytest.mark.parametrize(
    'cores, towers, within, beside',
    [(1, 1, 1, 2), (1, 2, 1, 3), (2, 1, 2, 0), (2, 2, 1, 3), (8, 2, 4, 0), (1, 8, 1, 9)],
)
def test_threads_follow_cores_and_towers(cores, towers, within, beside, machine):
    """0 leaves it to TensorFlow, which takes one for each core."""
    machine(cores)
    several = config(gpu=tuple(range(towers)))
    made = SingleWorker().session(None, several)['session_creator'].config
    assert made.intra_op_parallelism_threads == within
    assert made.inter_op_parallelism_threads == beside
    assert made.use_per_session_threads == (beside > 0)


@pytest.mark.parametrize('asked, threads', [(None, 8), (0, 1), (3, 3), (16, 16)])
def test_threads_that_are_asked_for(asked, threads, machine):
    machine(8)
    assert sessions.settled(config(), asked).operation_threads == threads


def test_the_environment_comes_before_the_cores(machine, monkeypatch):
    """As for trainings of a study, one thread each; what is asked for comes first."""
    machine(8)
    recorded = sessions.settled(config())
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    assert sessions.session_config(config(), 1).intra_op_parallelism_threads == 1
    assert sessions.settled(config(), 3).operation_threads == 3
    assert sessions.settled(recorded) == recorded


def test_what_is_recorded_stays(machine):
    recorded = sessions.settled(config())
    machine(cores=16, gpu=True)
    assert sessions.settled(recorded) == recorded
    made = sessions.session_config(recorded, 1)
    assert made.intra_op_parallelism_threads == 2
    assert made.graph_options.rewrite_options.disable_meta_optimizer


@pytest.mark.parametrize(
    ('asked', 'taken', 'native'),
    [
        ('auto', True, 'require'),
        ('auto', False, 'off'),
        ('require', False, 'require'),
        ('off', True, 'off'),
    ],
)
def test_operations_of_quantizers_are_settled(asked, taken, native, machine, monkeypatch):
    """What is built later changes no training that has begun."""
    monkeypatch.setattr(hardware, 'takes_native', lambda config: taken)
    assert sessions.settled(config(native=asked)).native == native


DSNET = {'net': 'dsnet', 'arch': 'mobilenetv1', 'mode': 'pytorch'}


@pytest.mark.parametrize(
    'net, sizes, gpu, rewriting',
    [
        ({}, (224, 96), False, 'off'),
        ({}, (32,), True, 'on'),
        (DSNET, (96, 48), False, 'off'),
        (DSNET, (97,), False, 'on'),
        (DSNET, (32,), True, 'on'),
    ],
)
def test_graphs_are_run_as_they_were_built_where_rewriting_does_not_pay(
    net, sizes, gpu, rewriting, machine
):
    machine(gpu=gpu)
    found = sessions.settled(Config.from_values(**net, sizes=sizes))
    assert found.rewriting == rewriting
    made = sessions.session_config(found, 1)
    options = made.graph_options.rewrite_options
    assert options.disable_meta_optimizer == (rewriting == 'off')
    assert options.meta_optimizer_iterations == (0 if gpu else 1)
    assert ('rewritten' in sessions.line(found, 4)) == (rewriting == 'on')


def test_the_line_says_all_threads(machine):
    machine(cores=6)
    said = sessions.line(config(), 5)
    assert said.startswith('threads: 6 within operations, 5 decoding')
