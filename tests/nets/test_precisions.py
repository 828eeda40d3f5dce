"""A network at several precisions: what is private and what is shared, losses, costs."""

import numpy as np
import pytest

from engine.config.config import Config
from engine.graph.tower import Model
from nets import cost
from nets.losses import Teaching
from nets.network import Network
from nets.outputs import Outputs
from nets.points import Point
from nets.precisions import PreciseOutputs, Precisions
from quant.backend import tf
from quant.state import Kind, variables
from tests import test_grid

pytestmark = pytest.mark.usefixtures('shallow')

BITS = ('4', '2')


def small(**fields) -> Config:
    return test_grid.small('rsnet', 'sizes', {'bits': BITS, 'kd': False, **fields})


def test_a_network_at_two_precisions():
    """One weight has levels of each; statistics are private to points, activations to bits."""
    model = Model(small(), data_format='NHWC')
    layers = model.build_inference().layers
    known, points = variables(), list(map(str, model.net.points))
    assert points == ['s16-b4', 's16-b2', 's12-b4', 's12-b2'] == list(layers)
    scope = 'group1/block0/conv1'
    assert [name for name in known if name.startswith(f'{scope}/W')] == [f'{scope}/W']
    bases = {}
    for name, state in known.items():
        if name.startswith(f'{scope}/weight_quant'):
            bases[name.removeprefix(scope)] = state.shape[0], state.point
    assert bases == {'/weight_quant/b4/basis': (4, 'b4'), '/weight_quant/b2/basis': (2, 'b2')}
    owners = {state.point for name, state in known.items() if name.endswith('mean/EMA')}
    assert owners == set(points)
    levels = {state.point for name, state in known.items() if name.endswith('/basis')}
    assert levels == {'b4', 'b2'}
    check_costs(layers['s16-b4'], layers['s16-b2'])


def check_costs(strong, weak):
    """Quantized layers cost what their bits do; a file holds the codes of both, and floats once."""
    quantized = cost.low_bit(weak)
    assert {(layer.weight_bits, layer.activation_bits) for layer in quantized} == {(2, 2)}
    assert 4 * cost.bit_ops(quantized) == cost.bit_ops(cost.low_bit(strong))
    assert cost.madds(strong) == cost.madds(weak)
    floats = sum(layer.memory_bits for layer in strong if layer.weight_bits == 32)
    codes = sum(layer.memory_bits for layer in (*cost.low_bit(strong), *quantized))
    held = sum(layer.memory_bits for layer in cost.stored([*strong, *weak]))
    assert held == floats + codes


def test_every_answer_comes_from_the_network_within():
    """One that is not passed on would be that of most networks, whatever the one within says."""
    answers = {name for name in vars(Network) if not name.startswith('_')}
    fixed = {'accumulator_names', 'per_image_names', 'detachable', 'rewritten_above'}
    of_loss = {'cross_entropies'}  # which the loss of the network within asks for
    assert answers - vars(Precisions).keys() == fixed | of_loss
    found = test_grid.small('dsnet', 'widths', {'bits': BITS}).network()
    assert isinstance(found, Precisions)
    for name in fixed - {'accumulator_names'}:
        assert getattr(found, name) == getattr(found.network, name)
    assert found.detachable and found.rewritten_above < Network.rewritten_above


def test_nested_codes_are_stored_once(run):
    """AdaBits: the code of a weight at two bits is the start of that at four, wherever it lies;
    activations have a clip of each precision, which sizes share.
    """
    model = Model(small(quantizer='adabits'), data_format='NHWC')
    blocks = model.build_inference()
    names = {name for name, state in variables().items() if state.kind is Kind.QUANTIZER}
    assert {name.rpartition('/')[0].rpartition('/')[2] for name in names} == {'b4', 'b2'}
    assert {name.rpartition('/')[2] for name in names} == {'clip'}
    strong, weak = blocks.layers['s16-b4'], blocks.layers['s16-b2']
    held = sum(layer.memory_bits for layer in cost.stored([*strong, *weak]))
    assert held == sum(layer.memory_bits for layer in strong)
    tower, seen = blocks.quantization, {}
    for scope, reading in tower.readings.items():
        if reading.weights:
            seen[scope] = reading.values, tower.codebooks[scope]().thresholds
    codes = {}
    for scope, (w, thresholds) in run(seen).items():
        layer, _, bits = scope.rpartition('/b')
        codes.setdefault(layer, {})[int(bits)] = (w[..., None] > thresholds[:, 0]).sum(-1)
    assert len(codes) == len(cost.low_bit(weak))
    for code in codes.values():
        np.testing.assert_array_equal(code[2], code[4] >> 2)


