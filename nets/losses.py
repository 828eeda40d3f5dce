"""Losses over operating points.

Cross entropy, ensemble, distillation from the ensemble and from stronger points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from quant.backend import tf
from quant.options import option
from quant.state import Kind, declare

# Scalar by which logits [N, classes] of a student differ from those of a teacher, given first, and
# what images count, [N] or None.
Distance: TypeAlias = 'Callable[[tf.Tensor, tf.Tensor, tf.Tensor | None], tf.Tensor]'


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """Options of the losses of all networks."""

    for_cascades: bool = option(
        False,
        'of several sizes: in the loss by labels of a size, images count as a cascade decides by '
        'it: the surer the smallest size is, the more there, and the less at larger ones',
    )


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


class WeightedLabels(NamedTuple):
    """Labels of images that do not count alike.

    Attributes:
        labels: [N] int, or of mixed images, whose shares are those of the loss: a label's times
            what it counts.
        weights: [N] float32, by which all losses of an image are multiplied.
    """

    labels: tf.Tensor | MixedLabels
    weights: tf.Tensor


# Labels [N] int, or those of mixed images, or of images that do not count alike.
Labels: TypeAlias = 'tf.Tensor | MixedLabels | WeightedLabels'


def weighted(labels: tf.Tensor | MixedLabels, by_class: Sequence[float]) -> WeightedLabels:
    """Labels that count as their classes do: each of the two of a mixed image as its own.

    Args:
        labels: of images that count alike.
        by_class: what a label counts, of each class.
    """
    table = tf.constant(by_class, tf.float32)
    if not isinstance(labels, MixedLabels):
        return WeightedLabels(labels, tf.gather(table, labels))
    main = labels.share * tf.gather(table, labels.main)
    weights = main + (1 - labels.share) * tf.gather(table, labels.other)
    return WeightedLabels(labels._replace(share=main / weights), weights)


def counting(labels: Labels, weights: tf.Tensor) -> WeightedLabels:
    """Labels that count ``weights`` times, [N], beside what they count already."""
    if isinstance(labels, WeightedLabels):
        return labels._replace(weights=weights * labels.weights)
    return WeightedLabels(labels, weights)


def decided(logits: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """How much of each image a cascade of sizes decides at each, [N] float32 by size.

    With the probability c of the answer of the smallest size, it is ``(1 + c / mean(c)) / 2`` there
    and ``(1 + (1 - c) / mean(1 - c)) / 2`` at all larger ones: 1 in the mean over the batch of a
    tower. They get no gradient.

    Args:
        logits: [N, classes] by size, the smallest last.
    """
    confidence = tf.stop_gradient(log_confidence(logits[-1]))  # [N]
    # Exact also where the probability rounds to 1.
    stays, leaves = _half_as(-tf.math.expm1(confidence)), _half_as(tf.exp(confidence))
    return [*[stays] * (len(logits) - 1), leaves]


def _half_as(share: tf.Tensor) -> tf.Tensor:
    return (1 + tf.math.divide_no_nan(share, tf.reduce_mean(share))) / 2


def weights_of(labels: Labels) -> tf.Tensor | None:
    """Weight of each image, [N]; None: all count alike."""
    return labels.weights if isinstance(labels, WeightedLabels) else None


def hard(labels: Labels) -> tf.Tensor:
    """One label for each image, [N] int: that of the larger share of the image."""
    if isinstance(labels, WeightedLabels):
        labels = labels.labels
    return labels.main if isinstance(labels, MixedLabels) else labels


def one_hot(labels: Labels, classes: int) -> tf.Tensor:
    """Labels as probabilities, [N, classes] float32."""
    if isinstance(labels, WeightedLabels):
        labels = labels.labels
    if not isinstance(labels, MixedLabels):
        return tf.one_hot(labels, classes)
    share = labels.share[:, None]
    main, other = tf.one_hot(labels.main, classes), tf.one_hot(labels.other, classes)
    return share * main + (1 - share) * other


def mean(each: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """Batch mean of a loss of each image, [N], which counts as ``weights`` [N] say.

    It is divided by the number of images: the means of parts of a batch are those of the whole.
    """
    if weights is not None:
        each = weights * each
    return tf.reduce_mean(each)


def cross_entropy(logits: tf.Tensor, labels: Labels) -> tf.Tensor:
    """Batch mean of the cross entropy of [N, classes] logits with [N] labels."""
    weights = weights_of(labels)
    if isinstance(labels, WeightedLabels):
        labels = labels.labels
    if isinstance(labels, MixedLabels):
        main, other = _each(logits, labels.main), _each(logits, labels.other)
        return mean(labels.share * main + (1 - labels.share) * other, weights)
    return mean(_each(logits, labels), weights)


def _each(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The cross entropy of every image, [N]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels)


def target_cross_entropy(
    targets: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Batch mean of the cross entropy with probabilities, which get no gradient.

    Args:
        targets: [N, classes], of sum 1.
        logits: [N, classes].
        weights: what each image counts, [N].
    """
    targets = tf.stop_gradient(targets)
    each = tf.nn.softmax_cross_entropy_with_logits_v2(labels=targets, logits=logits)  # [N]
    return mean(each, weights)


