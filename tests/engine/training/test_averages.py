"""Averages of the weights: against numpy, over towers, and out of the way of the training."""

from types import SimpleNamespace

import numpy as np
import pytest
from tensorpack.graph_builder.utils import override_to_local_variable

from engine.optimization import averages
from engine.training.averages import AverageWeights
from engine.training.callbacks import FollowWeights
from quant.backend import tf
from quant.state import Kind, declared

DECAY = 0.75
NAMES = ('conv0/W', 'bn/mean/EMA')
RNG = np.random.default_rng(0)


class Training:
    """Variables of two replicated towers, whose averages a callback keeps."""

    def __init__(self, run, step=0):
        self.run = run
        self.towers = []
        for tower in ('', 'tower1/'):
            with override_to_local_variable(tower != ''):
                found = {name: tf.get_variable(tower + name, [3]) for name in NAMES}
            self.towers.append(found)
        tf.get_variable('conv0/W/Momentum', [3])
        model = SimpleNamespace(towers=[None, None], inspect=lambda: (dict.fromkeys(NAMES), None))
        self.callback = AverageWeights(model, DECAY)
        self.callback._setup_graph()
        run([])
        run(tf.local_variables_initializer())
        self.callback.trainer = SimpleNamespace(sess=tf.get_default_session(), global_step=step)

    def set(self, values):
        for tower in self.towers:
            self.run([tower[name].assign(values[name]) for name in NAMES])

    def averages(self):
        found = {v.op.name: v for v in tf.global_variables()}
        return self.run({name: found[f'model_ema/{name}'] for name in NAMES})


def drawn():
    return {name: RNG.normal(size=3).astype('float32') for name in NAMES}


def test_averages_of_several_steps(run):
    training = Training(run)
    values = drawn()
    training.set(values)
    training.callback._before_train()
    expected = dict(values)
    for _ in range(5):
        values = drawn()
        training.set(values)
        training.callback._trigger_step()
        for name in NAMES:
            expected[name] = DECAY * expected[name] + (1 - DECAY) * values[name]
    for name, value in training.averages().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)


def test_a_training_that_goes_on_keeps_its_averages(run):
    training = Training(run, step=7)
    training.set(drawn())
    training.callback._before_train()
    assert not any(value.any() for value in training.averages().values())


def test_what_is_averaged(run):
    Training(run)
    kinds = {name: state.kind for name, state in declared().items()}
    assert kinds == {f'model_ema/{name}': Kind.TEACHER for name in NAMES}


def test_averages_are_shown_in_all_towers_and_put_away(run):
    training = Training(run)
    training.set(drawn())
    training.callback._before_train()
    values = drawn()
    training.set(values)
    training.callback._trigger_step()
    of_steps = training.averages()
    with pytest.raises(ZeroDivisionError), training.callback.shown():
        for tower in training.towers:
            for name, value in run(tower).items():
                np.testing.assert_array_equal(value, of_steps[name])
        raise ZeroDivisionError
    for tower in training.towers:
        for name, value in run(tower).items():
            np.testing.assert_array_equal(value, values[name])


def test_averages_are_told_from_variables():
    values = {'conv0/W': 1, 'model_ema/conv0/W': 2, 'teacher/conv0/W': 3}
    assert averages.split(values) == ({'conv0/W': 1, 'teacher/conv0/W': 3}, {'conv0/W': 2})


def test_a_network_without_a_teacher_costs_no_session_call():
    follow = FollowWeights(
        SimpleNamespace(config=SimpleNamespace(ema=0.9), net=SimpleNamespace(teacher_pairs=list))
    )
    follow._setup_graph()
    follow.trainer = None
    follow._trigger_step()
    assert tf.get_default_graph().get_operations() == []
