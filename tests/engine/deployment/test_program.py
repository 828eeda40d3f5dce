"""Programs: every network x precision of the grid gives what its graph gives, at every point."""

import functools

import numpy as np
import pytest

from engine.data import inputs
from engine.data.preprocess import shares, views
from engine.data.preprocessing import Preprocessing
from engine.deployment import (
    interpreter,
    names,
    native_writer,
    program,
    reading,
    tf_graph,
    trace,
)
from engine.deployment.native_reader import NativeFile
from engine.deployment.pool import Constants
from engine.deployment.resizing import blocks, resized_first
from engine.errors import UsageError
from engine.graph import freeze
from engine.graph.tower import Model
from engine.runs.checkpoint import Checkpoint, Restore
from quant.backend import tf
from tests import test_grid
from tests.engine.deployment.test_native_file import check_equal

pytestmark = pytest.mark.usefixtures('shallow')

# By default the first axis of each network, at low bits.
CELLS = []
for cell, key in test_grid.CELLS.items():
    slow = test_grid.is_slow(*key) or key[1] != next(iter(test_grid.NETS[key[0]].axes))
    marks = [pytest.mark.slow] if slow or key[2] != 'w2a2' else []
    CELLS.append(pytest.param(cell, marks=marks))
# The same, of which two networks are tried by default.
FEWER_CELLS = []
for cell in CELLS:
    marks = [pytest.mark.slow] * (cell.values[0] != 'rsnet-sizes-w2a2')
    FEWER_CELLS.append(pytest.param(*cell.values, marks=marks))
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(256, size=(12, 16, 16, 3), dtype=np.uint8)


@functools.cache
def looking_trained(config):
    """Values of a configuration's variables by name."""
    model = Model(config, data_format='NHWC')
    variables, _ = model.inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    return model.starting_values() | test_grid.numbers(shapes)


def made(cell, **changes):
    """A checkpoint that looks trained, of a configuration with other fields."""
    config = test_grid.config(cell).adjusted(**changes)
    values = {name: value.copy() for name, value in looking_trained(config).items()}
    return Checkpoint('model-1', values, config)


def logits(source, images):
    """[N, classes] by point: the graph of evaluation with every layer executed."""
    model = Model(source.config.adjusted(kd=False), data_format='NHWC')
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [
            tf.constant(images[:, :side, :side]) for side in source.config.preprocessing.view_sizes
        ]
        inputs_by_size = model.views(feeds)
        blocks = model.blocks(training=False)
        outputs = model.net.outputs(inputs_by_size, blocks, **model.net.static_options)
        Restore(source.values).init(session)
        return session.run({str(point): value for point, value in outputs.logits.items()})


@functools.cache
def traced(cell):
    """That checkpoint, and the program of all its points."""
    source = made(cell)
    return source, trace.of_points(source, freeze.points(source))


@pytest.mark.parametrize('cell', CELLS)
def test_a_program_gives_what_the_graph_gives(cell):
    source, whole = traced(cell)
    expected = logits(source, IMAGES)
    for point in whole.points:
        rows = expected[point]
        side = whole.points[point].side
        found = interpreter.run(whole, point, IMAGES[:, :side, :side])
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-4 * rows.std())
    assert any(isinstance(one, program.Codes) for one in whole.constants.values()) == (
        'float' not in cell
    )


@pytest.mark.parametrize('cell', CELLS)
def test_a_file_of_bit_planes_gives_a_program_back(cell):
    _, whole = traced(cell)
    file = NativeFile(native_writer.serialized(whole, {}), 'a.lqn')
    found = file.program()

    def given(point):
        return [IMAGES[:2, : point.side, : point.side, : point.channels]]

    check_equal(found, whole, whole.points, given)
    assert len(found.constants) == len(file._head._tables['constants'])


@pytest.mark.parametrize('cell', FEWER_CELLS)
def test_networks_of_grey_images(cell):
    """One channel, in the stem, in the program and in the graph that is made of it."""
    source = made(cell, inputs='grey:0.45:0.226')
    whole = trace.of_points(source, freeze.points(source))
    grey = IMAGES[..., :1]
    expected = logits(source, grey)
    written = tf_graph.graph_of(whole, list(whole.points))
    for point, run in zip(whole.points, written.runs(1)):
        one = whole.points[point]
        assert one.channels == 1
        views = grey[:, : one.side, : one.side]
        rows = expected[point]
        found = interpreter.run(whole, point, views)
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-4 * rows.std())
        (found,) = run(views)
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-4 * rows.std())


