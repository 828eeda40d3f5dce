"""Shapes of all that a point computes, and whether its operations fit to what they read.

A program that was traced fits; one that was read from a file has to be asked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from engine.deployment import program, shape_rules
from engine.deployment.alignment import reads, results
from engine.deployment.choices import Choose, Number
from engine.deployment.program import Codes, Constant, Operation, Part, PointProgram
from engine.deployment.shape_rules import Tensor

# Numbers of a result for one image: more would take gigabytes to compute.
LARGEST = 2**27


class Shapes:
    """The results of a point as its operations are added one by one.

    Args:
        constants: the pool.
        point: whose inputs are known from the start; its operations are not looked at.

    Attributes:
        tensors: what is known, by name.
    """

    def __init__(self, constants: Mapping[str, Constant], point: PointProgram):
        self._constants = constants
        self._limits = functools.cache(self._limits_of)
        side, channels = point.side, point.channels
        self.tensors = {point.input: Tensor((side, side, channels), raw=True)}
        for name, edge in point.views:
            self.tensors[name] = Tensor((edge, edge, channels), raw=True)

    def add(self, operation: Operation) -> None:
        """Adds the results of an operation.

        Raises:
            ValueError: it does not fit to what it reads.
        """
        name = type(operation).__name__
        for read in reads(operation):
            if read not in self.tensors:
                raise ValueError(f'{name} {operation.out} reads {read}, which comes later or never')
        for made in results(operation):
            if made in self.tensors:
                raise ValueError(f'{name} {operation.out} gives {made}, which is there')
        try:
            found = self._results(operation)
        except ValueError as error:
            raise ValueError(f'{name} {operation.out} {error}') from None
        for tensor in found:
            if math.prod(tensor.shape) > LARGEST or min(tensor.shape, default=1) < 1:
                raise ValueError(f'{name} {operation.out} would give {list(tensor.shape)} an image')
        self.tensors.update(zip(results(operation), found, strict=True))

    def _results(self, operation: Operation) -> list[Tensor]:
        if isinstance(operation, Choose):
            return self._chosen(operation)
        x = self.tensors[operation.x]
        if isinstance(operation, Number):
            return [Tensor(())]
        if x.raw != isinstance(operation, program.Cast):
            raise ValueError('reads bytes of images' if x.raw else 'reads no images')
        return [shape_rules.RULES[type(operation)](self, operation, x)]

    def _chosen(self, operation: Choose) -> list[Tensor]:
        """Results of a choice, which are alike in all branches.

        Raises:
            ValueError: they are not.
        """
        if self.tensors[operation.x].shape != ():
            raise ValueError('chooses by what is no number')
        if not operation.branches:
            raise ValueError('has no branches')
        found = []
        for names in zip(*operation.branches, strict=True):
            tensors = [self.tensors[name] for name in names]
            shapes = {(tensor.shape, tensor.raw) for tensor in tensors}
            if len(shapes) > 1 or tensors[0].raw:
                raise ValueError(f'has branches of different shapes, {" ".join(names)}')
            found.append(Tensor(tensors[0].shape, all(tensor.whole for tensor in tensors)))
        return found

    def _limits_of(self, name: str) -> tuple[float, float, bool]:
        """Smallest and largest value of a constant, and whether all are whole numbers."""
        stored = self._constants[name]
        values = stored.levels if isinstance(stored, Codes) else stored.values
        whole = np.array_equal(np.rint(values), values)
        return float(values.min()), float(values.max()), bool(whole)

    def is_whole(self, part: Part, low: int, high: int) -> bool:
        """Whether a constant has whole numbers within limits.

        Args:
            part: the constant.
            low: least number.
            high: largest number.
        """
        least, most, whole = self._limits(part.name)
        return whole and low <= least and most <= high

    def increases(self, part: Part) -> bool:
        """Whether no value [L] of a constant is below the one before, or no number."""
        values = self._constants[part.name].values[: part.shape[0]]
        return not bool(np.isnan(values).any()) and bool((values[1:] >= values[:-1]).all())


def of_point(constants: Mapping[str, Constant], point: PointProgram) -> dict[str, Tensor]:
    """Shapes of all results of a point by name.

    Args:
        constants: the pool.
        point: with all of its operations.

    Raises:
        ValueError: an operation does not fit to what it reads.
    """
    shapes = Shapes(constants, point)
    for operation in point.operations:
        shapes.add(operation)
    return shapes.tensors
