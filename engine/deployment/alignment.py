"""Operating points in one list of operations: what differs between them are constants alone."""

import dataclasses
from typing import Any

import numpy as np

from engine.deployment import program
from engine.deployment.program import Part, PointProgram, Program
from engine.errors import UsageError


def aligned(whole: Program) -> Program:
    """The program with the same kinds of operations in the same order at all points.

    Raises:
        UsageError: they differ in more than in constants and sizes.
    """
    constants = dict(whole.constants)
    points = dict(whole.points)
    if any(_resizes(point) for point in points.values()):
        for name, point in points.items():
            if not _resizes(point):
                place = f'identity{point.side}'
                constants[place] = program.Floats(np.eye(point.side, dtype=np.float32))
                points[name] = _resized(point, Part(place, (point.side, point.side)))
    shapes = {name: _shape(point) for name, point in points.items()}
    first, *others = shapes
    for name in others:
        if shapes[name] != shapes[first]:
            raise UsageError(
                f'--points {first} {name}: their layers differ, or the sides of the images that '
                'they resize; a file holds points that differ in size alone; give each a file of '
                'its own'
            )
    return Program(points, constants)


def _resizes(point: PointProgram) -> bool:
    return any(isinstance(operation, program.Resize) for operation in point.operations)


def _resized(point: PointProgram, same: Part) -> PointProgram:
    """The point with a resize to the same size behind what normalises the images.

    Args:
        point: without a resize.
        same: the identity [side, side].
    """
    operations = list(point.operations)
    place = 0
    while isinstance(operations[place], program.Cast | program.Flip | program.Arithmetic):
        place += 1
    before = operations[place - 1].out
    resize = program.Resize(out=f'{before}/same', x=before, shares=same)
    moved = []
    for operation in operations[place:]:
        if operation.x == before:
            operation = dataclasses.replace(operation, x=resize.out)
        moved.append(operation)
    return dataclasses.replace(point, operations=(*operations[:place], resize, *moved))


def _shape(point: PointProgram) -> list[Any]:
    """Operations of a point, what each reads, and options: all that two points must share."""
    numbers = {point.input: -1}
    found = []
    for number, operation in enumerate(point.operations):
        fields: list[Any] = [type(operation).__name__]
        same = getattr(operation, 'same', False)
        for field in dataclasses.fields(operation):
            value = getattr(operation, field.name)
            if field.name in ('x', 'y', 'others') and not isinstance(value, Part):
                names = (value,) if isinstance(value, str) else value
                fields.append([numbers[name] for name in names])
            elif isinstance(value, Part):
                resized = isinstance(operation, program.Resize)
                # Only the new size may differ.
                fields.append(value.shape[1] if resized else value.shape)
            elif field.name != 'out' and not (field.name == 'pads' and same):
                fields.append(value)
        numbers[operation.out] = number
        found.append(fields)
    return found
