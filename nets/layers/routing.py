"""The gate of a slimmable network, which chooses a width for each image.

Which width an image gets, what that costs, and how groups of images are computed.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nets import cost
from nets.cost import LayerRecord
from nets.layers.blocks import Blocks
from nets.layers.rows import Rows
from nets.layers.slimmable import dense
from nets.layers.width import Width
from quant.backend import tf
from quant.state import declaring

SCOPE = 'slimming_gate'


def gate_logits(b: Blocks, hidden: tf.Tensor, routes: int) -> tf.Tensor:
    """[N, routes] from the hidden units of a squeeze-excite.

    *Variable names*: ``slimming_gate/W`` [hidden, routes].

    Args:
        b: the tower's layer builder.
        hidden: [N, hidden].
        routes: number of routes.
    """
    inputs, outputs = Width((hidden.shape[1],)), Width((routes,))
    with declaring(fresh=True):
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
    """Logits [N, classes], where ``runs[i]`` computes the images of route i, if there are any.

    Args:
        route: [N] int32.
        x: what a run takes, images first.
        runs: part of ``x`` -> logits.
        classes: number of classes.
    """
    parts = []
    results = []
    for i, run in enumerate(runs):
        images = Rows(tf.equal(route, i))
        results.append(images.alone(run(images.take(x)), classes))
        parts.append(tf.cast(images.indices, tf.int32))
    logits = tf.dynamic_stitch(parts, results)
    logits.set_shape([None, classes])
    return logits


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
    total = head + tf.zeros_like(gate[:, 0])
    last = len(routes[0]) - 2  # in front of the classifier
    for i, rows in enumerate(zip(*routes)):
        first = rows[0]
        channels = first.kernel[3]
        outputs = _mixed(gate, [row.kernel[3] for row in rows])  # [N]
        factor = _mixed(gate, [row.kernel[2] for row in rows])
        pooled = i == last
        if first.role == 'depthwise':
            factor = outputs / channels
            pooled = True
        per_pair = first.madds / (first.kernel[2] * channels)
        total += outputs * per_pair * factor
        if pooled:
            total += outputs * _values(first) / channels
    return total


def _mixed(gate: tf.Tensor, numbers: Sequence[int]) -> tf.Tensor:
    """[N] the number of each image's route."""
    return tf.linalg.matvec(gate, tf.constant(numbers, gate.dtype))


def _values(layer: LayerRecord) -> int:
    """Number of values of a layer's output."""
    return layer.kernel[3] * layer.out[0] * layer.out[1]
