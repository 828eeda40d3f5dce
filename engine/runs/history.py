"""The history of a run: a row of metrics per epoch, which training writes to ``stats.json``."""

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.files import Damaged, derived, read_json, write_json
from engine.schema import Count, Metric, Percent
from nets.points import ENSEMBLE

FILE = 'stats.json'

# The record of the best epoch.
BEST_FILE = 'best.json'

# Metrics of one epoch by name.
Row = dict[str, float]

# Names of the metrics that a row is known by.
EPOCH, STEP, MEAN_TOP1 = 'epoch_num', 'global_step', 'val/mean/top1'


@dataclasses.dataclass(frozen=True)
class Best:
    """The content of ``best.json``, about the checkpoint ``best``.

    Attributes:
        mean_top1: percent, over the operating points.
        step: of the training.
        epoch: likewise.
    """

    mean_top1: Percent
    step: Count
    epoch: Count


def read(folder: Path, remedy: str) -> list[Row]:
    """Rows of a run, epoch by epoch.

    Args:
        folder: The run folder.
        remedy: End of the message if they cannot be read.

    Raises:
        UsageError: The file cannot be read.
        Damaged: It is no history.
    """
    path = folder / FILE
    rows = read_json(path, list[dict[str, Metric]], remedy)
    _check(path, rows, remedy)
    return rows


def _check(path: Path, rows: Sequence[Row], remedy: str) -> None:
    """Checks that every row is about a later epoch.

    Raises:
        Damaged: One is not.
    """
    before = 0
    for number, row in enumerate(rows, 1):
        epoch = row.get(EPOCH)
        if not isinstance(epoch, int) or epoch <= before:
            raise Damaged(
                f'{path}: damaged ("row {number}.{EPOCH}": {epoch!r}, a whole number above '
                f'{before} expected); {remedy}'
            )
        before = epoch


def recorded(folder: Path) -> list[Row]:
    """Rows that a training goes on from; none, said so, of a damaged file, which is set aside."""
    found = derived(folder / FILE, lambda remedy: read(folder, remedy))
    return found or []


def write(folder: Path, rows: Iterable[Row]) -> None:
    """Writes the rows of a run."""
    write_json(folder / FILE, list(rows))


def scores(row: Row) -> dict[str, float]:
    """Top-1 of a row by operating point, in percent, as the row orders them; without ensembles."""
    found = {}
    for name, value in row.items():
        parts = name.split('/')
        if len(parts) == 3 and parts[0] == 'val' and parts[2] == 'top1' and parts[1] != 'mean':
            found[parts[1]] = value
    return {point: top1 for point, top1 in found.items() if not point.startswith(ENSEMBLE)}


def best(rows: Sequence[Row]) -> Best | None:
    """The first epoch with the highest mean top-1; None where none was scored."""
    scored = [row for row in rows if MEAN_TOP1 in row and STEP in row]
    if not scored:
        return None
    row = max(scored, key=operator.itemgetter(MEAN_TOP1))
    return Best(row[MEAN_TOP1], int(row[STEP]), int(row[EPOCH]))
