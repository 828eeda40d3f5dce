"""A normalisation undoes the scale of every kernel whose role says so, in every network."""

import numpy as np
import pytest
from tensorpack.tfutils.tower import TowerContext

from engine.graph.tower import Model
from quant.backend import tf
from quant.policy import ROLES
from quant.quantizer import lacks_norm
from tests import test_grid as grid

pytestmark = pytest.mark.usefixtures('shallow')

# An axis of each network whose training takes statistics of the batch, in float.
AXES = {'dsnet': 'widths'}
CELLS = [f'{net}-{AXES.get(net, next(iter(row.axes)))}-float' for net, row in grid.NETS.items()]


def kernels(layers):
    """Names of what makes the kernels that a quantizer at a scale of its own can serve."""
    found = set()
    for records in layers.values():
        for layer in records:
            if not lacks_norm(layer.role):
                found |= {f'{layer.name}/{leaf}' for leaf in ('W', 'slope', 'offset')}
    return found


def loss_at(factor, cell):
    """The training loss with those kernels times a factor, and how many these are."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        model = Model(grid.config(cell), data_format='NHWC')
        with TowerContext('', is_training=True):
            loss = model.build_graph(tf.constant(grid.IMAGES), tf.constant(grid.LABELS))
        names = kernels(model.inspect()[1])
        session.run(tf.global_variables_initializer())
        scaled = [v for v in tf.global_variables() if v.op.name in names]
        session.run([v.assign(factor * v) for v in scaled])
        return session.run(loss), len(scaled)


@pytest.mark.slow
@pytest.mark.parametrize('cell', CELLS)
def test_scale_of_a_kernel(cell):
    (plain, count), (scaled, _) = loss_at(1.0, cell), loss_at(4.0, cell)
    assert count > 5
    np.testing.assert_allclose(scaled, plain, rtol=2e-3)


def test_roles_without_norm():
    assert [role for role in ROLES if lacks_norm(role)] == ['gate', 'head']
