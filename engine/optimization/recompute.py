"""Training steps that keep few tensors of the forward pass and compute the others again.

Works on a graph whose gradients have been built. Operations between kept tensors whose results the
gradients read are copied, and the gradients read the copies. Everything else reads the originals:
what a forward pass updates is updated once.

Reference: Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant.backend import tf
from quant.private_api import replace_input

# Segment of what no kept tensor depends on: the loss follows from it, and so it is there.
HEAD = 1 << 30

# Conditional parts of a graph, which are not computed again.
SWITCH, MERGE = 'Switch', 'Merge'


def recompute(
    loss: tf.Tensor, gradients: Sequence[tf.Operation], kept: Sequence[tf.Tensor]
) -> list[tf.Operation]:
    """Lets gradients read copies of what they need; no session may know the graph.

    One segment between kept tensors is in memory at a time: the last one is computed when the loss
    is there, each other one when the gradients have read the one behind it.

    Args:
        loss: whose gradients they are.
        gradients: operations that compute them, in the order in which they were made.
        kept: tensors of the forward pass; what does not depend on one of them is kept, too.

    Returns:
        The copies.
    """
    forward = _Forward(loss, kept)
    readers = _readers(forward, gradients)
    copies: dict[tf.Operation, tf.Operation] = {}
    after = loss.op
    for segment, operations in _needed(forward, gradients).items():
        with tf.control_dependencies([after]):
            for op in operations:
                copies[op] = _copy(op, _inputs(op, forward, copies))
        if segment in readers:
            after = tf.group(*readers[segment])
    for gradient in gradients:
        for place, tensor in enumerate(_inputs(gradient, forward, copies)):
            if tensor is not gradient.inputs[place]:
                replace_input(gradient, place, tensor)
    return list(copies.values())


class _Forward:
    """The forward pass: what of it can be computed again, and in which segment.

    Kept tensors are numbered, each behind those that it depends on. The segment of an operation is
    the largest number that it leads to without another kept tensor in between.

    Args:
        loss: its end.
        kept: as of ``recompute``.

    Attributes:
        segments: numbers by operation.
    """

    def __init__(self, loss: tf.Tensor, kept: Sequence[tf.Tensor]):
        self._kept = {tensor.ref() for tensor in kept}
        order = _in_order(loss.op)
        self.segments = self._numbered(order)
        self._repeated = self._repeatable(order)

    def again(self, tensor: tf.Tensor) -> bool:
        """Whether the gradients are to read a copy of a tensor."""
        return tensor.op in self._repeated and tensor.ref() not in self._kept

    def _numbered(self, order: Sequence[tf.Operation]) -> dict[tf.Operation, int]:
        """Segments by operation of operations in order, of which the last is the loss."""
        numbers: dict[Any, int] = {}
        for op in order:
            for tensor in op.outputs:
                if tensor.ref() in self._kept:
                    numbers[tensor.ref()] = len(numbers)
        found = dict.fromkeys(order, -1)
        found[order[-1]] = HEAD
        for op in reversed(order):
            for tensor in op.inputs:
                leads_to = numbers.get(tensor.ref(), found[op])
                found[tensor.op] = max(found[tensor.op], leads_to)
        return found

    def _repeatable(self, order: Sequence[tf.Operation]) -> set[tf.Operation]:
        """Those that depend on a kept tensor, and give the same whenever they are computed."""
        behind: set[tf.Operation] = set()  # a kept tensor
        conditional: set[tf.Operation] = set()
        found = set()
        for op in order:
            inputs = {tensor.op for tensor in op.inputs}
            if inputs & behind or any(tensor.ref() in self._kept for tensor in op.inputs):
                behind.add(op)
            if op.type == SWITCH or inputs & conditional and op.type != MERGE:
                conditional.add(op)
            plain = not (op in conditional or op.type == MERGE or op.op_def.is_stateful)
            if op in behind and plain and self.segments[op] < HEAD:
                found.add(op)
        return found


def _in_order(end: tf.Operation) -> list[tf.Operation]:
    """An operation and all that it depends on, each behind what it reads.

    Of the branches that an operation adds up, the last one comes first: gradients of a kernel are
    added in the order of the branches, and those of the last segments are there first.
    """
    order = []
    seen = set()
    waiting = [(end, False)]
    while waiting:
        op, inputs_are_there = waiting.pop()
        if inputs_are_there:
            order.append(op)
        elif op not in seen:
            seen.add(op)
            waiting.append((op, True))
            waiting += [(tensor.op, False) for tensor in op.inputs]
    return order


def _needed(forward: _Forward, gradients: Sequence[tf.Operation]) -> dict[int, list[tf.Operation]]:
    """Operations to compute again by segment, the last one first, each in the graph's order."""
    found: set[tf.Operation] = set()
    waiting = list(gradients)
    while waiting:
        for tensor in waiting.pop().inputs:
            if forward.again(tensor) and tensor.op not in found:
                found.add(tensor.op)
                waiting.append(tensor.op)
    segments: dict[int, list[tf.Operation]] = {}
    for op in forward.segments:
        if op in found:
            segments.setdefault(forward.segments[op], []).append(op)
    return dict(sorted(segments.items(), reverse=True))


def _readers(forward: _Forward, gradients: Sequence[tf.Operation]) -> dict[int, list[tf.Operation]]:
    """Operations of the backward pass that read a segment and wait for none in front of it."""
    levels: dict[tf.Operation, int] = {}  # the first segment that an operation waits for
    readers: dict[int, list[tf.Operation]] = {}
    for op in gradients:
        read = [forward.segments[tensor.op] for tensor in op.inputs if forward.again(tensor)]
        waits_for = {*(tensor.op for tensor in op.inputs), *op.control_inputs}
        before = [levels[other] for other in waits_for if other in levels]
        levels[op] = min([HEAD, *read, *before])
        if levels[op] in read:
            readers.setdefault(levels[op], []).append(op)
    return readers


def _inputs(
    op: tf.Operation, forward: _Forward, copies: Mapping[tf.Operation, tf.Operation]
) -> list[tf.Tensor]:
    """Tensors that an operation is to read in the backward pass.

    Args:
        op: of either pass.
        forward: the forward pass.
        copies: by operation.
    """
    inputs = []
    for tensor in op.inputs:
        if forward.again(tensor):
            tensor = copies[tensor.op].outputs[tensor.value_index]
        inputs.append(tensor)
    return inputs


def _copy(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> tf.Operation:
    """The same operation on other inputs."""
    types = [tensor.dtype.base_dtype for tensor in op.outputs]
    attributes = dict(op.node_def.attr)
    name = f'again/{op.name}'
    with tf.device(op.device):
        return op.graph.create_op(
            op.type, inputs, types, name=name, attrs=attributes, op_def=op.op_def
        )
