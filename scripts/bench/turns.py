"""Steps of processes that take turns: each has its own memory; a slow moment hits all of them.

Python's own library only: a process may run in an environment that has nothing of what we need.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import UsageError

ROOT = Path(__file__).parents[2]

# The peak of a process's own memory: ``getrusage`` counts that of its parent, too.
PEAK = 'VmHWM:'


class Step(NamedTuple):
    """Cost of one step: seconds of the CPU and of the clock, and MB at the peak so far."""

    cpu_s: float
    wall_s: float
    peak_mb: float


class Ended(UsageError):
    """A process that ended instead of answering; why is on the standard error output."""


def peak_mb() -> float:
    """Megabytes of memory of this process at the peak."""
    for line in Path('/proc/self/status').read_text().splitlines():
        name, *words = line.split()
        if name == PEAK:
            return int(words[0]) / 1024
    return float('nan')


def measured(step: Callable[[], Any]) -> Step:
    """The cost of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Step(cpu, wall, peak_mb())


def serve(
    prepare: Callable[[], tuple[Mapping[str, Any], Callable[[], Any]]], *, again: bool = False
) -> None:
    """Prints a line of JSON about a step, and one with its cost for every line of input.

    Args:
        prepare: gives what is to be said of the step, and the step. What both took is added to the
            former, and what the process has taken by the end of the first step.
        again: whether a step is done twice, of which the second is measured.
    """
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # whatever a library prints is no answer
    start = time.perf_counter()
    about, step = prepare()
    build_s = time.perf_counter() - start
    first = measured(step)
    told = {
        **about,
        'build_s': build_s,
        'first_step_s': first.wall_s,
        'start_cpu_s': time.process_time(),
        'start_mb': first.peak_mb,
    }
    step()
    print(json.dumps(told), file=answers, flush=True)
    for _ in sys.stdin:
        if again:
            step()
        print(json.dumps(measured(step)), file=answers, flush=True)


class Process:
    """A process that takes steps when asked, see ``serve``.

    Args:
        module: that serves.
        arguments: of the module.
        python: interpreter that runs it.
        environment: variables beside those of this process.

    Attributes:
        about: what it says of its step.

    Raises:
        Ended: it ended before its first step was done.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ):
        variables = {**os.environ, 'PYTHONPATH': str(ROOT), **(environment or {})}
        self._module = module
        self._process = subprocess.Popen(
            [python, '-m', module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
        self.about: dict[str, Any] = self._receive()

    def step(self) -> Step:
        """The cost of the next step.

        Raises:
            Ended: the process ended, for instance for want of memory.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of a process that has ended
            self._process.stdin.write('\n')
            self._process.stdin.flush()
        return Step(*self._receive())

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            code = self._process.returncode
            raise Ended(f'{self._module} ended with status {code}; see above')
        return json.loads(line)


def by_turns(
    processes: Mapping[str, Process], rounds: int, about: str = ''
) -> dict[str, list[Step]]:
    """Costs of the steps of every process, by round; they end with it.

    Args:
        processes: by name.
        rounds: measured steps of each.
        about: what its progress is shown with.
    """
    from tqdm import tqdm  # which an environment of another framework may lack

    found: dict[str, list[Step]] = {name: [] for name in processes}
    for _ in tqdm(range(rounds), about, unit='round', disable=None):
        for name, process in processes.items():
            found[name].append(process.step())
    for process in processes.values():
        process.close()
    return found
