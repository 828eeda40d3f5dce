"""Mixup and CutMix: a batch whose images are mixed of two, and so are their labels.

References: mixup: Beyond Empirical Risk Minimization, https://arxiv.org/abs/1710.09412; CutMix,
https://arxiv.org/abs/1905.04899.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.mixing import MixingOptions
from nets.losses import MixedLabels
from quant.backend import tf

# What is drawn for a batch, in this order.
_SHARES, _CENTRES, _CHOICE = range(3)


def mixed(
    images: Sequence[tf.Tensor], labels: tf.Tensor, options: MixingOptions, seed: tf.Tensor
) -> tuple[list[tf.Tensor], MixedLabels]:
    """The batch of a tower, each image mixed with the next one, the last one with the first.

    Args:
        images: uint8 [N, side, side, C] of each view size.
        labels: int32 [N].
        options: how; with both kinds each batch is of one of them, by chance.
        seed: int32 [2], of the step and the tower: all chance comes from it.

    Returns:
        The images, of the same types, and their labels.
    """
    with tf.device('/cpu:0'):
        count = tf.shape(labels)[0]
        cuts = _cuts(options, seed)
        alpha = tf.where_v2(cuts, options.cutmix or 1.0, options.mixup or 1.0)
        share = _beta(alpha, count, seed)  # [N], of the image itself
        boxes = _boxes(share, seed)  # [N, 4]
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        share = tf.where_v2(cuts, 1 - area, share)
    found = []
    for batch in images:
        side = int(batch.shape[1])
        # [N, side, side, 1]: the share of the image itself in each of its pixels.
        own = tf.where_v2(cuts, 1 - _inside(boxes, side), share[:, None, None, None])
        values = tf.cast(batch, tf.float32)
        sums = own * values + (1 - own) * tf.roll(values, -1, axis=0)
        found.append(tf.cast(tf.round(sums), batch.dtype))
    others = tf.roll(labels, -1, axis=0)
    larger = share >= 0.5
    main, other = tf.where_v2(larger, labels, others), tf.where_v2(larger, others, labels)
    return found, MixedLabels(main, other, tf.maximum(share, 1 - share))


def _cuts(options: MixingOptions, seed: tf.Tensor) -> tf.Tensor:
    """Whether this batch is one of CutMix."""
    if not (options.mixup and options.cutmix):
        return tf.constant(bool(options.cutmix))
    return tf.random.stateless_uniform([], seed + [_CHOICE, 0]) < 0.5


def _beta(alpha: tf.Tensor, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """[count] float32 of Beta(alpha, alpha)."""
    alpha = tf.cast(alpha, tf.float64)
    shape = tf.stack([2, count])
    # A double has room for what a small alpha gives.
    pair = tf.random.stateless_gamma(shape, seed + [_SHARES, 0], alpha, dtype=tf.float64)
    pair = tf.maximum(pair, 1e-300)
    return tf.cast(pair[0] / (pair[0] + pair[1]), tf.float32)


def _boxes(share: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Top, left, bottom, right [N, 4] of boxes, as shares of an edge; cut at the edges.

    Args:
        share: [N], of what is outside of a box that is not cut.
        seed: of the step.
    """
    half = tf.sqrt(1 - share) / 2  # [N]
    shape = tf.stack([2, tf.size(share)])
    centres = tf.random.stateless_uniform(shape, seed + [_CENTRES, 0])
    corners = [centres[0] - half, centres[1] - half, centres[0] + half, centres[1] + half]
    return tf.clip_by_value(tf.stack(corners, axis=1), 0.0, 1.0)


def _inside(boxes: tf.Tensor, side: int) -> tf.Tensor:
    """[N, side, side, 1] float32: 1 where the middle of a pixel is inside of the box."""
    places = (tf.range(side, dtype=tf.float32) + 0.5) / side
    within = []
    for axis in range(2):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        within.append(tf.logical_and(places >= low, places < high))  # [N, side]
    both = tf.logical_and(within[0][:, :, None], within[1][:, None, :])
    return tf.cast(both, tf.float32)[..., None]
