"""Tables by operating point in an ONNX file, of which the row of the point is taken.

Arrays of one shape share a table and the node that takes its row, which another one splits: a node
for each of them would be a third of a small file, and of the time of a small network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph


class Tables:
    """The tables of a part of a graph that is executed as a whole."""

    def __init__(self) -> None:
        # Names of arrays by their bytes at all points, by type and shape.
        self._names: dict[Any, dict[bytes, str]] = {}
        self._values: dict[str, np.ndarray] = {}

    def add(self, values: np.ndarray, name: str) -> str:
        """The name of what the graph has of an array at the point: [...] or [1, ...].

        Args:
            values: [points, ...].
            name: that it is to get.
        """
        alike = self._names.setdefault((values.dtype.str, values.shape), {})
        found = alike.setdefault(values.tobytes(), name)
        self._values.setdefault(found, values)
        return found

    def write(self, w: OnnxGraph) -> None:
        """Adds the nodes that give the arrays."""
        for alike in self._names.values():
            names = list(alike.values())
            values = [self._values[name] for name in names]
            if len(names) == 1:
                w.by_row(w.array(values[0], f'{names[0]}/table'), names[0])
                continue
            table = w.array(np.stack(values, axis=1), f'{names[0]}/table')  # [points, arrays, ...]
            w.node('Split', [w.by_row(table, f'{names[0]}/row')], *names)
