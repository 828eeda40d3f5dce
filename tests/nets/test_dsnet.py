"""DS-Net.

A narrow network is the wide one's first channels, computed alone; sandwich, teacher, gate and
groups.
"""

import collections

import numpy as np
import pytest

import nets
from nets import cost
from nets.backbones import resnet, slimmable
from nets.cost import LayerRecord
from nets.dsnet_passes import Passes
from nets.layers.blocks import Blocks
from nets.layers.kernels import generate
from nets.layers.width import Width
from nets.losses import Teaching
from nets.outputs import Outputs
from nets.points import Point
from quant import Policy, low_bit
from quant.backend import tf
from tests.parity.madds import of_dsnet

CLASSES, SIZE = 7, 8
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((6, SIZE, SIZE, 3)).astype('float32')
LABELS = np.array([0, 1, 2, 3, 4, 5], 'int32')


def network(*, arch='mobilenetv1_small', sizes=(SIZE,), width=0.04, **options):
    return nets.create(
        'dsnet', arch=arch, mode='pytorch', sizes=sizes, classes=CLASSES, width=width, **options
    )


def build(net, *, training=False, policy=None, images=IMAGES, **options):
    blocks = Blocks(policy or Policy(), net.points, training=training, padding=net.padding)
    with tf.variable_scope('', reuse=tf.AUTO_REUSE):
        outputs = net.outputs(dict.fromkeys(net.sizes, tf.constant(images)), blocks, **options)
    return outputs, blocks


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    """One layer per stage, and one narrow stage."""
    stages = [
        stage._replace(layers=1) for stage in slimmable.MOBILENETS['mobilenetv1_small'].stages[2:]
    ]
    form = slimmable.Form(slimmable.Stage((16, 24), 1, 2), tuple(stages))
    monkeypatch.setitem(slimmable.MOBILENETS, 'mobilenetv1_small', form)
    monkeypatch.setitem(resnet.FORMS, 'resnet20', resnet.Form((1, 1), small=True))


def scrambled(run):
    """Random values in all variables, so that nothing is hidden by zeros and ones.

    Then kept kernels are computed.
    """
    run([])
    rng = np.random.default_rng(1)
    for v in tf.global_variables():
        low, high = (0.5, 1.5) if v.op.name.endswith(('variance/EMA', 'gamma')) else (-0.3, 0.3)
        if not v.op.name.endswith(('W', 'basis')):
            v.load(rng.uniform(low, high, v.shape.as_list()).astype('float32'), run.session)
    run(generate())


