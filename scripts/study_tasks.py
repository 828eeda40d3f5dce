"""Tasks of a study: which are done, and doing the others in worker processes, some at a time.

A study that was stopped goes on where it stopped: every task leaves a record in its folder, and a
plan says which tasks there are, as far as they follow from what is done.
"""

import abc
import argparse
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from engine import figures
from engine.console import Progress
from engine.errors import UsageError
from engine.files import read_json, write_json, write_text
from engine.results import formats, study_records
from engine.results.formats import Table
from engine.results.study_records import HOLDOUT, TEST, Result, Study
from engine.schema import Positive
from quant.pairs import Pair
from quant.quantizer import FLOAT_BITS
from quant.specs import FLOAT
from scripts import noted
from scripts.study_worker import Asked, Workers

# All networks, but for their quantizers and course.
NETWORK = (
    *('--preset', 'demo', '--sizes', '28', '20', '12', '--no-private_basis'),
    *('--holdout', '1000'),
)
PARENT = Pair(FLOAT, FLOAT, FLOAT_BITS)
PARENT_RATE = 0.05

FORM = 'form.json'
TASKS = 'tasks'

# Results by the names of their tasks.
Done = Mapping[str, Result]


class Task(NamedTuple):
    """One thing to do, and what it needs.

    Attributes:
        result: What is known of its result before it is done.
        needs: Names of tasks that must be done.
        program: ``train``, ``score`` or ``export``.
        arguments: Of the program.
        run: Name of the run folder.
    """

    result: Result
    needs: tuple[str, ...]
    program: str
    arguments: tuple[str, ...]
    run: str

    @property
    def name(self) -> str:
        """Of its record; of a training also of its run folder."""
        return self.result.task


@dataclasses.dataclass(frozen=True)
class Form:
    """How much of a study is run.

    Attributes:
        seeds: Float networks, and networks of every method.
        steps: Of fine-tuning.
        parent_epochs: Of the float networks.
    """

    seeds: Positive
    steps: Positive
    parent_epochs: Positive


AForm = TypeVar('AForm', bound=Form)


@dataclasses.dataclass(frozen=True)
class Plan(abc.ABC, Generic[AForm]):
    """The tasks of a study, as far as they follow from what is done.

    Attributes:
        form: How much is run.
        folder: Of the study.
        done: Results by the names of their tasks.
    """

    form: AForm
    folder: Path
    done: Done

    @abc.abstractmethod
    def tasks(self) -> Iterator[Task]:
        """All tasks that are known, in their order."""

    @abc.abstractmethod
    def total(self) -> int:
        """Number of all tasks, those that are not known yet included."""

    def parent(self, seed: int) -> Task:
        """The float network of a seed, which others start from."""
        name = parent_name(seed)
        course = ('--epochs', str(self.form.parent_epochs), '--lr', str(PARENT_RATE))
        result = Result(name, *PARENT, seed, PARENT_RATE, 0, TEST)
        return Task(result, (), 'train', (*NETWORK, '--seed', str(seed), *course), name)

    def fine_tuning(self, result: Result, start: str, flags: Sequence[str]) -> Task:
        """The training of a network that starts from another.

        Args:
            result: What is known of its result.
            start: Name of the training that it starts from.
            flags: Those that do not follow from these.
        """
        arguments = [*NETWORK, '--load', str(self.folder / start), *flags]
        arguments += ['--weight-quantizer', result.weight]
        arguments += ['--activation-quantizer', result.activation]
        arguments += ['--seed', str(result.seed), '--lr', str(result.rate), '--batch_size', '32']
        arguments += ['--epochs', '1', '--warmup', '0.1', '--steps_per_epoch', str(result.steps)]
        if result.scored == HOLDOUT:
            arguments.append('--score_holdout')
        return Task(result, (start,), 'train', tuple(arguments), result.task)


class Kind(NamedTuple):
    """A kind of study, and how it differs from others.

    Attributes:
        name: As the command line has it, and of its picture.
        full: Its form.
        quick: That of ``--quick``.
        plan: Its tasks, from its form, its folder and what is done.
        tables: Its tables, from its records.
        draw: Its picture, from its records.
        said: Lines to print below its tables, from its records.
    """

    name: str
    full: Form
    quick: Form
    plan: Callable[[Any, Path, Done], Plan[Any]]
    tables: Callable[[Study], list[Table]]
    draw: Callable[[Study], Any]
    said: Callable[[Study], list[str]]


