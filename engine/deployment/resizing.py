"""The resize of images in a file: by blocks of its matrix, or left to those who call the file."""

import dataclasses
from typing import NamedTuple

import numpy as np

from engine.deployment import program
from engine.deployment.program import PointProgram, Program

# Most rows of a block: of fewer much is read twice, of more much is multiplied by zero.
MOST_ROWS = 16


class Blocks(NamedTuple):
    """A matrix whose rows are zero but near its diagonal, in G blocks of as many rows.

    Attributes:
        shares: [G, rows, pixels], what is not zero.
        pixels: [G, pixels] int64, its columns.
    """

    shares: np.ndarray
    pixels: np.ndarray


def blocks(matrix: np.ndarray) -> Blocks:
    """The blocks of a matrix [size, side].

    >>> found = blocks(np.float32([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]))
    >>> found.shares.shape, found.pixels.tolist()
    ((1, 2, 4), [[0, 1, 2, 3]])
    """
    size, side = matrix.shape
    rows = max(number for number in range(1, MOST_ROWS + 1) if size % number == 0)
    parts = matrix.reshape(-1, rows, side)  # [G, rows, side]
    used: np.ndarray = np.any(parts, axis=1)  # [G, side]
    starts = used.argmax(axis=1)
    ends = side - used[:, ::-1].argmax(axis=1)
    pixels = int((ends - starts).max())
    starts = np.minimum(starts, side - pixels)
    columns = starts[:, None] + np.arange(pixels)  # [G, pixels]
    return Blocks(np.take_along_axis(parts, columns[:, None], axis=2), columns)


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
    return dataclasses.replace(point, side=side, operations=tuple(operations))
