"""The gate of a slimmable network: the width of an image, its cost, and groups of images.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nets import cost
from nets.cost import LayerRecord
from nets.layers.blocks import Blocks
from nets.layers.slimmable import Width, dense
from quant.backend import tf
from quant.state import fresh

SCOPE = 'slimming_gate'


def gate_logits(b: Blocks, hidden: tf.Tensor, routes: int) -> tf.Tensor:
    """[N, routes] from the hidden units of a squeeze-excite.

    *Variable names*: ``slimming_gate/W`` [hidden, routes].
    """
    inputs, outputs = Width((hidden.shape[1],)), Width((routes,))
    with fresh():
        return dense(b, SCOPE, hidden, inputs, outputs, role='gate', bias=False)


def straight_through(noisy: tf.Tensor) -> tf.Tensor:
    """[N, routes]: 1 at the largest logit (noise included), else 0.

    Pseudo-gradient: that of the softmax.
    """
    soft = tf.nn.softmax(noisy)
    hard = tf.one_hot(tf.argmax(noisy, axis=1), noisy.shape[1], dtype=noisy.dtype)
    # In this order the values are exactly 0 and 1.
    return hard + (soft - tf.stop_gradient(soft))


def grouped(
    route: tf.Tensor, x: tf.Tensor, runs: Sequence[Callable[[tf.Tensor], tf.Tensor]], classes: int
) -> tf.Tensor:
    """[N, classes] logits, where ``runs[i]`` computes the images of route i alone.

    Nothing is computed where there are none.
    No kernel runs for an empty batch, which TensorFlow's fused convolutions on the CPU get wrong:
    what a switch turns away is not executed, and the merge takes the side that was.

    Args:
        route: [N] int32.
        x: what a run takes, images first.
        runs: part of ``x`` -> logits.
        classes: number of classes.
    """
    parts, results = [], []
    for i, run in enumerate(runs):
        images = tf.where(tf.equal(route, i))[:, 0]
        some, everything = tf.size(images) > 0, tf.equal(tf.size(images), tf.size(route))
        # Copying is left out where there is nothing to choose.
        part = tf.cond(everything, lambda: x, lambda images=images: tf.gather(x, images))
        part.set_shape(x.shape)
        logits = run(tf.raw_ops.Switch(data=part, pred=some).output_true)
        nothing = tf.raw_ops.Switch(data=tf.zeros([0, classes], x.dtype), pred=some).output_false
        results.append(tf.raw_ops.Merge(inputs=[nothing, logits]).output)
        parts.append(tf.cast(images, tf.int32))
    logits = tf.dynamic_stitch(parts, results)
    logits.set_shape([None, classes])
    return logits


def published_madds(layers: Sequence[LayerRecord]) -> int:
    """Multiply-adds of one image as DS-Net counts them.

    Average pools count, too, with one per input value.
    Every depthwise convolution is followed by the pool of a squeeze-excite, the last convolution by
    the global one.
    """
    pooled = [layer for layer in layers if layer.role == 'depthwise'] + [layers[-2]]
    return cost.madds(layers) + sum(_values(layer) for layer in pooled)


def routed_madds(
    gate: tf.Tensor, routes: Sequence[Sequence[LayerRecord]], head: int, *, published: bool
) -> tf.Tensor:
    """[N] multiply-adds of images, as a function of their gates.

    Args:
        gate: [N, routes].
        routes: layer records of every route.
        head: multiply-adds of the gate itself.
        published: count as the published code: products of gated channel counts, with average
            pools, and with depthwise convolutions times C / (C of the first route), which is 1
            there only.
    """
    if not published:
        return head + _mixed(gate, [cost.madds(layers) for layers in routes])
    total, last = head + tf.zeros_like(gate[:, 0]), len(routes[0]) - 2
    for i, rows in enumerate(zip(*routes)):
        inputs, outputs = (_mixed(gate, [row.kernel[axis] for row in rows]) for axis in (2, 3))
        first = rows[0]
        depthwise = first.role == 'depthwise'
        per_pair = first.madds / (first.kernel[2] * first.kernel[3])
        total += outputs * per_pair * (outputs / first.kernel[3] if depthwise else inputs)
        if depthwise or i == last:
            total += outputs * _values(first) / first.kernel[3]
    return total


def _mixed(gate: tf.Tensor, numbers: Sequence[int]) -> tf.Tensor:
    """[N] the number of each image's route."""
    return tf.linalg.matvec(gate, tf.constant(numbers, gate.dtype))


def _values(layer: LayerRecord) -> int:
    """Number of values of a layer's output."""
    return layer.kernel[3] * layer.out[0] * layer.out[1]
