"""Operations of a program that choose what is executed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from engine.deployment.program import Operation, Part


class Chosen(NamedTuple):
    """The numbers by which a program says which way of one choice it executed.

    Attributes:
        name: ``exit``, ``width``, ``stage``, or the scope of what is executed or not.
        result: name of the whole number that a program computes.
        numbers: all that it can be.
    """

    name: str
    result: str
    numbers: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ByPoint(Operation):
    """A whole number for each point of a file; ``x`` is the place of the point in the file.

    Attributes:
        numbers: by place.
    """

    numbers: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Choose(Operation):
    """Results of one of several branches; what the others alone need is not executed.

    Attributes:
        x: name of the number of the branch, a whole number that holds for the whole batch.
        branches: names of what each gives: ``out``, and what is ``beside`` it.
        beside: names of further results.
    """

    branches: tuple[tuple[str, ...], ...]
    beside: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Number(Operation):
    """A whole number for every image; ``x`` is not read.

    Attributes:
        value: the number.
    """

    value: int


@dataclasses.dataclass(frozen=True)
class Largest(Operation):
    """Index of the largest value of each row, of equal ones the first."""


@dataclasses.dataclass(frozen=True)
class Probabilities(Operation):
    """Softmax of each row."""


@dataclasses.dataclass(frozen=True)
class Confident(Operation):
    """1 where the logarithm of the probability of a row's answer reaches a threshold, else 0.

    Attributes:
        exit: index of the exit, or of the stage of a cascade, whose logits the rows are.
        threshold: [1].
    """

    exit: int
    threshold: Part


def chosen(operations: Sequence[Operation], name: str, result: str) -> Chosen:
    """The choice that a result tells of, with all numbers that it can be.

    Args:
        operations: in the order of execution.
        name: of the choice.
        result: of a ``Choose``, beside its value.
    """
    numbers: set[int] = set()
    left = {result}
    for operation in reversed(operations):
        if isinstance(operation, Choose) and left.intersection(operation.beside):
            left.update(executed for _, executed in operation.branches)
        elif isinstance(operation, Number) and operation.out in left:
            numbers.add(operation.value)
    return Chosen(name, result, tuple(sorted(numbers)))
