"""ConvNet-AIG as a network.

Skipping, what is quantized and trained, losses, blocks without a gate, bad options.
"""

import re

import numpy as np
import pytest

import nets
from nets import cost
from nets.layers.blocks import Blocks
from nets.outputs import Outputs
from nets.points import Point
from quant import Policy, low_bit
from quant.backend import tf
from quant.state import variables
from tests.conftest import bare_blocks

PATHS = {
    'some': [[1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]],
    'none': np.zeros((3, 4)),
    'all': np.ones((3, 4)),
    'one image': [[0], [1], [0]],
    'one image, none': np.zeros((3, 1)),
    'one image, all': np.ones((3, 1)),
}


def aig(**options):
    return nets.create(
        'aig', **{'arch': 'resnet8', 'mode': 'pytorch', 'sizes': (28, 20), 'classes': 5, **options}
    )


def noise(sizes, batch):
    images = (
        np.random.default_rng(1).normal(size=(batch, max(sizes), max(sizes), 3)).astype('float32')
    )
    return {size: tf.constant(images[:, :size, :size]) for size in sizes}


def build(net, *, training=False, policy=None, batch=4, compiles=False, **options):
    blocks = Blocks(
        policy or Policy(),
        net.points,
        training=training,
        padding=net.padding,
        compiles=compiles,
    )
    with tf.variable_scope('', reuse=tf.AUTO_REUSE):
        return blocks, net.outputs(noise(net.sizes, batch), blocks, **options)


def names(pattern=''):
    return {v.op.name for v in tf.global_variables() if re.search(pattern, v.op.name)}


def all_logits(outputs):
    return list(outputs.logits.values())


def test_skipping_is_masking_whatever_the_decisions(run):
    """Stem and classifier, three blocks, of which the last two change the number of channels."""
    net, found = aig(), {}
    decisions = tf.placeholder(tf.float32, [3, None])
    images = {size: tf.placeholder(tf.float32, [None, size, size, 3]) for size in net.sizes}
    for execution in ('mask', 'skip'):
        blocks = Blocks(Policy(), net.points, training=False, padding=net.padding)
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            found[execution] = all_logits(
                net.outputs(images, blocks, decisions=decisions, execution=execution)
            )
    for path in PATHS.values():
        given = {decisions: path} | {
            images[size]: np.random.default_rng(0).normal(size=(len(path[0]), size, size, 3))
            for size in net.sizes
        }
        masked, skipped = run([found['mask'], found['skip']], given)
        np.testing.assert_allclose(skipped, masked, rtol=1e-5, atol=1e-5)
        assert np.std(masked) > 1e-3