def soft_cross_entropy(
    teacher: tf.Tensor, student: tf.Tensor, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Batch mean of the cross entropy of the student's logits with the teacher's softmax.

    Args:
        teacher: logits [N, classes], which get no gradient.
        student: logits [N, classes].
        weights: what each image counts, [N].
    """
    return target_cross_entropy(tf.nn.softmax(teacher), student, weights)


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


def divergence(
    teacher: tf.Tensor, student: tf.Tensor, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Batch mean of KL(teacher || student).

    The soft cross entropy less the teacher's own entropy, a constant.

    Args:
        teacher: logits [N, classes], which get no gradient.
        student: logits [N, classes].
        weights: what each image counts, [N].
    """
    entropy = tf.stop_gradient(soft_cross_entropy(teacher, teacher, weights))
    return soft_cross_entropy(teacher, student, weights) - entropy


@dataclasses.dataclass(frozen=True)
class Teaching:
    """Another network that teaches, beside or in place of the labels.

    Attributes:
        logits: [N, classes] of its answers; None: there are only labels.
        weight: of the divergence from them.
        label_weight: of the losses by labels.
        stronger: answers [N, classes] of this network, by the reference of logits that learn as
            much from them as from all else.
    """

    logits: tf.Tensor | None = None
    weight: float = 1.0
    label_weight: float = 1.0
    stronger: Mapping[Any, tf.Tensor] = dataclasses.field(default_factory=dict)

    def joined(
        self, by_labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | None = None
    ) -> tf.Tensor:
        """A loss by labels, with what the same logits learn from the teacher.

        Args:
            by_labels: the loss.
            logits: [N, classes].
            weights: what each image counts, [N].
        """
        if self.logits is not None:
            by_labels = self.label_weight * by_labels
        return self.added(by_labels, logits, weights)

    def added(
        self, loss: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | None = None
    ) -> tf.Tensor:
        """A loss of logits that are not compared with labels, the same beside it.

        Args:
            loss: of the logits.
            logits: [N, classes].
            weights: what each image counts, [N].
        """
        if self.logits is not None and self.weight:
            loss += self.weight * divergence(self.logits, logits, weights)
        stronger = self.stronger.get(logits.ref())
        if stronger is None:
            return loss
        return 0.5 * loss + 0.5 * divergence(stronger, logits, weights)


def topdown(logits: Sequence[tf.Tensor], weights: tf.Tensor | None = None) -> tf.Tensor:
    """Sum of the divergences of every weaker point from every stronger one (SAN), strongest first.

    Temperature 1; ``weights`` [N] say what each image counts.
    """
    return tf.add_n(_from_stronger(logits, divergence, weights))


def _from_stronger(
    logits: Sequence[tf.Tensor], distance: Distance, weights: tf.Tensor | None
) -> list[tf.Tensor]:
    """Distance of every weaker point from every stronger one, strongest first."""
    terms = []
    for j, student in enumerate(logits):
        for teacher in logits[:j]:
            terms.append(distance(teacher, student, weights))
    return terms


def distillation(
    teacher: tf.Tensor,
    logits: Sequence[tf.Tensor],
    kd_type: str,
    distance: Distance,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Distillation loss of the RS-Net codes, temperature 1.

    Args:
        teacher: [N, classes] logits of the ensemble.
        logits: [N, classes] by point, strongest first.
        kd_type: ``ens``: the ensemble teaches every point. ``ens_topdown``: every stronger point
            also teaches every weaker one, and the mean of these S(S+1)/2 terms counts S times.
        distance: ``divergence`` (the PyTorch code) or ``soft_cross_entropy`` (the TensorFlow code)
            of a teacher and a student; their gradients are the same.
        weights: what each image counts, [N].
    """
    terms = [distance(teacher, student, weights) for student in logits]
    if kd_type == 'ens':
        return tf.add_n(terms)
    terms += _from_stronger(logits, distance, weights)
    return tf.add_n(terms) / len(terms) * len(logits)


def log_confidence(logits: tf.Tensor) -> tf.Tensor:
    """[N] logarithm of the largest softmax value, exact also where that rounds to 1."""
    rest = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    best = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], on_value=0.0, off_value=1.0)
    return -tf.log1p(tf.reduce_sum(rest * best, axis=1))
