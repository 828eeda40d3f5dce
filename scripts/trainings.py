"""Trainings of an experiment: each a run of its own, some at a time, with one progress bar."""

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.console import Progress
from engine.errors import UsageError
from engine.runs import history

ROOT = Path(__file__).resolve().parent.parent

# One thread for each of many runs.
ONE_THREAD = {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1'}


@dataclasses.dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        row: Label of its row in the table; the seeds of a row share it.
        name: Its folder.
        flags: What it adds to the preset.
        epochs: For the progress bar.
        after: Name of the job whose result it starts from, or empty.
        teacher: Name of the job whose result teaches it, which ends no later; or empty.
        foreign: Sizes at which it is also tested, with its own normalisation statistics.
    """

    row: str
    name: str
    flags: tuple[str, ...]
    epochs: int
    after: str = ''
    teacher: str = ''
    foreign: tuple[int, ...] = ()


def finished_epochs(run: Path) -> int:
    """Epochs that a run has recorded; 0 while its record is written or not there."""
    try:
        rows = history.read(run, '')
    except UsageError:
        return 0
    return int(rows[-1][history.EPOCH]) if rows else 0


class Epochs:
    """One bar over the epochs of all jobs, read from the run folders."""

    def __init__(self, jobs: Sequence[Job], folder: Path):
        self._jobs, self._folder = jobs, folder
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> 'Epochs':
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        total = sum(job.epochs for job in self._jobs)
        with Progress('training', total, 'epochs') as progress:
            finished = False
            while not finished:
                finished = self._done.wait(1.0)
                progress.to(sum(finished_epochs(self._folder / job.name) for job in self._jobs))


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Runs the jobs of an experiment.

    Attributes:
        preset: That all jobs start from.
        scored: Ends of the folders of a job that are evaluated once more.
        folder: In which each job has its own.
        processes: Runs at a time.
        environment: Further variables of the environment of a run.
        running: The latest process of each job that has begun.
    """

    preset: str
    scored: tuple[str, ...]
    folder: Path
    processes: int
    environment: dict[str, str]
    running: dict[str, 'subprocess.Popen[bytes]'] = dataclasses.field(default_factory=dict)

    def run(self, jobs: Sequence[Job]) -> bool:
        """Trains all jobs; whether all succeeded. After a failure no further command starts.

        Raises:
            KeyboardInterrupt: on Ctrl-C and SIGTERM, which end those that run, with a checkpoint.
        """
        finished = {job.name: threading.Event() for job in jobs}
        failed = threading.Event()

        def work(job: Job) -> None:
            if job.after:
                finished[job.after].wait()
            for arguments in self.commands(job):
                if not failed.is_set() and self._call(arguments, job.name):
                    failed.set()
            finished[job.name].set()

        # A job that starts from another waits behind the independent ones, so that it never holds a
        # process idle for long.
        ordered = sorted(jobs, key=lambda job: bool(job.after))
        with Epochs(jobs, self.folder), ThreadPoolExecutor(self.processes) as pool:
            try:
                list(pool.map(work, ordered))
            except KeyboardInterrupt:
                failed.set()
                for process in list(self.running.values()):
                    process.terminate()
                raise
        return not failed.is_set()

    def commands(self, job: Job) -> list[list[str]]:
        """Arguments of imagenet_tf.py, command by command."""
        path = str(self.folder / job.name)
        train = ['--preset', self.preset, *job.flags, '--logdir', path]
        if job.after:
            train += ['--load', str(self.folder / job.after)]
        if job.teacher:
            train += ['--teacher', str(self.folder / job.teacher)]
        commands = [train]
        if job.foreign:
            own = job.flags[job.flags.index('--sizes') + 1]
            others = map(str, job.foreign)
            commands.append(['--eval', '-ec', path, '-eos', own, '-es', *others])
        for end in self.scored:
            commands.append(['--eval', '-ec', f'{path}{end}'])
        return commands

    def _call(self, arguments: Sequence[str], name: str) -> int:
        command = [sys.executable, str(ROOT / 'imagenet_tf.py'), *arguments]
        with (self.folder / f'{name}.txt').open('a') as stream:
            print('$', *command, file=stream, flush=True)
            self.running[name] = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
            )
            return self.running[name].wait()
