"""Every optimizer against numpy over several steps, for any number of towers and any factor."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from tensorpack.graph_builder.utils import override_to_local_variable

from engine.optimization import optimizers
from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.rule import PerVariable, RuleOptimizer
from quant.backend import tf
from quant.options import check

SHAPES = {'kernel': (3, 2), 'gamma': (4,)}
RATES = (0.1, 0.05, 0.2, 0.1, 0.01)
WD = 0.03
RNG = np.random.default_rng(0)


def oracle_momentum(w, gradients, options, factor, decay):
    velocity = np.zeros_like(w)
    for rate, gradient in zip(RATES, gradients):
        w = w - factor * rate * decay * w
        velocity = options.momentum * velocity + gradient
        ahead = gradient + options.momentum * velocity
        w = w - factor * rate * (ahead if options.nesterov else velocity)
    return w


def directions(gradients, options):
    """Adam's direction of every step, algorithm 1 of the paper."""
    mean = square = 0.0
    for count, gradient in enumerate(gradients, 1):
        mean = options.beta1 * mean + (1 - options.beta1) * gradient
        square = options.beta2 * square + (1 - options.beta2) * gradient**2
        unbiased = square / (1 - options.beta2**count)
        yield mean / (1 - options.beta1**count) / (np.sqrt(unbiased) + options.epsilon)


def oracle_adam(w, gradients, options, factor, decay):
    for rate, direction in zip(RATES, directions(gradients, options)):
        w = w - factor * rate * decay * w
        w = w - factor * rate * direction
    return w


def oracle_lamb(w, gradients, options, factor, decay):
    for rate, direction in zip(RATES, directions(gradients, options)):
        if decay:
            direction = direction + decay * w
            direction = direction * np.linalg.norm(w) / np.linalg.norm(direction)
        w = w - factor * rate * direction
    return w


ORACLES = {
    'momentum': oracle_momentum,
    'adam': oracle_adam,
    'adamw': oracle_adam,
    'lamb': oracle_lamb,
}


class Setting:
    """Variables of some towers under one optimizer; ``step`` applies gradients by variable name."""

    def __init__(self, options, run, towers=1, factor=1.0):
        self.run = run
        self.number = 0
        rate = tf.get_variable('learning_rate', initializer=0.0, trainable=False)
        self.inputs = SimpleNamespace(
            rate=rate,
            number=tf.placeholder(tf.int64, []),
            gradients={name: tf.placeholder(tf.float32, s) for name, s in SHAPES.items()},
        )
        optimizer = RuleOptimizer(
            options.rule(),
            rate,
            count=lambda: self.inputs.number + 1,
            settings=lambda variable: PerVariable(
                factor, WD if variable.op.name.endswith('kernel') else None
            ),
            decoupled=options.decoupled,
        )
        self.towers, updates = [], []
        for tower in range(towers):
            with tf.variable_scope(f'tower{tower}' if tower else ''):
                own = {
                    name: tf.get_variable(name, initializer=tf.constant(start(name)))
                    for name in SHAPES
                }
            self.towers.append(own)
        for tower, own in enumerate(self.towers):
            pairs = [(self.inputs.gradients[name], own[name]) for name in SHAPES]
            with override_to_local_variable(tower > 0):
                updates.append(optimizer.apply_gradients(pairs))
        self.update = tf.group(*updates)
        run([])
        run([variable.initializer for variable in tf.local_variables()])

    def step(self, gradients):
        feed = {self.inputs.gradients[name]: value for name, value in gradients.items()}
        self.run(self.inputs.rate.assign(RATES[self.number]))
        self.run(self.update, {**feed, self.inputs.number: self.number})
        self.number += 1

    def values(self, tower=0):
        return self.run(self.towers[tower])


def start(name):
    return np.random.default_rng(len(name)).normal(size=SHAPES[name]).astype('float32')


def random_gradients():
    return [
        {name: RNG.normal(size=shape).astype('float32') for name, shape in SHAPES.items()}
        for _ in RATES
    ]


def expected(options, gradients, factor=1.0):
    oracle = ORACLES[options.optimizer]
    found = {}
    for name in SHAPES:
        decay = WD if options.decoupled and name == 'kernel' else 0.0
        of_name = [step[name].astype('float64') for step in gradients]
        found[name] = oracle(start(name).astype('float64'), of_name, options, factor, decay)
    return found


def test_every_optimizer_has_an_oracle():
    assert optimizers.names() == list(ORACLES)


