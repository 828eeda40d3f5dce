"""An independent count.

Multiply-adds of a frozen graph, from the nodes that are in it, against the layer records.

Of a convolution with constant kernel W and output [N, h, w, C] they are h * w times the values of W
(grouped and depthwise ones too), of a product of two matrices the values of the second. Pools are
not counted.
"""

import collections
import functools
import math

import numpy as np
import pytest

from engine.config.config import Config
from engine.graph import freeze
from engine.graph.tower import Model
from engine.runs.checkpoint import Checkpoint
from nets import cost
from nets.backbones import resnet
from nets.points import Point
from quant.backend import tf

# A fixture.
pytestmark = pytest.mark.usefixtures('shallow')

CONVOLUTIONS = ('Conv2D', 'DepthwiseConv2dNative')
COUNTED = (*CONVOLUTIONS, 'MatMul')
SMALL = {
    'mode': 'pytorch',
    'sizes': (16, 12),
    'data': 'animals28',
    'classes': 5,
    'image_size': 16,
    'resize': 'area',
}
RESNET = {**SMALL, 'arch': 'resnet8', 'width': 0.25}
MSDNET = {
    **SMALL,
    'net': 'msdnet',
    'arch': 'msdnet',
    'nBlocks': 3,
    'base': 1,
    'step': 1,
    'nChannels': 4,
    'growthRate': 2,
    'grFactor': (1, 2),
    'bnFactor': (1, 2),
    'init': 'original',
    'kd_type': 'topdown',
}
DSNET = {**SMALL, 'net': 'dsnet', 'arch': 'mobilenetv1_small', 'width': 0.1, 'sizes': (16,)}
CASES = {
    'rsnet': (RESNET, ('s16', 's12')),
    'mobilenet': ({**RESNET, 'arch': 'mobilenetv2_small'}, ('s12',)),
    'resnext': ({**RESNET, 'arch': 'resnext50_32x4d', 'width': 1.0, 'sizes': (16,)}, ('s16',)),
    'preact': ({**RESNET, 'mode': 'preact', 'qw': 2, 'qa': 2}, ('s12',)),
    'san': ({**RESNET, 'net': 'san', 'kd_type': 'topdown', 'qw': 2}, ('s12',)),
    'aig': ({**RESNET, 'net': 'aig'}, ('s12',)),
    'msdnet': (MSDNET, ('s16-x0', 's12-x2')),
    'dsnet': ({**DSNET, 'widths': (0, 6, 14)}, ('w14', 'w06')),
    'gate': ({**DSNET, 'stage': 'gate', 'routes': (0, 6)}, ('w06',)),
    'slim resnet': ({**DSNET, 'arch': 'resnet20', 'widths': (0, 13), 'qw': 2, 'qa': 2}, ('w00',)),
}
POINTS = [(name, point) for name, (_, points) in CASES.items() for point in points]


def graph_madds(graph_def):
    """Multiply-adds of one image."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name='')
        # Preprocessing, which resizes by products of matrices, is in no scope.
        layers = [op for op in graph.get_operations() if '/' in op.name]
        counted = [op for op in layers if op.type in COUNTED]
    inside = [
        node
        for function in graph_def.library.function
        for node in function.node_def
        if node.op in COUNTED
    ]
    assert inside == [], 'layers in functions are not counted'
    return sum(
        math.prod(op.inputs[1].shape.as_list())
        * (math.prod(op.outputs[0].shape.as_list()[1:3]) if op.type in CONVOLUTIONS else 1)
        for op in counted
    )


@pytest.fixture(autouse=True)
def grouped(monkeypatch, shallow):
    monkeypatch.setitem(
        resnet.FORMS, 'resnext50_32x4d', resnet.Form((1, 1), True, groups=32, base=4)
    )
    monkeypatch.setitem(resnet.FORMS, 'resnet20', resnet.Form((1, 1), small=True))


@functools.cache
def built(name):
    """Model, a value for every variable, layer records."""
    config = Config.from_values(**CASES[name][0])
    config.check()
    model = Model(config, data_format='NHWC')
    variables, layers = model.inspect()
    return (
        model,
        {name: np.ones(state.shape, np.float32) for name, state in variables.items()},
        layers,
    )


@pytest.mark.parametrize('name, point', POINTS)
def test_records_are_what_the_graph_computes(name, point):
    model, values, layers = built(name)
    found = graph_madds(freeze.of_point(model, Point.parse(point), values).graph_def)
    assert found == cost.madds(layers[point]) > 0


def test_exits_share_what_they_have_passed():
    """All exits up to one, in one graph: what ``cumulative`` adds up."""
    model, values, layers = built('msdnet')

    def build():
        images = tf.placeholder(tf.uint8, [None, 16, 16, 3])
        logits = model.net.outputs(model.views([images]), model.blocks(training=False)).logits
        return [
            (
                [images],
                [
                    logits[point]
                    for point in model.net.points
                    if point.size == 16 and point.exit <= 1
                ],
            )
        ]

    found = graph_madds(freeze.freeze(build, values).graph_def)
    assert found == cost.madds(cost.cumulative(layers, 's16-x1')) > cost.madds(layers['s16-x1'])


def test_the_gate_of_a_slimmable_network_is_counted():
    """Layers that all routes share, then every route on its own, and the gate."""
    model, values, layers = built('gate')
    frozen, _ = freeze.of_choices(Checkpoint('made up', values, model.config), 'dynamic')
    found = graph_madds(frozen.graph_def)
    narrow, wide = (
        {(layer.name, layer.kernel): layer for layer in layers[point]} for point in ('w00', 'w06')
    )
    assert narrow.keys() & wide.keys() and narrow.keys() - wide.keys()
    assert found == cost.madds((narrow | wide).values()) + model.net.head_madds


def test_pools_are_not_counted(run):
    """A pool and a classifier are one product of matrices, the latter."""
    blocks = built('rsnet')[0].blocks(training=False)
    blocks.dense('linear', blocks.global_pool(tf.zeros([2, 3, 3, 7])), 5)
    graph_def = tf.get_default_graph().as_graph_def()
    types = collections.Counter(node.op for node in graph_def.node)
    assert types['MatMul'] == 1 and types['AvgPool'] == 1
    assert (
        sum(
            math.prod(op.inputs[1].shape.as_list())
            for op in tf.get_default_graph().get_operations()
            if op.type == 'MatMul'
        )
        == 7 * 5
    )
