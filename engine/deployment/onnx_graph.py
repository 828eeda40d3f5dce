"""The graph of an ONNX file in the making: nodes, constants, and what depends on the point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from engine.deployment import onnx_branches, program
from engine.deployment.choices import Choose
from engine.deployment.coding import coded
from engine.deployment.joining import joint, shared_kernels
from engine.deployment.linear import folded
from engine.deployment.names import EXECUTED, IMAGES, LOGITS, POINT, THRESHOLDS
from engine.deployment.onnx_names import shorten
from engine.deployment.onnx_nodes import OnnxNodes
from engine.deployment.onnx_stacks import Stacks
from engine.deployment.onnx_tables import Tables
from engine.deployment.onnx_unpacking import Kernels
from engine.deployment.program import Codes, Operation, Part, Program
from engine.deployment.regions import Region, regions
from engine.deployment.unit_levels import with_unit_levels

# The oldest operator set with all that is used, and the format's version of its time.
OPSET = 11
IR_VERSION = 6

# Operations with a kernel.
Kernelled = program.Convolution | program.Dense

# Adds the nodes of an operation, given at every point.
Rule = Callable[['OnnxGraph', Sequence[Any]], None]


class OnnxGraph(OnnxNodes):
    """The graph of one file in the making.

    Args:
        whole: the program.
        packed: kernels as codes.
        by_height: whether images are float32 of the point's own size, by which the point is chosen.

    Attributes:
        classes: how many logits there are.
    """

    def __init__(self, whole: Program, *, packed: bool, by_height: bool = False):
        super().__init__()
        self._joint = folded(joint(whole))
        if packed:
            self._joint = with_unit_levels(self._joint)
        self.classes = onnx_branches.classes(self._joint.rows)
        self._whole = Program(whole.points, self._joint.constants)
        self._packed = packed
        self._by_height = by_height
        self._views = [view for point in whole.points.values() for view in point.views]
        self._names |= {name: name for name, _ in self._views}
        self._rules: Mapping[type[Operation], Rule] = {}
        self._tables, self._stacks = Tables(), Stacks()
        # Of all of the graph, and of the part of it in the making.
        self._kernels = self._own_kernels = Kernels()
        self._row, self._place = POINT, ''
        self._count = 0
        self._shared = shared_kernels(self._joint.rows)
        self._once: dict[str, str] = {}

    def model(self, rules: Mapping[type[Operation], Rule]) -> Any:
        """The file as a message.

        Args:
            rules: what adds the nodes of an operation, given at every point.
        """
        # A branch is chosen for a batch.
        batch: Any = 1 if self._joint.choices else 'N'
        inputs = [*self._images(batch), *self._chosen()]
        self._rules = rules
        self._find_rows()
        told = [choice.result for choice in self._joint.choices]
        self.write(regions(self._joint.rows, [self._joint.output, *told]))
        outputs = [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, self.classes])]
        if told:
            found = self.node('Concat', [self._names[one] for one in told], 'numbers', axis=0)
            self.node('Unsqueeze', [found], EXECUTED, axes=[0])
            shape = [batch, len(told)]
            outputs.append(helper.make_tensor_value_info(EXECUTED, TensorProto.INT64, shape))
        initializers = list(self.initializers.values())
        kept = {one.name: one.name for one in (*inputs, *outputs)}
        kept[self._names[self._joint.output]] = LOGITS
        shorten(self._nodes, initializers, kept)
        graph = helper.make_graph(self._nodes, 'network', inputs, outputs, initializers)
        opsets = [helper.make_opsetid('', OPSET)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name='switchable-nets'
        )

    def _images(self, batch: Any) -> list[Any]:
        """The inputs of images, of the file's own side and of views.

        Args:
            batch: number of images, or the name of one that is open.
        """
        points = list(self._whole.points.values())
        side: Any = points[0].side
        if len({point.side for point in points}) > 1:
            side = 'side'
        kind = TensorProto.FLOAT if self._by_height else TensorProto.UINT8
        channels = points[0].channels
        shape = [batch, side, side, channels]
        found = [helper.make_tensor_value_info(IMAGES, kind, shape)]
        for name, edge in self._views:
            shape = [batch, edge, edge, channels]
            found.append(helper.make_tensor_value_info(name, kind, shape))
        return found

    def _chosen(self) -> list[Any]:
        """The inputs that choose: a point where the side of images says none, and thresholds."""
        found = []
        points = len(self._whole.points)
        if points > 1 and self._by_height:
            onnx_branches.choose_by_height(self, self._whole)
        elif points > 1:
            found.append(helper.make_tensor_value_info(POINT, TensorProto.INT64, [1]))
        thresholds = onnx_branches.thresholds(self._joint.rows, self._whole)
        if thresholds.size:
            self.initializers[THRESHOLDS] = numpy_helper.from_array(thresholds, THRESHOLDS)
            extents = thresholds.shape
            found.append(helper.make_tensor_value_info(THRESHOLDS, TensorProto.FLOAT, extents))
        return found

    def _find_rows(self) -> None:
        """Adds the nodes that find the row of a point in tables, where points differ."""
        numbers = self._joint.numbers
        if not any(numbers):
            return
        if numbers != list(range(len(self._whole.points))):
            table = self.indices(*numbers)
            self._row = self.node('Gather', [table, POINT], 'row')
        self._place = self.node('Squeeze', [self._row], 'place', axes=[0])

    def write(self, region: Region) -> None:
        """Adds the nodes of a region."""
        outside = self._tables, self._own_kernels
        self._tables, self._own_kernels = Tables(), Kernels()
        root = self._nodes is self._root
        if root:
            self._own_kernels = self._kernels
        made: list[Any] = []
        with self.inside(made):
            for row in region.rows:
                self.place = f'{self._count:x}'
                self._count += 1
                first = row[0]
                if isinstance(first, Choose):
                    onnx_branches.choose(self, first, region.branches[first.out])
                else:
                    self._rules[type(first)](self, row)
        self._tables.write(self)
        self._own_kernels.write(self)
        if root:
            self._stacks.write(self)
        self._nodes.extend(made)
        self._tables, self._own_kernels = outside

    def once(self, name: str, add: Callable[[OnnxGraph, str], str]) -> str:
        """Name of what all of the file reads, added where it is first asked for.

        Args:
            name: under which it is found again.
            add: adds its nodes, whose names start with that name; returns the name of its tensor.
        """
        if name not in self._once:
            kernels, self._own_kernels = self._own_kernels, self._kernels
            with self.inside(self._root):
                self._once[name] = add(self, name)
            self._own_kernels = kernels
        return self._once[name]

    def channels(self, row: Sequence[Operation], field: str) -> str:
        """A constant [C] as a tensor of the file that meets the channels of what is read."""
        shape = (-1,) if row[0].x in self._rows else (-1, 1, 1)
        values = [value.reshape(shape) for value in self.values(row, field)]
        return self.chosen(values, f'{self.place}/{field}')

    def element(self, row: Sequence[Operation], field: str, index: int) -> str:
        """One number of a constant vector, [1].

        Args:
            row: the operation at every point.
            field: of the vector.
            index: of the number.
        """
        values = [value[index : index + 1] for value in self.values(row, field)]
        return self.chosen(values, f'{self.place}/{field}{index}')

    def cut(self, values: Sequence[np.ndarray], name: str) -> str:
        """An array whose shape depends on the point.

        Few of its values are distinct: it is stored by the numbers of these.

        Args:
            values: at every point, of as many axes.
            name: of the result.
        """
        whole = np.concatenate([value.reshape(-1) for value in values])
        levels, numbers = np.unique(whole, return_inverse=True)
        few = len(levels) <= 256
        if few:
            whole = numbers.reshape(-1).astype(np.uint8)
        flat = self.array(whole, f'{name}/all')
        if len(values) == 1:
            shape = self.indices(*values[0].shape)
        else:
            ends = np.cumsum([value.size for value in values]).tolist()
            starts = [self.indices(0, *ends[:-1]), self._row]
            start = self.node('Gather', starts, f'{name}/start')
            end = self.node('Gather', [self.indices(*ends), self._row], f'{name}/end')
            flat = self.node('Slice', [flat, start, end, self.indices(0)], f'{name}/flat')
            shape = self.vector([np.array(value.shape) for value in values], f'{name}/shape')
        if few:
            places = self.node('Cast', [flat], f'{name}/places', to=TensorProto.INT32)
            table = self.array(levels, f'{name}/levels')
            flat = self.node('Gather', [table, places], f'{name}/values')
        return self.node('Reshape', [flat, shape], name)

    def by_row(self, table: str, out: str) -> str:
        """The row of a table that belongs to the point."""
        return self.node('Gather', [table, self._place], out)

    def values(self, row: Sequence[Operation], field: str) -> list[np.ndarray]:
        """A constant at every point."""
        return [self._whole.value(getattr(operation, field)) for operation in row]

    def chosen(self, values: Sequence[np.ndarray], name: str) -> str:
        """One of several arrays of one shape, by the point; all alike are one constant.

        Where they differ it may have a first axis of length 1 more.
        """
        if all(np.array_equal(value, values[0]) for value in values):
            return self.array(values[0], name)
        return self._tables.add(np.stack(values), name)

    def vector(self, values: Sequence[np.ndarray], name: str) -> str:
        """One of several vectors by the point, of its very shape.

        Args:
            values: at every point.
            name: that it is to get.
        """
        if all(np.array_equal(value, values[0]) for value in values):
            return self.array(values[0], name)
        return self.by_row(self.array(np.stack(values), f'{name}/table'), name)

    def whole_kernel(
        self, row: Sequence[Kernelled], layout: Callable[[np.ndarray], np.ndarray]
    ) -> str:
        """A kernel of whole numbers as ``kernel`` gives it, int8 in the file.

        As floats that a node makes of them, by which runtimes know integer arithmetic.
        """
        whole = self.kernel(row, layout, np.int8)
        scales = [self.number(1.0), self.zero(np.int8)]
        return self.node('DequantizeLinear', [whole, *scales], f'{self.place}/int8')

    def kernel(
        self,
        row: Sequence[Kernelled],
        layout: Callable[[np.ndarray], np.ndarray],
        kind: Any = np.float32,
    ) -> str:
        """A kernel as a tensor of the file.

        Args:
            row: the operation at every point.
            layout: puts an array of the kernel's shape into the order of ONNX, outputs first.
            kind: type of the values.
        """
        known = {operation.kernel for operation in row}
        if len(known) == 1:
            return self._part(known.pop(), self.place, layout, kind)
        kernels = []
        for number, operation in enumerate(row):
            one = self._part(operation.kernel, f'{self.place}/{number}', layout, kind)
            kernels.append(self.node('Unsqueeze', [one], f'{one}/first', axes=[0]))
        table = self.node('Concat', kernels, f'{self.place}/table', axis=0)
        return self.by_row(table, self.place)

    def _part(
        self, part: Part, name: str, layout: Callable[[np.ndarray], np.ndarray], kind: Any
    ) -> str:
        """A kernel, which several operations may have a part of, as of ``kernel``."""
        if part.name not in self._shared:
            return self._kernel(part, name, layout, kind)
        whole = self._shared[part.name]
        kernel = self.once(
            f'kernel {part.name}', lambda w, place: w._kernel(whole, place, layout, kind)
        )
        most, ends = (layout(np.empty(one.shape, np.bool_)).shape for one in (whole, part))
        if self._joint.choices and kernel not in self.initializers:
            return self._stacks.cut(self, kernel, np.dtype(kind).name, (most, ends), name)
        if ends == most:
            return kernel
        starts = self.indices(*[0] * len(ends))
        return self.node('Slice', [kernel, starts, self._ends(name, *ends)], name)

    def _ends(self, name: str, *numbers: int) -> str:
        """Where a kernel is cut: in a file of several points, for each image.

        That takes no time that could be measured; of constants all cut kernels would be kept.
        """
        ends = self.indices(*numbers)
        if len(self._whole.points) == 1 or self._joint.choices:
            return ends
        none = self.indices(*[0] * len(self._whole.points))
        zero = self.once('zero', lambda w, out: w.node('Gather', [none, w._row], out))
        return self.node('Add', [ends, zero], f'{name}/ends')

    def _kernel(
        self, part: Part, name: str, layout: Callable[[np.ndarray], np.ndarray], kind: Any
    ) -> str:
        """One kernel, as of ``kernel``."""
        stored = self._whole.constants[part.name]
        if stored.shape != part.shape:
            stored = coded(self._whole.value(part))
        if not self._packed or not isinstance(stored, Codes):
            return self.array(layout(stored.values).astype(kind), name)
        return self._own_kernels.add(layout(stored.codes), stored.levels.astype(kind), name)
