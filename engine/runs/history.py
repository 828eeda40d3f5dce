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
EPOCH, STEP, MEAN_TOP1 = 'epoch_num', 'global_step', 'val/top1/mean'

# The loss, as its tensor is called and as the history calls it, and the learning rate.
TENSOR, LOSS, RATE = 'loss', 'train/loss', 'lr'

# What is measured on validation images.
MEASURED = ('top1', 'top5', 'loss', 'activation')


def metric(measured: str, point: str, weights: str = 'raw') -> str:
    """Name of a metric of validation images.

    Args:
        measured: one of ``MEASURED``.
        point: spelling of an operating point, or what else has a row in tables.
        weights: those that were scored.

    >>> metric('top1', 's224'), metric('loss', 's160-x2', 'ema')
    ('val/top1/s224', 'val-ema/loss/s160-x2')
    """
    start = 'val' if weights == 'raw' else f'val-{weights}'
    return f'{start}/{measured}/{point}'


def tag(name: str) -> str:
    """Name of a metric, given that of a tensor or of an earlier version.

    >>> tag('loss'), tag('loss/s28'), tag('train-error/s28'), tag('learning_rate')
    ('train/loss', 'train/loss/s28', 'train/error/s28', 'lr')
    >>> tag('val/s28/top1'), tag('val-ema/mean/top1'), tag('val/top1/s28'), tag('train/loss')
    ('val/top1/s28', 'val-ema/top1/mean', 'val/top1/s28', 'train/loss')
    """
    start, _, rest = name.partition('/')
    if name == 'learning_rate':
        return RATE
    if start in (TENSOR, 'alpha'):
        return f'train/{name}'
    if start == 'train-error':
        return f'train/error/{rest}'
    if name.endswith('queue_size'):
        return 'data/queue_size'
    point, _, measured = rest.partition('/')
    if start in ('val', 'val-ema') and measured in MEASURED:
        return f'{start}/{measured}/{point}'
    return name


@dataclasses.dataclass(frozen=True)
class Best:
    """The content of ``best.json``, about the checkpoint ``best``.

    Attributes:
        mean_top1: percent, over the operating points.
        step: of the training.
        epoch: of the training.
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
    renamed = []
    for row in rows:
        renamed.append({tag(name): value for name, value in row.items()})
    return renamed


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
    start = metric('top1', '')
    found = {}
    for name, value in row.items():
        point = name.removeprefix(start)
        if name.startswith(start) and point != 'mean' and not point.startswith(ENSEMBLE):
            found[point] = value
    return found


def best(rows: Sequence[Row]) -> Best | None:
    """The first epoch with the highest mean top-1; None where none was scored."""
    scored = [row for row in rows if MEAN_TOP1 in row and STEP in row]
    if not scored:
        return None
    row = max(scored, key=operator.itemgetter(MEAN_TOP1))
    return Best(row[MEAN_TOP1], int(row[STEP]), int(row[EPOCH]))
