"""Programs: every network x precision of the grid gives what its graph gives, at every point."""

import numpy as np
import pytest

from engine.deployment import interpreter, program, trace
from engine.graph import freeze
from engine.graph.tower import Model
from engine.runs.checkpoint import Checkpoint, Restore
from quant.backend import tf
from tests import test_grid

pytestmark = pytest.mark.usefixtures('shallow')

# By default the first axis of each network, at low bits.
CELLS = []
for cell, key in test_grid.CELLS.items():
    slow = test_grid.is_slow(*key) or key[1] != next(iter(test_grid.NETS[key[0]].axes))
    marks = [pytest.mark.slow] if slow or key[2] != 'w2a2' else []
    CELLS.append(pytest.param(cell, marks=marks))
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(256, size=(12, 16, 16, 3), dtype=np.uint8)


def made(cell):
    """A checkpoint that looks trained."""
    config = test_grid.config(cell)
    model = Model(config, data_format='NHWC')
    variables, _ = model.inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    values = model.starting_values() | test_grid.numbers(shapes)
    return Checkpoint('model-1', values, config)


def logits(source, images):
    """[N, classes] by point: the graph of evaluation with every layer executed."""
    model = Model(source.config.adjusted(kd=False), data_format='NHWC')
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [
            tf.constant(images[:, :side, :side]) for side in source.config.preprocessing.view_sizes
        ]
        views = model.views(feeds)
        blocks = model.blocks(training=False)
        outputs = model.net.outputs(views, blocks, **model.net.static_options)
        Restore(source.values).init(session)
        return session.run({str(point): value for point, value in outputs.logits.items()})


@pytest.mark.parametrize('cell', CELLS)
def test_a_program_gives_what_the_graph_gives(cell):
    source = made(cell)
    expected = logits(source, IMAGES)
    whole = trace.of_points(source, freeze.points(source))
    for point in whole.points:
        rows = expected[point]
        side = whole.points[point].side
        found = interpreter.run(whole, point, IMAGES[:, :side, :side])
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-4 * rows.std())
    assert any(isinstance(one, program.Codes) for one in whole.constants.values()) == (
        'float' not in cell
    )
