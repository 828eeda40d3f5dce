"""Kernels of which branches of an ONNX file take parts, in one vector outside of the branches.

When OpenVINO reads a file it goes through both branches of a choice once for each value that they
read from outside: with sixteen kernels a DS-Net of four widths took a second to read.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph


class Vectors:
    """The vectors of a file, one for each type of values."""

    def __init__(self) -> None:
        # Name and number of values of each kernel, by type, in their order.
        self._kernels: dict[str, dict[str, int]] = collections.defaultdict(dict)

    def taken(self, w: OnnxGraph, kernel: str, shape: Sequence[int], kind: str) -> str:
        """A kernel as branches read it.

        Args:
            w: the graph.
            kernel: name of its tensor outside.
            shape: of it.
            kind: name of the type of its values.
        """
        kernels = self._kernels[kind]
        size = math.prod(shape)
        start = 0
        for name, others in kernels.items():
            if name == kernel:
                break
            start += others
        kernels[kernel] = size
        ends = [w.indices(start), w.indices(start + size)]
        flat = w.node('Slice', [f'kernels {kind}', *ends], f'{w.place}/{kernel}/flat')
        return w.node('Reshape', [flat, w.indices(*shape)], f'{w.place}/{kernel}')

    def write(self, w: OnnxGraph) -> None:
        """Adds the nodes that make the vectors, which what is added later reads."""
        for kind, kernels in self._kernels.items():
            flat = []
            for kernel in kernels:
                flat.append(w.node('Reshape', [kernel, w.indices(-1)], f'{kernel}/flat'))
            w.node('Concat', flat, f'kernels {kind}', axis=0)
