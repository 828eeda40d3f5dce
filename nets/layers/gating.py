"""Gates that decide per image whether the body of a residual block is executed.

Reference: Convolutional Networks with Adaptive Inference Graphs, ECCV 2018,
https://arxiv.org/abs/1711.11503; arithmetic as the published code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from nets.layers.blocks import Blocks
from nets.layers.rows import Rows
from quant.backend import tf
from quant.state import declaring

HIDDEN = 16

# The published start of the last bias, (skip, execute): a gate is open with probability 0.87.
BIAS = (0.1, 2.0)

Body: TypeAlias = 'Callable[[tf.Tensor], tf.Tensor]'


def gate_logits(b: Blocks, pooled: tf.Tensor) -> tf.Tensor:
    """[N, 2] logits (skip, execute) from the pooled input [N, C] of a block.

    16 units with normalisation and ReLU, then 2 units.

    *Variable names*: ``gate1/W``, ``gate1/b``, ``gate1/bn/...``, ``gate2/W``, ``gate2/b``.
    """
    bound = pooled.shape[1] ** -0.5
    spread = tf.random_normal_initializer(stddev=(2 / HIDDEN) ** 0.5)
    shift = tf.random_uniform_initializer(-bound, bound)
    near_zero = tf.random_normal_initializer(stddev=0.001)
    with declaring(fresh=True):
        h = b.dense('gate1', pooled, HIDDEN, role='gate', start=spread, bias_start=shift)
        h = tf.nn.relu(b.norm_dense('gate1/bn', h))
        bias = tf.constant_initializer(BIAS)
        return b.dense('gate2', h, 2, role='gate', start=near_zero, bias_start=bias)


def gumbel(uniform: tf.Tensor) -> tf.Tensor:
    """Standard Gumbel noise from noise that is uniform in [0, 1)."""
    return -tf.log(1e-10 - tf.log(uniform + 1e-10))


def straight_through(logits: tf.Tensor, temperature: float | tf.Tensor) -> tf.Tensor:
    """[N] gate values, 1 where the second of two logits (noise included) is larger, else 0.

    Pseudo-gradient: that of the softmax at ``temperature``.
    """
    soft = tf.nn.softmax(logits / temperature)[:, 1]
    skip, execute = logits[:, 0], logits[:, 1]
    hard = tf.cast(execute > skip, tf.float32)  # a tie skips, as argmax does
    # In this order the value is exactly 0 or 1.
    return hard + (soft - tf.stop_gradient(soft))


def masked(gate: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor) -> tf.Tensor:
    """``relu(shortcut + gate * body(q))``: every image is computed, as in published training.

    Args:
        gate: float32 [N], 0 or 1.
        q: images that the body takes.
        body: images -> images of the shape of ``shortcut``.
        shortcut: images.
    """
    return tf.nn.relu(shortcut + _factors(gate, q) * body(q))


def gathered(gate: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor) -> tf.Tensor:
    """``masked`` for training, with the body computed for the images whose gate is open.

    It is computed for all if none is, because normalisation needs images. A closed gate has no
    gradient then: what its body would have added is not known.

    Args:
        gate: float32 [N], 0 or 1.
        q: images that the body takes.
        body: images -> images of the shape of ``shortcut``.
        shortcut: images.
    """
    opened = gate > 0.5
    none = tf.logical_not(tf.reduce_any(opened))
    chosen = tf.where(tf.logical_or(opened, none))  # [images, 1]
    rows = chosen[:, 0]
    y = _factors(tf.gather(gate, rows), q) * body(tf.gather(q, rows))
    return tf.nn.relu(tf.tensor_scatter_nd_add(shortcut, chosen, y))


def _factors(gate: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """``gate`` [N] as [N, 1, 1, 1] in the type of ``q``."""
    return tf.reshape(tf.cast(gate, q.dtype), [-1, 1, 1, 1])


def skipping(gate: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor) -> tf.Tensor:
    """``masked`` for inference: the body runs for the images whose gate is open, if there are any.

    Args:
        gate: float32 [N], 0 or 1.
        q: images that the body takes.
        body: images -> images of the shape of ``shortcut``.
        shortcut: images.
    """
    opened = Rows(gate > 0.5)
    part = opened.take(q)
    return tf.nn.relu(opened.add(shortcut, body(part)))


def skipping_identity(
    gate: tf.Tensor,
    q: tf.Tensor,
    body: Body,
    x: tf.Tensor,
    pooled: tf.Tensor,
    pool: Callable[[tf.Tensor], tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """``skipping`` where the shortcut is ``x`` without negative values.

    Images that skip the body are left untouched.

    Args:
        gate: float32 [N], 0 or 1.
        q: images that the body takes.
        body: images -> images of the shape of ``x``.
        x: images, the shortcut.
        pooled: ``pool(x)`` [N, C].
        pool: taken of each image alone.

    Returns:
        The output and its ``pool``, computed anew for the images that have changed.
    """
    opened = Rows(gate > 0.5)
    part = opened.take(x)
    read = part if q is x else opened.take(q)
    y = tf.nn.relu(part + body(read))
    return opened.put(x, y), opened.put(pooled, pool(y))
