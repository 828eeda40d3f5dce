"""TensorFlow graphs: what they answer is what the program says, of operations that others know."""

import numpy as np
import pytest

from engine.deployment import interpreter, tf_graph, tf_steps
from quant.backend import tf
from tests.engine.deployment.test_program import FEWER_CELLS, IMAGES, traced

RNG = np.random.default_rng(3)

# What converters to TFLite, ONNX, OpenVINO and TensorFlow.js all know.
PLAIN = {
    'Add',
    'AddV2',
    'AvgPool',
    'Cast',
    'ConcatV2',
    'Const',
    'Conv2D',
    'DepthwiseConv2dNative',
    'Floor',
    'GatherV2',
    'Greater',
    'Identity',
    'MatMul',
    'MaxPool',
    'Maximum',
    'Mean',
    'Minimum',
    'Mul',
    'Pad',
    'PadV2',
    'Placeholder',
    'RealDiv',
    'Relu',
    'Relu6',
    'Reshape',
    'SelectV2',
    'Sigmoid',
    'Slice',
    'StridedSlice',
    'Sub',
    'Transpose',
}


@pytest.mark.parametrize('cell', FEWER_CELLS)
@pytest.mark.usefixtures('shallow')
def test_a_graph_answers_as_the_program(cell):
    _, whole = traced(cell)
    graph = tf_graph.graph_of(whole, list(whole.points))
    assert {node.op for node in graph.graph_def.node} <= PLAIN
    for (point, one), run in zip(whole.points.items(), graph.runs(threads=1)):
        images = IMAGES[:4, : one.side, : one.side]
        expected = interpreter.run(whole, point, images)
        (found,) = run(images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


LEVELS = {
    'one threshold': [0, 1],
    'two bits': [0, 0.3, 0.9, 1.2],
    'both signs': [-0.7, -0.1, 0.2, 0.8],
    'multiples': np.float32(0.37) * np.arange(16),
    'signed multiples': np.float32(0.01) * np.arange(-128, 128),
    'equal levels': [0, 0.5, 0.5, 0.5, 1],
    'equal levels, many': np.repeat(np.float32([0, 0.5, 0.75, 2]), 8),
    'all equal': np.full(32, 0.25),
    'five bits': np.sort(np.random.default_rng(0).uniform(0, 3, 32)),
    'eight bits': np.sort(np.random.default_rng(1).uniform(-1, 3, 256) ** 3),
    'far apart': np.float32(1.3) ** np.arange(64),
}


@pytest.mark.parametrize('levels', LEVELS.values(), ids=LEVELS)
def test_steps_are_where_the_thresholds_are(levels, run):
    """To the last bit: at thresholds, beside them, at levels and beyond all of them."""
    levels = np.asarray(levels, np.float32)
    thresholds = (levels[:-1] + levels[1:]) / 2
    size = levels[1] - levels[0]
    if np.array_equal(np.arange(len(levels)) * size + levels[0], levels):
        thresholds = ((np.arange(len(levels) - 1) + np.float32(0.5)) * size).astype(np.float32)
    x = np.concatenate(
        [
            thresholds,
            np.nextafter(thresholds, np.float32(-np.inf)),
            np.nextafter(thresholds, np.float32(np.inf)),
            levels,
            RNG.uniform(-2, 4, 1000).astype(np.float32),
            np.float32([0, -0.0, 1e9, -1e9, np.inf, -np.inf]),
        ]
    )
    found = run(tf_steps.step_function(tf.constant(x), levels, thresholds))
    np.testing.assert_array_equal(found, levels[np.searchsorted(thresholds, x)])
