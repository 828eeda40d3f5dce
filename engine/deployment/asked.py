"""The ways to choose what answers: a point, a budget, a deadline, a cascade."""

import dataclasses
from pathlib import Path

from engine.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Asked:
    """One of several ways to choose what answers.

    Attributes:
        point: operating point.
        budget: multiply-adds of an image.
        deadline_ms: milliseconds of an image.
        cascade: file of one.
    """

    point: str | None = None
    budget: str | float | None = None
    deadline_ms: float | None = None
    cascade: str | Path | None = None

    def check(self) -> None:
        """Checks that at most one is given.

        Raises:
            UsageError: there are more.
        """
        given = [f'{name} {value}' for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise UsageError(f'{" and ".join(given)}: give one of them')