def variable(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found


def types():
    return collections.Counter(op.type for op in tf.get_default_graph().get_operations())


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross(target, logits):
    return -(target * np.log(softmax(logits))).sum(-1).mean()


def smoothed(logits, labels, share=0.1):
    classes = logits.shape[1]
    return cross((1 - share) * np.eye(classes)[labels] + share / classes, logits)


def test_points_strongest_first():
    assert [str(p) for p in network().points] == [f'w{i:02d}' for i in range(14, -1, -1)]
    assert [str(p) for p in network(arch='resnet20').points] == [
        f'w{i:02d}' for i in range(13, -1, -1)
    ]
    assert [str(p) for p in network(stage='gate').points] == ['w03', 'w02', 'w01', 'w00']
    assert [str(p) for p in network(sizes=(8, 12), widths=(0, 14)).points] == [
        's12-w14',
        's12-w00',
        's8-w14',
        's8-w00',
    ]


@pytest.mark.parametrize(
    'options, match',
    [
        ({'mode': 'preact'}, "mode 'preact'"),
        ({'stage': 'two'}, 'stage two: unknown'),
        ({'arch': 'resnet34'}, "arch 'resnet34'"),
        ({'arch': 'resnet20', 'stage': 'gate'}, 'resnet20 has no gate'),
        ({'widths': (15,)}, 'widths 15 is no width'),
        ({'arch': 'resnet20', 'widths': (14,)}, 'widths 14'),
        ({'routes': (0, 14)}, 'routes 14 is no width'),
        ({'routes': (3, 1)}, 'narrowest first'),
        ({'routes': (2,)}, 'routes: give at least 2'),
        ({'stage': 'gate', 'widths': (0, 1)}, 'must be among the widths'),
    ],
)
def test_what_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        nets.create(
            'dsnet',
            **(
                {'arch': 'mobilenetv1', 'mode': 'pytorch', 'sizes': (SIZE,), 'classes': CLASSES}
                | options
            ),
        )


def test_published_count_adds_average_pools():
    """The published numbers themselves are in tests.parity."""
    layers = [
        LayerRecord(role, role, kernel, (side, side))
        for role, kernel, side in (
            ('depthwise', (3, 3, 1, 5), 4),
            ('gate', (1, 1, 5, 2), 1),
            ('body', (1, 1, 5, 6), 4),
            ('head', (1, 1, 6, 7), 1),
        )
    ]
    assert of_dsnet(layers) == 9 * 5 * 16 + 10 + 30 * 16 + 42 + 5 * 16 + 6 * 16


@pytest.mark.parametrize(
    'arch, policy',
    [
        pytest.param('mobilenetv1_small', None, marks=pytest.mark.slow),
        ('resnet20', None),
        ('mobilenetv1_small', low_bit('lq(bits=2)', 'lq(bits=2)')),
    ],
)
def test_drawn_width_is_the_static_one(arch, policy, run):
    """Logits at inference; logits and gradients with batch statistics."""
    net, index = (
        network(arch=arch, width=0.04 if arch.startswith('m') else 0.5, widths=(9,)),
        tf.placeholder(tf.int32),
    )
    pairs = []
    for training in (False, True):
        found = []
        for width in (9, index):
            b = Blocks(policy or Policy(), net.points, training=training, padding=net.padding)
            with tf.variable_scope('', reuse=tf.AUTO_REUSE):
                images = tf.constant(IMAGES)
                passes = Passes(net, images, b, SIZE, noise=None, decisions=None)
                logits = passes._logits(passes._features(b, []), b, width, [])
            found.append([logits])
            if training:
                found[-1] += tf.gradients(
                    tf.reduce_sum(tf.square(logits)), tf.trainable_variables()
                )
        pairs.append(found)
    scrambled(run)
    for static, drawn in run(pairs, {index: 9}):
        assert static[0].std() > 0.01
        for a, b in zip(static, drawn):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(a).max() + 1e-4)


def test_gradient_stays_within_the_width(run):
    net = network(widths=(2,))
    outputs, _ = build(net, training=True, execution='points')
    w = variable('group2/block0/pointwise/W')
    (gradient,) = run(tf.gradients(tf.reduce_sum(tf.square(outputs.logits[net.points[0]])), [w]))
    inputs, active = (stage.choices[2] for stage in net.backbone.stages[1:])
    assert np.abs(gradient[:, :, :inputs, :active]).min() > 0
    assert not gradient[:, :, inputs:].any()
    assert not gradient[:, :, :, active:].any()


