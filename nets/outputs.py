"""Outputs of a network in one tower: logits by operating point, and what losses need beside."""

from __future__ import annotations

import dataclasses

from nets.losses import Teaching
from nets.points import Point
from quant.backend import tf


@dataclasses.dataclass
class Outputs:
    """Results of one tower.

    Attributes:
        logits: [N, classes] float32 by operating point, strongest first.
        extras: named tensors that are scored, summarised or used by the loss beside the points.
        teaching: what the loss compares them with beside labels.
        for_cascades: whether labels count at a size as a cascade decides by it.
    """

    logits: dict[Point, tf.Tensor]
    extras: dict[str, tf.Tensor] = dataclasses.field(default_factory=dict)
    teaching: Teaching = Teaching()
    for_cascades: bool = False
