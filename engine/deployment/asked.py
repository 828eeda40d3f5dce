"""The ways to choose what answers: a point, a budget, a deadline, a cascade, thresholds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.quantities import quantity


@dataclasses.dataclass(frozen=True)
class Asked:
    """One of several ways to choose what answers.

    Attributes:
        point: operating point.
        budget: multiply-adds of an image.
        deadline_ms: milliseconds of an image.
        cascade: file of one.
        thresholds: by exit or stage.
    """

    point: str | None = None
    budget: str | float | None = None
    deadline_ms: float | None = None
    cascade: str | Path | None = None
    thresholds: Sequence[float] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Values that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def check(self) -> None:
        """Checks that at most one is given, and that an amount is one.

        Raises:
            UsageError: there are more, or it is none.
        """
        given = [f'{name} {value}' for name, value in self.given.items()]
        if len(given) > 1:
            raise UsageError(f'{" and ".join(given)}: give one of them')
        if self.budget is not None:
            quantity('budget', str(self.budget))
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise UsageError(f'deadline_ms {self.deadline_ms:g}: must be milliseconds, more than 0')
