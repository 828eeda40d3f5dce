"""Gates on their own: noise, decisions and their gradient, a body that only open ones compute."""

import numpy as np
import pytest

from nets.layers.blocks import Blocks
from nets.layers.gating import (
    BIAS,
    gate_logits,
    gathered,
    gumbel,
    masked,
    skipping,
    skipping_identity,
    straight_through,
)
from nets.layers.norm import BN_EPSILON
from nets.points import Point
from quant import Policy
from quant.backend import tf

POINT = Point(size=28)
# Larger, smaller, tied, hardly larger than the other; probabilities near 0 and 1.
LOGITS = np.array(
    [[0.5, 1], [1, 0.5], [0, 0], [-3, -3], [2, 2.0001], [-20, 20], [20, -20]], 'float32'
)
GATES = {
    'some': [1, 0, 0, 1, 0],
    'none': [0] * 5,
    'all': [1] * 5,
    'last': [0, 0, 0, 0, 1],
    'one open': [1],
    'one closed': [0],
}


def blocks(**options):
    return Blocks(Policy(), (POINT,), **{'training': True, 'padding': 'symmetric', **options})


def softmax(x):
    p = np.exp(x.astype('float64') - x.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def test_gumbel_noise(run):
    uniform = np.array([0, 1e-12, 0.1, 0.5, 0.9, 1 - 2**-24], 'float32')
    expected = -np.log(1e-10 - np.log(uniform.astype('float64') + 1e-10))
    found = run(gumbel(tf.constant(uniform)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


def test_gumbel_noise_gives_the_probabilities_of_the_softmax(run):
    logits = tf.tile(tf.constant([[0.1, 2.0]]), [20000, 1])
    opened = run(straight_through(logits + gumbel(blocks().uniform(tf.shape(logits))), 1.0))
    assert opened.mean() == pytest.approx(1 / (1 + np.exp(-1.9)), abs=0.01)


@pytest.mark.parametrize('temperature', [1.0, 0.5, 4.0])
def test_value_and_gradient_of_a_decision(temperature, run):
    """A tie is closed; the gradient is that of the softmax."""
    upstream = np.random.default_rng(0).normal(size=len(LOGITS)).astype('float32')
    logits = tf.constant(LOGITS)
    gate = straight_through(logits, temperature)
    found, gradient = run([gate, tf.gradients(gate, logits, tf.constant(upstream))[0]])
    np.testing.assert_array_equal(found, [1, 0, 0, 0, 1, 1, 0])
    p = softmax(LOGITS / temperature)
    slope = upstream * p[:, 0] * p[:, 1] / temperature
    np.testing.assert_allclose(gradient, np.stack([-slope, slope], 1), rtol=1e-4, atol=1e-7)


def problem(gates):
    """Gate values, input, a body that changes shape and channels, shortcut."""
    rng, seen = np.random.default_rng(0), []
    kernel = tf.constant(rng.normal(size=(3, 3, 4, 6)).astype('float32'))
    q = tf.constant(rng.normal(size=(len(gates), 8, 8, 4)).astype('float32'))
    shortcut = tf.constant(rng.normal(size=(len(gates), 4, 4, 6)).astype('float32'))

    def body(x):
        def keep(array):
            seen.append(array.copy())
            return array

        watched = tf.py_func(keep, [x], tf.float32, stateful=True)
        watched.set_shape(x.shape)
        return tf.nn.conv2d(watched, kernel, [1, 2, 2, 1], 'SAME')

    return tf.constant(np.array(gates, 'float32')), q, body, shortcut, seen


@pytest.mark.parametrize('way', [skipping, gathered])
@pytest.mark.parametrize('gates', GATES.values(), ids=GATES)
def test_skipping_computes_the_same_as_masking(gates, way, run):
    gate, q, body, shortcut, _ = problem(gates)
    found, expected = run(way(gate, q, body, shortcut)), run(masked(gate, q, body, shortcut))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    everything = run(tf.nn.relu(shortcut + body(q)))
    changed = np.abs(everything - run(tf.nn.relu(shortcut))).max(axis=(1, 2, 3)) > 0.1
    assert changed.all()
    for i, opened in enumerate(gates):
        np.testing.assert_allclose(
            found[i],
            everything[i] if opened else run(tf.nn.relu(shortcut))[i],
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize('alone', [False, True])
@pytest.mark.parametrize('gates', GATES.values(), ids=GATES)
def test_an_identity_that_is_rectified_already_is_left_untouched(gates, alone, run):
    images = np.abs(np.random.default_rng(3).normal(size=(len(gates), 4, 4, 6))).astype('float32')
    if alone:
        gates, images = gates[:1], images[:1]
    x = tf.constant(images)

    def body(rows):
        return -1.5 * rows + 0.25

    def pool(rows):
        return tf.reduce_mean(rows, axis=[1, 2])

    before = pool(x)
    with tf.control_dependencies([before]):  # as if the gate were computed from it
        gate = tf.constant(np.array(gates, 'float32'))
    found, means = run(skipping_identity(gate, x, body, x, before, pool))
    opened = np.array(gates, bool)
    np.testing.assert_allclose(means, found.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[~opened], images[~opened])
    np.testing.assert_allclose(
        found[opened], np.maximum(0.25 - 0.5 * images[opened], 0), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize('gates', GATES.values(), ids=GATES)
def test_a_closed_body_is_not_computed(gates, run):
    gate, q, body, shortcut, seen = problem(gates)
    run(skipping(gate, q, body, shortcut))
    if not any(gates):
        assert seen == []
        return
    (computed,) = seen
    np.testing.assert_array_equal(computed, run(q)[np.array(gates, bool)])


@pytest.mark.parametrize('gates', GATES.values(), ids=GATES)
def test_training_computes_open_bodies_or_all(gates, run):
    gate, q, body, shortcut, seen = problem(gates)
    run(gathered(gate, q, body, shortcut))
    (computed,) = seen
    np.testing.assert_array_equal(
        computed, run(q)[np.array(gates, bool) if any(gates) else slice(None)]
    )


@pytest.mark.parametrize('gates', [GATES['some'], GATES['none'], GATES['all']])
def test_gradients_of_gathered_bodies(gates, run):
    """As with masks, except that a closed gate has none unless all are closed."""
    gate, q, _, shortcut, _ = problem(gates)
    kernel = tf.constant(np.random.default_rng(3).normal(size=(3, 3, 4, 6)).astype('float32'))

    def body(x):
        return tf.nn.conv2d(x, kernel, [1, 2, 2, 1], 'SAME')

    sums = [tf.reduce_sum(tf.sin(way(gate, q, body, shortcut))) for way in (gathered, masked)]
    found, expected = (
        run([tf.convert_to_tensor(g) for g in tf.gradients(one, [gate, q, kernel, shortcut])])
        for one in sums
    )
    if any(gates):
        expected[0] *= np.array(gates)
    assert np.abs(expected[0]).max() > 0.1
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def variable(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found


def test_variables_and_start_of_a_gate(run):
    b = blocks(training=False)
    logits = gate_logits(b, tf.zeros([2, 256]))
    norm = {f'gate1/bn/s28/{part}' for part in ('gamma', 'beta', 'mean/EMA', 'variance/EMA')}
    assert {v.op.name for v in tf.global_variables()} == norm | {
        'gate1/W',
        'gate1/b',
        'gate2/W',
        'gate2/b',
    }
    np.testing.assert_allclose(run(logits), [BIAS] * 2, atol=0.05)
    first, bias, second, last = run(
        [variable(f'gate{i}/{leaf}') for i in (1, 2) for leaf in ('W', 'b')]
    )
    assert (first.shape, second.shape) == ((256, 16), (16, 2))
    assert (
        first.std() == pytest.approx((2 / 16) ** 0.5, rel=0.05) and 0 < np.abs(second).max() < 0.005
    )
    assert 0 < np.abs(bias).max() <= 1 / 16 and last == pytest.approx(BIAS)
    assert [(row.name, row.role, row.madds, row.gate) for row in b.layers['s28']] == [
        ('gate1', 'gate', 4096, ''),
        ('gate2', 'gate', 32, ''),
    ]


def test_a_gate_by_hand(run):
    b = blocks(training=False)
    x = np.random.default_rng(0).normal(size=(3, 5, 5, 4)).astype('float32')
    logits = gate_logits(b, b.global_pool(tf.constant(x)))
    rng, values = np.random.default_rng(1), {}
    run([])
    for v in tf.global_variables():
        values[v.op.name] = rng.uniform(0.5, 1.5, v.shape.as_list()).astype('float32')
        v.load(values[v.op.name], tf.get_default_session())
    h = x.mean((1, 2)) @ values['gate1/W'] + values['gate1/b'] - values['gate1/bn/s28/mean/EMA']
    h = h / np.sqrt(values['gate1/bn/s28/variance/EMA'] + BN_EPSILON) * values['gate1/bn/s28/gamma']
    expected = (
        np.maximum(h + values['gate1/bn/s28/beta'], 0) @ values['gate2/W'] + values['gate2/b']
    )
    np.testing.assert_allclose(run(logits), expected, rtol=1e-5)


def test_normalisation_of_vectors(run):
    """Batch statistics normalise; the moving variance gets the unbiased one."""
    x = np.random.default_rng(0).normal(2, 3, (7, 4)).astype('float32')
    y = blocks().norm_dense('bn', tf.constant(x))
    assert y.shape.as_list() == [7, 4]
    np.testing.assert_allclose(
        run(y), (x - x.mean(0)) / np.sqrt(x.var(0) + BN_EPSILON), rtol=1e-4, atol=1e-5
    )
    run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    np.testing.assert_allclose(
        run(variable('bn/s28/mean/EMA')), 0.1 * x.mean(0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        run(variable('bn/s28/variance/EMA')), 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-4
    )


def test_noise_follows_seed_and_call(run):
    """The same at the same step, another one at every call, step and tower."""
    seed = tf.placeholder(tf.int32, [2])
    first, second = blocks(seed=seed), blocks(seed=seed)
    draws = [
        first.uniform(tf.constant([50])),
        first.uniform(tf.constant([50])),
        second.uniform(tf.constant([50])),
    ]
    found = {key: run(draws, {seed: key}) for key in ((0, 5), (0, 6), (1000, 5))}
    again = run(draws, {seed: (0, 5)})
    np.testing.assert_array_equal(found[0, 5], again)
    np.testing.assert_array_equal(again[0], again[2])
    different = [tuple(row) for rows in found.values() for row in rows[:2]]
    assert len(set(different)) == 6
    assert min(map(min, different)) >= 0 and max(map(max, different)) < 1
