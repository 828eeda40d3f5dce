"""Frozen graphs: what a point computes in the whole network, with its own weights as constants and no others."""

import numpy as np
import pytest

from engine import frozen
from engine.checkpoint import POINTS, Checkpoint
from engine.config import Config
from engine.errors import UsageError
from engine.model import Model
from engine.presets import network_defaults
from nets import cost
from nets.points import Point
from quant.backend import tf

RESNET = {'arch': 'resnet8', 'width': 0.25, 'sizes': (16, 12)}
DSNET = {**network_defaults('dsnet', 'mobilenetv1_small'), 'net': 'dsnet', 'arch': 'mobilenetv1_small', 'width': 0.1,
         'sizes': (16,), 'resize': 'area', 'widths': (0, 6, 13, 14)}
# Configuration, the point to take.
NETS = {
    'rsnet': ({**RESNET, 'mode': 'preact', 'qw': 2, 'qa': 2, 'kd': True}, 's12'),
    'views': ({**RESNET, 'mode': 'pytorch', 'resize': 'antialias'}, 's12'),
    'san': ({**RESNET, 'net': 'san', 'mode': 'pytorch', 'init': 'scaled', 'kd': True, 'kd_type': 'topdown'}, 's12'),
    'aig': ({**RESNET, 'net': 'aig', 'mode': 'pytorch', 'faithful_gates': True}, 's12'),
    'msdnet': ({'net': 'msdnet', 'arch': 'msdnet', 'mode': 'pytorch', 'nBlocks': 3, 'base': 1, 'step': 1,
                'nChannels': 4, 'growthRate': 2, 'grFactor': (1, 2), 'bnFactor': (1, 2), 'sizes': (16,)}, 's16-x1'),
    'dsnet': (DSNET, 'w06'), 'dsnet-w4a4': ({**DSNET, 'qw': 4, 'qa': 4}, 'w06'),
    'dsnet-gate': ({**DSNET, 'stage': 'gate', 'routes': (0, 6)}, 'w13'),
    'dsnet-sizes': ({**DSNET, 'sizes': (16, 12), 'widths': (0, 6)}, 's12-w06')}


def made(options) -> tuple[Config, dict[str, np.ndarray]]:
    """A configuration, and values with which nothing is hidden by zeros and ones."""
    config = Config(**{'classes': 5, 'image_size': 16, **options})
    config.check()
    rng, values = np.random.default_rng(0), Model(config, data_format='NHWC').starting_values()
    for name, value in values.items():
        if name.endswith(('variance/EMA', 'gamma')):
            values[name] = rng.uniform(0.5, 1.5, value.shape).astype('float32')
        elif name.endswith(('mean/EMA', 'beta', '/b')):
            values[name] = rng.uniform(-0.3, 0.3, value.shape).astype('float32')
    return config, values


def source_of(config: Config, values, *points: str) -> Checkpoint:
    return Checkpoint('RUN/model-1', values | ({POINTS: np.array(points)} if points else {}), config)


def batch(config: Config) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(256, size=(5, side, side, 3), dtype=np.uint8) for side in config.view_sizes]


def evaluated(config: Config, values, images, point: str) -> np.ndarray:
    """Logits in the graph of all points."""
    model = Model(config, data_format='NHWC')
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [tf.placeholder(tf.uint8, array.shape) for array in images]
        outputs = model.net.outputs(model.views(feeds), model.blocks(training=False))
        frozen.Restore(values).init(session)
        return session.run(outputs.logits[Point.parse(point)], dict(zip(feeds, images)))


def constants(graph_def) -> dict[str, np.ndarray]:
    return {node.name: tf.make_ndarray(node.attr['value'].tensor) for node in graph_def.node if node.op == 'Const'}


