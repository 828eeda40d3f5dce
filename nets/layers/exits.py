"""Which of the exits of a network answers an image."""

from __future__ import annotations

from collections.abc import Sequence

from nets.layers.choices import choice, confident, executed
from nets.losses import log_confidence
from quant.backend import tf


def first_confident(
    answers: Sequence[tf.Tensor], thresholds: Sequence[float]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits [N, classes] of the first exit that is sure, and its index [N].

    Args:
        answers: logits of every exit.
        thresholds: by exit, least logarithm of the probability of the answer with which an image
            leaves; all but the last are used.
    """
    sure = []
    for logits, threshold in zip(answers[:-1], thresholds):
        sure.append(log_confidence(logits) >= threshold)
    everybody = tf.ones_like(log_confidence(answers[-1]), tf.bool)
    stops = tf.cast(tf.stack([*sure, everybody], 1), tf.int32)  # [N, exits]
    exits = tf.argmax(stops, axis=1)
    return tf.gather(tf.stack(answers, 1), exits, batch_dims=1), exits


def in_turn(answers: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """``first_confident`` as a chain of choices, one at every exit, see ``nets.layers.choices``.

    Args:
        answers: logits of every exit.
    """
    last = len(answers) - 1
    found = answers[last], executed(last)
    for k in reversed(range(last)):
        found = choice(confident(answers[k], k), [found, (answers[k], executed(k))])
    return found
