"""Frozen graphs: what a point computes in the whole network, with its own weights as constants and
no others.
"""

import functools

import numpy as np
import pytest

from engine.config.config import Config
from engine.config.presets import network_defaults
from engine.errors import UsageError
from engine.graph import freeze
from engine.graph.tower import Model
from engine.runs.checkpoint import POINTS, Checkpoint
from nets import cost
from nets.points import Point
from quant.backend import tf

RESNET = {'arch': 'resnet8', 'width': 0.25, 'sizes': (16, 12)}
DSNET = {
    **network_defaults('dsnet', 'mobilenetv1_small'),
    'net': 'dsnet',
    'arch': 'mobilenetv1_small',
    'width': 0.2,
    'sizes': (16,),
    'resize': 'area',
    'widths': (0, 6, 14),
}
# Configuration, the point to take.
NETS = {
    'rsnet': ({**RESNET, 'mode': 'resnet', 'qw': 2, 'kd': True}, 's12'),
    'views': ({**RESNET, 'mode': 'pytorch', 'resize': 'antialias'}, 's12'),
    'msdnet': (
        {
            'net': 'msdnet',
            'arch': 'msdnet',
            'mode': 'pytorch',
            'nBlocks': 3,
            'base': 1,
            'step': 1,
            'nChannels': 4,
            'growthRate': 2,
            'grFactor': (1, 2),
            'bnFactor': (1, 2),
            'sizes': (16,),
            'init': 'original',
            'kd_type': 'topdown',
        },
        's16-x1',
    ),
    'dsnet': (DSNET, 'w06'),
    'dsnet-low-bit': ({**DSNET, 'qw': 2, 'qa': 2, 'widths': (0, 6)}, 'w06'),
    'dsnet-gate': ({**DSNET, 'stage': 'gate', 'routes': (0, 6), 'widths': (0, 6)}, 'w06'),
    'dsnet-sizes': ({**DSNET, 'sizes': (16, 12), 'widths': (0, 6)}, 's12-w06'),
}
SLOW = ('dsnet-low-bit', 'dsnet-sizes')


pytestmark = pytest.mark.usefixtures('short_slimmable')


def made(options) -> tuple[Config, dict[str, np.ndarray]]:
    """A configuration, and values with which nothing is hidden by zeros and ones, and nothing
    fades.
    """
    config = Config.from_values(**{'classes': 5, 'image_size': 16, **options})
    config.check()
    rng, values = np.random.default_rng(0), Model(config, data_format='NHWC').starting_values()
    for name, value in values.items():
        ranges = {
            'gamma': (1, 1.5),
            'variance/EMA': (0.1, 0.2),
            'mean/EMA': (-0.1, 0.1),
            'beta': (-0.1, 0.1),
        }
        for leaf, limits in ranges.items():
            if name.endswith(leaf):
                values[name] = rng.uniform(*limits, value.shape).astype('float32')
    return config, values


def source_of(config: Config, values, *points: str) -> Checkpoint:
    return Checkpoint(
        'RUN/model-1', values | ({POINTS: np.array(points)} if points else {}), config
    )


def batch(config: Config) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [
        rng.integers(256, size=(5, side, side, 3), dtype=np.uint8)
        for side in config.preprocessing.view_sizes
    ]


def evaluated(config: Config, values, images, point: str) -> np.ndarray:
    """Logits in the graph of all points."""
    model = Model(config, data_format='NHWC')
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [tf.placeholder(tf.uint8, array.shape) for array in images]
        outputs = model.net.outputs(model.views(feeds), model.blocks(training=False))
        freeze.Restore(values).init(session)
        return session.run(outputs.logits[Point.parse(point)], dict(zip(feeds, images)))


def constants(graph_def) -> dict[str, np.ndarray]:
    return {
        node.name: tf.make_ndarray(node.attr['value'].tensor)
        for node in graph_def.node
        if node.op == 'Const'
    }


