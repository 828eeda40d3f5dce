"""Losses against numpy, and where gradients may go."""

import numpy as np
import pytest

from nets import losses
from quant.backend import tf

RNG = np.random.default_rng(0)
LABELS = np.array([0, 3, 2])


def logits(points):
    return [RNG.normal(size=(3, 4)) * 2 for _ in range(points)]


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def soft(teacher, student):
    return -(np.exp(log_softmax(teacher)) * log_softmax(student)).sum(1).mean()


def constants(values):
    return [tf.constant(value, tf.float32) for value in values]


def test_cross_entropy(run):
    (value,) = logits(1)
    expected = -log_softmax(value)[range(3), LABELS].mean()
    np.testing.assert_allclose(
        run(losses.cross_entropy(*constants([value]), tf.constant(LABELS))), expected, rtol=1e-5
    )


def test_labels_of_mixed_images(run):
    (value,) = logits(1)
    others, share = np.array([1, 3, 0]), np.array([0.9, 0.5, 0.75])
    labels = losses.MixedLabels(
        tf.constant(LABELS), tf.constant(others), tf.constant(share, tf.float32)
    )
    target = np.zeros((3, 4))
    target[range(3), LABELS] += share
    target[range(3), others] += 1 - share
    np.testing.assert_allclose(run(losses.one_hot(labels, 4)), target, rtol=1e-6)
    expected = -(target * log_softmax(value)).sum(1).mean()
    found = run(losses.cross_entropy(*constants([value]), labels))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(run(losses.hard(labels)), LABELS)
    np.testing.assert_array_equal(run(losses.hard(tf.constant(LABELS))), LABELS)


BY_CLASS = np.array([0.5, 3.0, 1.25, 2.0])
WEIGHTS = BY_CLASS[LABELS]


def test_weighted_labels(run):
    (value,) = logits(1)
    labels = losses.weighted(tf.constant(LABELS), BY_CLASS)
    expected = -(WEIGHTS * log_softmax(value)[range(3), LABELS]).mean()
    found = losses.cross_entropy(*constants([value]), labels)
    np.testing.assert_allclose(run(found), expected, rtol=1e-5)
    np.testing.assert_allclose(run(losses.weights_of(labels)), WEIGHTS, rtol=1e-6)
    np.testing.assert_array_equal(run(losses.hard(labels)), LABELS)
    assert losses.weights_of(tf.constant(LABELS)) is None


def test_weighted_labels_of_mixed_images(run):
    """Each of the two counts as its class does, in hard and in soft targets."""
    (value,) = logits(1)
    others, share = np.array([1, 3, 0]), np.array([0.9, 0.5, 0.75])
    mixed = losses.MixedLabels(
        tf.constant(LABELS), tf.constant(others), tf.constant(share, tf.float32)
    )
    labels = losses.weighted(mixed, BY_CLASS)
    target = share[:, None] * np.eye(4)[LABELS] + (1 - share)[:, None] * np.eye(4)[others]
    target *= BY_CLASS  # [N, classes]
    weights = target.sum(1)
    expected = -(target * log_softmax(value)).sum(1).mean()
    found = losses.cross_entropy(*constants([value]), labels)
    np.testing.assert_allclose(run(found), expected, rtol=1e-5)
    np.testing.assert_allclose(run(losses.weights_of(labels)), weights, rtol=1e-6)
    shares = losses.one_hot(labels, 4)
    np.testing.assert_allclose(run(shares), target / weights[:, None], rtol=1e-6)
    np.testing.assert_array_equal(run(losses.hard(labels)), LABELS)


def test_weighted_distances(run):
    """As by hand, and as their gradients."""
    values = logits(3)
    teacher, *students = constants(values)
    weights = tf.constant(WEIGHTS, tf.float32)
    by_hand = [
        WEIGHTS @ [kl(*(value[i : i + 1] for value in (values[0], one))) for i in range(3)] / 3
        for one in values[1:]
    ]
    found = [losses.divergence(teacher, student, weights) for student in students]
    np.testing.assert_allclose(run(found), by_hand, rtol=1e-5)
    p, q = np.exp(log_softmax(values[0])), np.exp(log_softmax(values[1]))
    expected = WEIGHTS[:, None] * (q - p) / 3
    (gradient,) = tf.gradients(found[0], students[0])
    np.testing.assert_allclose(run(gradient), expected, atol=1e-6)
    ensembles = losses.distillation(teacher, students, 'ens', losses.divergence, weights)
    np.testing.assert_allclose(run(ensembles), sum(by_hand), rtol=1e-5)
    among = losses.divergence(students[0], students[1], weights)
    topdown = losses.topdown([teacher, *students], weights)
    np.testing.assert_allclose(run(topdown), sum(by_hand) + run(among), rtol=1e-5)


