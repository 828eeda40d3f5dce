"""One list of operations for all points of a file: what several of them compute is there once."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.deployment.alignment import Group, groups, names, reads, renamed, results
from engine.deployment.choices import ByPoint, Choose, Chosen
from engine.deployment.names import IMAGES, POINT
from engine.deployment.program import (
    Constant,
    Convolution,
    Dense,
    Operation,
    Part,
    Program,
)
from engine.errors import UsageError

# An operation at every size: constants alone differ.
Row = tuple[Operation, ...]


class Joint(NamedTuple):
    """All points of a file.

    Attributes:
        rows: in an order of execution.
        output: name of the logits.
        numbers: of the point in a row, by place.
        constants: the pool.
        choices: as of ``PointProgram``.
    """

    rows: list[Row]
    output: str
    numbers: list[int]
    constants: Mapping[str, Constant]
    choices: tuple[Chosen, ...] = ()


def joint(whole: Program) -> Joint:
    """The points of a program in one list, in which ``Choose`` tells their layers apart.

    Raises:
        UsageError: one chooses image by image, and another one is not the same at another size.
    """
    found, constants = groups(whole)
    choosing = [name for name, point in whole.points.items() if point.choices]
    if choosing and len(found) > 1:
        raise UsageError(
            f'--points {" ".join(whole.points)}: a file that chooses image by image holds nothing '
            f'else; give {choosing[0]} a file of its own'
        )
    joining = Joining(len(whole.points))
    made = [joining.add(number, group) for number, group in enumerate(found)]
    outputs = [output for output, _ in made]
    output = joining.chosen(list(range(len(found))), outputs)
    _, choices = made[0]
    return Joint(joining.rows, output, joining.numbers, constants, choices)


class Joining:
    """A list in the making.

    Args:
        points: number of points in the file.

    Attributes:
        rows: so far.
        numbers: as of ``Joint``.
    """

    def __init__(self, points: int):
        self.rows: list[Row] = []
        self.numbers = [0] * points
        self._groups: list[Group] = []
        # Names of results by what computes them, and the groups that use it by the first of them.
        self._known: dict[Any, tuple[str, ...]] = {}
        self._users: dict[str, set[int]] = {}
        self._taken = {IMAGES, POINT}

    def add(self, number: int, group: Group) -> tuple[str, tuple[Chosen, ...]]:
        """Adds what a group computes and no other one before it.

        Args:
            number: of the group.
            group: its points.

        Returns:
            Name of its output, and what it says that it executed.
        """
        self._groups.append(group)
        for place, point in enumerate(group.places):
            self.numbers[point] = place
        first, *_ = group.points
        here = {name: name for name, _ in first.views}
        here[first.input] = IMAGES
        for row in zip(*(point.operations for point in group.points)):
            read = {}
            for field, value in names(row[0]).items():
                read[field] = renamed(value, here)
            key = _key(row, read)
            if key not in self._known:
                self._known[key] = self._new(row, read)
            found = self._known[key]
            self._users.setdefault(found[0], set()).add(number)
            here.update(zip(results(row[0]), found))
        choices = [one._replace(result=here[one.result]) for one in first.choices]
        return here[first.output], tuple(choices)

    def _new(self, row: Row, read: Mapping[str, Any]) -> tuple[str, ...]:
        """Adds operations, and returns the names of their results.

        Args:
            row: as the points name them.
            read: names of what they read, by field.
        """
        out, *beside = map(self._unused, results(row[0]))
        fields = {'out': out, **read}
        if beside:
            fields['beside'] = tuple(beside)
        self.rows.append(tuple(dataclasses.replace(one, **fields) for one in row))
        return (out, *beside)

    def _unused(self, name: str) -> str:
        while name in self._taken:
            name = f'{name}+'
        self._taken.add(name)
        return name

    def chosen(self, numbers: Sequence[int], outputs: Sequence[str]) -> str:
        """The output of some groups, by the point.

        Groups that share what others of them do not need stay together for longer.

        Args:
            numbers: of the groups.
            outputs: of all groups.
        """
        if len(numbers) == 1:
            return outputs[numbers[0]]
        parts = self._parts(set(numbers))
        branches = tuple((self.chosen(part, outputs),) for part in parts)
        by_place = [0] * len(self.numbers)
        for branch, part in enumerate(parts):
            for member in part:
                for place in self._groups[member].places:
                    by_place[place] = branch
        count = len(self.rows)
        number = ByPoint(f'branch{count}', POINT, tuple(by_place))
        choice = Choose(f'chosen{count}', number.out, branches)
        self.rows += [(number,), (choice,)]
        return choice.out

    def _parts(self, numbers: set[int]) -> list[list[int]]:
        """Groups in two or more parts, between which nothing is shared but what all need."""
        parts = [{number} for number in sorted(numbers)]
        largest: set[int] = set()
        for users in self._users.values():
            shared = users & numbers
            if len(shared) < 2 or shared == numbers:
                continue
            if len(shared) > len(largest):
                largest = shared
            touched = [part for part in parts if part & shared]
            apart = [part for part in parts if not part & shared]
            parts = [*apart, set().union(*touched)]
        if len(parts) == 1:
            # No way of telling them apart without computing what one of them does not need.
            parts = [largest, numbers - largest]
        return sorted(map(sorted, parts))


def _key(row: Row, read: Mapping[str, Any]) -> tuple[Any, ...]:
    """Kind, inputs, options and constants: what tells one computation from another.

    Args:
        row: operations at every point of a group.
        read: names of what they read, by field.
    """
    found: list[Any] = [type(row[0]).__name__, *sorted(read.items())]
    for operation in row:
        for field in dataclasses.fields(operation):
            value = getattr(operation, field.name)
            if field.name not in ('out', 'beside') and field.name not in read:
                found.append((field.name, value))
    return tuple(found)


def readers(whole: Joint) -> Counter[str]:
    """How often each result is read, by its name; outputs are read once more."""
    found = Counter([whole.output, *(choice.result for choice in whole.choices)])
    for row in whole.rows:
        found.update(reads(row[0]))
    return found


def shared_kernels(rows: Sequence[Row]) -> dict[str, Part]:
    """Constants of which several operations have a part as their kernel, and all that they use."""
    found: dict[str, list[Part]] = {}
    for row in rows:
        kernels = {one.kernel for one in row if isinstance(one, Convolution | Dense)}
        for part in kernels:
            found.setdefault(part.name, []).append(part)
    shared = {}
    for name, parts in found.items():
        if len(parts) > 1:
            extents = np.max([part.shape for part in parts], axis=0)
            shared[name] = Part(name, tuple(extents.tolist()))
    return shared
