"""The study of quantizers: which trainings there are, which rate each method gets, in which order.

Every seed has a float network of its own, from which all methods are fine-tuned in equally many
steps. The first seed tries the rates, scored on training images that were set aside before the
float network was trained; the best is the method's rate, and its networks are scored on the test
set once. What is tried follows from the registry of quantizers, see ``quant.pairs``.
"""

import argparse
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine import figures
from engine.console import Progress
from engine.errors import UsageError
from engine.files import read_json, write_json, write_text
from engine.results import formats, quantizer_study
from engine.results.quantizer_study import HOLDOUT, TEST, Result, Study
from engine.schema import Amount, Positive
from quant import pairs
from quant.pairs import Pair
from quant.quantizer import FLOAT, FLOAT_BITS
from scripts import noted
from scripts.study_worker import Asked, Workers

# Bits of weights and activations; methods that have none of these come at their own.
BITS = 2, 4

# All networks, but for their quantizers and course.
NETWORK = (
    *('--preset', 'demo', '--sizes', '28', '20', '12', '--no-private_basis'),
    *('--holdout', '1000'),
)
PARENT = Pair(FLOAT, FLOAT, FLOAT_BITS)
PARENT_RATE = 0.05

FORM = 'form.json'
TASKS = 'tasks'


@dataclasses.dataclass(frozen=True)
class Form:
    """How much of a study is run.

    Attributes:
        seeds: Float networks, and networks of every method.
        rates: That are tried with the first seed.
        steps: Of fine-tuning.
        parent_epochs: Of the float networks.
        variants: Whether what quantizers name as possible improvements is tried, too.
        exported: Whether a network of every method is exported.
    """

    seeds: Positive
    rates: tuple[Amount, ...]
    steps: Positive
    parent_epochs: Positive
    variants: bool = True
    exported: bool = True


FULL = Form(seeds=3, rates=(0.005, 0.02, 0.05), steps=600, parent_epochs=5)
QUICK = Form(seeds=1, rates=(0.02,), steps=120, parent_epochs=2, variants=False, exported=False)
QUICK_IS_NOT = (
    'quick form: one seed, one rate for all and short training. It shows that every method trains '
    'and roughly where it starts; it does not rank them.'
)


class Task(NamedTuple):
    """One thing to do, and what it needs.

    Attributes:
        name: Of its record; of a training also of its run folder.
        pair: The quantizers.
        seed: Of the training.
        rate: Learning rate.
        scored: Which images are scored: ``holdout``, ``test`` or none.
        needs: Names of tasks that must be done.
        arguments: Of the program.
        program: ``train``, ``score`` or ``export``.
        run: Name of the run folder.
    """

    name: str
    pair: Pair
    seed: int
    rate: float
    scored: str
    needs: tuple[str, ...]
    arguments: tuple[str, ...]
    program: str
    run: str


@functools.cache
def groups(form: Form) -> list[list[Pair]]:
    """All methods, then what they name as possible improvements, in groups of equal bits."""
    found: dict[tuple[int, bool], list[Pair]] = {}
    for pair in pairs.methods(BITS):
        found.setdefault((pair.bits, False), []).append(pair)
    if form.variants:
        for pair in pairs.variants(BITS):
            found.setdefault((pair.bits, True), []).append(pair)
    return list(found.values())


def methods(form: Form) -> list[Pair]:
    """All that is tried."""
    found = []
    for group in groups(form):
        found += group
    return found


