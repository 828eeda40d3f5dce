"""Batch normalisation by the statistics of all training towers of a graph together."""

from __future__ import annotations

import collections

from quant.backend import tf
from quant.private_api import replace_input


class Exchange:
    """Means over the training towers of one graph, which are built one after the other.

    Until ``connect`` has been called, every tower takes its own value for those of all.

    Args:
        towers: how many there are going to be.

    Attributes:
        means: over all towers, as every tower has them.
    """

    def __init__(self, towers: int):
        self.towers = towers
        self.means: list[tf.Tensor] = []
        self._members: dict[str, list[tuple[tf.Tensor, tf.Tensor]]] = collections.defaultdict(list)

    def mean(self, key: str, value: tf.Tensor) -> tf.Tensor:
        """Mean of ``value`` over all towers, with gradients to the values of all of them.

        Args:
            key: the same in every tower, and used once in each.
            value: of this tower.
        """

        @tf.custom_gradient
        def averaged(own: tf.Tensor) -> tuple[tf.Tensor, object]:
            return self._mean(key, own), lambda upstream: self._mean(f'{key}/gradient', upstream)

        return averaged(value)

    def connect(self) -> None:
        """Lets the towers see each other's values: once, after all of them and before any session.

        Raises:
            ValueError: a tower lacks a value that another one has.
        """
        for key, members in self._members.items():
            if len(members) != self.towers:
                raise ValueError(f'{key}: built by {len(members)} of {self.towers} towers')
            for _, parts in members:
                for place, (value, _) in enumerate(members):
                    replace_input(parts.op, place, value)

    def _mean(self, key: str, value: tf.Tensor) -> tf.Tensor:
        parts = tf.raw_ops.Pack(values=[value] * self.towers)
        self._members[key].append((value, parts))
        mean = tf.reduce_mean(parts, 0)
        self.means.append(mean)
        return mean


def normalise(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    exchange: Exchange,
    *,
    key: str,
    axis: int,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalises images by mean and variance over all towers.

    The variance is that around the common mean: no difference of large squares is taken. All towers
    have the same number of images.

    Args:
        x: float [N, H, W, C] or [N, C, H, W].
        gamma: float32 [C], factors after the normalisation.
        beta: float32 [C], shifts after it.
        exchange: the towers.
        key: see ``Exchange.mean``.
        axis: that of the channels.
        epsilon: added to the variance.

    Returns:
        The normalised images, in the shape and type of ``x``; mean and unbiased variance,
        float32 [C].
    """
    others = [other for other in range(4) if other != axis]
    wide = tf.cast(x, tf.float32)
    mean = exchange.mean(f'{key}/mean', tf.reduce_mean(wide, others, keepdims=True))
    # The mean has no gradient here: deviations from it add up to zero.
    deviation = tf.squared_difference(wide, tf.stop_gradient(mean))
    variance = exchange.mean(f'{key}/variance', tf.reduce_mean(deviation, others, keepdims=True))
    shape = variance.shape  # 1 but for the channels
    gamma = tf.reshape(gamma, shape)
    beta = tf.reshape(beta, shape)
    y = tf.nn.batch_normalization(wide, mean, variance, beta, gamma, epsilon)
    of_tower = tf.size(x) // tf.shape(x)[axis]
    count = tf.cast(exchange.towers * of_tower, tf.float32)
    unbiased = variance * (count / tf.maximum(count - 1, 1))
    return tf.cast(y, x.dtype), tf.reshape(mean, [-1]), tf.reshape(unbiased, [-1])
