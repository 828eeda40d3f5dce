"""Cascades that were chosen for a run, with their costs; pure numpy."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.results import cascades, chains, exit_records, profiles
from engine.results.cascades import Cascade
from engine.results.exit_records import MADDS
from engine.runs import fingerprint
from engine.runs.folder import checkpoints


class Recorded(NamedTuple):
    """A cascade on the validation images.

    Attributes:
        file: that holds it; of a sweep, many.
        cascade: the cascade.
        madds: mean multiply-adds of an image.
        ms: mean milliseconds of an image alone; None where they were not measured.
    """

    file: Path
    cascade: Cascade
    madds: float
    ms: float | None


def recorded(folder: Path, device: str) -> list[Recorded]:
    """The cascades of the last checkpoint of a run, cheapest first.

    Args:
        folder: of the run.
        device: name of the one that milliseconds are taken of; empty for none.

    Raises:
        UsageError: a record cannot be read.
    """
    found = cascades.read_all(folder)
    prefixes = list(checkpoints(folder).values())
    if not found or not prefixes:
        return []
    identity = fingerprint.identity(prefixes[-1])
    own = [(path, one) for path, one in found if one.identity == identity]
    points: dict[str, None] = {}
    for _, one in own:
        points.update(dict.fromkeys(one.points))
    single = exit_records.pass_costs(folder, list(points), MADDS)
    times = profiles.times_of(folder, device)
    rows = []
    for path, one in own:
        if not single.keys() >= set(one.points):
            continue
        shares = np.array(one.validation.shares)
        madds = float(shares @ chains.costs(one.points, single))
        ms = None
        if times.keys() >= set(one.points):
            ms = float(shares @ chains.costs(one.points, times))
        rows.append(Recorded(path, one, madds, ms))
    return sorted(rows, key=lambda row: row.madds)
