"""Quantizers of a run: which are found, their levels, and the values that they read."""

import dataclasses

import numpy as np
import pytest

from engine.errors import UsageError
from engine.evaluation import layer_levels
from engine.evaluation.layer_levels import Asked
from engine.graph import freeze
from quant.lq.levels import code_table
from tests import test_grid
from tests.engine.deployment.test_program import made

pytestmark = pytest.mark.usefixtures('shallow')

FEW = Asked(data='animals28', images=3)


def test_weights_and_activations_of_a_point():
    source = made('rsnet-sizes-w2a2')
    point, layers = layer_levels.layers(source, FEW._replace(point='s12'))
    assert point == 's12'
    by_half = {'weights': 0, 'activations': 0}
    for layer in layers:
        by_half[layer.what] += 1
        assert layer.spec == 'lq(bits=2)'
        assert not layer.changed
        np.testing.assert_allclose(layer.shares().sum(), 1)
        assert np.isfinite(layer.values).all()
        assert np.ptp(layer.values) > 0
        low = 0 if layer.what == 'activations' else -1
        basis = source.values[f'{layer.scope}/basis']  # [K, C]
        levels = np.sort(code_table(2, low) @ basis, axis=0)
        np.testing.assert_allclose(layer.levels, levels, rtol=1e-5, atol=1e-7)
        if layer.what == 'weights':
            kernel = source.values[layer.scope.removesuffix('weight_quant') + 'W']
            np.testing.assert_array_equal(layer.values, kernel.reshape(-1, kernel.shape[-1]))
    assert min(by_half.values()) > 3


@pytest.mark.slow
def test_a_shift_of_channels_moves_the_thresholds():
    """Values are those of the network, and a channel's sign changes at minus its shift."""
    source = made('rsnet-sizes-reactnet1')
    values = dict(source.values)
    rng = np.random.default_rng(0)
    for name, value in source.values.items():
        if name.endswith('/shift'):
            values[name] = rng.normal(size=value.shape).astype('float32')
    source = dataclasses.replace(source, values=values)
    _, layers = layer_levels.layers(source, FEW._replace(what='activations'))
    for layer in layers:
        assert not layer.changed
        shift = values[f'{layer.scope}/shift']
        np.testing.assert_allclose(layer.thresholds, -shift[None], atol=1e-4)


@pytest.mark.slow
def test_a_sample_of_many_values(monkeypatch):
    monkeypatch.setattr(layer_levels, 'SAMPLE', 64)
    source = made('rsnet-sizes-w2a2')
    asked = FEW._replace(what='weights')
    _, layers = layer_levels.layers(source, asked)
    _, again = layer_levels.layers(source, asked)
    for one, other in zip(layers, again, strict=True):
        assert one.values.size <= 64
        np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes, said',
    [
        ({'layer': 'nothing'}, 'there are group0/'),
        ({'point': 's99'}, "point 's99'"),
        ({'data': 'nowhere'}, '--data nowhere: is not there'),
        ({'data': None}, '--only weights needs none'),
    ],
)
def test_what_is_not_there(changes, said):
    source = made('rsnet-sizes-w2a2')
    source = dataclasses.replace(source, config=source.config.replacing(data=''))
    with pytest.raises(UsageError, match=said.replace('(', r'\(')):
        layer_levels.layers(source, FEW._replace(**changes))


@pytest.mark.slow
def test_a_float_run():
    with pytest.raises(UsageError, match='nothing of it is quantized'):
        layer_levels.layers(made('rsnet-sizes-float'), FEW)


# Every network, and every quantizer in one of them.
CELLS = []
for cell, (net, axis, precision) in test_grid.CELLS.items():
    first = axis == next(iter(test_grid.NETS[net].axes))
    if first and precision not in ('float', 'w2a32') and (net == 'rsnet' or precision == 'w2a2'):
        CELLS.append(cell)


@pytest.mark.slow
@pytest.mark.parametrize('cell', CELLS)
def test_every_network_and_quantizer(cell):
    source = made(cell)
    for point in freeze.points(source):
        _, layers = layer_levels.layers(source, FEW._replace(point=point))
        assert {layer.what for layer in layers} == {'weights', 'activations'}
        for layer in layers:
            assert np.isfinite(layer.values).all()
            assert np.isfinite(layer.levels).all()
            assert (np.diff(layer.levels, axis=0) >= 0).all()
