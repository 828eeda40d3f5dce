"""One exported file in one runtime, in a process of its own: `bench deploy` asks it for answers.

    python -m scripts.bench.deploy_process RUNTIME FILE NUMBER SIDE

A process of its own shows what a program that does nothing else needs: processor time until its
first answer, and memory. Requests and answers are pickles on its standard input and output.
"""

import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.deployment import runtimes
from engine.errors import UsageError
from scripts.bench.turns import peak_mb


class Start(NamedTuple):
    """Cost of a process up to its first answer.

    Attributes:
        cpu_s: seconds of the processor.
        rss_mb: megabytes of memory at the peak.
    """

    cpu_s: float
    rss_mb: float


class Timed(NamedTuple):
    """Answers, and what they took.

    Attributes:
        wall_s: seconds of the clock.
        cpu_s: seconds of the processor.
        logits: [N, classes].
    """

    wall_s: float
    cpu_s: float
    logits: np.ndarray


class Served:
    """A file in a process of its own.

    Args:
        runtime: name of the runtime.
        file: ONNX file.
        number: place of the operating point in the file.
        side: edge of its images, pixels.

    Attributes:
        start: what it took to answer for the first time.

    Raises:
        UsageError: the process ended, for instance as the runtime cannot load the file.
    """

    def __init__(self, runtime: str, file: Path, number: int, side: int):
        module = [sys.executable, '-m', 'scripts.bench.deploy_process']
        arguments = [runtime, str(file), str(number), str(side)]
        self._what = f'{file.name} in {runtime}'
        self._process = subprocess.Popen(
            [*module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.start = Start(*self._receive())

    def run(self, images: np.ndarray) -> Timed:
        """Answers for images uint8 [N, side, side, 3], the second time that they are computed.

        After the turn of another process nothing of this one is in the caches of the processor.

        Raises:
            UsageError: the process ended.
        """
        assert self._process.stdin is not None
        pickle.dump(images, self._process.stdin)
        self._process.stdin.flush()
        return Timed(*self._receive())

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _receive(self) -> tuple[Any, ...]:
        assert self._process.stdout is not None
        try:
            return pickle.load(self._process.stdout)
        except EOFError as error:
            raise UsageError(f'{self._what}: its process ended; see above') from error


def serve(argv: Sequence[str]) -> None:
    """Answers until its standard input ends."""
    runtime, file, number, side = argv
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a runtime prints is no answer
    content = Path(file).read_bytes()
    run = runtimes.load(runtime, content, file, threads=1).at(int(number), int(side))
    run(np.zeros((1, int(side), int(side), 3), np.uint8))
    found: Start | Timed = Start(time.process_time(), peak_mb())
    while True:
        pickle.dump(tuple(found), answers)
        answers.flush()
        try:
            images = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        run(images)
        wall, cpu = time.perf_counter(), time.process_time()
        logits = run(images)
        found = Timed(time.perf_counter() - wall, time.process_time() - cpu, logits)


if __name__ == '__main__':
    serve(sys.argv[1:])
