"""Training in bfloat16: every registered network against itself in float32."""

import numpy as np
import pytest
from tensorpack.tfutils.tower import TowerContext

import nets
from engine.graph.tower import Model
from quant.backend import tf
from tests import test_grid

# Fixture.
pytestmark = pytest.mark.usefixtures('shallow')

QUICK = (('rsnet', 'w2a2'), ('dsnet', 'float'))
FIRST = {net: next(iter(row.axes)) for net, row in test_grid.NETS.items()}


def tower(config, batch):
    """Logits by point, loss, and gradients by variable; the towers of a graph share variables."""
    model, found = Model(config, data_format='NHWC'), {}
    outputs = model.net.outputs

    def spy(*args, **kwargs):
        found['outputs'] = outputs(*args, **kwargs)
        return found['outputs']

    model.net.outputs = spy
    known = bool(tf.trainable_variables())
    with (
        tf.variable_scope(tf.get_variable_scope(), reuse=known),
        TowerContext('', is_training=True),
    ):
        loss = model.build_graph(*batch)
    variables = tf.trainable_variables()
    gradients = {
        v.op.name: g for v, g in zip(variables, tf.gradients(loss, variables)) if g is not None
    }
    return found['outputs'].logits, loss, gradients


@pytest.mark.parametrize(
    'net, precision',
    [
        pytest.param(net, precision, marks=[] if (net, precision) in QUICK else pytest.mark.slow)
        for net in nets.names()
        for precision in ('float', 'w2a2')
    ],
)
def test_bfloat16_is_close_to_float32(net, precision, run):
    """Rounding moves some values across a threshold, and then by a whole level of two bits."""
    off, along = {'float': (3e-2, 0.99), 'w2a2': (0.25, 0.8)}[precision]
    wide = test_grid.config(f'{net}-{FIRST[net]}-{precision}')
    batch = [tf.constant(test_grid.IMAGES), tf.constant(test_grid.LABELS)]
    expected, narrow = tower(wide, batch), tower(wide.replacing(bf16=True), batch)
    assert {value.dtype for value in [*narrow[0].values(), narrow[1], *narrow[2].values()]} == {
        tf.float32
    }
    assert {
        op.outputs[0].dtype for op in tf.get_default_graph().get_operations() if op.type == 'Conv2D'
    } == {tf.float32, tf.bfloat16}
    (logits, loss, gradients), (logits16, loss16, gradients16) = run([expected, narrow])
    assert gradients.keys() == gradients16.keys()
    assert np.isfinite(loss16) and all(np.all(np.isfinite(g)) for g in gradients16.values())
    joined, joined16 = (
        np.concatenate([g[name].ravel() for name in gradients]) for g in (gradients, gradients16)
    )
    for point, value in logits.items():
        assert np.abs(logits16[point] - value).mean() < off * value.std(), point
    assert loss16 == pytest.approx(loss, rel=1e-2)
    assert joined @ joined16 > along * np.linalg.norm(joined) * np.linalg.norm(joined16)