def test_soft_cross_entropy_keeps_the_entropy_and_teaches_one_way(run):
    values = logits(2)
    teacher, student = constants(values)
    loss = losses.soft_cross_entropy(teacher, student)
    to_teacher, to_student = tf.gradients(loss, [teacher, student])
    np.testing.assert_allclose(run(loss), soft(*values), rtol=1e-5)
    assert to_teacher is None
    p, q = (np.exp(log_softmax(v)) for v in values)
    np.testing.assert_allclose(run(to_student), (q - p) / 3, atol=1e-6)


@pytest.mark.parametrize('points', [1, 2, 5])
def test_ensemble(points, run):
    values, alpha = logits(points), RNG.normal(size=points).astype('float32')
    mean = losses.ensemble(constants(values))
    np.testing.assert_allclose(run(mean), np.mean(values, 0), rtol=1e-4, atol=1e-6)
    (variable,) = tf.trainable_variables()
    assert (variable.op.name, variable.shape) == ('alpha', [points])
    run(variable.assign(alpha))
    weights = np.exp(log_softmax(alpha))
    np.testing.assert_allclose(run(mean), np.tensordot(weights, values, 1), rtol=1e-4, atol=1e-6)


def test_gradients_of_the_ensemble(run):
    """Its cross entropy moves alpha and nothing else."""
    values = logits(3)
    tensors = constants(values)
    loss = losses.cross_entropy(losses.ensemble(tensors), tf.constant(LABELS))
    (alpha,) = tf.trainable_variables()
    assert tf.gradients(loss, tensors) == [None] * 3
    toward = np.exp(log_softmax(np.mean(values, 0))) - np.eye(4)[LABELS]
    per_weight = np.array([(toward * value).sum(1).mean() for value in values])
    expected = (per_weight - per_weight.mean()) / 3
    np.testing.assert_allclose(run(tf.gradients(loss, alpha)[0]), expected, rtol=1e-4, atol=1e-6)


def kl(teacher, student):
    p = np.exp(log_softmax(teacher))
    return (p * (log_softmax(teacher) - log_softmax(student))).sum(1).mean()


DISTANCES = {
    'cross entropy': (losses.soft_cross_entropy, soft),
    'divergence': (losses.divergence, kl),
}
each_distance = pytest.mark.parametrize(
    'distance, by_hand', DISTANCES.values(), ids=DISTANCES.keys()
)


def oracle(teacher, values, kd_type, by_hand):
    points = len(values)
    from_ensemble = sum(by_hand(teacher, value) for value in values)
    if kd_type == 'ens':
        return from_ensemble
    pairs = sum(
        by_hand(values[i], values[j]) for i in range(points) for j in range(points) if i < j
    )
    return (from_ensemble + pairs) / (points * (points + 1) / 2) * points


@each_distance
@pytest.mark.parametrize('kd_type', ['ens', 'ens_topdown'])
@pytest.mark.parametrize('points', [1, 2, 5])
def test_distillation(points, kd_type, distance, by_hand, run):
    values, (teacher,) = logits(points), logits(1)
    loss = losses.distillation(*constants([teacher]), constants(values), kd_type, distance)
    np.testing.assert_allclose(run(loss), oracle(teacher, values, kd_type, by_hand), rtol=1e-5)


@each_distance
@pytest.mark.parametrize('kd_type', ['ens', 'ens_topdown'])
def test_distillation_reaches_students_only(kd_type, distance, by_hand):
    teacher, *students = constants(logits(3))
    loss = losses.distillation(teacher, students, kd_type, distance)
    assert tf.gradients(loss, teacher) == [None]
    assert None not in tf.gradients(loss, students)


