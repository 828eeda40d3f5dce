"""Statistics of a step: which points and towers count, in whatever order of execution."""

import numpy as np
import pytest

from nets.layers.blocks import Blocks
from nets.points import Point
from quant import Policy, integers, low_bit, updates
from quant.backend import tf
from quant.scope import Quantization

RNG = np.random.default_rng(0)
STRONG = np.abs(RNG.normal(size=(4, 3, 3, 8))).astype('float32')
WEAK = np.abs(RNG.normal(size=(4, 2, 2, 8)) * 3).astype('float32')


def quantization(activation='lq(bits=2)', *, training=True):
    return Quantization(low_bit('lq(bits=2)', activation), training=training)


def activate(q, x, *, scope='', point='s28', strongest=True):
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        return q.activation(
            'quant1',
            tf.constant(x),
            scope=f'{scope}/quant1',
            role='body',
            relu=True,
            lower=0.0,
            point=point,
            strongest=strongest,
        )


def two_points(q, scope=''):
    return [
        activate(q, STRONG, scope=scope),
        activate(q, WEAK, scope=scope, point='s20', strongest=False),
    ]


def weigh(q, w, **options):
    with tf.variable_scope('conv', reuse=tf.AUTO_REUSE):
        return q.weight(tf.constant(w), scope='conv', role='body', init_std=0.5, **options)


def variable(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found


def refit_alone(run, *tensors):
    """The basis after one refit from the values as a single tensor, in other variables."""
    q, scope = quantization(), f'alone{len(tf.global_variables())}'
    activate(q, np.concatenate([t.ravel() for t in tensors]), scope=scope)
    run(updates.refit([q]))
    return run(variable(f'{scope}/quant1/basis'))


def test_statistics_of_points_are_added(run):
    q = quantization()
    two_points(q)
    run(updates.refit([q]))
    np.testing.assert_allclose(
        run(variable('quant1/basis')), refit_alone(run, STRONG, WEAK), rtol=1e-5
    )


def test_strongest_point_alone(run):
    q = quantization("lq(bits=2, update='strongest')")
    two_points(q)
    run(updates.refit([q]))
    np.testing.assert_allclose(run(variable('quant1/basis')), refit_alone(run, STRONG), rtol=1e-6)


@pytest.mark.parametrize('update', ['all', 'strongest'])
def test_private_bases(update, run):
    q = quantization(f'lq(bits=2, private=True, update={update!r})')
    two_points(q)
    assert {v.op.name for v in tf.global_variables()} == {'quant1/s28/basis', 'quant1/s20/basis'}
    run(updates.refit([q]))
    np.testing.assert_allclose(
        run(variable('quant1/s28/basis')), refit_alone(run, STRONG), rtol=1e-6
    )
    np.testing.assert_allclose(run(variable('quant1/s20/basis')), refit_alone(run, WEAK), rtol=1e-6)


def test_statistics_of_towers_are_added(run):
    towers = [quantization(), quantization()]
    activate(towers[0], STRONG)
    activate(towers[1], WEAK)
    run(updates.refit(towers))
    np.testing.assert_allclose(
        run(variable('quant1/basis')), refit_alone(run, STRONG, WEAK), rtol=1e-5
    )


def test_weights_count_once(run):
    """All towers hold the same weights; here the second one does not, so that it would show."""
    w = RNG.normal(size=(3, 3, 2, 4)).astype('float32')
    towers = [quantization(), quantization()]
    weigh(towers[0], w)
    weigh(towers[1], 9 * w)
    table, expected = run(
        [
            updates._total(towers, 'conv/weight_quant/basis').table,
            towers[0].collected['conv/weight_quant/basis'].statistics[0].table,
        ]
    )
    np.testing.assert_array_equal(table, expected)
    start = run(variable('conv/weight_quant/basis'))
    run(updates.refit(towers))
    assert 0 < np.abs(run(variable('conv/weight_quant/basis')) - start).max() < 3


def test_statistics_of_machines_are_added(run):
    here, there = quantization(), quantization()
    activate(here, STRONG)
    activate(there, WEAK)
    other = there.collected['quant1/basis'].statistics[0].table
    run(updates.refit([here], add=lambda tables: [table + other for table in tables]))
    np.testing.assert_allclose(
        run(variable('quant1/basis')), refit_alone(run, STRONG, WEAK), rtol=1e-5
    )


@pytest.mark.parametrize('first', [True, False])
def test_only_the_first_machine_counts_weights(first, run):
    """The others have the same ones, up to what a different processor rounds."""
    q, sent = quantization(), []
    weigh(q, RNG.normal(size=(3, 3, 2, 4)).astype('float32'))
    activate(q, STRONG)
    updates.refit([q], add=lambda tables: sent.extend(tables) or tables, first=first)
    assert [bool(table.any()) for table in run(sent)] == [first, True]


def test_weights_of_points_have_bases_of_their_own(run):
    """A generated kernel is another one at every point."""
    q, w = quantization(), RNG.normal(size=(3, 3, 2, 4)).astype('float32')
    for point, factor in (('s28', 1), ('s20', 5)):
        weigh(q, factor * w, point=point)
    assert {v.op.name for v in tf.global_variables()} == {
        f'conv/weight_quant/{s}/basis' for s in ('s28', 's20')
    }
    run(updates.refit([q]))
    large, small = run([variable(f'conv/weight_quant/{s}/basis') for s in ('s28', 's20')])
    assert np.abs(small).sum() > 3 * np.abs(large).sum()


def test_replicated_variables_get_one_value(run):
    towers = []
    for name, values in (('tower0', STRONG), ('tower1', WEAK)):
        with tf.variable_scope(name):
            towers.append(quantization())
            activate(towers[-1], values, scope='layer')
    assert list(towers[1].collected) == ['layer/quant1/basis']
    run(updates.refit(towers))
    first, second = run([variable(f'tower{i}/layer/quant1/basis') for i in (0, 1)])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, refit_alone(run, STRONG, WEAK), rtol=1e-5)


