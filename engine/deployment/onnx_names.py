"""Short names in an ONNX file: of a small network, long ones are a good part of the file."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_DIGITS = string.ascii_lowercase + string.ascii_uppercase


def shorten(nodes: Sequence[Any], initializers: Iterable[Any], given: Mapping[str, str]) -> None:
    """Gives tensors and parts of a graph the shortest names, in the order of the nodes.

    Args:
        nodes: of the graph, with those of its branches inside.
        initializers: of the graph.
        given: names that are known: of inputs and outputs.
    """
    known = {'': '', **given}
    taken = {*known, *known.values()}
    _name_nodes(nodes, known, filter(lambda name: name not in taken, _names()))
    for one in initializers:
        one.name = known[one.name]


def _names() -> Iterator[str]:
    """All words of letters, the shortest first."""
    words = ['']
    while True:
        words = [f'{word}{digit}' for word in words for digit in _DIGITS]
        yield from words


def _name_nodes(nodes: Sequence[Any], known: dict[str, str], new: Iterator[str]) -> None:
    """Renames what nodes read and give.

    Args:
        nodes: to change.
        known: new names by old ones, which gets those that are made.
        new: names that are still free.
    """

    def short(name: str) -> str:
        if name not in known:
            known[name] = next(new)
        return known[name]

    for node in nodes:
        node.input[:] = [short(name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField('g'):
                branch = attribute.g
                branch.name = short(branch.name)
                _name_nodes(branch.node, known, new)
                for output in branch.output:
                    output.name = known[output.name]
        node.output[:] = [short(name) for name in node.output]
