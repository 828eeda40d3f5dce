"""Widths of slimmable layers: how many of the channels of a tensor are active."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple, TypeAlias

from nets.layers.layout import Layout
from nets.points import Point
from quant.backend import tf


class Routing(NamedTuple):
    """A width per image.

    Attributes:
        routes: indices of the widths to choose from, ascending.
        gate: [N, routes] float32, 1 at the chosen one and else 0.
    """

    routes: tuple[int, ...]
    gate: tf.Tensor


# Index of a width: the same for all images, or image by image.
Index: TypeAlias = 'int | tf.Tensor | Routing'


@dataclasses.dataclass(frozen=True, eq=False)
class Width:
    """Active channels of a tensor: always the first ones.

    Attributes:
        choices: channel counts by index; the last is that of the variables.
        index: of the active one.
        passes: how many passes of a training step share the layers that have this width.
    """

    choices: tuple[int, ...]
    index: Index = 0
    passes: int = 1

    @property
    def full(self) -> int:
        return self.choices[-1]

    @functools.cached_property
    def active(self) -> int | tf.Tensor:
        """Channels to compute."""
        if isinstance(self.index, Routing):
            return self.choices[self.index.routes[-1]]
        if isinstance(self.index, int):
            return self.choices[self.index]
        return tf.gather(list(self.choices), self.index)

    def at(self, point: Point) -> int:
        """Channels that an operating point uses which this width serves."""
        if isinstance(self.index, int):
            return self.choices[self.index]
        return self.choices[point.width or 0]

    def first(self, vector: tf.Tensor) -> tf.Tensor:
        """The active part of [full]."""
        if isinstance(self.index, tf.Tensor) or self.active < self.full:
            return vector[: self.active]
        return vector

    def masks(self, routing: Routing) -> tf.Tensor:
        """[routes, count] 1 for the channels of a route."""
        counts = [self.choices[route] for route in routing.routes]
        return tf.sequence_mask(counts, counts[-1], routing.gate.dtype)

    def masked(self, b: Layout, x: tf.Tensor) -> tf.Tensor:
        """``x``, [N, C] or images, with zeros in the channels that an image does not use."""
        if not isinstance(self.index, Routing):
            return x
        used = tf.matmul(self.index.gate, self.masks(self.index))  # [N, C]
        return x * tf.cast(b.per_channel(used, x), x.dtype)

    def row(self, table: tf.Tensor) -> tf.Tensor:
        """The active part [count] of the chosen row of a table; [N, count] image by image."""
        if isinstance(self.index, Routing):
            rows = tf.gather(table, list(self.index.routes))[:, : self.active]
            return tf.matmul(self.index.gate, rows * self.masks(self.index))
        return self.first(tf.gather(table, self.index))