def test_sub_network_is_the_network_of_its_first_channels(run):
    """A layer by hand: a cut kernel, shared affine parameters, statistics of the width."""
    net = network(widths=(14, 4))
    b = Blocks(Policy(), net.points, training=False, padding=net.padding)
    x = RNG.standard_normal((2, 2, 2, 12)).astype('float32')
    inputs, outputs = Width((5, 12), 1), Width((4, 6, 9), 1)
    with b.at(net.points[1]):
        y = slimmable.norm(
            b,
            'pointwise/bn',
            slimmable.conv(b, 'pointwise', tf.constant(x), inputs, outputs, 1),
            outputs,
        )
    scrambled(run)
    w, gamma, beta, mean, variance = run(
        [
            variable(f'pointwise/{name}')
            for name in ('W', 'bn/gamma', 'bn/beta', 'bn/mean/EMA', 'bn/variance/EMA')
        ]
    )
    assert mean.shape == (3, 9)
    expected = (x @ w[0, 0, :, :6] - mean[1, :6]) / np.sqrt(variance[1, :6] + 1e-5) * gamma[
        :6
    ] + beta[:6]
    np.testing.assert_allclose(run(y), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('main', [True, False])
def test_averages_move_once_per_pass_and_in_their_row(main, run):
    b = Blocks(Policy(), [Point(width=0)], training=True, main=main)
    x = RNG.normal(2, 3, (5, 2, 2, 4)).astype('float32')
    drawn = tf.constant(1)
    with tf.variable_scope('', reuse=tf.AUTO_REUSE):
        for index, passes, images in (
            (0, 3, x[..., :2]),
            (drawn, 1, x[..., :3]),
            (drawn, 1, 2 * x[..., :3]),
        ):
            slimmable.norm(b, 'bn', tf.constant(images), Width((2, 3, 4), index, passes))
    run([])
    run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    mean, expected = run(variable('bn/mean/EMA')), np.zeros((3, 4))
    if main:
        m = x.mean((0, 1, 2))
        expected[0, :2] = (1 - 0.9**3) * m[:2]
        expected[1, :3] = 0.9 * 0.1 * m[:3] + 0.1 * 2 * m[:3]
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-6)


def test_weights_are_quantized_once_and_then_cut(run):
    net = network(ieb=False)
    _, b = build(net, training=True, policy=low_bit('lq(bits=2)', 'float'))
    bases = [v.op.name for v in tf.global_variables() if v.op.name.endswith('weight_quant/basis')]
    own = [name for name in bases if not name.startswith('teacher/')]
    assert types()['TopKV2'] == len(bases) == 2 * len(own)
    assert all(len(row.statistics) == 1 for row in b.quantization.collected.values())
    assert len(b.quantization.collected) == len(own)


@pytest.mark.parametrize('sizes, scopes', [((24, 16), {'s24', 's16'}), ((24,), {'act0'})])
def test_private_quantizers_belong_to_a_size(sizes, scopes):
    """Widths, of which two are drawn in every step, share them."""
    policy = low_bit('float', 'lq(bits=2, private=True)')
    build(network(ieb=False, sizes=sizes), training=True, policy=policy)
    names = [v.op.name for v in tf.global_variables() if v.op.name.endswith('/basis')]
    own = [name for name in names if name.startswith('act0/')]
    assert {name.split('/')[-2] for name in own} == scopes


def test_cut_kernels_are_kept_at_inference(run):
    net = network(widths=(0,))
    logits = build(net)[0].logits[net.points[0]]
    kept = tf.get_collection('generated_kernels')
    assert kept
    assert not {v.op.name for v in kept} & {v.op.name for v in tf.global_variables()}
    scrambled(run)
    before = run(logits)
    w = variable('group2/block0/pointwise/W')
    w.load(2 * run(w), run.session)
    np.testing.assert_array_equal(run(logits), before)
    run(generate())
    assert np.abs(run(logits) - before).max() > 1e-3


def test_training_tower_records_every_point():
    net = network(ieb=False)
    trained, inferred = (build(net, training=training)[1].layers for training in (True, False))
    assert trained == inferred
    counts = [cost.madds(trained[str(point)]) for point in net.points]
    assert counts == sorted(counts, reverse=True)
    assert all(counts)


def test_largest_resnet_is_the_resnet():
    plain = nets.create('rsnet', arch='resnet20', mode='pytorch', sizes=(SIZE,), classes=CLASSES)
    net = network(arch='resnet20', width=1.0, widths=(0, 13))
    with tf.variable_scope('plain'):
        b = Blocks(Policy(), plain.points, training=False, padding=plain.padding)
        plain.outputs({SIZE: tf.constant(IMAGES)}, b)
    layers = build(net)[1].layers
    assert cost.madds(layers['w13']) == cost.madds(b.layers[f's{SIZE}'])
    assert 0.1 < cost.madds(layers['w00']) / cost.madds(layers['w13']) < 0.17


