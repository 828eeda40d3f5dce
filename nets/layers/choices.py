"""Marks choices made image by image as nodes of their own in a graph, where exports find them.

Such a graph is built by ``Blocks`` that are opaque; how choices are carried out where a graph runs
is said in ``gating``, ``routing`` and ``rows``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from quant.backend import tf

# Starts of the names of these nodes.
CHOICE, CONFIDENT = 'choice', 'confident'

# What a branch gives, and a constant [1] or a result of ``choice`` that says what was executed.
Branch: TypeAlias = 'tuple[tf.Tensor, tf.Tensor]'


def choice(number: tf.Tensor, branches: Sequence[Branch]) -> Branch:
    """A node that stands for the branch of a number; the others need not be executed.

    Args:
        number: [N] of the branch, counted from 0.
        branches: to choose from.
    """
    values: list[tf.Tensor] = []
    for value, executed in branches:
        values += [value, executed]
    found = tf.identity_n([*values, number], name=CHOICE)
    return found[0], found[1]


def confident(logits: tf.Tensor, exit: int) -> tf.Tensor:
    """A node that stands for [N]: 1 for an image that leaves at an exit, else 0.

    An image leaves where the logarithm of the probability of its answer reaches the threshold.

    Args:
        logits: [N, classes] of the exit.
        exit: its index.
    """
    found = tf.identity_n([logits, tf.constant([exit])], name=CONFIDENT)
    return found[0]


def executed(number: int) -> tf.Tensor:
    """The number by which a branch says that it was executed."""
    return tf.constant([number], tf.int64)
