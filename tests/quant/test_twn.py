"""Ternary weight networks against their formulas in numpy."""

import numpy as np
import pytest

from nets.cost import weight_bytes
from quant import Policy, Rule
from quant import specs as registry
from quant.twn import TWN
from tests.quant.asking import DEGENERATE, ask, check_finite


def oracle(w, threshold=None, scale=None):
    size = np.abs(w)
    edge = 0.7 * size.mean() if threshold is None else threshold
    if scale is None:
        scale = size[size > edge].mean()
    return edge, np.where(size > edge, scale * np.sign(w), 0)


@pytest.mark.parametrize('threshold', [None, 0.05])
@pytest.mark.parametrize('scale', [None, 1.0])
@pytest.mark.parametrize('clipped', [False, True])
def test_weights(clipped, scale, threshold, run):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 3, 2, 4)).astype('float32')
    w.flat[:6] = np.float32([0.0, -0.0, 0.05, -0.05, 1e4, 1e-30])
    upstream = rng.normal(size=w.shape)
    options = f'threshold={threshold or 0.0}, scale={scale or 0.0}, clipped={clipped}'
    found = ask(run, f'twn({options})', w, upstream)
    exact = np.float32(threshold) if threshold else None
    _, y = oracle(w.astype('float64'), exact, scale)
    np.testing.assert_allclose(found.y, y, rtol=1e-5)
    slope = np.abs(w) <= 1 if clipped else 1
    np.testing.assert_allclose(found.gx, upstream * slope, rtol=1e-6)
    # Where a weight is at a threshold, codes take the lower level.
    apart = ~np.isin(w, found.book['thresholds'])
    np.testing.assert_array_equal(found.coded()[apart], found.y[apart])
    assert len(found.book['levels']) == 3


def test_a_weight_at_the_threshold_is_zero(run):
    found = ask(run, 'twn(threshold=0.5)', [0.5, -0.5, 0.75, -1.25])
    np.testing.assert_array_equal(found.y, [0, 0, 1, -1])


@pytest.mark.parametrize('name', ['twn', 'ttq'])
def test_degenerate_input(name, run):
    for w in DEGENERATE.values():
        check_finite(ask(run, name, w))


@pytest.mark.parametrize('name', ['twn', 'ttq'])
def test_nan_stays_nan(name, run):
    found = ask(run, name, [np.nan, 1.0, -2.0])
    assert np.isnan(found.y[0])


@pytest.mark.parametrize('name', ['twn', 'ttq'])
def test_weights_alone_are_ternary(name):
    with pytest.raises(ValueError, match='activations of role body: it quantizes weights alone'):
        Rule(roles=('body',), activation=name)
    with pytest.raises(ValueError, match='bits=4: a ternary quantizer has bits=2'):
        registry.parse(f'{name}(bits=4)')


@pytest.mark.parametrize('name, stored', [('twn', 1), ('ttq', 2)])
def test_five_weights_share_a_byte(name, stored):
    from nets.layers.blocks import Blocks
    from nets.points import Point
    from quant.backend import tf

    policy = Policy((Rule(roles=('body',), weight=name),))
    blocks = Blocks(policy, [Point(size=8)], training=False)
    blocks.conv('conv', tf.ones([1, 8, 8, 10]), 6, 1)
    assert weight_bytes(blocks.layers['s8']) == 60 // 5 + 4 * stored
    (record,) = blocks.layers['s8']
    assert (record.weight_bits, record.packed_bits) == (2, 1.6)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'threshold': -1}, 'threshold=-1'),
        ({'scale': float('nan')}, 'scale=nan'),
        ({'clipped': 1}, 'clipped=1'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TWN(**options)
