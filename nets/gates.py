"""Gates that decide per image whether the body of a residual block is executed.

Reference: Convolutional Networks with Adaptive Inference Graphs, ECCV 2018, https://arxiv.org/abs/1711.11503;
arithmetic as the published code.
"""

import functools
from collections.abc import Callable

from nets.blocks import Blocks
from quant.backend import tf

HIDDEN = 16

# The published start of the last bias, (skip, execute): a gate is open with probability 0.87.
BIAS = (0.1, 2.0)

Body = Callable[[tf.Tensor], tf.Tensor]


def gate_logits(b: Blocks, x: tf.Tensor) -> tf.Tensor:
    """[N, 2] logits (skip, execute) from the input of a block: pool, 16 units with normalisation and ReLU, 2 units.

    *Variable names*: ``gate1/W``, ``gate1/b``, ``gate1/bn/...``, ``gate2/W``, ``gate2/b``.
    """
    channels = b.channels(x)
    bound = channels ** -0.5
    h = b.dense('gate1', b.global_pool(x), HIDDEN, role='gate',
                start=tf.random_normal_initializer(stddev=(2 / HIDDEN) ** 0.5),
                bias_start=tf.random_uniform_initializer(-bound, bound))
    h = tf.nn.relu(b.norm_dense('gate1/bn', h))
    return b.dense('gate2', h, 2, role='gate', start=tf.random_normal_initializer(stddev=0.001),
                   bias_start=tf.constant_initializer(BIAS))


def gumbel(uniform: tf.Tensor) -> tf.Tensor:
    """Standard Gumbel noise from noise that is uniform in [0, 1)."""
    return -tf.log(1e-10 - tf.log(uniform + 1e-10))


def straight_through(logits: tf.Tensor, temperature: float | tf.Tensor) -> tf.Tensor:
    """[N] gate values, 1 where the second of two logits (noise included) is larger, else 0.

    Pseudo-gradient: that of the softmax at ``temperature``.
    """
    soft = tf.nn.softmax(logits / temperature)[:, 1]
    # A tie skips, as argmax does.
    hard = tf.cast(logits[:, 1] > logits[:, 0], tf.float32)
    # In this order the value is exactly 0 or 1.
    return hard + (soft - tf.stop_gradient(soft))


def masked(gate: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor) -> tf.Tensor:
    """``relu(shortcut + gate * body(q))``: every image is computed, as in published training."""
    return tf.nn.relu(shortcut + tf.reshape(tf.cast(gate, q.dtype), [-1, 1, 1, 1]) * body(q))


def gathered(gate: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor) -> tf.Tensor:
    """The same for training, with ``body`` computed for the images whose gate is open; for all if none is, because
    normalisation needs images. A closed gate has no gradient then: what its body would have added is not known.
    """
    opened = gate > 0.5
    chosen = tf.where(tf.logical_or(opened, tf.logical_not(tf.reduce_any(opened))))
    rows = chosen[:, 0]
    y = tf.reshape(tf.cast(tf.gather(gate, rows), q.dtype), [-1, 1, 1, 1]) * body(tf.gather(q, rows))
    return tf.nn.relu(tf.tensor_scatter_nd_add(shortcut, chosen, y))


def skipping(gate: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor, *, rectified: bool) -> tf.Tensor:
    """The same for inference: ``body`` runs for the images whose gate is open, and not at all if there are none.

    No kernel runs for an empty batch, which TensorFlow's fused convolutions on the CPU get wrong: what a switch turns
    away is not executed, and the merge takes the side that was. Unlike in ``tf.cond``, layers may be made in between.

    Args:
        gate, q, body, shortcut: as of ``masked``.
        rectified: whether ``shortcut`` has no negative values, so that images that skip the body are left untouched.
    """
    opened = gate > 0.5
    some = opened[0] if gate.shape[0] == 1 else tf.reduce_any(opened)
    choose = functools.partial(_only, opened, some)
    rows = choose(q)
    y = (rows if q is shortcut else choose(shortcut)) + body(rows)
    y = tf.nn.relu(y) if rectified else y
    total = y if gate.shape[0] == 1 else _updated(shortcut, opened, y)
    unchanged = tf.raw_ops.Switch(data=shortcut, pred=some).output_false
    merged = tf.raw_ops.Merge(inputs=[unchanged, total]).output
    return merged if rectified else tf.nn.relu(merged)


def _only(opened: tf.Tensor, some: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The images of ``x`` whose gate is open; what depends on it is not executed unless there are ``some``."""
    if x.shape[0] == 1:
        return tf.raw_ops.Switch(data=x, pred=some).output_true
    # Copying is left out where there is nothing to choose.
    part = tf.cond(tf.reduce_all(opened), lambda: x, lambda: tf.gather(x, tf.where(opened)[:, 0]))
    part.set_shape([None, *x.shape[1:]])
    return tf.raw_ops.Switch(data=part, pred=some).output_true


def _updated(x: tf.Tensor, opened: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """``x`` with ``y`` in place of the images whose gate is open. Its memory is written over: who else reads ``x``
    has to come before ``opened`` or ``y``, as the gate and the body do.
    """
    return tf.cond(tf.reduce_all(opened), lambda: y, lambda: tf.raw_ops.InplaceUpdate(
        x=x, i=tf.cast(tf.where(opened)[:, 0], tf.int32), v=y))