def test_sandwich_shares_what_is_the_same():
    outputs, _ = build(network(), training=True)
    assert [str(point) for point in outputs.logits] == ['w14', 'w00']
    stems = [
        op
        for op in tf.get_default_graph().get_operations()
        if op.type == 'Conv2D' and 'conv0' in op.name
    ]
    # Wide and narrow, of the network and of its teacher.
    assert len(stems) == 4
    assert set(outputs.extras) == {
        'random1',
        'random2',
        'teacher/largest',
        'teacher/random1',
        'teacher/random2',
    }
    assert all(value.shape[1] == CLASSES for value in outputs.extras.values())


def test_every_trainable_variable_has_a_gradient():
    net = network(ieb=False)
    outputs, _ = build(net, training=True)
    total = tf.add_n(list(net.loss(outputs, tf.constant(LABELS)).values()))
    trainable = tf.trainable_variables()
    assert all(gradient is not None for gradient in tf.gradients(total, trainable))
    assert not [v.op.name for v in trainable if 'teacher' in v.op.name or 'gate' in v.op.name]


def test_drawn_widths_lie_between_and_follow_the_seed(run):
    net, seed = network(), tf.placeholder(tf.int32, [2])
    b = Blocks(Policy(), net.points, training=True, seed=seed)
    drawn = tf.stack(net._draw(b))
    values = np.array([run(drawn, {seed: [1, step]}) for step in range(150)])
    assert set(values.ravel()) == set(range(1, 14))
    np.testing.assert_array_equal(values[3], run(drawn, {seed: [1, 3]}))


def test_teacher_starts_as_the_network_and_is_not_trained(run):
    net = network(dropout=0.0)
    outputs, _ = build(net, training=True, drawn=[3, 5])
    pairs = net.teacher_pairs()
    own = [v for v in tf.global_variables() if not v.op.name.startswith('teacher/')]
    assert {v.op.name for _, v in pairs} == {v.op.name for v in own}
    run([])
    for mine, theirs in pairs:
        assert mine.op.name == f'teacher/{theirs.op.name}'
        assert not mine.trainable
        np.testing.assert_array_equal(*run([mine, theirs]))
    inference, _ = build(network(widths=(14, 5, 3)))
    run(generate())
    for name, width in (('largest', 14), ('random1', 3), ('random2', 5)):
        a, b = run([outputs.extras[f'teacher/{name}'], inference.logits[Point(width=width)]])
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


PASSES = ('largest', 'random1', 'random2', 'smallest')


def sandwich(teaching=None, **options):
    """Logits of the passes of a step and of its teachers, as arrays, and the terms of the loss."""
    names = [*PASSES, 'teacher/largest', 'teacher/random1', 'teacher/random2']
    if not options.get('ieb', True):
        names = names[:-2]
    logits = {name: RNG.normal(0, 2, (6, CLASSES)).astype('float32') for name in names}
    tensors = {name: tf.constant(value) for name, value in logits.items()}
    outputs = Outputs(
        {Point(width=14): tensors.pop('largest'), Point(width=0): tensors.pop('smallest')},
        tensors,
        teaching or Teaching(),
    )
    return logits, network(**options).loss(outputs, tf.constant(LABELS))


@pytest.mark.parametrize('ieb', [True, False])
def test_sandwich_losses(ieb, run):
    logits, terms = sandwich(ieb=ieb)
    members = [softmax(value) for name, value in logits.items() if name.startswith('teacher')]
    expected = {
        'largest': smoothed(logits['largest'], LABELS),
        **{name: cross(members[0], logits[name]) for name in ('random1', 'random2')},
        'smallest': cross(np.mean(members, axis=0), logits['smallest']),
    }
    assert run(terms) == pytest.approx(
        {f'loss/{name}': value for name, value in expected.items()}, rel=1e-4
    )


