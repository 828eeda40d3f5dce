"""The command that trains: from flags to a finished run folder."""

import argparse
import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.config import hardware, overview
from engine.config.cli import evaluation_flag, explicit, peers
from engine.config.config import Config
from engine.config.resolve import resolve
from engine.config.unrecorded import RESUMING
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.quantities import counted
from engine.runs import environment, failure, holdout
from engine.runs.folder import Run, checkpoints, open_run, placed
from engine.runs.lock import Lock, held
from engine.training import planning, preparing, stages, starting, teachers
from engine.training.preparing import Prepared


def run_training(args: argparse.Namespace) -> None:
    """Trains, stage by stage where ``--progressive`` or the preset say what comes next.

    Raises:
        UsageError: flags, data or folder do not allow it.
    """
    wrong = evaluation_flag(args)
    if wrong:
        raise UsageError(f'{wrong}: is about evaluation; add --eval')
    logdir = None
    if args.logdir:
        logdir = Path(args.logdir)
    chain = stages.chain(explicit(args), args.progressive)
    if len(chain) > 1:
        chain = stages.checked(chain, logdir, args.action, first=_is_first(args))
    if args.dry_run or args.measure:
        planning.show(args, chain, logdir)
        return
    finished, threads = train_one(args, chain[0].given, chain[0].folder(logdir))
    for stage in chain[1:]:
        if stage.calibrates:
            _calibrate(args, finished, threads)
            print(f'{finished} has statistics of all widths', flush=True)
        print(f'{stage.title}, from the weights of {finished}', flush=True)
        given = {**stage.given, 'load': str(finished)}
        finished, threads = train_one(args, given, stage.folder(logdir))


def _calibrate(args: argparse.Namespace, finished: Path, threads: int) -> None:
    """Gives a finished run statistics of all operating points."""
    from engine.evaluation import calibrate

    worker = joined(args)
    with worker.barrier():
        if worker.first and not calibrate.is_calibrated(str(finished)):
            with held(finished):
                calibrate.calibrate_run(str(finished), threads=threads)


def _is_first(args: argparse.Namespace) -> bool:
    """Whether this process is alone, or the first worker of several."""
    others = peers(args)
    return others is None or others[1] == 0


def joined(args: argparse.Namespace) -> Any:
    """This process among those of ``--workers``, or alone."""
    from engine.training import cluster

    return cluster.join(peers(args))


def train_one(
    args: argparse.Namespace, given: Mapping[str, Any], logdir: Path | None
) -> tuple[Path, int]:
    """Trains one network, or finds it trained.

    Args:
        args: flags of this machine and of the folder.
        given: options by name.
        logdir: run folder; None for one named by the configuration.

    Returns:
        Its folder, and the number of decoding threads.

    Raises:
        UsageError: flags, data or folder do not allow it.
    """
    first = _is_first(args)
    lock = None
    with contextlib.ExitStack() as stack:

        def claimed(folder: Path) -> tuple[Path, Lock | None]:
            """The folder of the run and, on the worker that writes there, its lock."""
            if not first:
                return folder, None
            folder = placed(folder, args.action)
            return folder, stack.enter_context(held(folder))

        # Before anything that takes time, where the folder is known.
        if logdir is not None:
            logdir, lock = claimed(logdir)
        config, dataset, notes = resolve(given, starting.described(given, first=first))
        if logdir is None:
            logdir, lock = claimed(Path('train_log') / config.name)
        with _resumable(lock is not None, logdir):
            return _train_one(args, given, logdir, lock, config, dataset, notes)


