"""Reads damaged files in a process of their own, and counts what comes of it."""

import contextlib
import dataclasses
import multiprocessing
import os
import resource
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UsageError
from tests.fuzz.damage import flipped, random_damage

# Seconds in which a small file must be read and without a sign of which its process is ended, and
# bytes that reading it may take beside what the process has.
SECONDS, PATIENCE, BYTES = 5.0, 60.0, 2**30

# Damages between two signs of life.
BLOCK = 100


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    Attributes:
        name: In the summary.
        write: Makes a good file in a folder and returns its path.
        read: Reads the file and returns all that it holds: arrays, numbers, texts, dataclasses.
        closed: Whether the file tells every change. If not, another value may be read, as from a
            file that people write, but no other exception may come, and nothing may hang.
        errors: What a refusal is.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    closed: bool = True
    errors: tuple[type[BaseException], ...] = (UsageError,)


@dataclasses.dataclass
class Tally:
    """Counts of the outcomes of the damaged files of a reader.

    Attributes:
        tried: Files.
        refused: Those that were.
        equal: Those that were read as they were recorded.
        other: Those of which something else was read, where that may be.
        faults: What went wrong, each with the number that makes it again.
        seconds: The longest time of a file.
        megabytes: Memory above that of the good file.
    """

    tried: int = 0
    refused: int = 0
    equal: int = 0
    other: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0

    def add(self, found: 'Tally') -> None:
        """Adds what came of further files."""
        for name in ('tried', 'refused', 'equal', 'other', 'faults'):
            setattr(self, name, getattr(self, name) + getattr(found, name))
        self.seconds = max(self.seconds, found.seconds)
        self.megabytes = max(self.megabytes, found.megabytes)

    def line(self, name: str) -> str:
        """The summary line of a reader."""
        other = f', {self.other} other where that may be' if self.other else ''
        return (
            f'{name}: {self.tried} files, {self.refused} refused, {self.equal} equal{other}, '
            f'{len(self.faults)} faults; worst {self.megabytes:.0f} MB, '
            f'{1e3 * self.seconds:.0f} ms'
        )


def plain(value: Any) -> Any:
    """A value in a form that compares by content, numbers bit by bit."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, plain(vars(value))
    if isinstance(value, dict):
        return [(plain(key), plain(one)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return repr(value)


class Trial:
    """A good file of a reader, and its damages by number: all single bits, then random ones.

    Args:
        reader: To try.
        folder: For its file.
        seed: Of the random damages.
    """

    def __init__(self, reader: Reader, folder: Path, seed: int):
        self.reader = reader
        self._path = reader.write(folder)
        self._content = self._path.read_bytes()
        self._seed = seed
        self._expected = plain(reader.read(self._path))

    @property
    def bits(self) -> int:
        """Number of the first random damage."""
        return 8 * len(self._content)

    def damaged(self, number: int) -> bytes:
        """The content of the damaged file of a number."""
        if number < self.bits:
            return flipped(self._content, number)
        return random_damage(self._content, self._seed, number - self.bits)

    def here(self, numbers: range) -> Tally:
        """Reads damaged files in this process."""
        tally = Tally()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            for number in numbers:
                self._try(number, tally)
        return tally

    def apart(self, numbers: range, until: float = float('inf')) -> Tally:
        """Reads damaged files in processes of their own, whose memory is limited.

        A reader that ends its process, or does not come back, costs that process alone.

        Args:
            numbers: Of the damages.
            until: When to stop, of ``time.monotonic``.
        """
        context = multiprocessing.get_context('fork')
        total = Tally()
        left = [numbers]
        while left and time.monotonic() < until:
            numbers = left.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=self._work, args=(numbers, until, theirs))
            process.start()
            theirs.close()
            left += self._follow(process, ours, numbers, total)
        self._path.write_bytes(self._content)
        return total

    def _follow(
        self, process: BaseProcess, ours: Connection, numbers: range, total: Tally
    ) -> list[range]:
        """Adds what a process tells; returns the numbers that it has left."""
        for block in range(0, len(numbers), BLOCK):
            try:
                if not ours.poll(PATIENCE):
                    process.kill()
                total.add(ours.recv())
            except EOFError:
                process.join()
                return self._blame(
                    f'ended its process ({process.exitcode})', numbers[block:], total
                )
        process.join()
        return []

    def _blame(self, fault: str, numbers: range, total: Tally) -> list[range]:
        """Finds the damage that ended a process, the last one that was written.

        Returns the numbers before it, of which nothing was told, and those behind it.
        """
        content = self._path.read_bytes()
        for place, number in enumerate(numbers[:BLOCK]):
            if self.damaged(number) == content:
                total.tried += 1
                total.faults.append(f'number {number}: {fault}')
                return [part for part in (numbers[place + 1 :], numbers[:place]) if part]
        total.faults.append(f'number {numbers[0]} or behind: {fault}')
        return [numbers[BLOCK:]] if numbers[BLOCK:] else []

    def _work(self, numbers: range, until: float, theirs: Connection) -> None:
        with open(os.devnull, 'w') as nothing, contextlib.redirect_stdout(nothing):
            self._limit_memory()
            before = _peak()
            for block in range(0, len(numbers), BLOCK):
                tally = Tally()
                if time.monotonic() < until:
                    tally = self.here(numbers[block : block + BLOCK])
                tally.megabytes = (_peak() - before) / 1e6
                theirs.send(tally)

    @staticmethod
    def _limit_memory() -> None:
        pages = int(Path('/proc/self/statm').read_text().split()[0])
        limit = pages * resource.getpagesize() + BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def _try(self, number: int, tally: Tally) -> None:
        """Reads one damaged file."""
        self._path.write_bytes(self.damaged(number))
        tally.tried += 1
        started = time.perf_counter()
        fault = ''
        try:
            found = self.reader.read(self._path)
        except self.reader.errors as error:
            tally.refused += 1
            if self._path.name not in str(error):
                fault = f'does not name the file: {error!r:.200}'
        except BaseException as error:  # noqa: BLE001
            fault = f'{error!r:.200}'
        else:
            fault = self._judge(plain(found), tally)
        seconds = time.perf_counter() - started
        tally.seconds = max(tally.seconds, seconds)
        if seconds > SECONDS:
            fault = f'takes {seconds:.1f} s'
        if fault:
            tally.faults.append(f'number {number}: {fault}')

    def _judge(self, found: Any, tally: Tally) -> str:
        if found == self._expected:
            tally.equal += 1
        elif self.reader.closed:
            return f'reads something else: {str(found)[:200]}'
        else:
            tally.other += 1
        return ''


def _peak() -> int:
    """Most bytes of memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
