"""Every registered quantizer is shipped as it was evaluated, and has its costs."""

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
RNG = np.random.default_rng(6)
# Fields of four colours, which networks tell apart better than noise.
IMAGES = RNG.integers(256, size=(40, 2, 2, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
POINT = 's16'
# An activation so near to a threshold, relative to the largest, is beyond it in another order of
# sums.
ROUNDING = 3e-7


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


def check_answers(found, expected, whole):
    """The same answers, of logits that differ by rounding alone.

    At 8 bits some image of 40 has an activation on a threshold.
    """
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    compared = np.full(len(IMAGES), fill_value=True)
    if most_levels(whole) > 32:
        compared = distances(whole) > ROUNDING
        assert compared.sum() > len(IMAGES) / 2
    limit = 1e-4 * expected.std()
    np.testing.assert_allclose(found[compared], expected[compared], rtol=0, atol=limit)


def most_levels(whole):
    operations = whole.points[POINT].operations
    steps = [one for one in operations if isinstance(one, program.Quantize)]
    return max(one.levels.shape[0] for one in steps)


def distances(whole):
    """[N]: how far any activation of an image is from a threshold, relative to the largest."""
    nearest = np.full(len(IMAGES), np.inf)
    rules = interpreter._RULES

    def measured(operation, values, constants):
        x = values[operation.x].reshape(len(IMAGES), -1).astype(np.float64)
        for threshold in constants['thresholds']:
            distance = np.abs(x - threshold).min(axis=1) / np.abs(constants['thresholds']).max()
            np.minimum(nearest, distance, out=nearest)
        return step(operation, values, constants)

    step = rules[program.Quantize]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rules, program.Quantize, measured)
        interpreter.run(whole, POINT, IMAGES)
    return nearest


def in_file(whole, path):
    onnx_file.save(whole, path, {}, packed=True)
    session = onnxruntime.InferenceSession(path.read_bytes())
    return session.run(None, {'images': IMAGES})[0]


@pytest.mark.parametrize('precision', PRECISIONS)
def test_packed_files_answer_as_tensorflow(precision, tmp_path):
    source = started(precision)
    expected = logits(source, IMAGES)[POINT]
    whole = trace.of_points(source, freeze.points(source))
    check_answers(interpreter.run(whole, POINT, IMAGES), expected, whole)
    check_answers(in_file(whole, tmp_path / 'a.onnx'), expected, whole)
    kernels = [one for one in whole.constants.values() if isinstance(one, program.Codes)]
    assert kernels or source.config.qw > 4
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
    check_answers(in_file(found, path), logits(source, IMAGES)[POINT], before)


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
