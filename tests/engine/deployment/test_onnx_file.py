"""ONNX files: what runtimes answer is what the program says, packed and in float."""

import numpy as np
import onnx
import onnxruntime
import pytest

from engine import Predictor
from engine.data.preprocess import resized
from engine.deployment import interpreter, onnx_file, program
from engine.deployment.packing import pack, packing
from engine.deployment.pool import Constants
from engine.deployment.resizing import without_resize
from engine.deployment.runtimes import RUNTIMES, load
from engine.errors import UsageError
from tests.engine.deployment.test_program import IMAGES, traced

pytestmark = pytest.mark.usefixtures('shallow')


@pytest.mark.parametrize('levels', [*range(2, 18), 31, 32, 33, 64, 100, 128, 255, 256])
@pytest.mark.parametrize('count', [1, 7, 24, 1000])
def test_packed_codes_come_back(levels, count):
    codes = np.random.default_rng(levels).integers(levels, size=count, dtype=np.uint8)
    packed = pack(codes, levels)
    size, each = packing(levels)
    assert packed.shape == (-(-count // each), size) and packed.dtype == np.uint8
    numbers = (packed.astype(np.int64) * 256 ** np.arange(size)).sum(axis=1)
    found = []
    for number in numbers:
        for _ in range(each):
            found.append(number % levels)
            number //= levels
    assert found[:count] == codes.tolist() and not any(found[count:])


def convolution(levels):
    """A program whose one kernel has 240 weights of so many levels."""
    rng = np.random.default_rng(levels)
    kernel = rng.integers(levels, size=(48, 5))
    kernel[:levels] = np.arange(levels)[:, None]
    constants = Constants()
    values = (kernel - 1) * np.arange(1, 6)
    part = constants.add(values.reshape(4, 4, 3, 5), 'kernel', kernel=True)
    head = constants.add(np.eye(5), 'head')
    operations = (
        program.Cast('cast', 'images'),
        program.Convolution('x', 'cast', part, 1, (0, 0, 0, 0), False, 1),
        program.ToRows('rows', 'x'),
        program.Dense('y', 'rows', head),
    )
    return program.Program({'s4': program.PointProgram('images', 4, operations, 'y')}, constants)


@pytest.mark.parametrize('runtime', RUNTIMES)
@pytest.mark.parametrize('levels, count', [(2, 30), (3, 48), (4, 60), (5, 72), (8, 90)])
def test_kernels_take_the_bytes_that_tables_say(runtime, levels, count, tmp_path):
    """Five ternary weights share a byte, and every one comes back."""
    whole = convolution(levels)
    path = tmp_path / 'a.onnx'
    onnx_file.save(whole, path, {}, packed=True)
    initializers = onnx.load(path).graph.initializer
    packed = [one for one in initializers if one.data_type == onnx.TensorProto.UINT8]
    assert [int(np.prod(one.dims)) for one in packed] == [count]
    assert whole.constants['kernel'].stored_bits == 8 * count + 32 * 5 * levels
    found = load(runtime, path.read_bytes(), 'a.onnx', threads=1).at(0, 4)(IMAGES[:, :4, :4])
    np.testing.assert_allclose(found, interpreter.run(whole, 's4', IMAGES[:, :4, :4]), rtol=1e-6)


@pytest.mark.parametrize('runtime', RUNTIMES)
@pytest.mark.parametrize('levels', [2, 4, 8, 3])
def test_levels_of_both_signs_are_stored_once(runtime, levels, tmp_path):
    """Those below zero are the others with their sign, to the last bit; also of idle channels."""
    whole = convolution(levels)
    upper = 0.25 * np.arange(1, levels // 2 + 1)[:, None] * np.arange(1, 6)  # sums are exact
    middle = np.zeros((levels % 2, 5))
    found = np.concatenate([-upper[::-1], middle, upper]).astype(np.float32)
    found[:, 2] = 0
    kernel = program.Codes(whole.constants['kernel'].codes, found)
    whole = program.Program(whole.points, {**whole.constants, 'kernel': kernel})
    path = tmp_path / 'a.onnx'
    onnx_file.save(whole, path, {}, packed=True)
    floats = 0
    for one in onnx.load(path).graph.initializer:
        if one.data_type == onnx.TensorProto.FLOAT and 5 * levels not in one.dims:
            floats += int(np.prod(one.dims))
    assert floats == 25 + 5 * levels // 2 * (levels % 2 == 0)
    answers = load(runtime, path.read_bytes(), 'a.onnx', threads=1).at(0, 4)(IMAGES[:, :4, :4])
    np.testing.assert_array_equal(answers, interpreter.run(whole, 's4', IMAGES[:, :4, :4]))


@pytest.mark.parametrize(
    'cell',
    [
        'rsnet-sizes-w2a2',
        pytest.param('dsnet-widths-w2a2', marks=pytest.mark.slow),
        pytest.param('msdnet-sizes-w2a2', marks=pytest.mark.slow),
        pytest.param('rsnet-sizes-lsq4', marks=pytest.mark.slow),
        pytest.param('san-sizes-w2a2', marks=pytest.mark.slow),
        pytest.param('san-sizes-float', marks=pytest.mark.slow),
        pytest.param('msdnet-exits-float', marks=pytest.mark.slow),
        pytest.param('dsnet-sizes-w2a2', marks=pytest.mark.slow),
        pytest.param('aig-sizes-w2a2', marks=pytest.mark.slow),
    ],
)
def test_runtimes_answer_as_the_program_at_every_point(cell, tmp_path):
    _, whole = traced(cell)
    points = list(whole.points)
    assert len(points) > 1
    for packed in (True, False):
        path = tmp_path / f'{packed}.onnx'
        onnx_file.save(whole, path, {}, packed=packed)
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        for number, point in enumerate(points):
            side = whole.points[point].side
            images = np.ascontiguousarray(IMAGES[:, :side, :side])
            (found,) = session.run(None, {'images': images, 'point': np.array([number])})
            expected = interpreter.run(whole, point, images)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


def test_names_and_tables_take_little_of_a_file(tmp_path):
    """Arrays of one shape share a table, one for what is added to a sum; names are short words."""
    _, whole = traced('rsnet-sizes-w2a2')
    onnx_file.save(whole, tmp_path / 'a.onnx', {}, packed=True)
    graph = onnx.load(tmp_path / 'a.onnx').graph
    outputs = [name for node in graph.node for name in node.output]
    named = [*outputs, *(one.name for one in graph.initializer)]
    assert len(set(named)) == len(named)
    assert max(len(name) for name in named if name != 'logits') <= 2
    floats = [one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    tables = [tuple(one.dims) for one in floats if len(one.dims) == 5]
    assert sorted(tables) == [(2, 5, 8, 1, 1), (2, 7, 4, 1, 1)]


def test_openvino_is_given_one_point_of_a_file(tmp_path):
    """Branches of the others are gone before it prepares them; those that images choose stay."""
    _, whole = traced('dsnet-widths-w2a2')
    onnx_file.save(whole, tmp_path / 'a.onnx', {}, packed=True)
    loaded = load('openvino', (tmp_path / 'a.onnx').read_bytes(), 'a.onnx')
    convolutions = []
    for number, point in enumerate(whole.points.values()):
        types = [node.get_type_name() for node in loaded.model_at(number).get_ops()]
        assert 'If' not in types
        convolutions.append(sum('Convolution' in one for one in types))
        kinds = [isinstance(one, program.Convolution) for one in point.operations]
        assert convolutions[-1] == sum(kinds)
    assert len(convolutions) == 2


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_the_height_of_an_image_chooses_the_point(runtime, tmp_path):
    source, whole = traced('rsnet-sizes-w2a2')
    path = tmp_path / 'a.onnx'
    onnx_file.save(without_resize(whole), path, {'a': '"text"'}, packed=True, by_height=True)
    loaded = load(runtime, path.read_bytes(), 'a.onnx', threads=1)
    assert dict(loaded.texts) == {'a': '"text"'}
    for number, size in enumerate((16, 12)):
        expected = interpreter.run(whole, f's{size}', IMAGES)
        found = loaded.at(number, size)(resized(IMAGES, source.config.resize, size))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
    with pytest.raises(Exception, match='[Ss]plit'):
        loaded.at(0, 14)(np.zeros((1, 14, 14, 3), np.float32))


def test_points_of_one_height_cannot_be_chosen_by_it(tmp_path):
    _, whole = traced('rsnet-sizes-w2a2')
    with pytest.raises(UsageError, match='--no-preprocess with --points s16 s12: the height'):
        onnx_file.save(whole, tmp_path / 'a.onnx', {}, packed=True, by_height=True)


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_what_a_runtime_cannot_load(runtime, monkeypatch):
    with pytest.raises(UsageError, match=f'net.onnx: {runtime} cannot load it'):
        load(runtime, b'no model', 'net.onnx')
    monkeypatch.setitem(RUNTIMES, runtime, 'engine.deployment.not_there.File')
    with pytest.raises(UsageError, match=r"pip install '.\[export\]' installs it"):
        load(runtime, b'', 'net.onnx')


def test_a_damaged_file_is_refused_with_what_makes_one(tmp_path):
    path = tmp_path / 'net.onnx'
    path.write_bytes(b'no model')
    with pytest.raises(UsageError, match='net.onnx: onnxruntime cannot load it .*writes one$'):
        Predictor(path)


def sums_of_products(largest, weight, signed):
    """A program of one layer of whole numbers that come as large as they may.

    Args:
        largest: of the numbers that are convolved.
        weight: largest magnitude of one.
        signed: whether some of the numbers are negative.
    """
    rng = np.random.default_rng(0)
    kernel = rng.choice([-weight, -weight // 3, weight], size=(3, 3, 16, 8))
    kernel[..., :2] = weight, -weight
    levels = np.float32([-largest if signed else 0, largest // 3, largest])
    constants = Constants()
    stem = constants.add(rng.normal(size=(1, 1, 3, 16)), 'stem')
    thresholds = constants.add(np.float32([-50, 20]), 'thresholds')
    levels = constants.add(levels, 'levels')
    part = constants.add(kernel, 'kernel', kernel=True)
    head = constants.add(np.eye(8) / 4096, 'head')
    operations = (
        program.Cast('cast', 'images'),
        program.Convolution('x', 'cast', stem, 1, (0, 0, 0, 0), False, 1),
        program.Encode('codes', 'x', thresholds, levels, signed),
        program.IntegerConvolution('sums', 'codes', part, 1, (1, 1, 1, 1), False, 1),
        program.GlobalPool('pool', 'sums'),
        program.ToRows('rows', 'pool'),
        program.Dense('y', 'rows', head),
    )
    return program.Program({'s8': program.PointProgram('images', 8, operations, 'y')}, constants)


@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('runtime', RUNTIMES)
@pytest.mark.parametrize(
    'largest, weight, signed',
    [(255, 127, False), (127, 127, True), (255, 65, False), (255, 64, False), (127, 127, False)],
)
def test_sums_of_whole_numbers_do_not_overflow(runtime, packed, largest, weight, signed, tmp_path):
    """Processors without VNNI add pairs of products in 16 bits, in which the largest do not fit."""
    whole = sums_of_products(largest, weight, signed)
    path = tmp_path / 'a.onnx'
    onnx_file.save(whole, path, {}, packed=packed)
    images = np.random.default_rng(1).integers(0, 256, [3, 8, 8, 3]).astype(np.uint8)
    expected = interpreter.run(whole, 's8', images)
    found = load(runtime, path.read_bytes(), 'a.onnx', threads=1).at(0, 8)(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
