"""Run folders at a glance, however far each of them is. Pure Python."""

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.results import records
from engine.results.formats import Column, Table
from engine.runs import failure, history, lock
from engine.runs.folder import CONFIG, checkpoints
from nets.points import ENSEMBLE

# States of a folder. The last two were not trained here: there is a network, or records alone.
RUNNING, FINISHED, INTERRUPTED, FAILED = 'running', 'finished', 'interrupted', 'failed'
DAMAGED, IMPORTED, EVALUATION = 'damaged', 'imported', 'evaluation'

# What tensorpack writes where it trains.
LOG = 'log.log'

COLUMNS = (
    Column('run', 'run'),
    Column('state', 'state'),
    Column('epoch'),
    Column('epochs'),
    Column('', 'epochs'),
    Column('best_top1', 'top-1', 2),
    Column('best_point', 'at'),
    Column('net'),
    Column('arch'),
    Column('', 'network'),
    Column('qw'),
    Column('qa'),
    Column('', 'W/A'),
    Column('sizes'),
    Column('points'),
    Column('', 'points: sizes'),
    Column('data', 'data'),
    Column('written'),
    Column('', 'age'),
    Column('why'),
)


@dataclasses.dataclass(frozen=True)
class Listed:
    """A run folder at a glance; what is not known is None or empty.

    Attributes:
        folder: Its path.
        state: One of the constants of this module.
        written: Time of the latest change, seconds.
        config: Fields of its configuration.
        epoch: The last one that ended.
        top1: The highest of an operating point after any epoch, percent; else of its records.
        point: That had it.
        points: Number of operating points that were scored.
        why: What is wrong, or who trains.
    """

    folder: Path
    state: str
    written: float
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    epoch: int | None = None
    top1: float | None = None
    point: str = ''
    points: int | None = None
    why: str = ''


def found(places: Iterable[Path]) -> list[Listed]:
    """All runs in some folders and below, the one that was written last first.

    Raises:
        UsageError: A place is no folder.
    """
    listed = []
    for place in places:
        if not place.is_dir():
            raise UsageError(f'{place}: no such folder; give those of runs, such as train_log')
        for folder in run_folders(place):
            # A folder may go while it is looked at.
            with contextlib.suppress(FileNotFoundError):
                listed.append(look(folder))
    return sorted(listed, key=lambda one: one.written, reverse=True)


def run_folders(place: Path) -> Iterator[Path]:
    """Folders that hold a configuration or a lock, at a place and below."""
    for name, inside, files in os.walk(place):
        locked = any(lock.is_lock(Path(file)) for file in files)
        if CONFIG in files or locked:
            yield Path(name)
            inside.clear()
            continue
        inside[:] = sorted(one for one in inside if not one.startswith('.'))


def look(folder: Path) -> Listed:
    """One folder; what cannot be read in it is said and does no harm.

    Raises:
        FileNotFoundError: The folder is gone.
    """
    times = []
    for entry in os.scandir(folder):
        # A link may lead nowhere, and a run replaces its files.
        with contextlib.suppress(FileNotFoundError):
            times.append(entry.stat().st_mtime)
    one = Listed(folder, INTERRUPTED, max(times, default=folder.stat().st_mtime))
    owner = lock.holder(folder)
    faults = []
    if (folder / CONFIG).exists():
        try:
            config = records.read_config(folder)
            one = dataclasses.replace(one, config=config)
        except UsageError as error:
            faults.append(str(error))
    try:
        one = _trained(one)
    except UsageError as error:
        faults.append(str(error))
    if owner is not None:
        faults.append(str(owner))
        return dataclasses.replace(one, state=RUNNING, why='; '.join(faults))
    if faults:
        return dataclasses.replace(one, state=DAMAGED, why='; '.join(faults))
    return _ended(one)


def _trained(one: Listed) -> Listed:
    """The same with what its history says, or else its records of evaluation.

    Raises:
        UsageError: They are damaged.
    """
    rows: list[history.Row] = []
    if (one.folder / history.FILE).exists():
        rows = history.read(one.folder, 'resume the run')
    scored: dict[str, float] = {}
    for row in rows:
        for point, top1 in history.scores(row).items():
            scored[point] = max(top1, scored.get(point, 0.0))
    trained = bool(scored)
    for path in sorted((one.folder / 'eval').glob('*.json')):
        score = records.read_score(path)
        if score.bn == score.point and not score.point.startswith(ENSEMBLE):
            # Of a point that was trained, the best epoch is told.
            top1 = 0.0 if trained else score.top1
            scored.setdefault(score.point, top1)
    epoch = int(rows[-1][history.EPOCH]) if rows else None
    if not scored:
        return dataclasses.replace(one, epoch=epoch)
    best = max(scored, key=lambda point: scored[point])
    return dataclasses.replace(one, epoch=epoch, top1=scored[best], point=best, points=len(scored))


def _ended(one: Listed) -> Listed:
    """The same with the state of a folder that no process holds."""
    trained = (one.folder / LOG).exists() or one.epoch is not None
    if not trained and checkpoints(one.folder):
        return dataclasses.replace(one, state=IMPORTED)
    if not trained and one.top1 is not None:
        return dataclasses.replace(one, state=EVALUATION)
    why = failure.read(one.folder)
    if why:
        return dataclasses.replace(one, state=FAILED, why=why)
    epochs = one.config.get('epochs')
    if one.epoch is not None and one.epoch == epochs:
        return dataclasses.replace(one, state=FINISHED)
    return one


def table(listed: Iterable[Listed], root: Path) -> Table:
    """Runs as a table.

    Args:
        listed: In order.
        root: Folder that names of runs are relative to, where they lie below it.
    """
    rows = []
    notes = []
    for one in listed:
        name = str(one.folder)
        with contextlib.suppress(ValueError):
            name = str(one.folder.resolve().relative_to(root.resolve()))
        rows.append(_cells(one, name))
        if one.state in (DAMAGED, FAILED):
            notes.append(f'{name}: {one.why}')
    return Table('runs', COLUMNS, rows, notes=notes)


def _cells(one: Listed, name: str) -> list[Any]:
    config = one.config
    epochs = config.get('epochs')
    bits = records.bits_of(config) if config else None
    done = None
    if epochs is not None and one.state not in (IMPORTED, EVALUATION):
        done = f'{one.epoch or 0}/{epochs}'
    sizes = list(config.get('sizes', ()))
    data = config.get('dataset') or Path(str(config.get('data') or '')).name
    written = datetime.datetime.fromtimestamp(one.written)
    return [
        name,
        one.state,
        one.epoch,
        epochs,
        done,
        one.top1,
        one.point,
        config.get('net'),
        config.get('arch'),
        records.network_of(config),
        config.get('qw'),
        config.get('qa'),
        bits,
        ' '.join(map(str, sizes)),
        one.points,
        _points(one.points, sizes),
        data,
        written.isoformat(timespec='seconds'),
        _age(time.time() - one.written),
        one.why,
    ]


def _points(points: int | None, sizes: Sequence[int]) -> str:
    """Number of operating points, and the input sizes that they are of."""
    if not sizes:
        return ''
    span = str(sizes[0]) if len(sizes) == 1 else f'{sizes[0]}-{sizes[-1]}'
    return f'{points or len(sizes)}: {span}'


def _age(seconds: float) -> str:
    """A time that has passed, in its largest unit."""
    for unit, name in ((86400, 'd'), (3600, 'h'), (60, 'min')):
        if seconds >= unit:
            return f'{seconds // unit:.0f} {name}'
    return f'{max(seconds, 0):.0f} s'