@pytest.mark.parametrize('label_weight', [None, 0.0, 0.5])
def test_all_widths_learn_from_the_labels_and_another_network(label_weight, run):
    answers = RNG.normal(0, 2, (6, CLASSES)).astype('float32')
    teaching = None
    if label_weight is not None:
        teaching = Teaching(tf.constant(answers), 2.0, label_weight)
    logits, terms = sandwich(teaching, inplace_bootstrap=False)
    expected = {}
    for name in PASSES:
        value = smoothed(logits[name], LABELS)
        if label_weight is not None:
            target = softmax(answers)
            divergence = cross(target, logits[name]) - cross(target, answers)
            value = label_weight * value + 2.0 * divergence
        expected[f'loss/{name}'] = value
    assert run(terms) == pytest.approx(expected, rel=1e-4)


def test_calibration_sees_every_width_alone(run):
    net = network(widths=(14, 5, 0))
    _, b = build(net, training=True, execution='points')
    seen = run(b.statistics)
    assert {key.rpartition('/')[2] for key in seen if key.startswith('group2')} == {
        'w00',
        'w05',
        'w14',
    }
    assert {key.rpartition('/')[2] for key in seen if key.startswith('conv0')} == {'w00', 'w01'}
    assert seen['group2/block0/pointwise/bn/w05'].mean.shape == (net.backbone.stages[2].choices[5],)


def test_several_sizes_have_statistics_of_their_own(run):
    net = network(sizes=(8, 4), widths=(14, 0), ieb=False)
    blocks = Blocks(Policy(), net.points, training=True, padding=net.padding)
    outputs = net.outputs({8: tf.constant(IMAGES), 4: tf.constant(IMAGES[:, ::2, ::2])}, blocks)
    names = {v.op.name for v in tf.global_variables()}
    assert {'conv0/W', 'conv0/bn/gamma', 'conv0/bn/s8/mean/EMA', 'conv0/bn/s4/mean/EMA'} <= names
    assert 'conv0/bn/mean/EMA' not in names
    terms = run(net.loss(outputs, tf.constant(LABELS)))
    assert len(terms) == 8
    assert 's4-random1' in outputs.extras
    assert all(np.isfinite(value) for value in terms.values())


@pytest.mark.parametrize(
    'routes, decisions, policy',
    [
        ((0, 1, 2, 3), [3, 0, 2, 0, 1, 3], None),
        ((0, 9), [1] * 6, None),
        ((1, 7, 13), [0, 0, 2, 2, 2, 0], low_bit('lq(bits=2)', 'lq(bits=2)')),
    ],
)
def test_groups_and_masks_give_what_each_width_gives(routes, decisions, policy, run):
    net = network(stage='gate', routes=routes)
    outputs, blocks = build(net, policy=policy, decisions=tf.constant(decisions))
    simulated, _ = build(net, policy=policy, decisions=tf.constant(decisions), execution='mask')
    scrambled(run)
    static, grouped, masked, madds = run(
        [
            [outputs.logits[net.point(SIZE, route)] for route in routes],
            outputs.extras['dynamic'],
            simulated.extras['dynamic'],
            outputs.extras['madds'],
        ]
    )
    expected = np.array(static)[decisions, np.arange(len(decisions))]
    assert np.abs(np.diff(static, axis=0)).max() > 1e-3
    for ours in (grouped, masked):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)
    head = net.backbone.hidden * len(routes)
    counts = [head + cost.madds(blocks.layers[f'w{route:02d}']) for route in routes]
    np.testing.assert_allclose(madds, np.array(counts)[decisions], rtol=1e-6)


def test_widths_that_no_image_takes_are_not_computed(run):
    net = network(stage='gate')
    outputs, _ = build(net, execution='group', decisions=tf.constant([1] * 6))
    assert not outputs.logits
    run([])
    run(generate())
    trace, options = tf.RunMetadata(), tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    run.session.run(outputs.extras['dynamic'], options=options, run_metadata=trace)
    ran = [node.node_name for device in trace.step_stats.dev_stats for node in device.node_stats]
    built = [
        op.name
        for op in tf.get_default_graph().get_operations()
        if op.type == 'Conv2D' and 'group2' in op.name
    ]
    assert len(built) == 4
    assert len(set(ran) & set(built)) == 1


