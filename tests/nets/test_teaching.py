"""What networks learn from a teacher: at every point, beside or in place of the labels.

And what images count in it.
"""

import numpy as np
import pytest

import nets
from nets.losses import MixedLabels, Teaching, weighted
from nets.outputs import Outputs
from nets.points import Point
from quant.backend import tf

LABELS = [0, 2, 1]
RNG = np.random.default_rng(0)
RESNET = {'arch': 'resnet8', 'mode': 'pytorch', 'sizes': (16, 12)}
MSDNET = {'arch': 'msdnet', 'mode': 'pytorch', 'sizes': (40,)}
DSNET = {'arch': 'mobilenetv1_small', 'mode': 'pytorch', 'sizes': (16,)}
# Network, options, and by term what learns: from labels, or beside them from the network itself.
NETS = {
    'rsnet': (RESNET, {'kd': True}, ('s16', 's12', 'ensemble'), ()),
    'san': (RESNET, {'kd': True}, ('s16', 's12'), ()),
    'aig': (RESNET, {}, ('s16', 's12'), ()),
    'msdnet': (MSDNET, {'nBlocks': 2, 'exit_weights': (0.5, 1.0)}, ('s40-x1', 's40-x0'), ()),
    'dsnet': (DSNET, {}, ('largest',), ('random1', 'random2', 'smallest')),
    'gate': (
        {**DSNET, 'arch': 'mobilenetv1'},
        {'stage': 'gate', 'routes': (0, 6)},
        ('dynamic',),
        (),
    ),
}


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def logits():
    return RNG.normal(0, 2, (3, 4)).astype('float32')


def fake(name, net) -> tuple[Outputs, dict[str, np.ndarray]]:
    """Outputs of a network with drawn answers, and these by the terms of the loss."""
    values = {}
    extras = {}
    points = net.points
    if name in ('dsnet', 'gate'):
        points = (Point(width=net.widths[0]), Point(width=0))
    outputs = {point: logits() for point in points}
    for point, value in outputs.items():
        values[str(point)] = value
        extras[f'gates/{point}'] = np.ones([3, 3], np.float32)
    for extra in ('ensemble', 'random1', 'random2', 'dynamic', 'teacher/largest', 'noisy'):
        extras[extra] = values[extra] = logits()
    extras['noisy'] = extras['noisy'][:, :2]
    extras['madds'] = np.ones(3, np.float32)
    values['largest'], values['smallest'] = [outputs[point] for point in (points[0], points[-1])]
    tensors = {point: tf.constant(value) for point, value in outputs.items()}
    return Outputs(tensors, {key: tf.constant(value) for key, value in extras.items()}), values


@pytest.mark.parametrize('name', NETS)
def test_every_point_learns_from_it(name, run):
    """In a sum, 3 times the divergence, and half of what came from the labels."""
    form, options, labelled, beside = NETS[name]
    cls = nets.get('dsnet' if name == 'gate' else name)
    net = cls(**form, classes=4, options=cls.Options(**options))
    outputs, values = fake(name, net)
    plain = run(net.loss(outputs, tf.constant(LABELS)))
    answers = logits()
    outputs.teaching = Teaching(tf.constant(answers), 3.0, 0.5)
    found = run(net.loss(outputs, tf.constant(LABELS)))
    shares = softmax(answers)
    expected = dict(plain)
    for term in (*labelled, *beside):
        key = f'loss/{term}'
        divergence = (shares * np.log(shares / softmax(values[term]))).sum(1).mean()
        weight = 0.5 if term == 's40-x0' else 1.0
        share = 0.5 if term in labelled else 1.0
        expected[key] = share * plain[key] + 3 * weight * divergence
    assert found.keys() == expected.keys()
    assert found == {key: pytest.approx(value, rel=1e-4) for key, value in expected.items()}


# What a label counts, an even number.
BY_CLASS = (2, 4, 6, 8)

# Networks of two sizes, and by size what learns from labels.
SIZED = {
    'rsnet': ({'kd': True}, ('{}',)),
    'san': ({'kd': True}, ('{}',)),
    'aig': ({}, ('{}',)),
    'msdnet': ({'nBlocks': 2, 'exit_weights': (0.5, 1.0)}, ('{}-x1', '{}-x0')),
    'dsnet': ({}, ('{}-largest',)),
    'gate': ({'stage': 'gate', 'routes': (0, 6)}, ('{}-dynamic',)),
}