@pytest.mark.parametrize('towers', [1, 2])
@pytest.mark.parametrize('factor', [1.0, 0.25])
@pytest.mark.parametrize(
    'fields',
    [
        {'optimizer': 'momentum'},
        {'optimizer': 'momentum', 'nesterov': False, 'momentum': 0.5},
        {'optimizer': 'momentum', 'decoupled_decay': True},
        {'optimizer': 'adam'},
        {'optimizer': 'adam', 'beta1': 0.5, 'beta2': 0.9, 'epsilon': 0.1},
        {'optimizer': 'adamw'},
        {'optimizer': 'lamb'},
    ],
    ids=lambda fields: '-'.join(map(str, fields.values())),
)
def test_several_steps(fields, factor, towers, run):
    """Every tower takes the step of one, and the factor scales the step, whatever the gradient."""
    options = OptimizerOptions(**fields)
    setting, gradients = Setting(options, run, towers, factor), random_gradients()
    for step in gradients:
        setting.step(step)
    for tower in range(towers):
        for name, value in expected(options, gradients, factor).items():
            np.testing.assert_allclose(setting.values(tower)[name], value, rtol=2e-5, atol=2e-6)


def test_momentum_is_that_of_tensorflow_bit_by_bit(run):
    options = OptimizerOptions()
    setting, gradients = Setting(options, run), random_gradients()
    with tf.variable_scope('other'):
        theirs = {name: tf.get_variable(name, initializer=start(name)) for name in SHAPES}
        optimizer = tf.train.MomentumOptimizer(setting.inputs.rate, 0.9, use_nesterov=True)
        pairs = [(setting.inputs.gradients[name], theirs[name]) for name in SHAPES]
        update = optimizer.apply_gradients(pairs)
    run([])
    for step in gradients:
        setting.step(step)
        run(update, {setting.inputs.gradients[name]: value for name, value in step.items()})
    for name, value in run(theirs).items():
        np.testing.assert_array_equal(setting.values()[name], value)


def test_state_lies_below_the_variables(run):
    for options in map(OptimizerOptions, ('momentum', 'adam')):
        with tf.variable_scope(options.optimizer):
            optimizer = RuleOptimizer(
                options.rule(), 0.1, count=lambda: tf.constant(1), settings=lambda _: PerVariable()
            )
            variable = tf.get_variable('w', initializer=[1.0])
        optimizer.apply_gradients([(tf.ones([1]), variable)])
    names = {variable.op.name for variable in tf.global_variables()}
    assert names == {
        'momentum/w',
        'momentum/w/Momentum',
        'adam/w',
        'adam/w/Adam/m',
        'adam/w/Adam/v',
    }


def test_lamb_moves_weights_of_zero(run):
    """The ratio of the norms is 1 where there is none."""
    rule = OptimizerOptions('lamb').rule()
    optimizer = RuleOptimizer(
        rule,
        0.5,
        count=lambda: tf.constant(1),
        settings=lambda _: PerVariable(decay=0.1),
        decoupled=True,
    )
    still, moved = (tf.get_variable(name, initializer=np.zeros(2, 'float32')) for name in 'ab')
    update = optimizer.apply_gradients([(tf.zeros([2]), still), (tf.ones([2]), moved)])
    run(update)
    np.testing.assert_array_equal(run(still), 0)
    np.testing.assert_allclose(run(moved), -0.5, rtol=1e-5)


@pytest.mark.parametrize(
    'optimizer, given, found',
    [
        ('momentum', ['beta1', 'lr', 'epsilon'], ['beta1', 'epsilon']),
        ('adamw', ['beta1', 'momentum'], ['momentum']),
        ('lamb', ['beta2', 'wd'], []),
    ],
)
def test_options_of_other_optimizers(optimizer, given, found):
    assert optimizers.foreign((optimizer,), given) == found


@pytest.mark.parametrize(
    'field, value', [('momentum', 1.0), ('beta2', -0.1), ('epsilon', 0.0), ('optimizer', 'sgd')]
)
def test_values_out_of_range(field, value):
    with pytest.raises(ValueError, match=f'{field} {value}: '):
        check(dataclasses.replace(OptimizerOptions(), **{field: value}))


def test_without_a_list_all_that_is_trained_learns():
    variable = tf.get_variable('w', [3])
    tf.get_variable('frozen', [3])
    optimizer = RuleOptimizer(
        OptimizerOptions().rule(),
        tf.constant(1.0),
        count=lambda: tf.constant(1),
        settings=lambda one: PerVariable(rate=float(one is variable)),
    )
    pairs = optimizer.compute_gradients(tf.reduce_sum(variable))
    assert [one for _, one in pairs] == [variable]
