"""Cost of an operating point of a run, from the layer records in its folder. Pure Python."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nets import cost
from nets.points import DYNAMIC, ENSEMBLE, Point

# Layer records by spelling of the operating point.
Layers = Mapping[str, list[cost.LayerRecord]]


class Cost(NamedTuple):
    """Cost of one image.

    Attributes:
        madds: Multiply-adds.
        bit_ops: Multiply-adds, each times the bits of its factors.
        weight_bytes: Of the packed weights.
    """

    madds: int
    bit_ops: int
    weight_bytes: int


def point_cost(layers: Layers, name: str, sizes: Iterable[int]) -> Cost | None:
    """Cost of a point, an ensemble or the choices of a gate; None if a record is missing.

    The ensemble runs every size. An ensemble of exits runs the earlier exits, as the exit itself
    does. A gate that chooses widths stores them all.

    Args:
        layers: Layer records of the run.
        name: Spelling of the point, ``ensemble``, or ``ensemble-`` or ``dynamic`` with a point.
        sizes: Input sizes of the run in pixels.
    """
    points = _computed(layers, name, sizes)
    if not points or not layers.keys() >= set(points):
        return None
    madds, bit_ops = 0, 0
    every: list[cost.LayerRecord] = []
    for point in points:
        passed = cost.cumulative(layers, point)
        madds += cost.madds(passed)
        bit_ops += cost.bit_ops(passed)
        every += passed
    return Cost(madds, bit_ops, cost.weight_bytes(cost.stored(every)))


def _computed(layers: Layers, name: str, sizes: Iterable[int]) -> list[str]:
    """The operating points that ``name`` consists of."""
    point = Point.within(name)
    if name.startswith(ENSEMBLE) and point.size is None and point.exit is None:
        # Of all sizes, at one precision where there are several.
        return [str(dataclasses.replace(point, size=size)) for size in sizes]
    if name.endswith(DYNAMIC):
        return [other for other in layers if point.covers(Point.parse(other))]
    return [name.removeprefix(f'{ENSEMBLE}-')]
