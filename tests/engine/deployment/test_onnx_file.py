"""ONNX files: what runtimes answer is what the program says, packed and in float."""

import numpy as np
import onnxruntime
import pytest

from engine.deployment import interpreter, onnx_file, trace
from engine.deployment.packing import pack, packing
from engine.graph import freeze
from tests.engine.deployment.test_program import IMAGES, made

pytestmark = pytest.mark.usefixtures('shallow')


@pytest.mark.parametrize('bits', range(1, 9))
@pytest.mark.parametrize('count', [1, 7, 24, 1000])
def test_packed_codes_come_back(bits, count):
    codes = np.random.default_rng(bits).integers(2**bits, size=count, dtype=np.uint8)
    packed = pack(codes, bits)
    size, each = packing(bits)
    assert packed.shape == (-(-count // each), size) and packed.dtype == np.uint8
    numbers = (packed.astype(np.int64) * 256 ** np.arange(size)).sum(axis=1)
    found = []
    for number in numbers:
        for _ in range(each):
            found.append(number % 2**bits)
            number //= 2**bits
    assert found[:count] == codes.tolist() and not any(found[count:])


@pytest.mark.parametrize(
    'cell',
    [
        'rsnet-sizes-w2a2',
        'msdnet-sizes-w2a2',
        'dsnet-widths-w2a2',
        pytest.param('rsnet-sizes-lsq4', marks=pytest.mark.slow),
        pytest.param('san-sizes-w2a2', marks=pytest.mark.slow),
        pytest.param('san-sizes-float', marks=pytest.mark.slow),
        pytest.param('msdnet-exits-float', marks=pytest.mark.slow),
        pytest.param('dsnet-sizes-w2a2', marks=pytest.mark.slow),
        pytest.param('aig-sizes-w2a2', marks=pytest.mark.slow),
    ],
)
def test_runtimes_answer_as_the_program_at_every_point(cell, tmp_path):
    source = made(cell)
    points = freeze.points(source)
    whole = trace.of_points(source, points)
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
