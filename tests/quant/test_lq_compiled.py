"""LQ as programs of XLA: the values, gradients and counts of plain operations, and sums as close as
other orders of adding allow.
"""

import numpy as np
import pytest

from quant import Policy, cells
from quant.backend import tf
from quant.lq.quantizer import LQ
from quant.quantizer import Activations, Weights
from quant.scope import Quantization
from tests.quant.test_lq import flat_shape, hard_inputs, start_basis

KINDS = {
    'weights': None,
    'behind a relu': {'relu': True, 'lower': 0.0},
    'from zero': {'relu': False, 'lower': 0.0},
    'signed': {'relu': False, 'lower': -np.inf},
}
each_kind = pytest.mark.parametrize('kind', KINDS)


def tower(compiles):
    return Quantization(Policy(), training=True, compiles=compiles)


def quantized(kind, bits, x, towers):
    """Output, gradient and table of one tensor in every tower, in one graph."""
    found = []
    for q in towers:
        with tf.variable_scope('q', reuse=tf.AUTO_REUSE):
            if KINDS[kind] is None:
                y = LQ(bits).weight(x, Weights(q, 0.5, first=None, collect=True))
            else:
                y = LQ(bits).activation(x, Activations(q, collect=True, **KINDS[kind]))
        (row,) = q.collected['q/basis'].statistics
        (gradient,) = tf.gradients(y, x, tf.sin(x))
        found.append([y, gradient, row.table])
    return found


def check(kind, bits, run):
    channels = 3 if kind == 'weights' else 1
    low = -1 if kind in ('weights', 'signed') else 0
    rng = np.random.default_rng([bits, channels])
    values = flat_shape(hard_inputs(rng, start_basis(bits, channels), low))
    towers = [tower(False), tower(True)]
    plain, compiled = run(quantized(kind, bits, tf.constant(values), towers))
    assert len(towers[1]._programs) == 1 and not towers[0]._programs
    for ours, theirs in zip(compiled[:2], plain[:2]):
        np.testing.assert_array_equal(ours, theirs)
    thresholds = 2**bits - 1
    for kept in (slice(0, 1), slice(2, 2 + thresholds)):  # the counts
        np.testing.assert_array_equal(compiled[2][kept], plain[2][kept])
    np.testing.assert_allclose(compiled[2], plain[2], rtol=1e-5, atol=1e-4)


def test_activations_are_as_with_plain_operations(run):
    check('behind a relu', 2, run)


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize('bits', [1, 2, 3, 4])
def test_all_is_as_with_plain_operations(kind, bits, run, monkeypatch):
    monkeypatch.setattr(cells, 'MAX_COMPARED', cells.MAX_COMPARED_ON_GPU)
    check(kind, bits, run)


def test_layers_share_a_program():
    q = tower(True)
    for scope in ('one', 'two'):
        with tf.variable_scope(scope):
            LQ(2).activation(tf.zeros([4, 8]), Activations(q, True, 0.0, True))
    calls = [op for op in tf.get_default_graph().get_operations() if 'PartitionedCall' in op.type]
    assert len({op.get_attr('f').name for op in calls}) == 1 and len(calls) == 2
    assert all(op.get_attr('_XlaMustCompile') for op in calls)


@pytest.mark.parametrize(
    ('bits', 'channels', 'collect'), [(2, 8, False), (5, 8, True), (2, None, True)]
)
def test_what_is_not_compiled(bits, channels, collect):
    """What is shipped is made of plain operations, searches were not tried, and each number of
    channels would be compiled anew.
    """
    q = tower(True)
    x = tf.placeholder(tf.float32, [None, channels])
    LQ(bits).activation(x, Activations(q, True, 0.0, collect))
    assert not q._programs
