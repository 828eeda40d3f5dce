"""Losses over operating points.

Cross entropy, ensemble, distillation from the ensemble and from stronger points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from quant.backend import tf
from quant.state import Kind, declare

# Scalar by which logits [N, classes] of a student differ from those of a teacher, given first.
Distance: TypeAlias = 'Callable[[tf.Tensor, tf.Tensor], tf.Tensor]'


class MixedLabels(NamedTuple):
    """Labels of images of which each is mixed of two.

    Attributes:
        main: [N] int, of the image that has the larger share.
        other: [N] int.
        share: [N] float, of ``main``, at least 1/2.
    """

    main: tf.Tensor
    other: tf.Tensor
    share: tf.Tensor


# Labels [N] int, or those of mixed images.
Labels: TypeAlias = 'tf.Tensor | MixedLabels'


def hard(labels: Labels) -> tf.Tensor:
    """One label for each image, [N] int: that of the larger share."""
    return labels.main if isinstance(labels, MixedLabels) else labels


def one_hot(labels: Labels, classes: int) -> tf.Tensor:
    """Labels as probabilities, [N, classes] float32."""
    if not isinstance(labels, MixedLabels):
        return tf.one_hot(labels, classes)
    share = labels.share[:, None]
    main, other = tf.one_hot(labels.main, classes), tf.one_hot(labels.other, classes)
    return share * main + (1 - share) * other


def cross_entropy(logits: tf.Tensor, labels: Labels) -> tf.Tensor:
    """Batch mean of the cross entropy of [N, classes] logits with [N] labels."""
    if isinstance(labels, MixedLabels):
        main, other = _each(logits, labels.main), _each(logits, labels.other)
        return tf.reduce_mean(labels.share * main + (1 - labels.share) * other)
    return tf.reduce_mean(_each(logits, labels))


def _each(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The cross entropy of every image, [N]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels)


def soft_cross_entropy(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """Batch mean of the cross entropy of the student's logits with the teacher's softmax.

    The teacher gets no gradient.
    """
    targets = tf.stop_gradient(tf.nn.softmax(teacher))
    each = tf.nn.softmax_cross_entropy_with_logits_v2(labels=targets, logits=student)  # [N]
    return tf.reduce_mean(each)


def ensemble(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Learned mean of the points' logits.

    ``sum_s softmax(alpha)_s * stop_gradient(logits_s)``, strongest point first.

    Source: Resolution Switchable Networks, ECCV 2020, https://arxiv.org/abs/2007.09558, equation 4.
    *Variable names*: ``alpha`` [S], from ones; its only gradient is that of the ensemble's own
    cross entropy.
    """
    alpha = tf.get_variable('alpha', shape=[len(logits)], initializer=tf.ones_initializer())
    declare(alpha, Kind.TRAINED, fresh=True)
    weights = tf.unstack(tf.nn.softmax(alpha))
    for i, weight in enumerate(weights):
        tf.summary.scalar(f'alpha/{i}', weight)
    terms = []
    for weight, one in zip(weights, logits, strict=True):
        terms.append(weight * tf.stop_gradient(one))
    return tf.add_n(terms)


def divergence(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """Batch mean of KL(teacher || student).

    The soft cross entropy less the teacher's own entropy, a constant.
    """
    entropy = tf.stop_gradient(soft_cross_entropy(teacher, teacher))
    return soft_cross_entropy(teacher, student) - entropy


@dataclasses.dataclass(frozen=True)
class Teaching:
    """Another network that teaches, beside or in place of the labels.

    Attributes:
        logits: [N, classes] of its answers; None: there are only labels.
        weight: of the divergence from them.
        label_weight: of the losses by labels.
    """

    logits: tf.Tensor | None = None
    weight: float = 1.0
    label_weight: float = 1.0

    def joined(self, by_labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss by labels of logits [N, classes], with what they learn from the teacher."""
        if self.logits is None:
            return by_labels
        return self.added(self.label_weight * by_labels, logits)

    def added(self, loss: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """A loss of logits [N, classes] that are not compared with labels, the same beside it."""
        if self.logits is None or not self.weight:
            return loss
        return loss + self.weight * divergence(self.logits, logits)


def topdown(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Sum of the divergences of every weaker point from every stronger one (SAN), strongest first.

    Temperature 1.
    """
    return tf.add_n(_from_stronger(logits, divergence))


def _from_stronger(logits: Sequence[tf.Tensor], distance: Distance) -> list[tf.Tensor]:
    """Distance of every weaker point from every stronger one, strongest first."""
    terms = []
    for j, student in enumerate(logits):
        for teacher in logits[:j]:
            terms.append(distance(teacher, student))
    return terms


def distillation(
    teacher: tf.Tensor,
    logits: Sequence[tf.Tensor],
    kd_type: str,
    distance: Distance,
) -> tf.Tensor:
    """Distillation loss of the RS-Net codes, temperature 1.

    Args:
        teacher: [N, classes] logits of the ensemble.
        logits: [N, classes] by point, strongest first.
        kd_type: ``ens``: the ensemble teaches every point. ``ens_topdown``: every stronger point
            also teaches every weaker one, and the mean of these S(S+1)/2 terms counts S times.
        distance: ``divergence`` (the PyTorch code) or ``soft_cross_entropy`` (the TensorFlow code)
            of a teacher and a student; their gradients are the same.
    """
    terms = [distance(teacher, student) for student in logits]
    if kd_type == 'ens':
        return tf.add_n(terms)
    terms += _from_stronger(logits, distance)
    return tf.add_n(terms) / len(terms) * len(logits)


def log_confidence(logits: tf.Tensor) -> tf.Tensor:
    """[N] logarithm of the largest softmax value, exact also where that rounds to 1."""
    rest = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    best = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], on_value=0.0, off_value=1.0)
    return -tf.log1p(tf.reduce_sum(rest * best, axis=1))