@pytest.mark.parametrize('bits_loss, factor', [('mean', 0.5), ('sum', 1.0)])
def test_losses_of_precisions(bits_loss, factor, run):
    """Each has the terms of a network of its own bits."""
    net = small(bits_loss=bits_loss, bits_teacher='labels').network()
    values = {point: float(i) for i, point in enumerate(net.points)}
    logits = {point: tf.constant([[value, 1.0]]) for point, value in values.items()}
    parts = {}
    for bits in (4, 2):
        own = {Point(size=p.size): one for p, one in logits.items() if p.bits == bits}
        parts[bits] = Outputs(own)
    outputs = PreciseOutputs(logits, parts=parts)
    terms = run(net.loss(outputs, tf.constant([1])))
    plain = {}
    for bits, part in parts.items():
        for name, value in net.network.loss(part, tf.constant([1])).items():
            plain[f'{name}-b{bits}'] = value
    assert terms == pytest.approx({name: factor * value for name, value in run(plain).items()})


def test_images_count_for_cascades_at_every_precision(run):
    """As a cascade of sizes decides by the answers of the same precision."""
    net = small(bits_teacher='labels').network()
    rng = np.random.default_rng(0)
    parts = {}
    for bits in net.bits:
        answers = {}
        for point in net.network.points:
            answers[point] = tf.constant(rng.normal(0, 2, (3, 2)), tf.float32)
        parts[bits] = Outputs(answers)
    labels = tf.constant([1, 0, 1])
    alike = net.loss(PreciseOutputs({}, parts=parts), labels)
    terms = net.loss(PreciseOutputs({}, parts=parts, for_cascades=True), labels)
    expected = {}
    for bits, part in parts.items():
        own = net.network.loss(Outputs(part.logits, for_cascades=True), labels)
        for name, value in own.items():
            expected[f'{name}-b{bits}'] = 0.5 * value
    alike, terms, expected = run([alike, terms, expected])
    assert terms == pytest.approx(expected)
    for name, value in alike.items():
        assert abs(terms[name] - value) > 1e-3


@pytest.mark.parametrize('weight', [0.0, 3.0])
def test_two_teachers(weight, run):
    """Another network teaches what it does without the next precision, which then has its half."""
    net = small(bits_teacher='next').network()
    size = Point(size=16)
    strong, weak = tf.constant([[2.0, 0.0]]), tf.constant([[0.5, 0.0]])
    parts = {4: Outputs({size: strong}), 2: Outputs({size: weak})}
    teaching = Teaching(tf.constant([[0.0, 1.0]]), weight, 0.25)
    terms = run(net.loss(PreciseOutputs({}, teaching=teaching, parts=parts), tf.constant([1])))
    above, own, other = softmax([2.0, 0.0]), softmax([0.5, 0.0]), softmax([0.0, 1.0])

    def divergence(teacher, student):
        return float((teacher * np.log(teacher / student)).sum())

    first = -0.25 * np.log(above[1]) + weight * divergence(other, above)
    second = -0.25 * np.log(own[1]) + weight * divergence(other, own)
    assert terms == pytest.approx(
        {
            'loss/s16-b4': 0.5 * first,
            'loss/s16-b2': 0.5 * (0.5 * second + 0.5 * divergence(above, own)),
        }
    )


def test_the_next_precision_teaches(run):
    """Half of what a precision learns is from the answers of the next higher one, at its points."""
    net = small(bits_teacher='next').network()
    size = Point(size=16)
    strong, weak = tf.constant([[2.0, 0.0]]), tf.constant([[0.5, 0.0]])
    parts = {4: Outputs({size: strong}), 2: Outputs({size: weak})}
    points = {Point(size=16, bits=4): strong, Point(size=16, bits=2): weak}
    labels = tf.constant([1])
    terms = run(net.loss(PreciseOutputs(points, parts=parts), labels))
    above, own = softmax([2.0, 0.0]), softmax([0.5, 0.0])
    divergence = float((above * np.log(above / own)).sum())
    assert terms == pytest.approx(
        {
            'loss/s16-b4': -0.5 * np.log(above[1]),
            'loss/s16-b2': 0.5 * (-0.5 * np.log(own[1]) + 0.5 * divergence),
        }
    )
    upward = tf.gradients(
        net.loss(PreciseOutputs(points, parts=parts), labels)['loss/s16-b2'], strong
    )
    assert upward == [None]


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum()
