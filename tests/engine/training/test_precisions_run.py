"""Networks of several precisions in training: several towers."""

import numpy as np
import pytest

from engine.graph.tower import Model
from quant.backend import new_graph, tf
from quant.updates import refit
from scripts.bench import train
from tests import test_grid

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('shallow')]

NESTED = 'lq(nested=True)'


def after_a_step(gpu, **fields) -> dict[str, np.ndarray]:
    """Variables after a step of training on the same images in so many towers."""
    given = {'bits': ('4', '2'), 'batch_size': 8, 'gpu': gpu, 'sync_bn': len(gpu) > 1, **fields}
    config = test_grid.small('rsnet', 'sizes', given)
    with new_graph(), tf.Session() as session:
        model = Model(config, data_format='NHWC')
        batch = train.random_batch(config, model.feeds)
        tf.train.get_or_create_global_step()
        loss = train.tower_loss(model, batch)
        optimizer = model.optimizer()
        step = optimizer.minimize(loss)
        if model.exchange is not None:
            model.exchange.connect()
        refits = refit([blocks.quantization for blocks in model.towers])
        session.run(tf.global_variables_initializer())
        (rate,) = [one for one in tf.global_variables() if one.op.name == 'learning_rate']
        rate.load(0.01, session)
        session.run([step, *refits, *tf.get_collection(tf.GraphKeys.UPDATE_OPS)])
        return session.run({one.op.name: one for one in tf.global_variables()})


@pytest.mark.parametrize('spec', ['lq', NESTED, "lq(nested='cut')", 'adabits'])
def test_two_towers_train_as_one(spec):
    """Statistics of all precisions are those of all images; weights are counted once."""
    halves = {'weight_quantizer': spec}
    if spec == 'adabits':
        halves['activation_quantizer'] = spec
    one, two = after_a_step((0,), **halves), after_a_step((0, 1), **halves)
    assert one.keys() == two.keys()
    compared = 0
    for name, value in one.items():
        if name.startswith('bench/') or name.endswith('/EMA'):
            continue
        # A value at a threshold may fall on its other side: sums are rounded differently.
        np.testing.assert_allclose(two[name], value, rtol=2e-3, atol=2e-4, err_msg=name)
        compared += 1
    assert compared > 20
    if spec != 'adabits':
        bases = [name for name in one if name.endswith('/basis')]
        assert {name.split('/')[-2] for name in bases} == {'b4', 'b2'}