def test_inference_takes_the_larger_logit_and_skips(run):
    net = aig()
    _, skipped = build(net)
    _, masked = build(net, execution='mask')
    run([])
    rng = np.random.default_rng(0)
    for v in tf.global_variables():
        if '/gate2/' in v.op.name:
            v.load(rng.normal(0, v.op.name.endswith('W'), v.shape.as_list()).astype('float32'))
    gates, logits = run([skipped.extras['gates/s28'], skipped.extras['gate_logits/s28']])
    np.testing.assert_array_equal(gates, logits[..., 1] > logits[..., 0])
    assert 0 < gates.mean() < 1
    ours, theirs = run([all_logits(skipped), all_logits(masked)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_given_noise_decides(run):
    push = np.zeros((3, 4, 2), 'float32')
    push[0, :, 0] = push[1, 2, 0] = push[2, 1, 1] = 100
    for training in (False, True):
        gates = run(
            build(aig(sizes=(20,)), training=training, noise=tf.constant(push))[1].extras[
                'gates/s20'
            ]
        )
        np.testing.assert_array_equal(gates, [[0] * 4, [1, 1, 0, 1], [1] * 4])


def test_gates_are_sampled_in_training_and_on_request(run):
    for net, training, sampled in (
        (aig(), True, True),
        (aig(gate_noise=True), False, True),
        (aig(), False, False),
    ):
        _, outputs = build(net, training=training, batch=64)
        gates = [run(outputs.extras['gates/s28']) for _ in range(2)]
        assert np.array_equal(*gates) != sampled
        if sampled:
            # The start is open with probability .87.
            assert np.mean(gates) == pytest.approx(0.87, abs=0.06)


@pytest.mark.parametrize('last', [1.0, 0.25])
def test_temperature_falls_exponentially(last, run):
    """Half way between 4 and .25 it is 1; the values of gates do not depend on it."""
    progress = tf.placeholder(tf.float32, [])
    net = aig(sizes=(20,), temperature=4.0, last_temperature=last)
    blocks = Blocks(Policy(), net.points, training=True, padding=net.padding, progress=progress)
    outputs = net.outputs(noise(net.sizes, 4), blocks, noise=tf.zeros([3, 4, 2]))
    gate, raw = (outputs.extras[f'{what}/s20'].op.inputs[2] for what in ('gates', 'gate_logits'))
    (gradient,) = tf.gradients(gate, raw)
    for done in (0.0, 0.5, 1.0):
        logits, slope = run([raw, gradient], {progress: done})
        temperature = 4 * (last / 4) ** done
        p = 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0]) / temperature))
        np.testing.assert_allclose(slope[:, 1], p * (1 - p) / temperature, rtol=1e-4)


@pytest.mark.parametrize(
    'policy', [Policy(), low_bit('lq(bits=2)', 'lq(bits=2)')], ids=['float', 'w2a2']
)
@pytest.mark.parametrize('train_skip', [False, True])
def test_every_trained_variable_has_a_gradient(policy, train_skip, run):
    net = aig(sizes=(20, 12), train_skip=train_skip)
    blocks, outputs = build(net, training=True, policy=policy)
    loss = tf.add_n(list(net.loss(outputs, tf.constant([0, 1, 2, 3])).values()))
    trained = tf.trainable_variables()
    gradients = dict(zip((v.op.name for v in trained), tf.gradients(loss, trained)))
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    found = run(gradients)
    assert all(np.isfinite(value).all() for value in found.values())
    assert {name for name in found if '/gate' in name} >= {
        f'group{g}/block0/gate2/W' for g in range(3)
    }
    assert all(found[f'group{g}/block0/gate2/W'].any() for g in range(3))


def test_gates_stay_float():
    blocks, _ = build(aig(), policy=low_bit('lq(bits=2)', 'lq(bits=2)'))
    bits = {row.name: row.weight_bits for row in blocks.layers['s28']}
    assert {name: n for name, n in bits.items() if n == 32}.keys() == {'conv0', 'linear'} | {
        f'group{g}/block0/gate{i}' for g in range(3) for i in (1, 2)
    }
    assert len(bits) == 2 + 6 + 6 + 2 and not names('gate.*(basis|quant)')


@pytest.mark.parametrize('batch', [1, 4])
def test_training_survives_a_batch_without_open_gates(batch, run):
    net = aig(sizes=(20,), train_skip=True)
    _, outputs = build(net, training=True, batch=batch, decisions=tf.zeros([3, batch]))
    run([outputs.logits[net.points[0]], tf.get_collection(tf.GraphKeys.UPDATE_OPS)])
    assert all(np.isfinite(value).all() for value in run(tf.global_variables()))


