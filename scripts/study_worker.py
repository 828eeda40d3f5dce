"""Processes that train one network after the other, so that each loads TensorFlow once.

python -m scripts.study_worker FILE     # started by scripts.study, with an open pipe
"""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from engine.entry import STATUS
from engine.errors import UsageError
from engine.files import write_json
from engine.results import records
from engine.results.study_records import Result
from nets import cost
from scripts.trainings import ONE_THREAD

# What a training says whose loss is no number: it is a result.
DIVERGED = 'training stopped at step'


class Failed(UsageError):
    """A task that ended with an error."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """A task as a worker gets it.

    Attributes:
        program: ``train``, ``score`` or ``export``.
        arguments: Of it.
        run: The run folder.
        records: Folder of the records of tasks.
        result: What is known of its result.
    """

    program: str
    arguments: tuple[str, ...]
    run: Path
    records: Path
    result: Result


class Workers:
    """Some worker processes with one thread each.

    Args:
        count: How many.

    Attributes:
        busy: Names of the tasks that are being done.
    """

    def __init__(self, count: int):
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []
        self._free: list[Connection] = []
        self._tasks: dict[Connection, str] = {}

    def __enter__(self) -> 'Workers':
        for _ in range(self._count):
            ours, theirs = multiprocessing.Pipe()
            file = theirs.fileno()
            command = [sys.executable, '-m', 'scripts.study_worker', str(file)]
            environment = os.environ | ONE_THREAD
            process = subprocess.Popen(command, env=environment, pass_fds=[file])
            theirs.close()
            self._processes.append(process)
            self._free.append(ours)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()

    @property
    def idle(self) -> bool:
        """Whether a process waits for a task."""
        return bool(self._free)

    @property
    def busy(self) -> set[str]:
        """Names of the tasks that are being done."""
        return set(self._tasks.values())

    def start(self, asked: Asked) -> None:
        """Gives a task to a process that is idle."""
        connection = self._free.pop()
        connection.send(asked)
        self._tasks[connection] = asked.result.task

    def finished(self) -> Iterator[Result]:
        """Waits for the next results.

        Raises:
            Failed: A task ended with an error.
        """
        for ready in wait(list(self._tasks)):
            assert isinstance(ready, Connection)
            task = self._tasks.pop(ready)
            try:
                answer = ready.recv()
            except EOFError:
                raise Failed(f'{task}: its process died; run the study again') from None
            if isinstance(answer, str):
                raise Failed(answer)
            self._free.append(ready)
            yield answer


def serve(connection: Connection) -> None:
    """Does the tasks that come, until nobody is there to send any."""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            asked = connection.recv()
            try:
                answer: Result | str = perform(asked)
            except Failed as error:
                answer = str(error)
            connection.send(answer)


def perform(asked: Asked) -> Result:
    """Does one task, and records its result.

    Raises:
        Failed: It ended with an error.
    """
    log = asked.run.with_name(f'{asked.result.task}.txt')
    started = time.process_time()
    with log.open('a', encoding='utf-8') as stream, _written_to(stream.fileno()):
        status = PROGRAMS[asked.program](asked)
        values = {} if status else MEASURED[asked.program](asked)
    if status in STATUS.values():
        sys.exit(status)
    if status:
        last = _last_line(log)
        if DIVERGED not in last:
            raise Failed(f'{asked.result.task}: failed; its output is in {log}')
        values = {'failed': last, 'scored': ''}
    seconds = time.process_time() - started
    result = dataclasses.replace(asked.result, cpu_seconds=round(seconds, 2), **values)
    write_json(asked.records / f'{result.task}.json', dataclasses.asdict(result))
    return result


@contextlib.contextmanager
def _written_to(file: int) -> Iterator[None]:
    """A block whose output, that of C++ too, goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in enumerate(kept, start=1):
            os.dup2(before, number)
            os.close(before)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding='utf-8', errors='replace').split('\n')
    found = [line for line in lines if line.strip()]
    return found[-1] if found else ''


def _train(asked: Asked) -> int:
    import imagenet_tf

    arguments = [*asked.arguments, '--logdir', str(asked.run)]
    print('$ imagenet_tf.py', *arguments, flush=True)
    return imagenet_tf.main(arguments)


def _score(asked: Asked) -> int:
    import imagenet_tf

    return imagenet_tf.main([*asked.arguments, '-ec', str(asked.run)])


def _file(asked: Asked) -> Path:
    return asked.run.with_name(f'{asked.run.name}.onnx')


def _export(asked: Asked) -> int:
    from scripts import export

    _file(asked).unlink(missing_ok=True)
    return export.main([str(asked.run), *asked.arguments, '--out', str(_file(asked))])


def _scores(asked: Asked) -> dict[str, Any]:
    """Top-1 by operating point, and what the weights take."""
    layers = records.read_layers(asked.run)
    top1 = {}
    for point in layers:
        top1[point] = records.read_score(asked.run / 'eval' / f'{point}.json').top1
    stored = cost.stored(itertools.chain(*layers.values()))
    codes = [dataclasses.replace(layer, basis=0, bias=0) for layer in cost.low_bit(stored)]
    return {
        'top1': top1,
        'weight_bytes': cost.weight_bytes(stored),
        'code_bytes': cost.weight_bytes(codes),
    }


def _trained(asked: Asked) -> dict[str, Any]:
    """The same, and the CPU time of a step as the training measured it."""
    from engine.training.monitors import STEP_CPU
    from quant.backend import tf

    times = []
    for path in asked.run.glob('events.out.tfevents.*'):
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == STEP_CPU:
                    times.append(value.simple_value)
    return {**_scores(asked), 'step_ms': round(statistics.median(times), 2)}


def _shipped(asked: Asked) -> dict[str, Any]:
    return {'file_bytes': _file(asked).stat().st_size}


PROGRAMS = {'train': _train, 'score': _score, 'export': _export}
MEASURED = {'train': _trained, 'score': _scores, 'export': _shipped}


if __name__ == '__main__':
    serve(Connection(int(sys.argv[1])))
