"""Exported files that choose, in parts: what stands before the choice, and each way behind it.

A runtime prepares all branches of a file, of which a network that chooses among N widths has N as
large as itself. A part is a file of its own, made when an image first needs it. Nothing but numpy
is needed: who runs files has no package that writes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from engine.deployment.names import EXECUTED
from engine.deployment.wire import field, fields, number_field, start_of

# Numbers of fields: of a model, a graph, a node, an attribute, a value, a tensor.
_GRAPH = 7
_NODE, _GRAPH_NAME, _INITIALIZER, _INPUT, _OUTPUT = 1, 2, 5, 11, 12
_READ, _GIVEN, _KIND, _ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _BRANCH = 1, 6
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TENSOR_NAME = 8

# Bytes at the start of an attribute, among which is its name if that is one of a branch.
_NAMED = 16

# Types of tensors by those of arrays.
_TYPES = {'float32': 1, 'uint8': 2, 'int64': 7, 'bool': 9}


class _Node(NamedTuple):
    """A node.

    Attributes:
        whole: field of the graph.
        reads: names of its inputs, and of what its branches read from outside.
        gives: names of its outputs.
        branches: what a choice chooses from: the way of a true condition, then the other one.
    """

    whole: bytes
    reads: list[str]
    gives: list[str]
    branches: list[_Branch]


class _Branch(NamedTuple):
    """A branch: its nodes, and names of what it gives."""

    nodes: list[_Node]
    outputs: list[str]


@dataclasses.dataclass
class Part:
    """A file that chooses, or a part of one.

    Attributes:
        rest: fields of the file beside its graph.
        nodes: in an order of execution.
        initializers: fields of the graph, by name.
        inputs: fields of the graph, by name.
        outputs: fields of the graph, by name.
    """

    rest: bytes
    nodes: list[_Node]
    initializers: dict[str, bytes]
    inputs: dict[str, bytes]
    outputs: dict[str, bytes]

    @property
    def images(self) -> list[str]:
        """Names of the inputs that have no default."""
        return [name for name in self.inputs if name not in self.initializers]

    def file(self) -> bytes:
        """The part as a file."""
        fields_of_graph = [
            *(node.whole for node in self.nodes),
            field(_GRAPH_NAME, b'part'),
            *self.initializers.values(),
            *self.inputs.values(),
            *self.outputs.values(),
        ]
        size = sum(map(len, fields_of_graph))
        return b''.join([self.rest, start_of(_GRAPH, size), *fields_of_graph])

    def pruned(self) -> Part:
        """The part without what its outputs do not need."""
        needed = set(self.outputs)
        nodes = []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.gives):
                nodes.append(node)
                needed.update(node.reads)
        nodes.reverse()
        stored = self.initializers.items()
        initializers = {name: value for name, value in stored if name in needed}
        inputs = {name: value for name, value in self.inputs.items() if name in needed}
        return Part(self.rest, nodes, initializers, inputs, self.outputs)

    def told(self, values: Mapping[str, np.ndarray]) -> Part:
        """The part with the types and shapes of what it is handed, those of some arrays by name."""
        inputs = dict(self.inputs)
        for name in self.images:
            inputs[name] = _input(name, values[name])
        return dataclasses.replace(self, inputs=inputs)

    def cut(self) -> Cut | None:
        """The part in parts; None where it has another number of choices than one.

        Parts of many choices in turn would be handed to one another.
        """
        choices = [node for node in self.nodes if node.branches]
        if len(choices) != 1:
            return None
        return Cut(self, choices[0])


class Cut:
    """A part with one choice, cut there.

    Args:
        part: with the choice.
        choice: the node.

    Attributes:
        condition: name of what decides.
        images: names of the inputs of the part that have no default.
        outputs: names of all its outputs.
        head: computes what decides, what is handed on, and outputs that the choice does not decide.
        ways: compute what it decides, where the condition is true and where not; their inputs
            are to be told their types.
    """

    def __init__(self, part: Part, choice: _Node):
        self.condition = choice.reads[0]
        self.images, self.outputs = part.images, list(part.outputs)
        decided = _reached(part.nodes, choice.gives)
        of_images = _reached(part.nodes, part.images) - decided
        before = [node for node in part.nodes if decided.isdisjoint(node.gives)]
        behind = [node for node in part.nodes if not decided.isdisjoint(node.gives)]
        handed = _handed(part, behind, of_images)
        known = [name for name in part.outputs if name not in decided]
        self.head = _head(part, before, [self.condition, *handed, *known])
        # The rest is computed of no image, and in each part that needs it.
        constant = [node for node in before if of_images.isdisjoint(node.gives)]
        behind.remove(choice)
        inputs = {name: value for name, value in part.inputs.items() if name in part.initializers}
        inputs |= dict.fromkeys(handed, b'')
        outputs = {name: value for name, value in part.outputs.items() if name in decided}
        self.ways: dict[bool, Part] = {}
        for taken, branch in zip((True, False), choice.branches):
            same = map(_same, branch.outputs, choice.gives)
            nodes = [*constant, *branch.nodes, *same, *behind]
            way = Part(part.rest, nodes, part.initializers, inputs, outputs)
            self.ways[taken] = way.pruned()

    def repeats(self) -> bool:
        """Whether most constants behind the choice stand before it, too, as in a chain of sizes.

        A runtime that prepares the parts one by one unpacks such kernels for each of them.
        """
        behind = self.ways[True].initializers | self.ways[False].initializers
        again = [len(value) for name, value in behind.items() if name in self.head.initializers]
        return 2 * sum(again) > sum(map(len, behind.values()))


def _handed(part: Part, behind: Iterable[_Node], of_images: Collection[str]) -> list[str]:
    """Names of what is computed of images before a choice, and read behind it.

    Args:
        part: with the choice.
        behind: nodes of it and behind it.
        of_images: names of all that is computed of images and not behind it.
    """
    read: set[str] = set()
    for node in behind:
        read.update(node.reads)
    names = list(part.images)
    for node in part.nodes:
        names += node.gives
    return [name for name in names if name in read and name in of_images]


def _head(part: Part, nodes: list[_Node], wanted: Iterable[str]) -> Part:
    """The part of a graph before a choice.

    Args:
        part: with the choice.
        nodes: that do not depend on it.
        wanted: names of what it is to give, of which those of inputs are known.
    """
    outputs = {}
    for name in wanted:
        if name not in part.inputs:
            plain = field(_OUTPUT, field(_VALUE_NAME, name.encode()))
            outputs[name] = part.outputs.get(name, plain)
    return dataclasses.replace(part, nodes=nodes, outputs=outputs).pruned()


def cut_file(file: bytes) -> Cut | None:
    """A file that chooses image by image, cut where it does so once.

    Args:
        file: the bytes of any file; None of another one, and of what is none.
    """
    try:
        found = _whole(file)
    except (ValueError, IndexError):
        # What is wrong with it the runtime says.
        return None
    if EXECUTED not in found.outputs:
        return None
    return found.cut()


def _whole(file: bytes) -> Part:
    """A file as a part."""
    rest = []
    places = (0, 0)
    for number, first, end, start in fields(file, 0, len(file)):
        if number == _GRAPH:
            places = first, end
        else:
            rest.append(file[start:end])
    found = Part(b''.join(rest), [], {}, {}, {})
    nodes = []
    for number, first, end, start in fields(file, *places):
        if number == _NODE:
            nodes.append((first, end, start))
        elif number == _INITIALIZER:
            found.initializers[_text(file, first, end, _TENSOR_NAME)] = file[start:end]
        elif number == _INPUT:
            found.inputs[_text(file, first, end, _VALUE_NAME)] = file[start:end]
        elif number == _OUTPUT:
            found.outputs[_text(file, first, end, _VALUE_NAME)] = file[start:end]
    if EXECUTED in found.outputs:
        found.nodes.extend(_node(file, *one) for one in nodes)
    return found


def _node(file: bytes, first: int, end: int, start: int) -> _Node:
    """A node in a file, by the places of its message and of the field that holds it."""
    found = _Node(file[start:end], [], [], [])
    ways = {}
    for number, inside, behind, _ in fields(file, first, end):
        if number == _READ:
            found.reads.append(file[inside:behind].decode())
        elif number == _GIVEN:
            found.gives.append(file[inside:behind].decode())
        elif number == _ATTRIBUTE and (b'_branch' in file[inside : inside + _NAMED]):
            name = _text(file, inside, behind, _ATTRIBUTE_NAME)
            ways[name] = _branch(file, inside, behind)
    if ways:
        found.branches.extend([ways['then_branch'], ways['else_branch']])
        for branch in found.branches:
            found.reads.extend(_read_outside(branch))
    return found


def _branch(file: bytes, first: int, end: int) -> _Branch:
    """The graph in an attribute."""
    found = _Branch([], [])
    for number, inside, behind, _ in fields(file, first, end):
        if number != _BRANCH:
            continue
        for part, one, last, start in fields(file, inside, behind):
            if part == _NODE:
                found.nodes.append(_node(file, one, last, start))
            elif part == _OUTPUT:
                found.outputs.append(_text(file, one, last, _VALUE_NAME))
    return found


def _read_outside(branch: _Branch) -> list[str]:
    """Names of what a branch reads and does not make."""
    read = dict.fromkeys(branch.outputs)
    made = set()
    for node in branch.nodes:
        read.update(dict.fromkeys(node.reads))
        made.update(node.gives)
    return [name for name in read if name not in made]


def _text(file: bytes, start: int, last: int, number: int) -> str:
    """The text in a field of a message, by its places as of ``fields``."""
    for found, first, end, _ in fields(file, start, last):
        if found == number:
            return file[first:end].decode()
    return ''


def _reached(nodes: Iterable[_Node], starts: Iterable[str]) -> set[str]:
    """Names of some tensors, and of all that are computed of them."""
    found = set(starts)
    for node in nodes:
        if not found.isdisjoint(node.reads):
            found.update(node.gives)
    return found


def _same(name: str, other: str) -> _Node:
    """A node that gives a tensor another name."""
    message = field(_READ, name.encode()) + field(_GIVEN, other.encode())
    return _Node(field(_NODE, message + field(_KIND, b'Identity')), [name], [other], [])


def _input(name: str, value: np.ndarray) -> bytes:
    """An input of the type and shape of an array."""
    extents = b''.join(field(1, number_field(1, extent)) for extent in value.shape)
    tensor = number_field(1, _TYPES[value.dtype.name]) + field(2, extents)
    made = field(_VALUE_NAME, name.encode()) + field(_VALUE_TYPE, field(1, tensor))
    return field(_INPUT, made)
