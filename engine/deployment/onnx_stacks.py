"""Kernels of which branches of an ONNX file take parts, stacked outside of the branches.

When OpenVINO reads a file it goes through both branches of a choice once for each value that they
read from outside: with sixteen kernels a DS-Net of four widths took a second to read.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph

Shape = tuple[int, ...]


class Stacks:
    """The stacks of a file, each of kernels that differ in the number of their outputs alone."""

    def __init__(self) -> None:
        # Number of outputs of each kernel by its name, in each stack by the name of this.
        self._stacks: dict[str, dict[str, int]] = collections.defaultdict(dict)

    def cut(
        self, w: OnnxGraph, kernel: str, kind: str, shapes: tuple[Shape, Shape], name: str
    ) -> str:
        """Adds the node that takes the start of a kernel out of its stack.

        Args:
            w: the graph.
            kernel: name of its tensor, [outputs, ...].
            kind: name of the type of its values.
            shapes: of it, and of what is taken.
            name: of the result.
        """
        (outputs, *behind), ends = shapes
        stack = ' '.join(map(str, ('kernels', kind, *behind)))
        kernels = self._stacks[stack]
        first = 0
        for above, count in kernels.items():
            if above == kernel:
                break
            first += count
        kernels[kernel] = outputs
        starts = w.indices(first, *[0] * len(behind))
        stops = w.indices(first + ends[0], *ends[1:])
        return w.node('Slice', [stack, starts, stops], name)

    def write(self, w: OnnxGraph) -> None:
        """Adds the nodes that make the stacks, which what is added later reads."""
        for stack, kernels in self._stacks.items():
            w.node('Concat', list(kernels), stack, axis=0)
