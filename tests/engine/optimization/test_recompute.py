"""Steps that compute what they need twice: what they give, and what they keep."""

import numpy as np
import pytest
from tensorpack.tfutils.tower import TrainTowerContext

from engine.config.config import Config
from engine.graph.tower import Model
from engine.optimization.recompute import recompute
from quant.backend import new_graph, tf
from quant.updates import refit
from tests.test_grid import IMAGES, LABELS, NETS

RNG = np.random.default_rng(0)
WAYS = ('activations', 'blocks')
LQ = {'qw': 2, 'qa': 2}
QUANTIZERS = {
    'float': {},
    'programs of XLA': {**LQ, 'xla': 'on'},
    'plain operations': {'qw': 4, 'qa': 4, 'native': 'off'},
    'lsq': {'qw': 8, 'qa': 8, 'weight_quantizer': 'lsq', 'activation_quantizer': 'lsq'},
    'ewgs': {'qw': 1, 'qa': 1, 'weight_quantizer': 'ewgs', 'activation_quantizer': 'ewgs'},
    'n2uq': {'qw': 2, 'qa': 2, 'activation_quantizer': 'n2uq'},
}
# Networks, and what they can be beside.
FORMS = [
    ('rsnet', {}),
    ('rsnet', {'mode': 'preact'}),
    ('rsnet', {'arch': 'mobilenetv2_small', 'mode': 'pytorch'}),
    ('san', {}),
    ('aig', {}),
    ('aig', {'train_skip': True}),
    ('msdnet', {}),
    ('dsnet', {}),
    ('dsnet', {'stage': 'gate'}),
]


def options_of(net, **changes):
    """Fields of a small configuration with two sizes.

    Args:
        net: name of the network.
        **changes: fields.
    """
    row = NETS[net]
    base = {'data': 'animals28', 'image_size': 16, 'classes': 5, 'batch_size': 6, 'sizes': (16, 12)}
    return {**base, **row.options, 'net': net, **changes}


def trained(**options):
    """Losses of two steps, and all variables after them by name, in a graph of its own."""
    config = Config.from_values(**options)
    one_thread = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # TensorFlow's rewriting adds gradients in another order where they wait for something.
    one_thread.graph_options.rewrite_options.disable_meta_optimizer = True
    with new_graph(), tf.Session(config=one_thread) as session:
        tf.set_random_seed(3)
        tf.train.get_or_create_global_step()
        model = Model(config, data_format='NHWC')
        optimizer = model.optimizer()
        towers = len(config.gpu)
        losses, gradients = [], []
        for index in range(towers):
            part = slice(index, None, towers)
            name = f'tower{index}' if index else ''
            with TrainTowerContext(name, index=index, total=towers):
                loss = model.build_graph(tf.constant(IMAGES[part]), tf.constant(LABELS[part]))
            losses.append(loss)
            gradients.append(optimizer.compute_gradients(loss))
        sums = []
        for (gradient, variable), *others in zip(*gradients):
            if gradient is not None:
                sums.append((tf.add_n([gradient, *(other for other, _ in others)]), variable))
        loss = tf.add_n(losses)
        train = optimizer.apply_gradients(sums)
        if model.exchange:
            model.exchange.connect()
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        refits = refit([blocks.quantization for blocks in model.towers])
        with tf.control_dependencies([loss]):
            step = tf.group(train, *updates, *refits)
        rate = next(one for one in tf.global_variables() if one.op.name == 'learning_rate')
        session.run(tf.global_variables_initializer())
        session.run(rate.assign(0.1))
        found = [session.run([loss, step])[0] for _ in range(2)]
        variables = {one.op.name: one for one in tf.global_variables()}
        again = [op for op in session.graph.get_operations() if op.name.startswith('again/')]
        return found, session.run(variables), len(again)


def check_equal(way, **options):
    """A step that computes twice gives the bits of one that does not."""
    losses, variables, nothing = trained(**options)
    same_losses, same_variables, again = trained(**options, recompute=way)
    assert nothing == 0 and again > 10
    assert losses == same_losses
    assert variables.keys() == same_variables.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(value, same_variables[name], err_msg=name)
    assert np.isfinite(losses).all()


def test_equal_bits():
    check_equal('blocks', **options_of('rsnet', mode='preact', sizes=(16,), **LQ))


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('net, form', FORMS)
def test_equal_bits_of_all_networks(net, form, way):
    check_equal(way, **options_of(net, **form, **LQ))


@pytest.mark.slow
@pytest.mark.parametrize('quantizer', QUANTIZERS)
def test_equal_bits_of_quantizers(quantizer):
    check_equal('activations', **options_of('rsnet', mode='preact', **QUANTIZERS[quantizer]))


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS)
def test_equal_bits_of_towers_with_common_statistics(way):
    options = options_of('rsnet', gpu=(0, 1), sync_bn=True, **LQ)
    check_equal(way, **options)


@pytest.mark.slow
@pytest.mark.parametrize('way', WAYS)
def test_equal_bits_in_bfloat16(way):
    check_equal(way, **options_of('rsnet', bf16=True, **LQ))


def cubes(x, count):
    """x^(3^count) in steps of one power, all of them."""
    found = []
    for _ in range(count):
        x = x * x * x
        found.append(x)
    return found


def test_segments_are_computed_one_after_the_other():
    start = tf.constant([1.1, -0.7])
    first, second, third = cubes(start, 3)
    loss = tf.reduce_sum(third)
    wanted = tf.gradients(loss, start)
    before = len(loss.graph.get_operations())
    found = tf.gradients(loss, start)
    made = loss.graph.get_operations()[before:]
    again = recompute(loss, made, [start, first, second])
    # The squares behind the start and the first cube; the last one leads to the loss.
    assert [op.name for op in again] == ['again/mul_2', 'again/mul']
    assert [op.type for op in again[0].control_inputs] == ['Sum']
    assert {name.partition('_')[0] for name in waits(again[1])} == {'gradients'}
    with tf.Session() as session:
        np.testing.assert_array_equal(*session.run([wanted, found]))


def waits(op):
    """Names of the operations that the group waits for that an operation waits for."""
    (group,) = op.control_inputs
    return [before.name for before in group.control_inputs]


def test_noise_and_choices_stay():
    """What would come out otherwise the second time is not computed a second time."""
    start = tf.constant([1.0, 2.0])
    noisy = start * tf.random.uniform(tf.shape(start + 0)) * start
    chosen = tf.cond(noisy[0] > 0, lambda: noisy * noisy, lambda: -noisy)
    end = tf.identity(chosen * chosen)
    loss = tf.reduce_sum(end * end)
    before = len(loss.graph.get_operations())
    (gradient,) = tf.gradients(loss, start)
    recompute(loss, loss.graph.get_operations()[before:], [start, end])
    with tf.Session() as session:
        values, slope = session.run([end, gradient])
    # The end is x^8 r^4, with the noise r that was drawn.
    np.testing.assert_allclose(slope, 16 * values**2 / [1, 2], rtol=1e-5)
