"""The resize of images in a file: by blocks of its matrix, or left to those who call the file."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from engine.deployment import program
from engine.deployment.program import PointProgram, Program

# Most rows of a block: of more much is multiplied by zero.
MOST_ROWS = 16

# Rows of a block at least, where a block can begin with a pixel that none before it has a part of.
LEAST_ROWS = 4


class Blocks(NamedTuple):
    """A matrix whose rows are zero but near its diagonal, in G blocks of as many rows.

    Attributes:
        shares: [G, rows, pixels], what is not zero.
        pixels: [G, pixels] int64, its columns.
        apart: whether each of its columns is in one block.
    """

    shares: np.ndarray
    pixels: np.ndarray
    apart: bool


def blocks(matrix: np.ndarray) -> Blocks:
    """The blocks of a matrix [size, side].

    >>> found = blocks(np.eye(8, dtype=np.float32))
    >>> found.shares.shape, found.pixels.tolist()
    ((2, 4, 4), [[0, 1, 2, 3], [4, 5, 6, 7]])
    """
    size, side = matrix.shape
    rows = _rows(size, side)
    parts = matrix.reshape(-1, rows, side)  # [G, rows, side]
    used: np.ndarray = np.any(parts, axis=1)  # [G, side]
    starts = used.argmax(axis=1)
    ends = side - used[:, ::-1].argmax(axis=1)
    pixels = int((ends - starts).max())
    starts = np.minimum(starts, side - pixels)
    columns = starts[:, None] + np.arange(pixels)  # [G, pixels]
    apart = np.array_equal(columns.reshape(-1), np.arange(side))
    return Blocks(np.take_along_axis(parts, columns[:, None], axis=2), columns, apart)


def chosen_pixels(matrix: np.ndarray) -> np.ndarray | None:
    """The one pixel that each row of a matrix takes, int64 [size]; None where one takes parts.

    >>> chosen_pixels(np.float32([[0, 1, 0], [0, 0, 1]])), chosen_pixels(np.float32([[0.5, 0.5]]))
    (array([1, 2]), None)
    """
    chosen = matrix.argmax(axis=1)
    if np.array_equal(matrix, np.eye(matrix.shape[1])[chosen]):
        return chosen
    return None


def _rows(size: int, side: int) -> int:
    """Rows of a block: those after which pixels of both sizes end together, if there are few."""
    together = size // math.gcd(size, side)
    divisors = [number for number in range(1, min(size, MOST_ROWS) + 1) if size % number == 0]
    for rows in divisors:
        if rows % together == 0 and rows >= LEAST_ROWS:
            return rows
    return divisors[-1]


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


def resized_first(whole: Program) -> Program:
    """The program that normalises smaller images after their resize: equal but for rounding.

    A mean over an area is that of what is normalised as well, of fewer pixels.
    """
    points = {name: _resized_first(point) for name, point in whole.points.items()}
    return dataclasses.replace(whole, points=points)


def _resized_first(point: PointProgram) -> PointProgram:
    places = [isinstance(operation, program.Resize) for operation in point.operations]
    if not any(places):
        return point
    place = places.index(True)
    cast, *normalising = point.operations[:place]
    resize = point.operations[place]
    assert isinstance(resize, program.Resize)
    size, side = resize.shares.shape
    if size >= side or not normalising:
        return point
    first = dataclasses.replace(resize, x=cast.out, out=f'{cast.out}/resized')
    moved: list[program.Operation] = [cast, first]
    for operation in normalising:
        moved.append(dataclasses.replace(operation, x=moved[-1].out))
    moved[-1] = dataclasses.replace(moved[-1], out=resize.out)
    return dataclasses.replace(point, operations=(*moved, *point.operations[place + 1 :]))
