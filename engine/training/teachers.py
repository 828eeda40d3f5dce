"""The network that ``--teacher`` names: found, compared with what a run began with, recorded."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.config.config import Config
from engine.data.classes import differences
from engine.errors import UsageError, prefixed
from engine.files import nearby, read_json, write_json
from engine.importers import pytorch
from engine.optimization import teaching
from engine.quantities import counted
from engine.runs.folder import Run
from nets.points import Point
from quant.spelling import unknown

if TYPE_CHECKING:
    from engine.graph.teacher import Teacher
    from engine.runs.checkpoint import Checkpoint

# The record in a run folder.
FILE = 'teacher.json'


@dataclasses.dataclass(frozen=True)
class TeacherRecord:
    """The content of ``teacher.json``.

    Attributes:
        checkpoint: its name in the teacher's folder; empty where a file was named.
        point: operating point.
        digest: of its variables.
    """

    checkpoint: str
    point: str
    digest: str


@dataclasses.dataclass(frozen=True)
class Found:
    """A teacher, and what is recorded of it."""

    teacher: 'Teacher'
    record: TeacherRecord

    def note(self, run: Run) -> None:
        """Records it in the folder of a run that has just begun."""
        if not (run.path / FILE).exists():
            write_json(run.path / FILE, dataclasses.asdict(self.record))


def check_there(config: Config) -> None:
    """Checks what ``--teacher`` points to, as far as that needs no TensorFlow.

    Raises:
        UsageError: there is nothing, a file that is no checkpoint, or what follows a colon is no
            operating point.
    """
    if not config.teacher:
        return
    asked = nearby(config.teacher)
    path, _ = _split(asked)
    if not Path(path).exists() and not Path(f'{path}.index').exists():
        raise UsageError(
            f'--teacher {asked}: no such run folder or checkpoint; give one, such as '
            'train_log/RUN, RUN/model-625 or RUN:s224'
        )
    if pytorch.is_file(path):
        with prefixed(f'--teacher {asked}: '):
            pytorch.describe(path, None, ())


def find(
    config: Config, classes: Sequence[str], *, folder: Path | None, data_format: str
) -> Found | None:
    """The teacher of a training; None if it has none.

    A run that goes on has the one that it began with, wherever that is now.

    Args:
        config: of the run.
        classes: names of its classes, in their order.
        folder: of the run, whose record is followed if it has one; None for a run that begins.
        data_format: of its layers.

    Raises:
        UsageError: there is no such network or point, it is another one than the run began with,
            or it lacks classes.
    """
    if not config.teacher:
        return None
    from engine.graph.teacher import teacher

    there = _recorded(folder)
    asked = nearby(config.teacher)
    path, point = _split(asked)
    with prefixed(f'--teacher {asked}: '):
        source = _read(path, there)
        name = _point(source, point)
        columns = _columns(source, config, classes)
        found = teacher(source, name, columns, learner=config, data_format=data_format)
    record = TeacherRecord(_checkpoint(path, source), name, found.digest)
    if there is not None and there.digest != record.digest:
        raise UsageError(
            f'--teacher {asked}: the run in {folder} began to learn from another network, '
            f'{there.checkpoint or "a checkpoint"} at {there.point}; give that, from any place, or '
            '-a n for a new folder'
        )
    said = f'{source.prefix} at {name}'
    print(f'teacher {said}: {config.teacher_weight:g} of the loss, labels {config.label_weight:g}')
    return Found(found, record)


def _split(text: str) -> tuple[str, Point | None]:
    try:
        return teaching.split(text)
    except ValueError as error:
        raise UsageError(f'--teacher {text}: {error}') from error


def _recorded(folder: Path | None) -> TeacherRecord | None:
    """The record of a run folder; None without one."""
    if folder is None or not (folder / FILE).exists():
        return None
    return read_json(folder / FILE, TeacherRecord, 'the run began with this teacher; put it back')


def _read(path: str, there: TeacherRecord | None) -> 'Checkpoint':
    """The checkpoint at a path; of a folder the one that a record names, or its last.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    from engine.deployment import run_backend

    if there is None or not there.checkpoint or not Path(path).is_dir():
        return run_backend.read(path, None, 'raw')
    prefix = str(Path(path) / there.checkpoint)
    if not Path(f'{prefix}.index').exists():
        raise UsageError(
            f'has no checkpoint {there.checkpoint}, from which the run learned; put it back, or '
            'give -a n for a new folder'
        )
    return run_backend.read(prefix, None, 'raw')


def _checkpoint(path: str, source: 'Checkpoint') -> str:
    """Name of a checkpoint in its folder; empty if not the folder was named."""
    if Path(path).is_dir() and source.prefix != path:
        return Path(source.prefix).name
    return ''


def _point(source: 'Checkpoint', point: Point | None) -> str:
    """Spelling of the operating point; the strongest one where none was named.

    Raises:
        UsageError: there is no such point.
    """
    from engine.graph import freeze

    known = freeze.points(source)
    if point is None:
        return known[0]
    if str(point) not in known:
        raise UsageError(f'{source.prefix}: point {point} is {unknown(str(point), known)}')
    return str(point)


def _columns(source: 'Checkpoint', config: Config, classes: Sequence[str]) -> np.ndarray:
    """int [classes of the run]: which answer of the teacher stands for each class.

    Raises:
        UsageError: it lacks classes, or has another number of unnamed ones.
    """
    assert source.config is not None
    names = source.class_names
    if not names and source.config.classes == config.classes or names == tuple(classes):
        return np.arange(config.classes)
    if not names:
        raise UsageError(
            f'{source.prefix} has {counted(source.config.classes, "class")} without names, the run '
            f'{config.classes}; give a teacher of the same classes'
        )
    index = {name: number for number, name in enumerate(names)}
    if len(index) < len(names) or not set(classes) <= index.keys():
        raise UsageError(
            f'the {len(classes)} classes of the run are not among the {len(names)} of '
            f'{source.prefix} ({differences(names, classes)}); give a teacher that knows them by '
            'the same names'
        )
    return np.array([index[name] for name in classes])
