"""Groups of operating points with one list of operations: constants alone differ between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from engine.deployment import program
from engine.deployment.program import Constant, Operation, Part, PointProgram, Program


class Group(NamedTuple):
    """Points with the same kinds of operations in the same order.

    Attributes:
        places: of the points in the program.
        points: what computes each.
    """

    places: list[int]
    points: list[PointProgram]


def groups(whole: Program) -> tuple[list[Group], dict[str, Constant]]:
    """Groups in the order of their first points, and the pool of constants that they use.

    Where a point resizes its images and another one of its group does not, that one gets a resize
    to the same size.
    """
    constants = dict(whole.constants)
    points = list(whole.points.values())
    resizing = any(map(_resizes, points))
    found: dict[Any, list[int]] = {}
    moved = []
    for place, point in enumerate(points):
        moved.append(_resized(point, constants) if resizing else point)
        found.setdefault(_shape(moved[place]), []).append(place)
    made = []
    for places in found.values():
        members = [points[place] for place in places]
        if any(map(_resizes, members)):
            members = [moved[place] for place in places]
        made.append(Group(places, members))
    return made, constants


def names(operation: Operation) -> dict[str, Any]:
    """Fields of an operation that name results of others: a name, or tuples of names."""
    found = {}
    for field in ('x', 'y', 'others', 'branches'):
        value = getattr(operation, field, None)
        if value is not None and not isinstance(value, Part):
            found[field] = value
    return found


def reads(operation: Operation) -> list[str]:
    """Names of the results that an operation reads."""
    found: list[str] = []
    waiting = list(names(operation).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        else:
            waiting.extend(value)
    return found


def results(operation: Operation) -> tuple[str, ...]:
    """Names of all that an operation gives."""
    return (operation.out, *getattr(operation, 'beside', ()))


def renamed(value: Any, known: Mapping[str, Any]) -> Any:
    """A field of names with others in their place.

    Args:
        value: a name, or tuples of names.
        known: what stands for each.
    """
    if isinstance(value, str):
        return known[value]
    return tuple(renamed(one, known) for one in value)


def _resizes(point: PointProgram) -> bool:
    return any(isinstance(operation, program.Resize) for operation in point.operations)


def _resized(point: PointProgram, constants: dict[str, Constant]) -> PointProgram:
    """The point with a resize behind what normalises the images: to the same size, if it has none.

    Args:
        point: to change.
        constants: pool that gets the identity.
    """
    if _resizes(point):
        return point
    name = f'identity{point.side}'
    constants[name] = program.Floats(np.eye(point.side, dtype=np.float32))
    operations = list(point.operations)
    place = 0
    while isinstance(operations[place], program.Cast | program.Flip | program.Arithmetic):
        place += 1
    before = operations[place - 1].out
    shares = Part(name, (point.side, point.side))
    resize = program.Resize(out=f'{before}/same', x=before, shares=shares)
    moved = []
    for operation in operations[place:]:
        if operation.x == before:
            operation = dataclasses.replace(operation, x=resize.out)
        moved.append(operation)
    return dataclasses.replace(point, operations=(*operations[:place], resize, *moved))


def _shape(point: PointProgram) -> tuple[Any, ...]:
    """Operations of a point, what each reads, and options: all that points of a group share."""
    numbers = {name: -number for number, (name, _) in enumerate(point.views, 2)}
    numbers[point.input] = -1
    found = []
    for operation in point.operations:
        fields: list[Any] = [type(operation).__name__]
        read = names(operation)
        same = getattr(operation, 'same', False)
        for field in dataclasses.fields(operation):
            value = getattr(operation, field.name)
            if field.name in read:
                fields.append(renamed(value, numbers))
            elif isinstance(value, Part):
                # Images may be of any size.
                if not isinstance(operation, program.Resize):
                    fields.append(value.shape)
            elif field.name not in ('out', 'beside') and not (field.name == 'pads' and same):
                fields.append(value)
        for name in results(operation):
            numbers[name] = len(numbers)
        found.append(tuple(fields))
    told = tuple(numbers[choice.result] for choice in point.choices)
    return (*found, numbers[point.output], told)