def test_one_run_of_everything_is_deterministic():
    q = quantization()
    w = RNG.normal(size=(3, 3, 8, 4)).astype('float32')
    everything = [two_points(q), weigh(q, w), updates.refit([q])]
    results = []
    with tf.Session() as session:
        for _ in range(5):
            session.run(tf.global_variables_initializer())
            points, weights, _ = session.run(everything)
            results.append([*points, weights, *session.run(tf.global_variables())])
    for result in results[1:]:
        for one, first in zip(result, results[0]):
            np.testing.assert_array_equal(one, first)


def ancestors(op):
    seen, todo = set(), [op]
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += [t.op for t in one.inputs] + list(one.control_inputs)
    return seen


def late_reads(outputs, writes):
    """Reads of a basis that an output needs and that nothing keeps from running after its write."""
    reads = {op for y in outputs for op in ancestors(y.op) if op.type == 'ReadVariableOp'}
    return [
        read.name
        for write in writes
        for read in reads
        if read.inputs[0] is write.inputs[0] and read not in ancestors(write)
    ]


@pytest.mark.parametrize('options', ['', ', private=True', ", update='strongest'"])
def test_every_read_of_a_basis_precedes_its_write(options):
    q = quantization(f'lq(bits=2{options})')
    outputs = two_points(q)
    writes = updates.refit([q])
    assert writes and {op.type for op in writes} == {'AssignVariableOp'}
    assert late_reads(outputs, writes) == []


def test_float_is_a_plain_relu():
    q = Quantization(Policy(), training=True)
    x = tf.zeros([2, 3])
    before = set(tf.get_default_graph().get_operations())
    options = {'role': 'body', 'lower': 0.0, 'point': 's28', 'strongest': True}
    q.activation('quant1', x, scope='quant1', relu=True, **options)
    assert [op.type for op in set(tf.get_default_graph().get_operations()) - before] == ['Relu']
    assert q.activation('quant2', x, scope='quant2', relu=False, **options) is x
    assert q.weight(x, scope='conv', role='body', init_std=0.5) is x
    assert not tf.global_variables() and not q.collected and updates.refit([q]) == []


