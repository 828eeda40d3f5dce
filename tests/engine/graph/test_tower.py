"""A tower: which variables decay, the optimizer, and what it is fed."""

import numpy as np
import pytest
from tensorpack.tfutils.tower import TowerContext

from engine.config.config import Config
from engine.graph.tower import Model
from quant.backend import tf
from tests.inspected import STARTING_VALUES

SMALL = {
    'arch': 'resnet8',
    'sizes': (16, 12),
    'data': 'animals28',
    'classes': 10,
    'image_size': 16,
    'width': 0.25,
    'mode': 'pytorch',
    'resize': 'area',
}
SAN = {**SMALL, 'net': 'san', 'kd_type': 'topdown'}
WD = 0.01


def build(scale=0, **changes):
    """A training tower; every variable that is not trained is set beside it.

    Args:
        scale: number that the second of two images has everywhere; the first one is black.
        **changes: of the configuration.
    """
    model = Model(Config.from_values(**{**SMALL, 'wd': WD, **changes}), data_format='NHWC')
    with TowerContext('', is_training=True):
        feeds = []
        for spec in model.inputs()[:-1]:
            image = tf.ones([1, *spec.shape.as_list()[1:]], spec.dtype)
            feeds.append(tf.concat([0 * image, scale * image], axis=0))
        model.build_graph(*feeds, tf.zeros([2], tf.int32))
    return model


def decay_term():
    return tf.get_default_graph().get_tensor_by_name('loss/weight_decay:0')


def decayed():
    """Names of the trained variables that the decay pulls at."""
    variables = tf.trainable_variables()
    return {
        v.op.name for v, g in zip(variables, tf.gradients(decay_term(), variables)) if g is not None
    }


KERNELS = ('/W', '/slope', '/offset')


@pytest.mark.parametrize(
    'config',
    [
        {'kd': True},
        {**SAN, 'kd': True},
        {'arch': 'mobilenetv2_small', 'sizes': (12,)},
        {'kd': True, 'qw': 2},
    ],
    ids=['rsnet', 'san', 'mobilenet', 'quantized'],
)
def test_what_decays(config):
    trained: dict[str, set[str]] = {}
    for decay in ('kernels', 'all'):
        with tf.Graph().as_default():
            build(**config, decay=decay)
            names = {v.op.name for v in tf.trainable_variables()}
            trained[decay] = decayed()
    assert trained['all'] == names
    assert trained['kernels'] == {name for name in names if name.endswith(KERNELS)}
    left = {name.rpartition('/')[2] for name in names - trained['kernels']}
    assert left == {'gamma', 'beta', 'b'} | (
        {'alpha'} if config.get('kd') and 'net' not in config else set()
    )


@pytest.mark.parametrize(
    'config, decay',
    [({'kd': True}, 'all'), ({'kd': True}, 'kernels'), (SAN, 'all'), (SAN, 'kernels')],
)
def test_amount_of_the_decay(config, decay, run):
    """Each variable once, however many sizes use it."""
    build(**config, decay=decay)
    chosen = [v for v in tf.trainable_variables() if decay == 'all' or v.op.name.endswith(KERNELS)]
    term, *values = run([decay_term(), *chosen])
    expected = WD / 2 * sum(np.square(value.astype('float64')).sum() for value in values)
    assert term == pytest.approx(expected, rel=1e-5)


def terms_of(**changes):
    """The terms of the loss of two images of class 0 before the first step."""
    with tf.Graph().as_default(), tf.Session() as session:
        model = build(**changes)
        session.run(tf.global_variables_initializer())
        return session.run(model.losses[0])


@pytest.mark.parametrize('changes', [{'kd': True}, {'kd': True, 'mixup': 0.2}])
def test_classes_count_by_their_weights(changes):
    weighted = terms_of(class_weights=(3.0, *[1.0] * 9), **changes)
    for name, value in terms_of(**changes).items():
        if name.startswith(('loss/s', 'loss/ensemble', 'loss/distillation')):
            assert weighted[name] == pytest.approx(3 * value, rel=1e-4, abs=1e-6), name


