"""Losses over operating points: cross entropy, ensemble, distillation from the ensemble and from stronger points."""

from collections.abc import Sequence

from nets import KD_TYPES
from quant.backend import tf


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Batch mean of the cross entropy of [N, classes] logits with [N] int labels."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels))


def soft_cross_entropy(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """Batch mean of the cross entropy of the student's logits with the teacher's softmax, which gets no gradient."""
    targets = tf.stop_gradient(tf.nn.softmax(teacher))
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=targets, logits=student))


def ensemble(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Learned mean of the points' logits: ``sum_s softmax(alpha)_s * stop_gradient(logits_s)``, strongest point first.

    Source: Resolution Switchable Networks, ECCV 2020, https://arxiv.org/abs/2007.09558, equation 4.
    *Variable names*: ``alpha`` [S], from ones; its only gradient is that of the ensemble's own cross entropy.
    """
    alpha = tf.get_variable('alpha', shape=[len(logits)], initializer=tf.ones_initializer())
    weights = tf.unstack(tf.nn.softmax(alpha))
    return tf.add_n([w * tf.stop_gradient(one) for w, one in zip(weights, logits)])


def distillation(teacher: tf.Tensor, logits: Sequence[tf.Tensor], kd_type: str) -> tf.Tensor:
    """Distillation loss of the RS-Net codes (cross entropy: the teachers' entropy is not subtracted, temperature 1).

    Args:
        teacher: [N, classes] logits of the ensemble.
        logits: [N, classes] by point, strongest first.
        kd_type: ``ens``: the ensemble teaches every point. ``ens_topdown``: every stronger point also teaches every
            weaker one, and the mean of these S(S+1)/2 terms counts S times.

    Raises:
        ValueError: another ``kd_type``.
    """
    if kd_type not in KD_TYPES:
        raise ValueError(f'kd_type {kd_type!r} is unknown; there are {", ".join(KD_TYPES)}')
    terms = [soft_cross_entropy(teacher, student) for student in logits]
    if kd_type == 'ens':
        return tf.add_n(terms)
    terms += [soft_cross_entropy(logits[i], student) for j, student in enumerate(logits) for i in range(j)]
    return tf.add_n(terms) / len(terms) * len(logits)