@functools.cache
def prepared(name: str):
    """Configuration, values, checkpoint and point of a row of ``NETS``."""
    options, point = NETS[name]
    config, values = made(options)
    calibrated = [str(one) for one in config.network().points if one.width is not None]
    return config, values, source_of(config, values, *calibrated), point


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NETS]
)
def test_a_point_is_what_the_whole_network_says(name):
    config, values, source, point = prepared(name)
    images = batch(config)
    expected = evaluated(config, values, images, point)
    assert expected.shape == (5, 5) and expected.std(axis=0).min() > 1e-4
    graph = freeze.named(source, point)
    (run,) = graph.runs()
    # It is built at the size of its point alone.
    (feed,) = graph.signatures[0].feeds
    (view,) = [view for view in images if feed == f'images_{view.shape[1]}:0']
    np.testing.assert_allclose(run(view)[0], expected, rtol=0, atol=1e-4 * expected.std())
    assert not [
        node.name
        for node in graph.graph_def.node
        if 'Variable' in node.op or node.op == 'VarHandleOp'
    ]


@pytest.mark.parametrize('name', ['dsnet', 'dsnet-low-bit', 'msdnet'])
def test_a_folded_graph_has_the_weights_of_its_point_alone(name):
    """Beside normalisation, a few vectors of the size of the channels."""
    config, _, source, point = prepared(name)
    found = constants(freeze.folded(freeze.named(source, point)).graph_def)
    _, layers = Model(config, data_format='NHWC').inspect()
    weights, biases = (
        4 * cost.parameters(layers[point]),
        4 * sum(layer.bias for layer in layers[point]),
    )
    kernels = sum(
        array.nbytes for array in found.values() if array.ndim in (2, 4) and array.size > 4
    )
    assert kernels == pytest.approx(weights - biases, rel=0.02)
    assert weights <= sum(array.nbytes for array in found.values()) < 1.25 * weights


def test_folding_keeps_what_depends_on_the_feeds():
    """Constants with several outputs, control dependencies, feeds that nothing reads."""

    def build():
        x, unread = (
            tf.placeholder(tf.float32, [None, 3], 'x'),
            tf.placeholder(tf.float32, [None], 'unread'),
        )
        w = tf.get_variable('w', initializer=np.arange(12, dtype='float32').reshape(3, 4))
        left, right = tf.split(2 * w, 2, axis=1)
        with tf.control_dependencies([tf.shape(x)]):
            one = tf.constant(1.0)
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.matmul(x, right), lambda: tf.zeros([1, 2]))
        return [([x, unread], [y + one])]

    w = np.random.default_rng(0).standard_normal((3, 4)).astype('float32')
    whole = freeze.freeze(build, {'w': w})
    graph = freeze.folded(whole)
    assert [len(part.feeds) for part in (whole.signatures[0], graph.signatures[0])] == [2, 1]
    assert max(array.size for array in constants(graph.graph_def).values()) == 6
    for x in (np.ones((2, 3), 'float32'), -np.ones((1, 3), 'float32')):
        expected = 1 + (2 * x @ w[:, 2:] if x.sum() > 0 else np.zeros((1, 2)))
        np.testing.assert_allclose(whole.runs()[0](x, [0.0])[0], expected, rtol=1e-6)
        np.testing.assert_allclose(graph.runs()[0](x)[0], expected, rtol=1e-6)


def test_points_that_can_be_run():
    config = Config.from_values(**{**DSNET, 'widths': ()})
    assert freeze.points(source_of(config, {})) == ['w14', 'w00']
    assert freeze.points(source_of(config, {}, 'w03')) == ['w14', 'w03', 'w00']
    with pytest.raises(
        UsageError,
        match="point 'w05': unknown; did you mean w00. There are w14, w00 .in RUN/model-1",
    ):
        freeze.point_model(source_of(config, {}), 'w05')
