"""The table of layers: shape, bits of what meets in each, and what it costs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.results.formats import Column, Table
from nets.cost import LayerRecord

COLUMNS = (
    Column('layer', 'layer'),
    Column('role', 'role'),
    Column('kernel', 'kernel'),
    Column('output', 'output'),
    Column('weight_bits', 'W'),
    Column('activation_bits', 'A'),
    Column('madds', 'MAdds, M', 3, 1e6),
    Column('bit_ops', 'BitOps, G', 3, 1e9),
    Column('weight_bytes', 'weights, kB', 3, 1e3),
    Column('ms', 'ms', 3),
    Column('point', 'at'),
)


def every(layers: Mapping[str, Sequence[LayerRecord]]) -> Table:
    """One row per layer, as the first operating point that has it runs it."""
    seen = {}
    for point in reversed(list(layers)):
        for layer in layers[point]:
            seen[layer.name] = point, layer
    rows = [_cells(layer, point, None) for point, layer in seen.values()]
    return Table('layers', COLUMNS, rows)


def timed(
    layers: Iterable[LayerRecord], point: str, ms: Mapping[str, float], notes: Sequence[str]
) -> Table:
    """One row per layer of an operating point.

    Args:
        layers: in order.
        point: spelling of the operating point.
        ms: milliseconds by layer; what is not computed has none.
        notes: that stand below.
    """
    rows = [_cells(layer, point, ms.get(layer.name)) for layer in layers]
    return Table('layers', COLUMNS, rows, notes=notes)


def _cells(layer: LayerRecord, point: str, ms: float | None) -> list[Any]:
    return [
        layer.name,
        layer.role,
        'x'.join(map(str, layer.kernel)),
        'x'.join(map(str, layer.out)),
        layer.weight_bits,
        layer.activation_bits,
        layer.madds,
        layer.bit_ops,
        layer.memory_bits / 8,
        ms,
        point,
    ]
