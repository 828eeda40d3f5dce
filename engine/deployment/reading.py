"""Reads the graph of an operating point node by node into operations of a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.data import inputs
from engine.data.preprocess import shares
from engine.data.preprocessing import Preprocessing
from engine.deployment import nodes, program
from engine.deployment.choices import Choose, Confident, Largest, Number
from engine.deployment.names import IMAGES
from engine.deployment.pool import Constants
from engine.deployment.program import Operation, Part
from engine.errors import UsageError
from engine.graph import freeze
from nets.layers.choices import CHOICE, CONFIDENT
from quant.backend import tf

_FUNCTIONS = {'Relu': 'relu', 'Relu6': 'relu6', 'Sigmoid': 'sigmoid'}
_ARITHMETIC = {
    'AddV2': 'add',
    'BiasAdd': 'add',
    'Sub': 'subtract',
    'Mul': 'multiply',
    'RealDiv': 'divide',
}


class Reader:
    """Reads one operating point.

    Args:
        constants: pool that gets what it reads.
        thresholds: by exit, of a network whose exits choose.

    Attributes:
        operations: read so far.
        constants: that these use.
        output: name of the latest result.
    """

    def __init__(self, constants: Constants, thresholds: Sequence[float] = ()):
        self.operations: list[Operation] = []
        self.output = IMAGES
        self.constants = constants
        self._thresholds = thresholds
        # Names of results by name of the tensor that holds them in the graph.
        self._names: dict[str, str] = {}

    def preprocess(self, preprocessing: Preprocessing, size: int) -> int:
        """Adds what turns images into the view of a size, in the order of evaluation.

        Args:
            preprocessing: of the run.
            size: of the view, in pixels.

        Returns:
            Side of the images, in pixels.
        """
        side = preprocessing.side(size)
        rule = inputs.parse(preprocessing.inputs)
        self._then(program.Cast, 'cast')
        if rule.rgb:
            self._then(program.Flip, 'rgb')
        self._arithmetic_by('divide', [255.0])
        if rule.mean:
            self._arithmetic_by('subtract', rule.mean)
            self._arithmetic_by('divide', rule.std)
        if size != side:
            matrix = shares(preprocessing.resize, side, size)
            part = self.constants.add(matrix, f'resize{size}/shares')
            self._then(program.Resize, f'resize{size}', shares=part)
        return side

    def _arithmetic_by(self, function: str, numbers: Sequence[float]) -> None:
        """Adds arithmetic with one number, or one for each channel, to the latest result."""
        name = f'preprocess{len(self.operations)}'
        part = self.constants.add(np.array(numbers, np.float32), f'{name}/{function}')
        self._then(program.Arithmetic, name, function=function, y=part)

    def _then(self, operation: type[Operation], name: str, **fields: Any) -> None:
        """Adds an operation on the latest result."""
        self.operations.append(operation(out=name, x=self.output, **fields))
        self.output = name

    def read(self, frozen: freeze.Frozen, size: int) -> list[str]:
        """Adds a graph that takes the latest result as its images.

        Args:
            frozen: in which nothing is left to compute that images do not reach.
            size: of the view that it reads, in pixels.

        Returns:
            Names of its results behind the first.

        Raises:
            UsageError: it has a node that no operation stands for.
        """
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(frozen.graph_def, name='')
        self._names[f'view_{size}:0'] = self.output
        for op in graph.get_operations():
            if op.type in _READERS:
                _READERS[op.type](self, op)
            elif op.type not in ('Const', 'Placeholder'):
                raise UsageError(f'{op.name}: no operation of a program stands for {op.type}')
        (signature,) = frozen.signatures
        self.output, *others = [self._names[name] for name in signature.fetches]
        return others

    def _add(
        self,
        operation: type[Operation],
        op: tf.Operation,
        x: tf.Tensor | None = None,
        **fields: Any,
    ) -> None:
        """Adds an operation whose result is the first output of a node.

        Args:
            operation: to add.
            op: the node.
            x: that it reads, by default the first input.
            **fields: of the operation.
        """
        read = op.inputs[0] if x is None else x
        self._names[op.outputs[0].name] = op.name
        self.operations.append(operation(out=op.name, x=self._name(read), **fields))

    def _name(self, x: tf.Tensor) -> str:
        """Name of the result that a tensor holds.

        Raises:
            UsageError: it holds none, as a constant.
        """
        if x.name not in self._names:
            raise UsageError(f'{x.name}: is no result where a program has one')
        return self._names[x.name]

    def _part(
        self, value: np.ndarray, op: tf.Operation, field: str, *, kernel: bool = False
    ) -> Part:
        return self.constants.add(value, f'{op.name}/{field}', kernel=kernel)

    def same(self, op: tf.Operation) -> None:
        self._names[op.outputs[0].name] = self._name(op.inputs[0])

    def choice(self, op: tf.Operation) -> None:
        *branches, number = op.inputs
        found: list[tuple[str, str]] = []
        for value, executed in zip(branches[::2], branches[1::2]):
            known = nodes.constant(executed)
            if known is not None:
                told = f'{op.name}/{len(found)}'
                self.operations.append(Number(told, self._name(number), int(known.item())))
            else:
                told = self._name(executed)
            found.append((self._name(value), told))
        told = f'{op.name}/executed'
        self.operations.append(Choose(op.name, self._name(number), tuple(found), (told,)))
        for output, name in zip(op.outputs, (op.name, told)):
            self._names[output.name] = name

    def confident(self, op: tf.Operation) -> None:
        exit = int(nodes.known(op.inputs[1]).item())
        threshold = np.array([self._thresholds[exit]], np.float32)
        part = self._part(threshold, op, 'threshold')
        self._add(Confident, op, exit=exit, threshold=part)

    def identity_n(self, op: tf.Operation) -> None:
        """A node that stands for something by its name, or a quantizer.

        A quantizer has levels and one threshold less; all others hand on their first input.
        """
        kind, _, _ = op.name.rpartition('/')[2].partition('_')
        if kind in (CHOICE, CONFIDENT):
            {CHOICE: self.choice, CONFIDENT: self.confident}[kind](op)
            return
        book = []
        for x in op.inputs[1:3]:
            value = nodes.constant(x)
            if value is not None and value.ndim == 1:
                book.append(value)
        if len(book) < 2 or book[0].size != book[1].size + 1:
            self.same(op)
            return
        levels, thresholds = book
        self._add(
            program.Quantize,
            op,
            thresholds=self._part(thresholds, op, 'thresholds'),
            levels=self._part(levels, op, 'levels'),
        )

    def activation(self, op: tf.Operation) -> None:
        self._add(program.Activation, op, function=_FUNCTIONS[op.type])

    def arithmetic(self, op: tf.Operation) -> None:
        """A function of two tensors, or of one and a constant."""
        function = _ARITHMETIC[op.type]
        x, y = op.inputs
        if function in ('add', 'multiply') and nodes.constant(x) is not None:
            x, y = y, x
        value = nodes.constant(y)
        # Swish multiplies what its sigmoid reads by one.
        if value is not None and function in ('multiply', 'divide') and value.tolist() in (1, [1]):
            self._names[op.outputs[0].name] = self._name(x)
            return
        if value is not None:
            part = self._part(value.reshape(-1), op, function)
            self._add(program.Arithmetic, op, x, function=function, y=part)
            return
        # One number per channel stands for all positions, whichever comes first.
        if x.shape.rank == 4 and x.shape[1] == 1:
            x, y = y, x
        self._add(program.Combine, op, x, y=self._name(y), function=function)

    def norm(self, op: tf.Operation) -> None:
        gamma, beta, mean, variance = (nodes.known(x) for x in op.inputs[1:5])  # [C] each
        # In the order of the kernels of TensorFlow, all in float32.
        scale = gamma / np.sqrt(variance + np.float32(op.get_attr('epsilon')))
        shift = beta - mean * scale
        self._add(
            program.Affine,
            op,
            scale=self._part(scale, op, 'scale'),
            shift=self._part(shift, op, 'shift'),
        )

    def convolution(self, op: tf.Operation) -> None:
        kernel = nodes.known(op.inputs[1])  # [k, k, in / groups, out]
        groups = int(op.inputs[0].shape[3]) // kernel.shape[2]
        self._windowed(op, kernel, groups)

    def depthwise(self, op: tf.Operation) -> None:
        kernel = np.swapaxes(nodes.known(op.inputs[1]), 2, 3)  # [k, k, 1, C]
        self._windowed(op, kernel, kernel.shape[3])

    def _windowed(self, op: tf.Operation, kernel: np.ndarray, groups: int) -> None:
        stride = int(op.get_attr('strides')[1])
        pads = nodes.pads(op, kernel.shape[:2], (stride, stride))
        part = self._part(kernel, op, 'kernel', kernel=True)
        self._add(
            program.Convolution,
            op,
            kernel=part,
            stride=stride,
            pads=pads,
            same=nodes.padding_rule(op) == 'SAME',
            groups=groups,
        )

    def dense(self, op: tf.Operation) -> None:
        part = self._part(nodes.known(op.inputs[1]), op, 'kernel', kernel=True)
        self._add(program.Dense, op, kernel=part)

    def pool(self, op: tf.Operation) -> None:
        function = {'MaxPool': 'max', 'AvgPool': 'average'}[op.type]
        _, *window, _ = op.get_attr('ksize')
        _, *stride, _ = op.get_attr('strides')
        if function == 'average' and window == op.inputs[0].shape.as_list()[1:3]:
            self._add(program.GlobalPool, op)
            return
        self._add(
            program.Pool,
            op,
            function=function,
            window=tuple(window),
            stride=tuple(stride),
            pads=nodes.pads(op, window, stride),
            same=nodes.padding_rule(op) == 'SAME',
        )

    def pad(self, op: tf.Operation) -> None:
        _, rows, columns, channels = nodes.known(op.inputs[1]).tolist()
        self._add(program.Pad, op, pads=(*rows, *columns), channels=channels[1])

    def concatenate(self, op: tf.Operation) -> None:
        others = tuple(self._name(x) for x in op.inputs[1:-1])
        self._add(program.Concatenate, op, others=others)

    def slice(self, op: tf.Operation) -> None:
        """A crop of images, or an axis of length 1 more or less."""
        shape = op.inputs[0].shape.as_list()
        if len(shape) == 4 and op.outputs[0].shape.rank == 4:
            start, stop, step = nodes.corners(op, shape)
            self._add(program.Crop, op, start=start, stop=stop, step=step)
        else:
            self.reshape(op)

    def reshape(self, op: tf.Operation) -> None:
        """Images of one pixel as rows, or the other way round.

        Raises:
            UsageError: it is another change of shape.
        """
        before = op.inputs[0].shape.as_list()[1:]
        after = op.outputs[0].shape.as_list()[1:]
        if before == [1, 1, *after]:
            self._add(program.ToRows, op)
        elif after == [1, 1, *before]:
            self._add(program.ToImages, op)
        elif before == after:
            self.same(op)
        else:
            raise UsageError(f'{op.name}: no operation of a program reshapes {before} to {after}')


_READERS: dict[str, Callable[[Reader, tf.Operation], None]] = {
    'Identity': Reader.same,
    'StopGradient': Reader.same,
    'IdentityN': Reader.identity_n,
    'FusedBatchNormV3': Reader.norm,
    'Conv2D': Reader.convolution,
    'DepthwiseConv2dNative': Reader.depthwise,
    'MatMul': Reader.dense,
    'MaxPool': Reader.pool,
    'AvgPool': Reader.pool,
    'Pad': Reader.pad,
    'ConcatV2': Reader.concatenate,
    'StridedSlice': Reader.slice,
    'Squeeze': Reader.reshape,
    'Reshape': Reader.reshape,
    'ArgMax': lambda reader, op: reader._add(Largest, op),
}
_READERS |= dict.fromkeys(_FUNCTIONS, Reader.activation)
_READERS |= dict.fromkeys(_ARITHMETIC, Reader.arithmetic)