@dataclasses.dataclass(frozen=True)
class Plan:
    """The tasks of a study, as far as they follow from what is done.

    Attributes:
        form: How much is run.
        folder: Of the study.
        done: Results by the names of their tasks.
    """

    form: Form
    folder: Path
    done: Mapping[str, Result]

    def tasks(self) -> Iterator[Task]:
        """All tasks whose rate is known, in their order."""
        for place, group in enumerate(groups(self.form)):
            yield from self._of_group(group, with_parents=place == 0)
        if self.form.exported:
            for pair in methods(self.form):
                chosen = self.rate(pair)
                if chosen is not None:
                    yield self._export(pair, chosen)

    def _of_group(self, group: list[Pair], *, with_parents: bool) -> Iterator[Task]:
        """Tasks of methods with the same bits: rates, then what they are compared by.

        Args:
            group: The methods.
            with_parents: Whether the float networks come with them, each when it is needed.
        """
        several = len(self.form.rates) > 1
        if with_parents:
            yield self._parent(0)
        if several:
            for pair in group:
                for rate in self.form.rates:
                    yield self._training(pair, 0, rate, HOLDOUT)
        for seed in range(self.form.seeds):
            if with_parents and seed > 0:
                yield self._parent(seed)
            for pair in group:
                chosen = self.rate(pair)
                if chosen is None:
                    continue
                if seed == 0 and several:
                    yield self._test(pair, chosen)
                else:
                    yield self._training(pair, seed, chosen, TEST)

    def total(self) -> int:
        """Number of all tasks, those whose rate is not known yet included."""
        rates = len(self.form.rates)
        of_method = self.form.seeds + self.form.exported
        if rates > 1:
            of_method += rates
        return self.form.seeds + len(methods(self.form)) * of_method

    def rate(self, pair: Pair) -> float | None:
        """The rate of the best score of the held-out images; None where it is not known yet.

        Of equally good ones it is the smallest. None, too, where no training came to its end.
        """
        if len(self.form.rates) == 1:
            return self.form.rates[0]
        scores = {}
        for rate in sorted(self.form.rates):
            result = self.done.get(name_of(pair, 0, rate))
            if result is None:
                return None
            scores[rate] = result.mean
        best = max(scores, key=scores.__getitem__)
        return best if scores[best] > 0 else None

    def _parent(self, seed: int) -> Task:
        name = f'float-seed{seed}'
        epochs = str(self.form.parent_epochs)
        arguments = (*NETWORK, '--seed', str(seed), '--epochs', epochs, '--lr', str(PARENT_RATE))
        return Task(name, PARENT, seed, PARENT_RATE, TEST, (), arguments, 'train', name)

    def _training(self, pair: Pair, seed: int, rate: float, scored: str) -> Task:
        name = name_of(pair, seed, rate)
        parent = f'float-seed{seed}'
        bits = str(pair.bits)
        arguments = [*NETWORK, '--seed', str(seed), '--load', str(self.folder / parent)]
        arguments += ['--qw', bits, '--qa', bits, '--weight-quantizer', pair.weight]
        arguments += ['--activation-quantizer', pair.activation, '--lr', str(rate)]
        arguments += ['--batch_size', '32', '--epochs', '1', '--warmup', '0.1']
        arguments += ['--steps_per_epoch', str(self.form.steps)]
        if scored == HOLDOUT:
            arguments.append('--score_holdout')
        needs = (parent,)
        return Task(name, pair, seed, rate, scored, needs, tuple(arguments), 'train', name)

    def _test(self, pair: Pair, rate: float) -> Task:
        run = name_of(pair, 0, rate)
        arguments = ('--eval', '--no-score_holdout')
        return Task(f'{run}-test', pair, 0, rate, TEST, (run,), arguments, 'score', run)

    def _export(self, pair: Pair, rate: float) -> Task:
        run = name_of(pair, 0, rate)
        return Task(f'{run}-file', pair, 0, rate, '', (run,), ('--verify', '100'), 'export', run)


def name_of(pair: Pair, seed: int, rate: float) -> str:
    """Name of a training, by which its folder is known.

    Args:
        pair: The quantizers.
        seed: Of the training.
        rate: Learning rate.
    """
    label = pair.label.replace(' ', '').replace("'", '').replace('"', '')
    return f'w{pair.bits}a{pair.bits}-{label}-rate{rate:g}-seed{seed}'


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
    known = read_json(path, Form, 'choose another --folder')
    if known != form:
        raise UsageError(
            f'--folder {folder}: holds a study of another form ({known}); choose another folder, '
            'or give the same flags'
        )


