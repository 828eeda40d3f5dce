"""Gather, compute, scatter: layers that run for some images of a batch and not at all for none."""

from __future__ import annotations

from collections.abc import Callable

from quant.backend import tf


class Rows:
    """Some images of a batch.

    No kernel runs for an empty batch, which TensorFlow's fused convolutions on the CPU get wrong:
    what a switch turns away is not executed, and the merge takes the side that was. Unlike in
    ``tf.cond``, layers may be made in between.

    Args:
        chosen: bool [N].

    Attributes:
        indices: int64, ascending.
    """

    def __init__(self, chosen: tf.Tensor):
        self.indices = tf.where(chosen)[:, 0]
        self._all = tf.reduce_all(chosen)
        self._some = tf.reduce_any(chosen)
        self._alone = chosen.shape[0] == 1  # one image: nothing is gathered
        if self._alone:
            self._some = chosen[0]

    def take(self, x: tf.Tensor) -> tf.Tensor:
        """These images of ``x``, which is not copied where it is all of them.

        What depends on them is not executed unless there are some.
        """
        part = x
        if not self._alone:
            part = tf.cond(self._all, lambda: x, lambda: tf.gather(x, self.indices))
            part.set_shape([None, *x.shape[1:]])
        return tf.raw_ops.Switch(data=part, pred=self._some).output_true

    def put(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """``x`` with ``y``, which depends on what was taken, in place of these images.

        The memory of ``x`` is written over: who else reads it has to come before the choice or
        ``y``, as a gate and a body do. That counts every reader of an equal value in the graph:
        TensorFlow computes equal expressions of the same operands once. What keeps networks that
        share their images and variables apart is that each reads the variables by operations of
        its own, which are never merged.
        """
        return self._changed(x, y, lambda: y, tf.raw_ops.InplaceUpdate)

    def add(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """``x`` with ``y`` added to these images; written over as by ``put``."""
        return self._changed(x, y, lambda: x + y, tf.raw_ops.InplaceAdd)

    def alone(self, y: tf.Tensor, channels: int) -> tf.Tensor:
        """``y`` [images, channels], which depends on what was taken.

        [0, channels] for no images.
        """
        empty = tf.zeros([0, channels], y.dtype)
        nothing = tf.raw_ops.Switch(data=empty, pred=self._some).output_false
        return tf.raw_ops.Merge(inputs=[nothing, y]).output

    def _changed(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        every: Callable[[], tf.Tensor],
        some: Callable[..., tf.Tensor],
    ) -> tf.Tensor:
        """``x`` where there are no images to change.

        Args:
            x: all images.
            y: the new value of those that change.
            every: computes the result where all change.
            some: operation that changes rows of ``x`` in place.
        """

        def in_place() -> tf.Tensor:
            return some(x=x, i=tf.cast(self.indices, tf.int32), v=y)

        unchanged = tf.raw_ops.Switch(data=x, pred=self._some).output_false
        changed = every() if self._alone else tf.cond(self._all, every, in_place)
        return tf.raw_ops.Merge(inputs=[unchanged, changed]).output
