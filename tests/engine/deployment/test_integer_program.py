"""Programs in whole numbers: they give what the same network gives in float, in integers."""

import dataclasses
import functools

import numpy as np
import onnxruntime
import pytest

from engine.deployment import (
    integer_program,
    interpreter,
    onnx_file,
    pool,
    program,
    snapping,
    trace,
)
from engine.deployment.runtimes import RUNTIMES, load
from engine.errors import UsageError
from engine.graph import freeze
from tests.engine.deployment.test_program import IMAGES, made

pytestmark = pytest.mark.usefixtures('shallow')

INTEGER = (program.IntegerConvolution, program.IntegerDense)
RNG = np.random.default_rng(9)
# Layers in whole numbers at the strongest point. Float stay: the stem, the head, 1x1 convolutions
# behind a concatenation of an MSDNet, and depthwise ones behind Swish, whose padding is no level.
CELLS = {
    'rsnet-sizes-w2a2': 5,
    'rsnet-sizes-lsq4': 5,
    'rsnet-sizes-dorefa4': 5,
    'rsnet-sizes-n2uq4': 5,
    'rsnet-sizes-apot4': 5,
    'rsnet-sizes-affine4': 5,
    'rsnet-sizes-bireal1': 5,
    'rsnet-sizes-twn2': 5,
    'san-sizes-w2a2': 5,
    'aig-gates-w2a2': 5,
    'msdnet-exits-w2a2': 8,
    'dsnet-widths-w2a2': 3,
}


def skewed(source):
    """A checkpoint whose bases have ratios that no small whole numbers have."""
    rng = np.random.default_rng(3)
    values = dict(source.values)
    for name, value in source.values.items():
        if name.endswith('/basis'):
            values[name] = value * rng.uniform(0.8, 1.2, value.shape).astype(np.float32)
    return dataclasses.replace(source, values=values)


@functools.cache
def whole(cell):
    """A program whose levels are whole numbers."""
    source = skewed(made(cell))
    if any(name.endswith('/basis') for name in source.values):
        source = snapping.snapped(source).source
    return trace.of_points(source, freeze.points(source))


def check_integers(found):
    """Kernels are whole numbers of 8 bits, and so is what they read."""
    for point in found.points.values():
        makers = {operation.out: operation for operation in point.operations}
        for operation in point.operations:
            if isinstance(operation, program.Encode):
                levels = found.value(operation.levels)
                low, high = (-128, 127) if operation.signed else (0, 255)
                assert low <= levels.min() and levels.max() <= high
                np.testing.assert_array_equal(np.rint(levels), levels)
            if isinstance(operation, INTEGER):
                kernel = found.value(operation.kernel)
                assert np.abs(kernel).max() <= 128
                np.testing.assert_array_equal(np.rint(kernel), kernel)
                assert isinstance(makers[operation.x], program.Encode | program.Pool)


@pytest.mark.parametrize(
    'cell',
    [
        pytest.param(cell, marks=[] if cell == 'rsnet-sizes-w2a2' else [pytest.mark.slow])
        for cell in CELLS
    ],
)
def test_whole_numbers_give_what_levels_give(cell, tmp_path):
    """In numpy and in ONNX Runtime, with kernels as codes and as they are."""
    before = whole(cell)
    found = integer_program.integer(before)
    check_integers(found)
    first = next(iter(found.points.values()))
    counted = [operation for operation in first.operations if isinstance(operation, INTEGER)]
    assert len(counted) == CELLS[cell]
    sessions = []
    for packed in (True, False):
        path = tmp_path / f'{packed}.onnx'
        onnx_file.save(found, path, {}, packed=packed)
        sessions.append(onnxruntime.InferenceSession(path.read_bytes()))
    for number, point in enumerate(found.points):
        side = found.points[point].side
        images = np.ascontiguousarray(IMAGES[:, :side, :side])
        expected = interpreter.run(before, point, images)
        limits = {'rtol': 0, 'atol': 1e-4 * expected.std()}
        np.testing.assert_allclose(interpreter.run(found, point, images), expected, **limits)
        feed = {'images': images}
        if len(found.points) > 1:
            feed['point'] = np.array([number])
        for session in sessions:
            np.testing.assert_allclose(session.run(None, feed)[0], expected, **limits)


