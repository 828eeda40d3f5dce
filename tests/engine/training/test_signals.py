"""What ends a training before its time: signals, and numbers that are none."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from tensorpack import StopTraining

from engine.config.config import Config
from engine.errors import Terminated, UsageError
from engine.evaluation import evaluate
from engine.graph.worker import SingleWorker
from engine.training.signals import StopAtNaN, StopOnSignal, first
from engine.training.train import too_large
from quant.backend import tf

pytestmark = pytest.mark.usefixtures('no_garbage')


@pytest.fixture
def stop():
    """A callback within an epoch of 10 steps; its calls before the end are recorded."""
    calls = []
    callback = StopOnSignal(
        SingleWorker(), lambda: calls.append('check'), lambda: calls.append('save')
    )
    callback.trainer = SimpleNamespace(local_step=3, global_step=14, steps_per_epoch=10)
    callback.calls = calls
    # A shell that starts tests in the background has them ignore SIGINT.
    shell, before = (
        signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.getsignal(signal.SIGTERM),
    )
    callback._before_train()
    yield callback
    callback._after_train()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (
        signal.default_int_handler,
        before,
    )
    signal.signal(signal.SIGINT, shell)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    'number, kind', [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_ends_the_training_after_the_step(number, kind, stop):
    stop._trigger_step()
    stop.end()
    send(number)
    assert stop.calls == []
    with pytest.raises(KeyboardInterrupt) as caught:
        stop._trigger_step()
    assert (caught.type, caught.value.args, stop.calls) == (kind, (14,), ['check', 'save'])


def test_a_signal_in_the_last_step_waits_for_the_end_of_the_epoch(stop):
    stop.trainer.local_step = 9
    send(signal.SIGTERM)
    stop._trigger_step()
    with pytest.raises(Terminated):
        stop._before_epoch()
    assert stop.calls == []


def test_a_second_ctrl_c_ends_it_at_once_but_no_second_sigterm(stop):
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_a_signal_that_the_shell_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop = StopOnSignal(SingleWorker())
        stop._before_train()
        send(signal.SIGINT)
        stop.end()
        stop._after_train()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    'broken, expected',
    [
        ([], 'all variables are finite'),
        (
            ['conv0/W', 'g/bn/s16/mean/EMA', 'linear/W'],
            'first statistics that are not finite: g/bn/s16/mean/EMA',
        ),
        (
            ['conv0/W', 'g/quant1/basis', 'g/bn/variance/EMA'],
            'statistics that are not finite: g/quant1/basis, g/bn',
        ),
        (
            [f'l{i}/W' for i in range(5)],
            'variables that are not finite: l0/W, l1/W, l2/W and 2 more; all statistics',
        ),
    ],
)
def test_where_it_began(broken, expected):
    statistics = {'g/bn/s16/mean/EMA', 'g/quant1/basis', 'g/bn/variance/EMA'}
    assert expected in first(broken, statistics)


@pytest.fixture
def guard(run):
    """A guard of two towers with two loss terms; ``guard.session`` runs their graph."""
    weights = tf.get_variable('conv0/W', [2], initializer=tf.zeros_initializer())
    tf.get_variable('conv0/bn/mean/EMA', [2], trainable=False, initializer=tf.zeros_initializer())
    terms = [{'loss': tf.constant(float(i)), 'loss/s16': tf.constant(1.0)} for i in (1, 2)]
    callback = StopAtNaN(
        SimpleNamespace(losses=terms, config=Config.from_values(lr=0.5), worker=SingleWorker())
    )
    callback._setup_graph()
    run(weights)
    callback.trainer = SimpleNamespace(sess=tf.get_default_session())
    return callback


def after(guard, **terms) -> None:
    guard._after_run(None, SimpleNamespace(results={'loss': sum(terms.values()), **terms}))


def test_all_is_well(guard):
    after(guard, ce=1.0)
    guard.check()
    found = guard.trainer.sess.run(guard._before_run(None).fetches)
    assert (found, guard.reason) == ({'loss': 3.0, 'loss/s16': 2.0}, '')


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_no_number_names_its_terms(value, guard):
    with pytest.raises(StopTraining):
        after(guard, ce=1.0, distillation=value)
    assert (
        f'the loss is {value} (loss, distillation not finite); all variables are finite'
        in guard.reason
    )
    assert '--lr than 0.5' in guard.reason


@pytest.mark.parametrize('variable', ['conv0/W', 'conv0/bn/mean/EMA'])
def test_a_broken_variable_is_not_saved(variable, guard):
    broken = next(v for v in tf.global_variables() if v.op.name == variable)
    broken.load([0.0, np.inf], guard.trainer.sess)
    for call in (guard.check, guard._trigger_epoch):
        with pytest.raises(
            StopTraining, match=f'the loss was finite, but variables are not; .*{variable}'
        ):
            call()


@pytest.mark.parametrize(
    'batch, gpus, advice',
    [
        (256, 4, '--batch_size 128,'),
        (6, 4, 'smaller --sizes'),
        (10, 2, '--batch_size 4,'),
        (1, 1, 'smaller --sizes'),
    ],
)
def test_memory(batch, gpus, advice):
    message = too_large(Config.from_values(batch_size=batch, gpu=tuple(range(gpus))))
    assert f'--batch_size {batch}: a step does not fit' in message and advice in message


def test_memory_of_several_machines():
    assert '--batch_size 32,' in too_large(
        Config.from_values(batch_size=64, gpu=(0, 1, 2, 3)), workers=8
    )
    assert 'smaller --sizes' in too_large(
        Config.from_values(batch_size=32, gpu=(0, 1, 2, 3)), workers=8
    )


def test_memory_of_an_evaluation():
    def predictor(*_):
        raise tf.errors.ResourceExhaustedError(None, None, 'OOM')

    with pytest.raises(UsageError, match='evaluation: a batch of 7 images does not fit'):
        evaluate.score([predictor], [[np.zeros((7, 8, 8, 3)), np.zeros(7)]], 1, None)