def test_divergence(run):
    """Zero at the teacher, the gradient of the soft cross entropy, none for the teacher."""
    values = logits(2)
    teacher, student = constants(values)
    loss = losses.divergence(teacher, student)
    same, value = run([losses.divergence(teacher, teacher), loss])
    assert abs(same) < 1e-6
    np.testing.assert_allclose(value, kl(*values), rtol=1e-4)
    to_teacher, to_student = tf.gradients(loss, [teacher, student])
    expected = tf.gradients(losses.soft_cross_entropy(teacher, student), student)[0]
    assert to_teacher is None
    np.testing.assert_allclose(*run([to_student, expected]), atol=1e-7)


def test_divergence_of_ties_and_far_logits(run):
    values = [np.array([[0, 0, 0, 0], [80, -80, 0, 0], [5, 5, -5, -5]], float), np.zeros((3, 4))]
    np.testing.assert_allclose(run(losses.divergence(*constants(values))), kl(*values), rtol=1e-5)


@pytest.mark.parametrize('points', [2, 3, 5])
def test_topdown(points, run):
    """All S(S-1)/2 pairs are added, none is averaged; the strongest point is taught by nobody."""
    values = logits(points)
    students = constants(values)
    loss = losses.topdown(students)
    pairs = [(i, j) for i in range(points) for j in range(points) if i < j]
    np.testing.assert_allclose(
        run(loss), sum(kl(values[i], values[j]) for i, j in pairs), rtol=1e-4
    )
    gradients = tf.gradients(loss, students)
    assert gradients[0] is None
    p = [np.exp(log_softmax(value)) for value in values]
    for j, gradient in enumerate(run(gradients[1:]), 1):
        np.testing.assert_allclose(gradient, sum(p[j] - p[i] for i in range(j)) / 3, atol=1e-6)


def test_published_value(run):
    """The three terms of the parity fixture rsq_train_kd128_96, two sizes."""
    terms = iter([6.74359, 6.762559, 6.796361])
    loss = losses.distillation(
        None, [None, None], 'ens_topdown', lambda *_: tf.constant(next(terms))
    )
    assert run(loss) == pytest.approx(13.535007, rel=1e-6)


def by_hand(smallest, points):
    """What images count at each of some sizes, by what the smallest says."""
    confidence = np.exp(log_softmax(np.float64(smallest))).max(1)  # [N]
    first = (1 + confidence / confidence.mean()) / 2
    others = (1 + (1 - confidence) / (1 - confidence).mean()) / 2
    return [*[others] * (points - 1), first]


def test_what_a_cascade_decides(run):
    """Also where no class is more probable than others; 1 in the mean, without gradient."""
    values = logits(3)
    values[-1][1] = 0
    tensors = constants(values)
    weights = losses.decided(tensors)
    found = run(weights)
    np.testing.assert_allclose(found, by_hand(values[-1], 3), rtol=1e-5)
    np.testing.assert_allclose(np.mean(found, axis=1), 1, rtol=1e-5)
    assert found[2].argmin() == found[0].argmax() == 1
    assert tf.gradients(weights, tensors) == [None] * 3


@pytest.mark.parametrize('scale', [40, 1000])
def test_what_a_cascade_decides_of_sure_images(scale, run):
    """Probabilities round to 1: what is left to larger sizes is exact, or nothing."""
    value = scale * np.eye(4)[LABELS] - [[0], [0.7], [0]]
    value[1, 1] += 0.7
    found = run(losses.decided(constants([value, value])))
    assert np.isfinite(found).all()
    rest = np.exp(value - value.max(1, keepdims=True))
    rest = (rest * (rest < 1)).sum(1)
    shares = rest / rest.mean() if rest.any() else 0 * rest
    np.testing.assert_allclose(found[0], (1 + shares) / 2, rtol=1e-4)
    np.testing.assert_allclose(found[1], np.ones(3), rtol=1e-5)


def test_labels_that_count_more(run):
    """Beside what their classes count."""
    (value,) = logits(1)
    more = np.array([0.5, 2.0, 1.0])
    labels = tf.constant(LABELS)
    for before, expected in ((labels, more), (losses.weighted(labels, BY_CLASS), WEIGHTS * more)):
        counted = losses.counting(before, tf.constant(more, tf.float32))
        np.testing.assert_allclose(run(losses.weights_of(counted)), expected, rtol=1e-6)
        loss = run(losses.cross_entropy(*constants([value]), counted))
        by_image = -log_softmax(value)[range(3), LABELS]
        np.testing.assert_allclose(loss, (expected * by_image).mean(), rtol=1e-5)
