"""The nodes of an ONNX file in the making, and the names of what they give."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from onnx import helper

from engine.deployment.choices import Number
from engine.deployment.names import IMAGES, POINT
from engine.deployment.onnx_constants import OnnxConstants
from engine.deployment.program import Operation


class OnnxNodes(OnnxConstants):
    """The nodes of one file, those of a branch inside of the node that chooses it.

    Attributes:
        place: start of the names of what the current operation needs beside its result.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nodes: list[Any] = []
        self._root = self._nodes
        # Names in the file by those of results in the program.
        self._names = {IMAGES: IMAGES, POINT: POINT}
        # Results that are [N, C], and those that are whole numbers.
        self._rows: set[str] = set()
        self._numbers: set[str] = set()
        self.place = ''

    @contextlib.contextmanager
    def inside(self, nodes: list[Any]) -> Iterator[None]:
        """Nodes that are added inside go to a list of a part of the graph."""
        before, self._nodes = self._nodes, nodes
        try:
            yield
        finally:
            self._nodes = before

    def node(
        self, kind: str, inputs: Sequence[str], out: str, *beside: str, **attributes: Any
    ) -> str:
        """Adds a node, and returns the name of its first output.

        Args:
            kind: of the node.
            inputs: names in the file.
            out: name of its first output.
            *beside: names of the others.
            **attributes: of the node.
        """
        self._nodes.append(helper.make_node(kind, inputs, [out, *beside], **attributes))
        return out

    def named(self, name: str) -> str:
        """Name in the file of a result of the program."""
        return self._names[name]

    def become(self, result: str, tensor: str, like: str) -> None:
        """Notes the tensor that holds a result.

        Args:
            result: name in the program.
            tensor: name in the file.
            like: result of the same layout.
        """
        self._names[result] = tensor
        for kind in (self._rows, self._numbers):
            if like in kind:
                kind.add(result)

    def number_of(self, operation: Number) -> None:
        """Notes that the result of an operation is a known whole number, int64 [1]."""
        self._names[operation.out] = self.indices(operation.value)
        self._numbers.add(operation.out)

    def is_number(self, result: str) -> bool:
        """Whether a result of the program is a whole number that is handed on."""
        return result in self._numbers

    def x(self, row: Sequence[Operation]) -> str:
        """Name in the file of what an operation reads."""
        return self._names[row[0].x]

    def become_rows(self, row: Sequence[Operation]) -> None:
        """Notes that the result of an operation is [N, C]."""
        self._rows.add(row[0].out)

    def become_images(self, row: Sequence[Operation]) -> None:
        """Notes that the result of an operation is [N, C, H, W]."""
        self._rows.discard(row[0].out)

    def add(
        self, kind: str, row: Sequence[Operation], inputs: Sequence[str], **options: Any
    ) -> None:
        """Adds the node whose output is the result of an operation.

        Args:
            kind: of the node.
            row: the operation at every point.
            inputs: names in the file.
            **options: attributes of the node.
        """
        self.found(row, self.node(kind, inputs, f'{self.place}y', **options))

    def found(self, row: Sequence[Operation], tensor: str) -> None:
        """Notes the tensor that holds the result of an operation.

        Args:
            row: the operation at every point.
            tensor: name in the file.
        """
        out = row[0].out
        self._names[out] = tensor
        if row[0].x in self._rows:
            self._rows.add(out)
