"""Networks of several precisions: where they start, and bits that were not trained."""

import numpy as np
import pytest

from engine.evaluation import calibrate
from engine.graph import freeze
from engine.graph.tower import Model
from engine.importers import pytorch
from engine.runs import checkpoint
from engine.runs.checkpoint import Restore
from engine.training import starting
from nets.points import Point
from quant.backend import new_graph, tf
from quant.state import Kind
from tests import test_grid
from tests.engine.training.test_sync import few

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('shallow')]


def small(**fields):
    return test_grid.small('rsnet', 'sizes', {'kd': False, 'batch_size': 8, **fields})


def written(config, folder):
    """A run folder with variables that look trained, bases away from their start; these values."""
    values = Model(config, data_format='NHWC').starting_values()
    rng = np.random.default_rng(7)
    values |= test_grid.numbers({name: value.shape for name, value in values.items()})
    for name, value in values.items():
        if name.endswith('/basis'):
            values[name] = value * rng.uniform(0.8, 1.2, value.shape).astype('float32')
    pytorch.write(pytorch.Imported(config, values, []), folder, step=10)
    return values


def logits(config, values):
    """Of all operating points, before the first step."""
    model = Model(config, data_format='NHWC')
    with new_graph(), tf.Session() as session:
        blocks = model.blocks(training=False)
        found = model.net.outputs(model.views([tf.constant(test_grid.IMAGES)]), blocks).logits
        Restore(values).init(session)
        return session.run(found)


@pytest.mark.parametrize('nested, bits', [('True', 2), ("'cut'", 4)])
def test_what_is_loaded_is_unchanged_at_first(nested, bits, tmp_path):
    """A 2-bit network is refined, a 4-bit one is cut; the others start from the same weights."""
    plain = small(qw=bits, qa=bits)
    before = logits(plain, written(plain, tmp_path / 'run'))
    several = small(bits=('4', '2'), weight_quantizer=f'lq(nested={nested})')
    several = several.replacing(load=str(tmp_path / 'run'))
    after = logits(several, starting.starting_values(several))
    for point, expected in before.items():
        same = Point(size=point.size, bits=bits)
        np.testing.assert_allclose(after[same], expected, rtol=1e-5, atol=1e-5)
    assert all(np.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize('nested', ['False', 'True', "'cut'"])
def test_bits_that_were_not_trained(nested, tmp_path):
    """Their quantizers are fitted; nothing that was trained changes, and the points can be used."""
    config = small(bits=('4', '2'), weight_quantizer=f'lq(nested={nested})')
    values = written(config, tmp_path / 'run')
    before = logits(config, values)
    prefix = str(tmp_path / 'run' / 'model-10')
    source = checkpoint.read(prefix, flag='RUN')
    narrow = config.at_bits([3])
    found = calibrate.calibrate(narrow, source, few(), images=8, average='pooled', threads=0)
    assert found.keys().isdisjoint(source.values)
    variables, _ = Model(narrow, data_format='NHWC').inspect()
    fitted = {name for name in found if name in variables and 'b3' in name}
    kinds = {variables[name].kind for name in fitted}
    assert kinds == {Kind.QUANTIZER, Kind.MOVING, Kind.TRAINED}
    bases = [found[name] for name in fitted if name.endswith('weight_quant/b3/basis')]
    assert bases and all(np.isfinite(basis).all() for basis in bases)
    checkpoint.write_calibrated(prefix, found)
    source = checkpoint.read(prefix, flag='RUN')
    assert 's16-b3' in freeze.points(source)
    everything = config.at_bits([4, 3, 2])
    after = logits(everything, source.values)
    for point, expected in before.items():
        np.testing.assert_allclose(after[point], expected, rtol=1e-5, atol=1e-5)
    assert np.isfinite(after[Point(size=16, bits=3)]).all()