def test_images_count_for_cascades():
    """In the losses of sizes, and nowhere else."""
    plain = terms_of(scale=200, kd=True)
    found = terms_of(scale=200, kd=True, for_cascades=True)
    changed = {name for name in plain if abs(found[name] - plain[name]) > 1e-5}
    assert changed == {'loss', 'loss/s16', 'loss/s12'}


def moved(gate_lr, optimizer):
    """Step of every bias, with gradients of 1 at learning rate 0.5, by name."""
    with tf.Graph().as_default(), tf.Session() as session:
        model = build(net='aig', arch='resnet8', sizes=(16,), gate_lr=gate_lr, optimizer=optimizer)
        optimizer = model.optimizer()
        biases = [v for v in tf.trainable_variables() if v.op.name.endswith('/b')]
        update = optimizer.apply_gradients([(tf.ones_like(bias), bias) for bias in biases])
        rate = next(v for v in tf.global_variables() if v.op.name == 'learning_rate')
        session.run(tf.global_variables_initializer())
        session.run(rate.assign(0.5))
        before = session.run(biases)
        session.run(update)
        steps = [after - old for after, old in zip(session.run(biases), before)]
    return {bias.op.name: step for bias, step in zip(biases, steps)}


@pytest.mark.parametrize('optimizer', ['momentum', 'adam', 'adamw'])
def test_the_learning_rate_of_gates_scales_their_step(optimizer):
    whole, scaled = moved(1.0, optimizer), moved(0.25, optimizer)
    in_gates = [name for name in whole if 'gate1' in name or 'gate2' in name]
    assert 0 < len(in_gates) < len(whole)
    for name, step in whole.items():
        factor = 0.25 if name in in_gates else 1.0
        np.testing.assert_allclose(scaled[name], factor * step, rtol=1e-4)


@pytest.mark.parametrize(
    'resize, sides', [('area', [16]), ('nearest', [16]), ('antialias', [16, 12])]
)
def test_inputs(resize, sides):
    model = Model(Config.from_values(**{**SMALL, 'resize': resize}), data_format='NHWC')
    assert model.feeds == [*(f'images_{side}' for side in sides), 'labels']
    assert [spec.shape.as_list() for spec in model.inputs()] == [
        *([None, side, side, 3] for side in sides),
        [None],
    ]


@pytest.mark.parametrize(
    'net', [SMALL, SAN, {**SMALL, 'qw': 2, 'qa': 2}], ids=['rsnet', 'san', 'quantized']
)
def test_starting_values_are_those_of_the_seed(net):
    first, again, other = (
        STARTING_VALUES(Model(Config.from_values(**net, seed=seed), data_format='NHWC'))
        for seed in (1, 1, 2)
    )
    assert first.keys() == again.keys() == other.keys()
    assert [name for name in first if not np.array_equal(first[name], again[name])] == []
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    'changes', [{'kd': True}, {'kd': True, 'qw': 2, 'qa': 2}, SAN], ids=['rsnet', 'low', 'san']
)
def test_a_training_starts_as_the_network_alone_whatever_its_sizes(changes, run):
    """The graph of the fixture has seed 1; both draw every variable by its name."""
    build(**{**changes, 'sizes': (16, 12)})
    variables = {v.op.name: v for v in tf.global_variables()}
    trained = run(variables)
    alone = Model(
        Config.from_values(**{**SMALL, **changes, 'kd': False, 'sizes': (12,), 'seed': 1}),
        data_format='NHWC',
    ).starting_values()
    assert len([name for name in alone if name.endswith(KERNELS)]) > 5
    assert [name for name, value in alone.items() if not np.array_equal(trained[name], value)] == []


@pytest.mark.parametrize(
    'config',
    [{'sizes': (16,), 'qa': 2}, pytest.param(SAN, marks=pytest.mark.slow)],
    ids=['rsnet', 'san'],
)
def test_the_network_is_the_same_in_either_format(config):
    """Channels come first where there is a GPU, when a checkpoint is matched with it, too."""
    config = Config.from_values(**{**SMALL, **config})
    (states, layers), (turned, others) = [
        Model(config, data_format=data_format).inspect() for data_format in ('NHWC', 'NCHW')
    ]
    assert {name: state.shape for name, state in turned.items()} == {
        name: state.shape for name, state in states.items()
    }
    assert others == layers
