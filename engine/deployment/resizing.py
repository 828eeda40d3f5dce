"""Programs that leave the resize to those who call them: their images have the point's own size."""

import dataclasses

from engine.deployment import program
from engine.deployment.program import PointProgram, Program


def without_resize(whole: Program) -> Program:
    """The program whose images are float32 [N, size, size, 3], 0 to 255, BGR, at every point."""
    points = {}
    used: set[str] = set()
    for name, point in whole.points.items():
        points[name] = _without_resize(point)
        for operation in points[name].operations:
            used.update(part.name for part in program.parts(operation).values())
    constants = {name: value for name, value in whole.constants.items() if name in used}
    return Program(points, constants)


def _without_resize(point: PointProgram) -> PointProgram:
    side = point.side
    names: dict[str, str] = {}
    operations = []
    for operation in point.operations:
        if isinstance(operation, program.Resize):
            side, _ = operation.shares.shape
            names[operation.out] = operation.x
        else:
            operations.append(dataclasses.replace(operation, x=names.get(operation.x, operation.x)))
    return PointProgram(point.input, side, tuple(operations), point.output)