def parent_name(seed: int) -> str:
    """Name of the float network of a seed."""
    return f'float-seed{seed}'


def read_done(folder: Path) -> dict[str, Result]:
    """Results of the tasks of a study that are done."""
    found = {}
    for path in sorted((folder / TASKS).glob('*.json')):
        result = read_json(path, Result, 'delete it to have this task done again')
        found[result.task] = result
    return found


def open_form(folder: Path, form: Form) -> None:
    """Records the form of a study in its folder, or checks that it is the one that is there.

    Raises:
        UsageError: The folder holds a study of another form.
    """
    path = folder / FORM
    if not path.exists():
        write_json(path, dataclasses.asdict(form))
        return
    known = read_json(path, type(form), 'choose another --folder')
    if known != form:
        raise UsageError(
            f'--folder {folder}: holds a study of another form ({known}); choose another folder, '
            'or give the same flags'
        )


def run_tasks(plan: Callable[[Done], Plan[Any]], folder: Path, processes: int) -> None:
    """Does all tasks that are not done, some at a time.

    Args:
        plan: The tasks, from what is done.
        folder: Of the study.
        processes: Tasks at a time.
    """
    done = read_done(folder)
    with (
        Workers(processes) as workers,
        Progress('study', plan(done).total(), 'tasks', done=len(done)) as progress,
    ):
        while True:
            for task in plan(done).tasks():
                if not workers.idle:
                    break
                is_ready = all(name in done for name in task.needs)
                if task.name in done or task.name in workers.busy or not is_ready:
                    continue
                progress.note(task.name)
                run, records = folder / task.run, folder / TASKS
                workers.start(Asked(task.program, task.arguments, run, records, task.result))
            if not workers.busy:
                return
            for result in workers.finished():
                done[result.task] = result
                progress.update()


def collect(folder: Path, form: Form) -> Study:
    """Gathers the records of a study into one file."""
    study = Study(dataclasses.asdict(form), list(read_done(folder).values()))
    study_records.write(folder, study)
    return study


def shown(kind: Kind, study: Study, style: str) -> str:
    """The tables of a study, and what is to be said beside them.

    Args:
        kind: Of the study.
        study: The records.
        style: One of ``formats.FORMATS``.
    """
    tables = kind.tables(study)
    notes = study_records.failures(study)
    if not any(table.rows for table in tables):
        notes.insert(0, study_records.NOTHING)
    notes += kind.said(study)
    text = formats.render(tables, style)
    note = '\n'.join(notes).strip()
    return noted(text, note, style) if note else text


def written(kind: Kind, study: Study, folder: Path) -> str:
    """Writes the tables, and the picture where matplotlib is there, and says where they are.

    Args:
        kind: Of the study.
        study: Its records.
        folder: Where they go.
    """
    write_text(folder / 'table.md', shown(kind, study, 'markdown') + '\n')
    lines = []
    if figures.available():
        picture = folder / f'{kind.name}.svg'
        figures.save(kind.draw(study), str(picture))
        lines.append(f'picture: {picture}')
    lines.append(f'table: {folder / "table.md"}, records: {folder / study_records.RECORDS}')
    return '\n'.join(lines)


def run(kind: Kind, args: argparse.Namespace) -> str:
    """Runs or continues a study and returns its tables, or those of records that are there.

    Args:
        kind: Of the study.
        args: Flags of ``scripts.study``.

    Raises:
        UsageError: The folder holds another study, there are no records, or nothing to draw.
    """
    if args.table is not None:
        study = study_records.read(args.table)
        if args.picture is not None:
            figures.save(kind.draw(study), args.picture)
        return shown(kind, study, args.format)
    form = kind.quick if args.quick else kind.full
    given: dict[str, Any] = {}
    for name in ('seeds', 'steps', 'rates'):
        value = getattr(args, name)
        if value is not None:
            given[name] = tuple(value) if name == 'rates' else value
    form = dataclasses.replace(form, **given)
    name = f'{kind.name}-quick' if args.quick else kind.name
    folder = args.folder or Path('train_log') / name
    (folder / TASKS).mkdir(parents=True, exist_ok=True)
    open_form(folder, form)
    try:
        run_tasks(functools.partial(kind.plan, form, folder), folder, max(1, args.processes))
    finally:
        study = collect(folder, form)
    text = shown(kind, study, args.format)
    return noted(text, written(kind, study, folder), args.format)