def test_inference_collects_nothing():
    q = quantization(training=False)
    two_points(q)
    weigh(q, np.ones([3, 3, 2, 4], 'float32'))
    assert not q.collected and updates.refit([q]) == []
    assert {v.op.name for v in tf.global_variables()} == {'quant1/basis', 'conv/weight_quant/basis'}


def test_depthwise_kernel_has_a_basis_per_channel(run):
    """[k, k, C, 1] is quantized as C channels: every channel takes values of its own basis only."""
    b = Blocks(low_bit('lq(bits=1)', 'float'), [Point(size=8)], training=True)
    w = (RNG.normal(size=(3, 3, 4, 1)) * [[[[1], [10], [100], [1000]]]]).astype('float32')
    y = b.depthwise_conv('depth', tf.ones([1, 8, 8, 4]), 3)
    basis = variable('depth/weight_quant/basis')
    assert basis.shape == [1, 4]
    refit = updates.refit([b.quantization])
    run([])
    run(variable('depth/W').assign(w))
    run(refit)
    np.testing.assert_allclose(run(basis)[0], np.abs(w).mean((0, 1, 3)), rtol=1e-4)
    signs = np.where(w > 0, 1, -1)
    expected = (signs[..., 0] * np.abs(w).mean((0, 1))[..., 0]).sum((0, 1))
    np.testing.assert_allclose(run(y)[0, 4, 4], expected, rtol=1e-3)


def test_dead_levels_are_summarized(run):
    q = quantization()
    activate(q, np.zeros([8], 'float32'))
    updates.refit([q])
    (summary,) = (tf.summary.Summary.FromString(one) for one in run([tf.summary.merge_all()]))
    values = {value.tag: value.simple_value for value in summary.value}
    assert values['quant/quant1/basis/dead_levels'] == 0.75
    assert set(values) == {
        f'quant/quant1/basis/{part}'
        for part in ('dead_levels', 'smallest_gap', '0', '1', 'use/0', 'use/1', 'use/2', 'use/3')
    }
    assert [values[f'quant/quant1/basis/use/{level}'] for level in range(4)] == [1, 0, 0, 0]


@pytest.mark.parametrize('bits', [1, 3, 4, 5])
def test_bases_and_use_of_levels_are_summarized(bits, run):
    """Shares of the levels in ascending order; none for more than 16 levels."""
    q = quantization(f'lq(bits={bits})')
    activate(q, STRONG)
    refit = updates.refit([q])
    summary, basis, _ = run([tf.summary.merge_all(), variable('quant1/basis').read_value(), refit])
    values = {
        value.tag.removeprefix('quant/quant1/basis/'): value.simple_value
        for value in tf.summary.Summary.FromString(summary).value
    }
    levels = np.sort(basis[:, 0] @ (np.arange(2**bits) >> np.arange(bits)[:, None] & 1))
    nearest = np.abs(STRONG.reshape(-1, 1) - levels).argmin(1)
    expected = np.bincount(nearest, minlength=2**bits) / STRONG.size if bits < 5 else []
    shares = [values[f'use/{level}'] for level in range(2**bits) if f'use/{level}' in values]
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    after = run(variable('quant1/basis'))
    np.testing.assert_allclose([values[str(k)] for k in range(bits)], after[:, 0], rtol=1e-5)


def test_levels_are_whole_while_they_are_snapped(run):
    """What refits average goes on as it is: levels are those of before once snapping ends."""
    q = quantization()
    activate(q, STRONG)
    weigh(q, RNG.normal(size=(3, 3, 4, 6)).astype('float32'))
    plain = refit_alone(run, STRONG)
    snapping = tf.placeholder(tf.bool, [])
    ops = updates.refit([q], snapping=snapping)
    run(ops, {snapping: True})
    found = run(variable('quant1/basis'))
    np.testing.assert_array_equal(found, integers.snapped(plain, both_signs=False))
    assert np.abs(found - plain).max() > 0
    np.testing.assert_allclose(run(variable('quant1/basis/biased')), 0.1 * plain, rtol=1e-5)
    weights = run(variable('conv/weight_quant/basis'))
    np.testing.assert_array_equal(integers.snapped(weights, both_signs=True), weights)
