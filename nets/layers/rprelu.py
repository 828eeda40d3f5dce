"""RPReLU: a rectifier that each channel shifts and slopes as it learns to.

References:
    ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions, ECCV
    2020, https://arxiv.org/abs/2003.03488, equation 7; the same before every quantizer of N2UQ,
    CVPR 2022, https://arxiv.org/abs/2111.14826, in whose code the slope starts at 1/4.
"""

from __future__ import annotations

from typing import Any

from nets.layers.layout import Layout
from quant.backend import tf
from quant.state import Kind, declare

SLOPE = 0.25


def rprelu(layout: Layout, x: tf.Tensor) -> tf.Tensor:
    """``prelu(x + before) + after``, where a slope takes the place of zero below zero.

    What is loaded from a network with another activation function need not hold its variables.

    *Variable names*: ``rprelu/before``, ``rprelu/slope``, ``rprelu/after``, each [C].

    Args:
        layout: says where the channels are.
        x: images.
    """
    with tf.variable_scope('rprelu'):
        before = _per_channel(layout, x, 'before', tf.zeros_initializer())
        slope = _per_channel(layout, x, 'slope', tf.constant_initializer(SLOPE))
        after = _per_channel(layout, x, 'after', tf.zeros_initializer())
    moved = x + before
    above = tf.nn.relu(moved)
    return above + slope * (moved - above) + after


def _per_channel(layout: Layout, x: tf.Tensor, name: str, start: Any) -> tf.Tensor:
    """A trained value of each channel, in the rank and type of ``x``."""
    channels = layout.channels(x)
    variable = tf.get_variable(name, shape=[channels], initializer=start)
    declare(variable, Kind.TRAINED, fresh=True)
    shape = [1, 1, 1, 1]
    shape[layout.axis] = channels
    return tf.cast(tf.reshape(variable, shape), x.dtype)