@pytest.mark.parametrize('name', NETS)
def test_a_point_is_what_the_whole_network_says(name, tmp_path):
    """Frozen, and from the SavedModel."""
    options, point = NETS[name]
    config, values = made(options)
    images, source = batch(config), source_of(config, values, *(f'w{i:02d}' for i in options.get('widths', ())))
    source = source if name != 'dsnet-sizes' else source_of(config, values, 's12-w06')
    expected = evaluated(config, values, images, point)
    assert expected.shape == (5, 5) and expected.std(axis=0).min() > 1e-4
    graph = frozen.named(source, point)
    run, = graph.runs()
    np.testing.assert_allclose(run(*images)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert not [node.name for node in graph.graph_def.node if 'Variable' in node.op or node.op == 'VarHandleOp']
    frozen.save(graph, tmp_path / 'saved')
    with tf.Graph().as_default(), tf.Session() as session:
        meta = tf.saved_model.load(session, ['serve'], str(tmp_path / 'saved'))
        signature = meta.signature_def['serving_default']
        assert (set(signature.inputs), set(signature.outputs)) == ({'images'}, {'logits'})
        taken = images[-1] if name == 'views' else images[0]
        found = session.run(signature.outputs['logits'].name, {signature.inputs['images'].name: taken})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('name', ['dsnet', 'dsnet-w4a4', 'msdnet'])
def test_a_folded_graph_has_the_weights_of_its_point_alone(name):
    options, point = NETS[name]
    config, values = made({**options, 'width': 0.5} if 'width' in options else options)
    source = source_of(config, values, *(f'w{i:02d}' for i in options.get('widths', ())))
    found = constants(frozen.folded(frozen.named(source, point)).graph_def)
    _, layers = Model(config, data_format='NHWC').inspect()
    records = cost.cumulative(layers, point)
    weights = 4 * cost.parameters(records)
    kernels = sum(array.nbytes for array in found.values() if array.ndim in (2, 4) and array.size > 4)
    biases = 4 * sum(record.bias for record in records)
    # An activation quantizer adds its levels, an MSDNet normalisation nothing of this rank.
    assert weights - biases == pytest.approx(kernels, rel=0.02)
    strongest = 4 * cost.parameters(cost.cumulative(layers, str(Model(config, data_format='NHWC').net.points[0])))
    everything = sum(array.nbytes for array in found.values())
    assert weights <= everything < 0.9 * strongest
    assert everything < 1.15 * weights


def test_folding_keeps_what_depends_on_the_feeds():
    """Constants with several outputs, control dependencies, feeds that nothing reads."""
    def build():
        x, unread = tf.placeholder(tf.float32, [None, 3], 'x'), tf.placeholder(tf.float32, [None], 'unread')
        w = tf.get_variable('w', initializer=np.arange(12, dtype='float32').reshape(3, 4))
        left, right = tf.split(2 * w, 2, axis=1)
        with tf.control_dependencies([tf.shape(x)]):
            one = tf.constant(1.0)
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.matmul(x, right), lambda: tf.zeros([1, 2]))
        return [([x, unread], [y + one])]
    w = np.random.default_rng(0).standard_normal((3, 4)).astype('float32')
    whole = frozen.freeze(build, {'w': w})
    graph = frozen.folded(whole)
    assert [len(part.feeds) for part in (whole.signatures[0], graph.signatures[0])] == [2, 1]
    assert max(array.size for array in constants(graph.graph_def).values()) == 6
    for x in (np.ones((2, 3), 'float32'), -np.ones((1, 3), 'float32')):
        expected = 1 + (2 * x @ w[:, 2:] if x.sum() > 0 else np.zeros((1, 2)))
        np.testing.assert_allclose(whole.runs()[0](x, [0.0])[0], expected, rtol=1e-6)
        np.testing.assert_allclose(graph.runs()[0](x)[0], expected, rtol=1e-6)


def test_points_that_can_be_run():
    config, values = made({**DSNET, 'widths': ()})
    assert frozen.points(source_of(config, values)) == ['w14', 'w00']
    assert frozen.points(source_of(config, values, 'w03')) == ['w14', 'w03', 'w00']
    with pytest.raises(UsageError, match="point 'w05': RUN/model-1 has w14 w00"):
        frozen.point_model(source_of(config, values), 'w05')