@pytest.mark.parametrize('options', [{}, {'gate_noise': True}])
def test_noise_at_inference_is_an_option(options, run):
    outputs, _ = build(network(stage='gate', **options))
    run([])
    run(generate())
    noisy, logits = run([outputs.extras['noisy'], outputs.extras['gate_logits']])
    assert np.any(noisy != logits) == bool(options)


def test_only_the_gate_is_trained(run):
    net = network(stage='gate')
    outputs, blocks = build(net, training=True)
    (gate,) = tf.trainable_variables()
    assert gate.op.name == 'slimming_gate/W'
    assert gate.shape.as_list() == [net.backbone.hidden, 4]
    assert len(blocks.kernels) == 1
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    for name, value in net.loss(outputs, tf.constant(LABELS)).items():
        (gradient,) = tf.gradients(value, gate)
        run([])
        assert np.abs(run(gradient)).max() > 0, name


@pytest.mark.parametrize(
    'target, faithful', [(0.0, False), (0.0, True), (3e6, False), (9e6, False)]
)
def test_gate_losses(target, faithful, run):
    net = network(stage='gate', target_madds=target, faithful_gates=faithful, complexity=0.25)
    smallest, dynamic = (RNG.normal(0, 2, (6, CLASSES)).astype('float32') for _ in range(2))
    smallest[[0, 3], LABELS[[0, 3]]] += 20
    smallest[[1, 2, 4, 5], LABELS[[1, 2, 4, 5]]] -= 20
    noisy, madds = (
        RNG.normal(0, 2, (6, 4)).astype('float32'),
        np.array([2, 4, 6, 8, 4, 6], 'float32') * 1e6,
    )
    extras = {
        'noisy': tf.constant(noisy),
        'dynamic': tf.constant(dynamic),
        'madds': tf.constant(madds),
    }
    terms = run(
        net.loss(Outputs({Point(width=0): tf.constant(smallest)}, extras), tf.constant(LABELS))
    )
    excess = max(0, 5e6 / target - 1) if target else 5e6 / 1e9
    wanted = [0, 3, 3, 0, 3, 3]
    assert terms == pytest.approx(
        {
            'loss/gate': smoothed(softmax(noisy) if faithful else noisy, wanted),
            'loss/dynamic': smoothed(dynamic, LABELS),
            'loss/complexity': 0.25 * excess**2,
        },
        rel=1e-4,
    )


def test_published_count_of_a_gate_is_over_counted(run):
    net = network(stage='gate', faithful_gates=True)
    outputs, blocks = build(net, decisions=tf.constant([0, 1, 2, 3, 0, 0]))
    scrambled(run)
    head = net.backbone.hidden * 4
    true = np.array([of_dsnet(blocks.layers[f'w0{i}']) + head for i in (0, 1, 2, 3, 0, 0)])
    over = run(outputs.extras['madds']) - true
    np.testing.assert_allclose(over[[0, 4, 5]], 0, atol=1)
    assert over[3] > over[2] > over[1] > 0


def test_routes_are_tallied_by_class(run):
    net = network(stage='gate')
    outputs, _ = build(net, decisions=tf.constant([3, 0, 2, 0, 1, 3]))
    scrambled(run)
    labels = np.array([1, 1, 0, 2, 1, 1], 'int32')
    expected = np.zeros((CLASSES, 4))
    np.add.at(expected, (labels, [3, 0, 2, 0, 1, 3]), 1)
    sums = run(net.accumulators(outputs, tf.constant(labels)))
    assert set(sums) == set(net.accumulator_names) == {'routes'}
    np.testing.assert_array_equal(sums['routes'], expected)