@pytest.mark.parametrize('resize', ['nearest', 'area', 'antialias'])
@pytest.mark.parametrize('rule', [*inputs.RULES, 'bgr:0.5,0.25,0.75:0.5,0.2,0.3'])
def test_a_program_prepares_images_as_the_graph(rule, resize):
    """Exactly, where nothing is summed."""
    preprocessing = Preprocessing('shift', 16, (16, 12, 10), resize, rule)
    for size in preprocessing.sizes:
        reader = reading.Reader(Constants())
        side = reader.preprocess(preprocessing, size)
        one = program.PointProgram(names.IMAGES, side, tuple(reader.operations), reader.output)
        whole = program.Program({'view': one}, reader.constants)
        images = IMAGES[:3, :side, :side]
        found = interpreter.run(whole, 'view', images)
        with tf.Graph().as_default(), tf.Session() as session:
            feeds = [tf.constant(IMAGES[:3, :view, :view]) for view in preprocessing.view_sizes]
            expected = session.run(views(feeds, preprocessing, 'NHWC')[size])
        assert found.shape == (3, size, size, 3)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * (resize == 'area'))
        first = resized_first(whole)
        again = interpreter.run(first, 'view', images)
        # Sums of numbers up to 255 are rounded before they are normalised.
        np.testing.assert_allclose(again, expected, rtol=0, atol=6e-6 * (resize == 'area'))
        kinds = [type(operation) for operation in first.points['view'].operations]
        assert (program.Resize in kinds[1:2]) == (size < side)


@pytest.mark.parametrize('resize', ['nearest', 'area'])
@pytest.mark.parametrize(
    'side, size', [(28, 28), (28, 20), (224, 160), (224, 96), (17, 13), (9, 16), (64, 1)]
)
def test_blocks_are_all_of_a_resize(side, size, resize):
    """Every value of its matrix, and no more than a few columns of it."""
    matrix = shares(resize, side, size)
    found = blocks(matrix)
    count, rows, pixels = found.shares.shape
    assert found.pixels.shape == (count, pixels) and pixels <= rows * side / size + 2
    back = np.zeros_like(matrix).reshape(count, rows, side)
    for part, block, columns in zip(back, found.shares, found.pixels):
        part[:, columns] = block
    np.testing.assert_array_equal(back.reshape(matrix.shape), matrix)


def read(build):
    """The operations of a graph of images [N, 4, 4, 2]."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4, 4, 2], 'view_4')
        y = build(x)
    frozen = freeze.Frozen(graph.as_graph_def(), [freeze.Signature([x.name], [y.name])])
    reader = reading.Reader(Constants())
    reader.read(frozen, 4)
    return reader.operations


def test_a_slice_is_a_crop():
    (crop,) = read(lambda x: x[:, 1:, ::2])
    assert (crop.start, crop.stop, crop.step) == ((1, 0, 0), (4, 4, 2), (1, 2, 1))


@pytest.mark.parametrize(
    'build, kept',
    [
        (tf.nn.swish, ['Activation', 'Combine']),
        (lambda x: tf.nn.relu(x / [1.0]), ['Activation']),
        (lambda x: x * [1.0, 2.0], ['Arithmetic']),
        (lambda x: x * 2.0, ['Arithmetic']),
        (lambda x: x + 1.0, ['Arithmetic']),
    ],
)
def test_factors_of_one_are_left_out(build, kept):
    assert [type(one).__name__ for one in read(build)] == kept


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda x: tf.sin(x), 'no operation of a program stands for Sin'),
        (lambda x: tf.reshape(x, [-1, 16, 2]), r'reshapes \[4, 4, 2\] to \[16, 2\]'),
        (lambda x: 1.0 / x, 'is no result where a program has one'),
        (lambda x: tf.nn.conv2d(x, x[:1, :1, :1], 1, 'SAME'), 'is computed of the images'),
    ],
)
def test_what_no_operation_stands_for_is_refused(build, message):
    with pytest.raises(UsageError, match=message):
        read(build)