def asked(task: Task, folder: Path, form: Form) -> Asked:
    """A task as a worker gets it.

    Args:
        task: The task.
        folder: Of the study.
        form: How much is run.
    """
    empty = Result(
        task.name,
        task.pair.weight,
        task.pair.activation,
        task.pair.bits,
        task.seed,
        task.rate,
        form.steps if task.pair != PARENT else 0,
        task.scored,
    )
    return Asked(task.program, task.arguments, folder / task.run, folder / TASKS, empty)


def run_tasks(form: Form, folder: Path, processes: int) -> None:
    """Does all tasks that are not done, some at a time.

    Args:
        form: How much is run.
        folder: Of the study.
        processes: Tasks at a time.
    """
    done = read_done(folder)
    total = Plan(form, folder, done).total()
    with (
        Workers(processes) as workers,
        Progress('study', total, 'tasks', done=len(done)) as progress,
    ):
        while True:
            for task in Plan(form, folder, done).tasks():
                if not workers.idle:
                    break
                is_ready = all(name in done for name in task.needs)
                if task.name in done or task.name in workers.busy or not is_ready:
                    continue
                progress.note(task.name)
                workers.start(asked(task, folder, form))
            if not workers.busy:
                return
            for result in workers.finished():
                done[result.task] = result
                progress.update()


def collect(folder: Path) -> Study:
    """Gathers the records of a study into one file."""
    form = read_json(folder / FORM, Form, 'run the study again')
    study = Study(dataclasses.asdict(form), list(read_done(folder).values()))
    quantizer_study.write(folder, study)
    return study


def shown(study: Study, style: str) -> str:
    """The table of a study, and what is to be said beside it.

    Args:
        study: The records.
        style: One of ``formats.FORMATS``.
    """
    table = quantizer_study.table(study, pairs.DEFAULT)
    notes = quantizer_study.failures(study)
    if not table.rows:
        notes.insert(0, quantizer_study.NOTHING)
    if study.form.get('seeds') == 1 and len(study.form.get('rates', ())) == 1:
        notes += ['', QUICK_IS_NOT]
    text = formats.render([table], style)
    note = '\n'.join(notes).strip()
    return noted(text, note, style) if note else text


def written(study: Study, folder: Path) -> str:
    """Writes the table, and the picture where matplotlib is there, and says where they are."""
    write_text(folder / 'table.md', shown(study, 'markdown') + '\n')
    lines = []
    if figures.available():
        picture = folder / 'quantizers.svg'
        figures.save(quantizer_study.draw(study, pairs.DEFAULT), str(picture))
        lines.append(f'picture: {picture}')
    lines.append(f'table: {folder / "table.md"}, records: {folder / quantizer_study.RECORDS}')
    return '\n'.join(lines)


def run(args: argparse.Namespace) -> str:
    """Runs or continues a study and returns its table, or that of records that are there.

    Raises:
        UsageError: The folder holds another study, or there are no records.
    """
    if args.table is not None:
        return shown(quantizer_study.read(args.table), args.format)
    form = QUICK if args.quick else FULL
    given: dict[str, Any] = {}
    for name in ('seeds', 'steps', 'rates'):
        value = getattr(args, name)
        if value is not None:
            given[name] = tuple(value) if name == 'rates' else value
    form = dataclasses.replace(form, **given)
    kind = 'quantizers-quick' if args.quick else 'quantizers'
    folder = args.folder or Path('train_log') / kind
    (folder / TASKS).mkdir(parents=True, exist_ok=True)
    open_form(folder, form)
    try:
        run_tasks(form, folder, max(1, args.processes))
    finally:
        study = collect(folder)
    text = shown(study, args.format)
    return noted(text, written(study, folder), args.format)