@pytest.mark.parametrize('count', [9, 256, 300, 341, 400, 2000])
def test_kernels_of_8_bits_of_any_length(count):
    """Whether they are stored by codes or, where that takes less, as they are."""
    constants = pool.Constants()
    whole_numbers = np.random.default_rng(count).integers(-127, 128, size=(count, 2))
    kernel = (whole_numbers * np.float32([0.013, 0.4])).astype(np.float32)
    part = constants.add(kernel, 'kernel', kernel=True)
    levels = constants.add(0.7 * np.arange(4, dtype=np.float32), 'levels')
    thresholds = constants.add(np.float32([0.35, 1.05, 1.75]), 'thresholds')
    operations = (
        program.Cast('x', 'images'),
        program.Quantize('q', 'x', thresholds, levels),
        program.Dense('y', 'q', part),
    )
    point = program.PointProgram('images', 1, operations, 'y')
    found = integer_program.integer(program.Program({'s1': point}, constants))
    check_integers(found)
    assert isinstance(found.points['s1'].operations[2], program.IntegerDense)
    affine = found.points['s1'].operations[3]
    np.testing.assert_allclose(found.value(affine.scale), 0.7 * np.float32([0.013, 0.4]), rtol=1e-6)


@pytest.mark.parametrize('groups', [1, 2, 6])
@pytest.mark.parametrize('side', [6, 60])
def test_kernels_of_whole_numbers_and_a_half(side, groups, tmp_path):
    """256 levels around zero: one channel needs a half, another one has whole numbers.

    Stored by codes where these take less, else as they are; windows that reach beyond an image.
    """
    shape = (3, 3, side // groups, 6)
    numbers = 2 * RNG.integers(-128, 128, size=shape) + 1
    numbers[0, 0, 0] = 255
    numbers[..., 2] = 3 * RNG.integers(-40, 41, size=shape[:3])
    kernel = (numbers * np.float32([0.013, 0.4, 1, 0.5, 0.25, 2])).astype(np.float32)
    constants = pool.Constants()
    entry = constants.add(RNG.uniform(0.1, 1, (1, 1, 3, side)), 'entry')
    part = constants.add(kernel, 'kernel', kernel=True)
    levels = constants.add(0.7 * np.arange(4, dtype=np.float32), 'levels')
    thresholds = constants.add(np.float32([35, 105, 175]), 'thresholds')
    scale, shift = (constants.add(RNG.uniform(0.5, 2, 6), name) for name in ('scale', 'shift'))
    head = constants.add(np.eye(6), 'head')
    operations = (
        program.Cast('x', 'images'),
        program.Convolution('e', 'x', entry, 1, (0, 0, 0, 0), False, 1),
        program.Quantize('q', 'e', thresholds, levels),
        program.Convolution('c', 'q', part, 2, (1, 1, 1, 1), False, groups),
        program.Affine('a', 'c', scale, shift),
        program.GlobalPool('g', 'a'),
        program.ToRows('r', 'g'),
        program.Dense('y', 'r', head),
    )
    point = program.PointProgram('images', 16, operations, 'y')
    before = program.Program({'s16': point}, constants)
    if groups == 2:
        with pytest.raises(UsageError, match='no layer has both'):
            integer_program.integer(before)
        return
    found = integer_program.integer(before)
    check_integers(found)
    expected = interpreter.run(before, 's16', IMAGES)
    limits = {'rtol': 0, 'atol': 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(interpreter.run(found, 's16', IMAGES), expected, **limits)
    path = tmp_path / 'a.onnx'
    onnx_file.save(found, path, {}, packed=True)
    for runtime in RUNTIMES:
        answers = load(runtime, path.read_bytes(), 'a.onnx', threads=1).at(0, 16)(IMAGES)
        np.testing.assert_allclose(answers, expected, **limits)
    integer = [kind for _, kind in executed(path, 16, 0) if kind.lower().endswith('_i8')]
    assert len(integer) == 2


def test_levels_that_are_not_whole_are_refused():
    source = skewed(made('rsnet-sizes-w2a2'))
    network = trace.of_points(source, freeze.points(source))
    with pytest.raises(integer_program.NotWhole, match='group0/block0'):
        integer_program.integer(network)


@pytest.mark.slow
@pytest.mark.parametrize('cell', ['rsnet-sizes-float', 'rsnet-sizes-w2a32'])
def test_networks_in_float_are_refused(cell):
    with pytest.raises(UsageError, match='no layer has both weights and activations'):
        integer_program.integer(whole(cell))


def test_an_interpreter_of_whole_numbers_refuses_others():
    """It is the measure of arithmetic that knows no others."""
    kernel = program.Floats(np.ones([1, 1, 1, 1], np.float32))
    part = program.Part('kernel', (1, 1, 1, 1))
    cast = program.Cast('x', 'images')
    scale = program.Affine('y', 'x', program.Part('half', (1,)), program.Part('half', (1,)))
    convolution = program.IntegerConvolution('z', 'y', part, 1, (0, 0, 0, 0), False, 1)
    point = program.PointProgram('images', 2, (cast, scale, convolution), 'z')
    constants = {'kernel': kernel, 'half': program.Floats(np.float32([0.5]))}
    network = program.Program({'s2': point}, constants)
    with pytest.raises(ValueError, match='whole numbers'):
        interpreter.run(network, 's2', np.full([1, 2, 2, 1], 2, np.uint8))
    even = interpreter.run(network, 's2', np.ones([1, 2, 2, 1], np.uint8) * 5)
    np.testing.assert_array_equal(even, np.full([1, 2, 2, 1], 3.0))


def executed(path, side, point):
    """Types and instruction sets of the layers that OpenVINO executes at a point."""
    import openvino
    from openvino import opset13

    core = openvino.Core()
    model = core.read_model(path)
    shapes = {'images': [1, side, side, 3]}
    if len(model.inputs) > 1:
        shapes['point'] = [1]
    model.reshape(shapes)
    for entry in model.inputs[1:]:
        constant = opset13.constant(np.array([point], np.int64))
        parameter = entry.get_node()
        entry.replace(constant.output(0))
        model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    compiled = core.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = str(info['layerType'].value)
        if kind in ('Convolution', 'FullyConnected', 'MatMul'):
            found.append((kind, str(info['primitiveType'].value)))
    return found


@pytest.mark.parametrize('packed', [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    'cell',
    [
        pytest.param(cell, marks=[] if cell == 'rsnet-sizes-w2a2' else [pytest.mark.slow])
        for cell in CELLS
    ],
)
def test_openvino_computes_them_in_integers(cell, packed, tmp_path):
    """Every layer of whole numbers, at every point, behind codes that it unpacks itself too."""
    before = whole(cell)
    found = integer_program.integer(before)
    path = tmp_path / 'a.onnx'
    onnx_file.save(found, path, {}, packed=packed)
    for number, point in enumerate(found.points.values()):
        counted = [operation for operation in point.operations if isinstance(operation, INTEGER)]
        layers = executed(path, point.side, number)
        integer = [primitive for _, primitive in layers if primitive.lower().endswith('_i8')]
        assert len(integer) == len(counted), layers
    loaded = load('openvino', path.read_bytes(), 'a.onnx', threads=1)
    for number, (name, point) in enumerate(found.points.items()):
        images = np.ascontiguousarray(IMAGES[:, : point.side, : point.side])
        expected = interpreter.run(before, name, images)
        answers = loaded.at(number, point.side)(images)
        np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-4 * expected.std())
