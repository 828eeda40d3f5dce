"""Pseudo-gradients: a tensor that goes forward as one value and backward as another."""

from __future__ import annotations

import functools

from quant.backend import scalar_like, tf


@functools.cache
def _register() -> None:
    """Makes the gradients known to TensorFlow, once."""
    tf.RegisterGradient('StraightThrough')(_straight_through)
    tf.RegisterGradient('StraightThroughInside')(_inside_only)


def _straight_through(
    _: tf.Operation, upstream: tf.Tensor, *__: tf.Tensor
) -> list[tf.Tensor | None]:
    return [None, upstream]


def _inside_only(op: tf.Operation, upstream: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor | None]:
    inside = op.inputs[2]
    zero = scalar_like(upstream, tf.zeros([], upstream.dtype))
    return [None, tf.where_v2(inside, upstream, zero), None]


def straight_through(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """``y``, whose gradient goes to ``x`` as it is."""
    return _with_gradient('StraightThrough', [y, x])


def straight_through_inside(y: tf.Tensor, x: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """``y``, whose gradient goes to ``x`` where ``inside`` is true.

    Args:
        y: value, not differentiated.
        x: of the same shape.
        inside: bool, of the same shape; all that is kept for the backward pass.
    """
    return _with_gradient('StraightThroughInside', [y, x, inside])


def _with_gradient(name: str, tensors: list[tf.Tensor]) -> tf.Tensor:
    """The first tensor, unchanged, with a registered gradient toward the others."""
    _register()
    with tf.get_default_graph().gradient_override_map({'IdentityN': name}):
        return tf.raw_ops.IdentityN(input=tensors)[0]
