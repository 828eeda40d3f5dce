"""Gates that decide per image whether the body of a residual block is executed.

Reference: Convolutional Networks with Adaptive Inference Graphs, ECCV 2018,
    https://arxiv.org/abs/1711.11503;
arithmetic as the published code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from nets.layers.blocks import Blocks
from quant.backend import tf
from quant.state import fresh

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
    with fresh():
        h = b.dense(
            'gate1',
            pooled,
            HIDDEN,
            role='gate',
            start=tf.random_normal_initializer(stddev=(2 / HIDDEN) ** 0.5),
            bias_start=tf.random_uniform_initializer(-bound, bound),
        )
        h = tf.nn.relu(b.norm_dense('gate1/bn', h))
        return b.dense(
            'gate2',
            h,
            2,
            role='gate',
            start=tf.random_normal_initializer(stddev=0.001),
            bias_start=tf.constant_initializer(BIAS),
        )


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
    """The same for training, with ``body`` computed for the images whose gate is open.

    For all if none is, because normalisation needs images. A closed gate has no gradient then: what
    its body would have added is not known.
    """
    opened = gate > 0.5
    chosen = tf.where(tf.logical_or(opened, tf.logical_not(tf.reduce_any(opened))))
    rows = chosen[:, 0]
    y = tf.reshape(tf.cast(tf.gather(gate, rows), q.dtype), [-1, 1, 1, 1]) * body(
        tf.gather(q, rows)
    )
    return tf.nn.relu(tf.tensor_scatter_nd_add(shortcut, chosen, y))


def skipping(gate: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor) -> tf.Tensor:
    """The same for inference: ``body`` runs for the images whose gate is open, if there are any."""
    opened = Opened(gate)
    return tf.nn.relu(opened.add(shortcut, body(opened.take(q))))


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
        gate, q, body, x: as of ``masked``.
        pooled: ``pool(x)`` [N, C].
        pool: taken of each image alone.

    Returns:
        The output and its ``pool``, computed anew for the images that have changed.
    """
    opened = Opened(gate)
    rows = opened.take(x)
    y = tf.nn.relu(rows + body(rows if q is x else opened.take(q)))
    return opened.put(x, y), opened.put(pooled, pool(y))


class Opened:
    """The images of a batch whose gate is open.

    No kernel runs for an empty batch, which TensorFlow's fused convolutions on the CPU get wrong:
    what a switch turns away is not executed, and the merge takes the side that was. Unlike in
    ``tf.cond``, layers may be made in between.

    Args:
        gate: [N], 0 or 1.
    """

    def __init__(self, gate: tf.Tensor):
        self._opened, self._alone = gate > 0.5, gate.shape[0] == 1
        self._some = self._opened[0] if self._alone else tf.reduce_any(self._opened)
        self._all = tf.reduce_all(self._opened)

    def take(self, x: tf.Tensor) -> tf.Tensor:
        """These images of ``x``; what depends on them is not executed unless there are some."""
        if self._alone:
            return tf.raw_ops.Switch(data=x, pred=self._some).output_true
        # Copying is left out where there is nothing to choose.
        part = tf.cond(self._all, lambda: x, lambda: tf.gather(x, self._rows()))
        part.set_shape([None, *x.shape[1:]])
        return tf.raw_ops.Switch(data=part, pred=self._some).output_true

    def put(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """``x`` with ``y``, which depends on what was taken, in place of these images.

        The memory of ``x`` is written over: who else reads it has to come before the gate or ``y``,
        as the gate and the body do.
        """
        return self._change(x, y, lambda: y, tf.raw_ops.InplaceUpdate)

    def add(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Likewise ``x`` with ``y`` added to these images."""
        return self._change(x, y, lambda: x + y, tf.raw_ops.InplaceAdd)

    def _change(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        every: Callable[[], tf.Tensor],
        rows: Callable[..., tf.Tensor],
    ) -> tf.Tensor:
        unchanged = tf.raw_ops.Switch(data=x, pred=self._some).output_false
        changed = (
            every()
            if self._alone
            else tf.cond(
                self._all, every, lambda: rows(x=x, i=tf.cast(self._rows(), tf.int32), v=y)
            )
        )
        return tf.raw_ops.Merge(inputs=[unchanged, changed]).output

    def _rows(self) -> tf.Tensor:
        return tf.where(self._opened)[:, 0]
