"""Parts of a list of operations that are executed together: all of it, and branches of choices."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from engine.deployment.alignment import names, results
from engine.deployment.choices import Choose
from engine.deployment.joining import Row
from engine.deployment.program import Operation

# Name of a choice and number of a branch, from the outermost one inwards.
Path = tuple[tuple[str, int], ...]


@dataclasses.dataclass
class Region:
    """Operations in an order of execution.

    Attributes:
        rows: those that are executed with the region.
        branches: regions of the choices among them, by name of the choice.
    """

    rows: list[Row] = dataclasses.field(default_factory=list)
    branches: dict[str, list[Region]] = dataclasses.field(default_factory=dict)


def regions(rows: Sequence[Row], outputs: Sequence[str]) -> Region:
    """A list of operations, each as far inside of branches as all that reads it.

    Args:
        rows: in an order of execution.
        outputs: names of what is wanted.
    """
    paths: dict[str, Path] = dict.fromkeys(outputs, ())
    places: list[Path | None] = []
    for row in reversed(rows):
        uses = [paths[name] for name in results(row[0]) if name in paths]
        place = _common(uses) if uses else None
        places.append(place)
        if place is not None:
            for name, path in _reads(row, place):
                paths[name] = _common([path, paths.get(name, path)])
    by_path: dict[Path, Region] = collections.defaultdict(Region)
    for row, place in zip(rows, reversed(places)):
        if place is None:
            continue
        by_path[place].rows.append(row)
        if isinstance(row[0], Choose):
            out = row[0].out
            steps = [(out, number) for number in range(len(row[0].branches))]
            by_path[place].branches[out] = [by_path[(*place, step)] for step in steps]
    return by_path[()]


def _reads(row: Row, place: Path) -> list[tuple[str, Path]]:
    """Results that an operation reads, and where it does.

    Args:
        row: the operation at every point.
        place: where the operation stands.
    """
    first: Any = row[0]
    if isinstance(first, Choose):
        found = [(first.x, place)]
        for number, branch in enumerate(first.branches):
            inside = (*place, (first.out, number))
            found.extend((name, inside) for name in branch)
        return found
    return [(name, place) for name in reads(first)]


def reads(operation: Operation) -> list[str]:
    """Names of all results that an operation reads."""
    found: list[str] = []
    for field, value in names(operation).items():
        if field == 'branches':
            for branch in value:
                found += branch
        elif isinstance(value, str):
            found.append(value)
        else:
            found += value
    return found


def _common(paths: Sequence[Path]) -> Path:
    """Where all paths still are together."""
    shortest = min(paths, key=len)
    for number, step in enumerate(shortest):
        if any(path[number] != step for path in paths):
            return shortest[:number]
    return shortest