@pytest.mark.parametrize('name', SIZED)
def test_labels_count_as_a_cascade_of_sizes_decides(name, run):
    """Beside a teacher and what classes count, which stay as they are, as all other terms do."""
    options, terms = SIZED[name]
    form = {**NETS[name][0], 'sizes': (48, 40)}
    cls = nets.get('dsnet' if name == 'gate' else name)
    net = cls(**form, classes=4, options=cls.Options(**options))
    values, extras = {}, {'ensemble': logits()}
    for point in net.points:
        values[str(point)] = logits()
        extras[f'gates/{point}'] = np.ones([3, 3], np.float32)
    points = {point: values[str(point)] for point in net.points}
    for size in net.sizes:
        for extra in ('random1', 'random2', 'teacher/largest', 'dynamic'):
            extras[f's{size}-{extra}'] = logits()
        extras[f's{size}-noisy'] = logits()[:, :2]
        extras[f's{size}-madds'] = np.ones(3, np.float32)
        values[f's{size}-dynamic'] = extras[f's{size}-dynamic']
        values[f's{size}-largest'] = next(
            one for point, one in points.items() if point.size == size
        )
    tensors = {point: tf.constant(value) for point, value in points.items()}
    outputs = Outputs(tensors, {key: tf.constant(value) for key, value in extras.items()})
    labels = weighted(tf.constant(LABELS), BY_CLASS)
    outputs.teaching = Teaching(tf.constant(logits()), 3.0, 0.5)
    plain = run(net.loss(outputs, labels))
    outputs.for_cascades = True
    found = run(net.loss(outputs, labels))
    target = np.eye(4)[LABELS]
    if name in ('dsnet', 'gate'):
        smoothing = net.options.smoothing
        target = (1 - smoothing) * target + smoothing / 4
    expected = dict(plain)
    for term in terms:
        names = [term.format(f's{size}') for size in net.sizes]
        confidence = softmax(np.float64(values[names[1]])).max(1)  # [N]
        for point, share in zip(names, (1 - confidence, confidence)):
            by_image = -(target * np.log(softmax(np.float64(values[point])))).sum(1)
            by_image *= np.take(BY_CLASS, LABELS)
            more = 0.5 * (by_image * (share / share.mean() - 1) / 2).mean()
            expected[f'loss/{point}'] += more * (0.5 if point.endswith('-x0') else 1)
    assert found == {key: pytest.approx(value, rel=1e-4) for key, value in expected.items()}


@pytest.mark.parametrize('others', [None, [3, 1, 0]], ids=['hard', 'mixed'])
@pytest.mark.parametrize('name', NETS)
def test_what_counts_more_is_as_if_there_were_more_of_it(name, others, run):
    """Losses of whole counts are those of images that are there so many times."""
    form, options, labelled, beside = NETS[name]
    cls = nets.get('dsnet' if name == 'gate' else name)
    net = cls(**form, classes=4, options=cls.Options(**options))
    outputs, _ = fake(name, net)
    answers = logits()
    outputs.teaching = Teaching(tf.constant(answers), 3.0, 0.5)
    labels = tf.constant(LABELS)
    rows, seen = [], []
    if others is None:
        for row, label in enumerate(LABELS):
            rows += [row] * BY_CLASS[label]
            seen += [label] * BY_CLASS[label]
    else:
        labels = MixedLabels(labels, tf.constant(others), tf.fill([3], 0.5))
        for row, pair in enumerate(zip(LABELS, others)):
            for label in pair:
                rows += [row] * (BY_CLASS[label] // 2)
                seen += [label] * (BY_CLASS[label] // 2)
    found = run(net.loss(outputs, weighted(labels, BY_CLASS)))
    repeated = Outputs({}, {}, Teaching(tf.constant(answers[rows]), 3.0, 0.5))
    for point, value in outputs.logits.items():
        repeated.logits[point] = tf.gather(value, rows)
    for extra, value in outputs.extras.items():
        repeated.extras[extra] = tf.gather(value, rows, axis=int(extra.startswith('gates')))
    expected = run(net.loss(repeated, tf.constant(seen)))
    of_images = {term for term in expected if 'rates' in term or 'complexity' in term}
    if others:
        of_images.add('loss/gate')  # whose easy images are those of one label
    for term in expected.keys() - of_images:
        assert found[term] == pytest.approx(len(rows) / 3 * expected[term], rel=1e-4), term
    assert {f'loss/{term}' for term in (*labelled, *beside)} <= expected.keys() - of_images


def test_without_labels_only_it_counts(run):
    cls = nets.get('san')
    net = cls(**RESNET, classes=4)
    outputs, _ = fake('san', net)
    outputs.teaching = Teaching(outputs.logits[net.points[0]], 1.0, 0.0)
    found = run(net.loss(outputs, tf.constant(LABELS)))
    assert found['loss/s16'] == pytest.approx(0, abs=1e-6) and found['loss/s12'] > 0