def test_statistics_of_skipping_training_are_those_of_open_images(run):
    net = aig(sizes=(20,), train_skip=True)
    picked = [[1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    given = tf.constant(picked, tf.float32)
    blocks, _ = build(net, training=True, decisions=given, compiles=True)
    # Every number of images would be compiled anew.
    assert not blocks.quantization.compiles
    counts = {name: run(row.count) for name, row in blocks.statistics.items()}
    assert (counts['group0/block0/conv1/bn/s20'], counts['group1/block0/conv1/bn/s20']) == (
        2 * 400,
        4 * 100,
    )


TARGETS = [0.4, 1.0, 0.7]
LABELS = np.array([0, 4, 2, 2, 0, 2], 'int32')


def fake(net, seed=0):
    rng = np.random.default_rng(seed)
    gates = {point: (rng.random((3, 6)) < 0.6).astype('float32') for point in net.points}
    gates[net.points[0]][0] = 0
    logits = {point: rng.normal(size=(6, 5)).astype('float32') for point in net.points}
    return gates, logits


def outputs_of(gates, logits):
    return Outputs(
        {point: tf.constant(value) for point, value in logits.items()},
        {f'gates/{point}': tf.constant(value) for point, value in gates.items()},
    )


def rate_loss(kind, gates):
    groups = [label == LABELS for label in LABELS] if kind == 'class' else [LABELS >= 0]
    counted = np.array(TARGETS) < 1
    return np.mean(
        [(counted * (np.array(TARGETS) - gates[:, group].mean(1)) ** 2).mean() for group in groups]
    )


@pytest.mark.parametrize('kind', ['batch', 'class'])
@pytest.mark.parametrize('factor', [1.0, 2.0])
def test_loss(kind, factor, run):
    net = aig(targets=TARGETS, rate_loss=kind, rate_factor=factor)
    gates, logits = fake(net)
    parts = run(net.loss(outputs_of(gates, logits), tf.constant(LABELS)))
    assert set(parts) == {'loss/s28', 'loss/s20', 'loss/rates/s28', 'loss/rates/s20'}
    for point in net.points:
        p = np.exp(logits[point]) / np.exp(logits[point]).sum(1, keepdims=True)
        assert parts[f'loss/{point}'] == pytest.approx(
            -np.log(p[range(6), LABELS]).mean(), rel=1e-5
        )
        assert parts[f'loss/rates/{point}'] == pytest.approx(
            factor * rate_loss(kind, gates[point]), rel=1e-5
        )


def test_classes_of_their_own_rate_cost_more_only_per_class(run):
    """A rate of .5 in the batch is on target, though one class is always executed, one never."""
    gates = tf.constant(np.tile([1, 1, 0, 0], (3, 1)).astype('float32'))
    labels = tf.constant([3, 3, 1, 1])
    net = aig(targets=[0.5])
    assert run(net.batch_rate_loss(gates, labels)) == pytest.approx(0, abs=1e-12)
    assert run(net.class_rate_loss(gates, labels)) == pytest.approx(0.25)


def test_accumulators(run):
    net = aig()
    gates, logits = fake(net)
    found = run(net.accumulators(outputs_of(gates, logits), tf.constant(LABELS)))
    assert set(found) == set(net.accumulator_names)
    np.testing.assert_array_equal(found['images'], np.bincount(LABELS, minlength=5))
    for point in net.points:
        expected = [
            [gates[point][block, label == LABELS].sum() for block in range(3)] for label in range(5)
        ]
        np.testing.assert_array_equal(found[f'executed_{point}'], expected)


@pytest.mark.parametrize('faithful', [False, True])
def test_blocks_of_target_one(faithful, run):
    net = aig(targets=TARGETS, faithful_gates=faithful)
    blocks, outputs = build(net, noise=tf.constant([[[100.0, 0]] * 4] * 3))
    gated = {0, 1, 2} if faithful else {0, 2}
    assert (
        {int(name[5]) for name in names('gate1/W')}
        == {int(name[5]) for name in names('gate')}
        == gated
    )
    assert outputs.extras['gate_logits/s28'].shape[0] == len(gated)
    found = run(outputs.extras['gates/s28'])
    np.testing.assert_array_equal(found, [[0.0 if g in gated else 1.0] * 4 for g in range(3)])
    assert {row.gate for row in blocks.layers['s28']} == {''} | {f'group{g}/block0' for g in gated}
    body = {row.name for row in blocks.layers['s28'] if row.gate == 'group2/block0'}
    assert body == {'group2/block0/conv1', 'group2/block0/conv2'}


def test_sizes_share_gates_and_have_their_own_statistics():
    net = aig()
    blocks, outputs = build(net)
    assert net.points == (Point(size=28), Point(size=20)) and list(outputs.logits) == list(
        net.points
    )
    assert names('gate2') == {f'group{g}/block0/gate2/{leaf}' for g in range(3) for leaf in 'Wb'}
    parts = {
        f's{size}/{part}'
        for size in (28, 20)
        for part in ('gamma', 'beta', 'mean/EMA', 'variance/EMA')
    }
    assert names('group1/block0/gate1') == {
        f'group1/block0/gate1/{part}' for part in ('W', 'b')
    } | {f'group1/block0/gate1/bn/{part}' for part in parts}
    assert [row.name for row in blocks.layers['s28']] == [row.name for row in blocks.layers['s20']]
    assert (
        len(set(outputs.extras['gates/s28'].op.inputs) & set(outputs.extras['gates/s20'].op.inputs))
        == 0
    )


def test_expected_multiply_adds():
    net = aig(sizes=(28,))
    blocks = bare_blocks(net.points)
    net.outputs({28: tf.zeros([1, 28, 28, 3])}, blocks)
    layers = blocks.layers['s28']
    body = [28 * 28 * 9 * 16 * 32, 14 * 14 * 9 * 32 * (16 + 32), 7 * 7 * 9 * 64 * (32 + 64)]
    always = cost.expected_madds(layers, dict.fromkeys(net.blocks, 0.0))
    assert cost.madds(layers) == always + sum(body)
    assert always == 28 * 28 * 27 * 16 + 14 * 14 * 16 * 32 + 49 * 32 * 64 + 64 * 5 + sum(
        16 * c + 32 for c in (16, 16, 32)
    )
    rates = dict(zip(net.blocks, (0.25, 0.0, 1.0)))
    assert cost.expected_madds(layers, rates) == pytest.approx(
        always + 0.25 * body[0] + body[2], rel=1e-12
    )


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'targets': (0.5, 0.5)},
            '2 target rates for the 3 blocks of resnet8; give one, or one per block',
        ),
        ({'targets': ()}, 'targets: give at least 1'),
        ({'targets': (1.5,)}, 'targets 1.5: must be at least 0 and at most 1'),
        ({'targets': (0.5, -0.1, 1)}, 'targets -0.1: must be at least 0 and at most 1'),
        ({'targets': (float('nan'),)}, 'targets nan: must be'),
        ({'targets': (1.0,)}, 'all targets are 1: no block has a gate; use --net rsnet'),
        ({'rate_loss': 'mean'}, 'rate_loss mean: unknown; there are batch, class'),
        ({'temperature': 0.0}, 'temperature 0.0: must be greater than 0'),
        ({'last_temperature': -1.0}, 'last_temperature -1.0: must be greater than 0'),
        ({'mode': 'preact'}, "mode 'preact' is unknown to aig; there is pytorch"),
        ({'arch': 'resnet19'}, "arch 'resnet19' is unknown"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        aig(**options)


def test_all_targets_one_with_faithful_gates_are_a_network():
    assert aig(targets=(1.0,), faithful_gates=True).forced == [False] * 3


def test_gate_learning_rate_is_that_of_gates_only():
    """The step that follows from it: tests/engine/graph/test_tower.py."""
    net = aig(gate_lr=0.25)
    views = {size: tf.zeros([1, size, size, 3]) for size in net.sizes}
    net.outputs(views, Blocks(Policy(), net.points, training=True))
    factors = {name: state.lr_factor for name, state in variables().items()}
    of_gates = {name for name in factors if {'gate1', 'gate2'} & set(name.split('/'))}
    assert len(of_gates) > 10
    assert {name for name, factor in factors.items() if factor == 0.25} == of_gates
    assert {factors[name] for name in set(factors) - of_gates} == {1.0}
