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
    value, = logits(1)
    expected = -log_softmax(value)[range(3), LABELS].mean()
    np.testing.assert_allclose(run(losses.cross_entropy(*constants([value]), tf.constant(LABELS))), expected, rtol=1e-5)


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
    variable, = tf.trainable_variables()
    assert (variable.op.name, variable.shape) == ('alpha', [points])
    run(variable.assign(alpha))
    weights = np.exp(log_softmax(alpha))
    np.testing.assert_allclose(run(mean), np.tensordot(weights, values, 1), rtol=1e-4, atol=1e-6)


def test_gradients_of_the_ensemble(run):
    """Its cross entropy moves alpha and nothing else."""
    values = logits(3)
    tensors = constants(values)
    loss = losses.cross_entropy(losses.ensemble(tensors), tf.constant(LABELS))
    alpha, = tf.trainable_variables()
    assert tf.gradients(loss, tensors) == [None] * 3
    toward = np.exp(log_softmax(np.mean(values, 0))) - np.eye(4)[LABELS]
    per_weight = np.array([(toward * value).sum(1).mean() for value in values])
    expected = (per_weight - per_weight.mean()) / 3
    np.testing.assert_allclose(run(tf.gradients(loss, alpha)[0]), expected, rtol=1e-4, atol=1e-6)


def oracle(teacher, values, kd_type):
    points = len(values)
    from_ensemble = sum(soft(teacher, value) for value in values)
    if kd_type == 'ens':
        return from_ensemble
    pairs = sum(soft(values[i], values[j]) for i in range(points) for j in range(points) if i < j)
    return (from_ensemble + pairs) / (points * (points + 1) / 2) * points


@pytest.mark.parametrize('kd_type', losses.KD_TYPES)
@pytest.mark.parametrize('points', [1, 2, 5])
def test_distillation(points, kd_type, run):
    values, (teacher,) = logits(points), logits(1)
    loss = losses.distillation(*constants([teacher]), constants(values), kd_type)
    np.testing.assert_allclose(run(loss), oracle(teacher, values, kd_type), rtol=1e-5)


@pytest.mark.parametrize('kd_type, taught', [('ens', [True, True]), ('ens_topdown', [True, True])])
def test_distillation_reaches_students_only(kd_type, taught):
    teacher, *students = constants(logits(3))
    loss = losses.distillation(teacher, students, kd_type)
    assert tf.gradients(loss, teacher) == [None]
    assert [g is not None for g in tf.gradients(loss, students)] == taught


def test_published_value(run):
    """The three terms of the parity fixture rsq_train_kd128_96, two sizes."""
    terms = iter([6.74359, 6.762559, 6.796361])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, 'soft_cross_entropy', lambda *_: tf.constant(next(terms)))
        loss = losses.distillation(None, [None, None], 'ens_topdown')
    assert run(loss) == pytest.approx(13.535007, rel=1e-6)


def test_unknown_type_is_refused():
    with pytest.raises(ValueError):
        losses.distillation(*constants(logits(1)), constants(logits(2)), 'topdown')
