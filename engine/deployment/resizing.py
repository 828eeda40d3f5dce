"""Programs that leave the resize to those who call them: their images have the point's own size."""

import dataclasses

from engine.deployment import program
from engine.deployment.program import PointProgram, Program


def without_resize(whole: Program) -> Program:
    """The program whose images are float32 [N, size, size, 3], 0 to 255, BGR, at every point."""
    points = {name: _without_resize(point) for name, point in whole.points.items()}
    return program.with_points(points, whole.constants)


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
