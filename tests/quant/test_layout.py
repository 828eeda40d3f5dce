"""On GPUs TensorFlow's optimizer of layouts must get through quantized layers.

It runs here without a GPU, for a description of one. Scalars beside 4-D tensors made it fail on an
H100, and the whole graph then stayed as it was.
"""

import contextlib

import pytest

from quant import Policy, Rule, backend, specs
from quant.backend import new_graph, tf
from quant.lq import levels
from quant.scope import Quantization
from quant.straight_through import straight_through_inside

BATCH, SIDE, CHANNELS = 64, 56, 64


def cluster():
    """A machine with one GPU, as far as the optimizer asks."""
    from tensorflow.core.protobuf import device_properties_pb2
    from tensorflow.python.grappler import cluster as grappler_cluster

    gpu = device_properties_pb2.NamedDevice(name='/job:localhost/replica:0/task:0/device:GPU:0')
    gpu.properties.type = 'GPU'
    gpu.properties.model = 'H100'
    gpu.properties.environment['architecture'] = '9.0'
    gpu.properties.environment['cudnn'] = '91900'
    gpu.properties.environment['cuda'] = '12090'
    gpu.properties.num_cores = 132
    gpu.properties.frequency = 1700
    gpu.properties.memory_size = 80 << 30
    gpu.properties.bandwidth = 3000 << 20
    cpu = device_properties_pb2.NamedDevice(name='/job:localhost/replica:0/task:0/device:CPU:0')
    cpu.properties.type = 'CPU'
    cpu.properties.num_cores = 16
    cpu.properties.frequency = 2000
    cpu.properties.memory_size = 64 << 30
    return grappler_cluster.Cluster(devices=[gpu, cpu], disable_detailed_stats=True)


def training_step(data_format, dtype):
    """A graph of four quantized convolutions with a step of their weights."""
    shape = [BATCH, SIDE, SIDE, CHANNELS]
    if data_format == 'NCHW':
        shape = [BATCH, CHANNELS, SIDE, SIDE]
    with tf.device('/job:localhost/replica:0/task:0/device:GPU:0'):
        y = tf.placeholder(tf.float32, shape)
        basis = tf.get_variable('basis', [2, 1])
        encoder = levels.encoder(levels.grid(basis.read_value(), 0), relu=True)
        weights = [tf.get_variable(f'w{i}', [3, 3, CHANNELS, CHANNELS]) for i in range(4)]
        for w in weights:
            y = tf.nn.conv2d(
                tf.cast(y, dtype), tf.cast(w, dtype), 1, 'SAME', data_format=data_format
            )
            ones, zeros = tf.ones([CHANNELS]), tf.zeros([CHANNELS])
            y = tf.cast(y, tf.float32)
            y = tf.nn.fused_batch_norm(y, ones, zeros, data_format=data_format)[0]
            quantized, _ = levels.quantize(tf.stop_gradient(y), encoder, collect=True)
            inside = tf.logical_and(y <= encoder.largest, y > 0)
            y = straight_through_inside(quantized, y, inside)
        loss = tf.reduce_sum(y)
        updates = []
        for w, gradient in zip(weights, tf.gradients(loss, weights)):
            updates.append(w.assign_sub(0.1 * gradient, read_value=False))
        return tf.group(*updates, name='step')


def quantized_step(name):
    """A graph of quantized convolutions with a step of their weights, for any quantizer."""
    halves = {}
    for half in ('weight', 'activation'):
        with contextlib.suppress(ValueError):
            Rule(roles=('body',), **{half: name})
            halves[half] = name
    q = Quantization(Policy((Rule(roles=('body',), **halves),)), training=True)
    weights = []
    with tf.device('/job:localhost/replica:0/task:0/device:GPU:0'):
        y = tf.placeholder(tf.float32, [BATCH, SIDE, SIDE, CHANNELS])
        for layer in ('one', 'two'):
            with tf.variable_scope(layer):
                w = tf.get_variable('w', [3, 3, CHANNELS, CHANNELS])
                kernel = q.weight(w.read_value(), scope=layer, role='body', init_std=1.0)
                y = tf.nn.conv2d(y, kernel, 1, 'SAME')
                y = tf.nn.fused_batch_norm(y, tf.ones([CHANNELS]), tf.zeros([CHANNELS]))[0]
                y = q.activation(
                    'quant',
                    y,
                    scope=layer,
                    role='body',
                    relu=True,
                    lower=0.0,
                    point='',
                    strongest=True,
                )
            weights.append(w)
        updates = []
        for w, gradient in zip(weights, tf.gradients(tf.reduce_sum(y), weights)):
            updates.append(w.assign_sub(0.1 * gradient, read_value=False))
        return tf.group(*updates, name='step')


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('data_format', ['NHWC', 'NCHW'])
def test_the_optimizer_of_layouts_gets_through(data_format, dtype, monkeypatch):
    check(lambda: training_step(data_format, tf.as_dtype(dtype)), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('name', specs.names())
def test_it_gets_through_every_quantizer(name, monkeypatch):
    check(lambda: quantized_step(name), monkeypatch)


def check(make, monkeypatch):
    """Runs the optimizer on the graph of a step."""
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.grappler import tf_optimizer

    monkeypatch.setattr(backend, 'has_gpu', lambda: True)
    with new_graph() as graph:
        step = make()
        graph.get_collection_ref(tf.GraphKeys.TRAIN_OP).append(step)
        meta = tf.train.export_meta_graph(graph=graph)
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(['layout'])
    rewrites.fail_on_optimizer_errors = True
    rewrites.min_graph_nodes = -1
    found = tf_optimizer.OptimizeGraph(config, meta, verbose=False, cluster=cluster())
    assert any(node.op == 'Conv2D' for node in found.node)