@contextlib.contextmanager
def _resumable(writes: bool, folder: Path) -> Iterator[None]:
    """A training whose end by a signal says at which step it can go on.

    Args:
        writes: whether this process writes the checkpoints; others do not know.
        folder: of the run.

    Raises:
        KeyboardInterrupt: as raised within, with the step of the last checkpoint if it had none; 0
            where no checkpoint is.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if writes and not stop.args:
            stop.args = (max(checkpoints(folder), default=0),)
        raise


def _train_one(
    args: argparse.Namespace,
    given: Mapping[str, Any],
    logdir: Path,
    lock: Lock | None,
    config: Config,
    dataset: Dataset,
    notes: Sequence[str],
) -> tuple[Path, int]:
    """Trains one network in a folder that is locked, see ``train_one``.

    Args:
        args: flags of this machine and of the folder.
        given: options by name.
        logdir: run folder.
        lock: of the folder; None on workers that write nothing.
        config: what is going to be run.
        dataset: its data.
        notes: on how that came about.
    """
    asked = set(given)
    if args.threads is not None:
        asked.add('operation_threads')
    own_folder = logdir if lock is not None else None
    ready = preparing.prepare(args, config, dataset, notes, own_folder, given=asked)
    dataset = ready.dataset
    from engine.graph import sessions
    from engine.training import train

    data_format, threads = hardware.prepare(config, dataset, args)
    config = sessions.settled(config, args.threads)
    # A run that goes on has its own number.
    sessions.begun(ready.config, args.threads)
    worker = joined(args)
    starting.check_parts(config)
    # The other workers get from the first one what it reads.
    values = starting.starting_values(config) if worker.first else None
    known = logdir if args.action in RESUMING and worker.first else None
    taught = teachers.find(config, dataset.classes, folder=known, data_format=data_format)
    run = Run(logdir)
    if worker.first:
        run = _open(config, logdir, args.action, ready, asked)
        run = dataclasses.replace(run, lock=lock)
        if taught is not None:
            taught.note(run)
    config, run = _agreed(worker, config, dataset, run, taught)
    if run.step >= config.epochs * config.steps_per_epoch:
        print(f'{run.path} is complete ({counted(config.epochs, "epoch")}); -a n starts a new run')
        return run.path, threads
    if worker.first:
        environment.record(run.path, run.step)
    _announce(run, worker, config, sessions.line(config, threads))
    with failure.noted(run.path) if worker.first else contextlib.nullcontext():
        train.train(
            config,
            dataset,
            run,
            values=values,
            data_format=data_format,
            threads=threads,
            worker=worker,
            teacher=taught.teacher if taught is not None else None,
            histograms=args.histograms,
        )
    return run.path, threads


def _open(
    config: Config, logdir: Path, action: str | None, ready: Prepared, asked: Collection[str]
) -> Run:
    """The run folder, with the record of the images that are held out.

    Args:
        config: what is going to be run.
        logdir: the folder.
        action: as of ``--action``.
        ready: the data, and what was found out about them.
        asked: names of the options that flags set.
    """
    from engine.runs import checkpoint

    if action == 'n':
        # The lock has made a new folder.
        action = None
    readable = partial(checkpoint.read_variables, flag='--logdir')
    run = open_run(config, logdir, action, images=ready.identity, check=readable, given=asked)
    held_out = ready.dataset.holdout
    if held_out is not None:
        holdout.write(run.path, held_out.indices, ready.images, config.seed)
    return run


def _agreed(
    worker: Any, config: Config, dataset: Dataset, run: Run, taught: teachers.Found | None
) -> tuple[Config, Run]:
    """The configuration and the run that all workers go on with, which are those of the first one.

    Args:
        worker: this process among those that train together.
        config: what this process was started with.
        dataset: its data.
        run: its run; all workers but the first know none of its files.
        taught: the teacher, if there is one.

    Raises:
        UsageError: the workers were started with different configurations, data or teachers.
        WorkerError: one is missing.
    """
    contents = {'teacher': ''}
    if taught is not None:
        contents['teacher'] = taught.record.digest
    if run.config is not None:
        config = config.replacing(operation_threads=run.config.operation_threads)
    step = worker.start(config, dataset, run.step, contents)
    config = worker.agree(run.config or config)
    return config, dataclasses.replace(run, step=step)


def _announce(run: Run, worker: Any, config: Config, threads: str) -> None:
    """Says where a training writes and what it is about to do.

    Args:
        run: the run.
        worker: this process among those that train together.
        config: of the run.
        threads: what is said of the threads of this process.
    """
    place = f'worker {worker.index} of {worker.size}'
    if worker.first:
        place = f'run folder {run.path}'
    if run.step:
        place += f', resuming at step {run.step}'
    print(place, flush=True)
    lines = [
        *overview.network_lines(config),
        *overview.training_lines(config),
        *overview.machine_lines(config, threads),
    ]
    print('\n'.join(lines), flush=True)
