"""Cascades that were chosen for a run, with their costs; pure numpy."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.results import cascades, chains, exit_records, profiles, tables
from engine.results.cascades import Cascade, Stored
from engine.results.exit_records import MADDS
from engine.results.tables import Row, Run
from engine.runs import fingerprint
from engine.runs.folder import checkpoints


class Recorded(NamedTuple):
    """A cascade on the validation images.

    Attributes:
        stored: the cascade and its file.
        madds: mean multiply-adds of an image.
        ms: mean milliseconds of an image alone; None where they were not measured.
    """

    stored: Stored
    madds: float
    ms: float | None

    @property
    def cascade(self) -> Cascade:
        """The cascade."""
        return self.stored.cascade


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
    own = [stored for stored in found if stored.cascade.identity == identity]
    points: dict[str, None] = {}
    for stored in own:
        points.update(dict.fromkeys(stored.cascade.points))
    single = exit_records.pass_costs(folder, list(points), MADDS)
    times = profiles.times_of(folder, device)
    rows = []
    for stored in own:
        one = stored.cascade
        if not single.keys() >= set(one.points):
            continue
        shares = np.array(one.validation.shares)
        madds = float(shares @ chains.costs(one.points, single))
        ms = None
        if times.keys() >= set(one.points):
            ms = float(shares @ chains.costs(one.points, times))
        rows.append(Recorded(stored, madds, ms))
    return sorted(rows, key=lambda row: row.madds)


def of_runs(runs: Sequence[Run], folders: Sequence[str], device: str = '') -> list[Run]:
    """The cascades of runs as runs of their own, which are curves beside those of the points.

    Args:
        runs: as ``tables.read_runs`` read them.
        folders: that it was given.
        device: as of ``tables.read_runs``.

    Raises:
        UsageError: a record cannot be read.
    """
    timed_on = profiles.device_of(map(Path, folders), device)
    found = []
    for run, folder in zip(runs, tables.distinct(folders), strict=True):
        name = f'{run.name}, cascades'
        rows: dict[tuple[float, ...], Row] = {}
        for one in recorded(folder, timed_on):
            cascade = one.cascade
            same = [row for row in run.rows if row.images in (None, cascade.validation.images)]
            if same:
                rows[one.madds, cascade.validation.top1] = _row(name, one, same[0])
        if rows:
            config = {**run.config, 'sizes': []}
            dearest_first = tuple(reversed(rows.values()))
            found.append(Run(name, config, dearest_first))
    return found


def _row(name: str, one: Recorded, like: Row) -> Row:
    """A cascade as a row.

    Args:
        name: in tables.
        one: the cascade.
        like: row of a point that was measured on the same images.
    """
    judged = one.cascade.validation
    return Row(
        run=name,
        qw=like.qw,
        qa=like.qa,
        point=one.cascade.name,
        bn=one.cascade.name,
        madds=one.madds,
        weight_bytes=like.weight_bytes,
        top1=judged.top1,
        top5=judged.top5,
        images=judged.images,
        ms=one.ms,
        conditions=like.conditions,
        device=like.device,
    )
