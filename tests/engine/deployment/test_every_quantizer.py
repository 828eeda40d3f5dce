"""Every registered quantizer is shipped as it was evaluated at up to 4 bits, and has its costs."""

import numpy as np
import onnxruntime
import pytest

from engine.deployment import integer_program, interpreter, onnx_file, program, snapping, trace
from engine.errors import UsageError
from engine.evaluation.quantize import observe
from engine.graph import freeze
from engine.graph.inference import InferenceModel
from engine.runs.checkpoint import Checkpoint
from nets import cost
from quant.backend import new_graph
from tests import test_grid
from tests.engine.deployment.test_program import logits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('shallow')]

PRECISIONS = test_grid.at_bits((1, 2, 3, 4, 8))
LOW = [name for name, fields in PRECISIONS.items() if fields['qw'] <= 4]
RNG = np.random.default_rng(6)
# Fields of four colours, which networks tell apart better than noise.
IMAGES = RNG.integers(256, size=(40, 2, 2, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
POINT = 's16'


def config(precision):
    fields = {'sizes': (16,), 'kd': False, **PRECISIONS[precision]}
    return test_grid.small('rsnet', 'sizes', fields)


def started(precision):
    """A checkpoint that looks trained, whose quantizers have started from images."""
    wanted = config(precision)
    model = InferenceModel(wanted, data_format='NHWC')
    values = model.starting_values()
    values |= test_grid.numbers({name: value.shape for name, value in values.items()})
    labels = np.zeros(len(IMAGES), np.int32)
    values |= observe(wanted, values, [[IMAGES, labels]])
    return Checkpoint('model-1', values, wanted)


def check_answers(found, expected):
    """The same answers, of logits that differ by rounding alone."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def in_file(whole, path):
    onnx_file.save(whole, path, {}, packed=True)
    session = onnxruntime.InferenceSession(path.read_bytes())
    return session.run(None, {'images': IMAGES})[0]


@pytest.mark.parametrize('precision', LOW)
def test_packed_files_answer_as_tensorflow(precision, tmp_path):
    source = started(precision)
    expected = logits(source, IMAGES)[POINT]
    whole = trace.of_points(source, freeze.points(source))
    check_answers(interpreter.run(whole, POINT, IMAGES), expected)
    check_answers(in_file(whole, tmp_path / 'a.onnx'), expected)
    kernels = [one for one in whole.constants.values() if isinstance(one, program.Codes)]
    assert kernels
    assert all(len(kernel.levels) <= 2**source.config.qw for kernel in kernels)
    check_integers(source, tmp_path / 'b.onnx')


def check_integers(source, path):
    """Where levels have equal steps, or can be snapped, files of whole numbers answer as well."""
    equal = True
    with new_graph():
        blocks = InferenceModel(source.config, data_format='NHWC').build_inference()
        for make in blocks.quantization.codebooks.values():
            equal &= make().step is not None
    try:
        source = snapping.snapped(source).source
        equal = True
    except UsageError:
        pass
    before = trace.of_points(source, freeze.points(source))
    if not equal:
        return
    found = integer_program.integer(before)
    check_answers(in_file(found, path), logits(source, IMAGES)[POINT])


@pytest.mark.parametrize('precision', PRECISIONS)
def test_costs(precision):
    """Weights take their bits, five of three levels a byte, and what is stored beside them."""
    wanted = config(precision)
    _, layers = InferenceModel(wanted, data_format='NHWC').inspect()
    plain = wanted.replacing(qw=32, qa=32, weight_quantizer='', activation_quantizer='')
    _, in_float = InferenceModel(plain, data_format='NHWC').inspect()
    rows = {row.name: row for row in layers[POINT]}
    policy = wanted.quantization.to_policy()
    for before in in_float[POINT]:
        row = rows[before.name]
        quantizer = policy.weight(row.name, row.role)
        if quantizer is None:
            assert row.weight_bits == 32
            continue
        assert row.weight_bits == quantizer.bits == wanted.qw
        stored = quantizer.stored_values(row.kernel[-1])
        expected = round(row.weights * quantizer.packed_bits) + 32 * stored
        assert row.memory_bits == expected
        assert row.bit_ops < before.bit_ops
    assert cost.bit_ops(layers[POINT]) < cost.bit_ops(in_float[POINT])
    assert cost.weight_bytes(layers[POINT]) < cost.weight_bytes(in_float[POINT])
