"""Operations of a program that choose what is executed."""

from __future__ import annotations

import dataclasses

from engine.deployment.program import Operation


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
