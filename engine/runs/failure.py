"""The record of what ended a training by a fault: ``failure.json``, until it is resumed."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.schema import Part

FILE = 'failure.json'

# Characters of a reason that are kept.
LONGEST = 1000


@dataclasses.dataclass(frozen=True)
class Failure(Part):
    """The content of ``failure.json``.

    Attributes:
        why: the message of the exception.
    """

    why: str


@contextlib.contextmanager
def noted(folder: Path) -> Iterator[None]:
    """A block that trains: its fault is recorded in the run folder; a signal is none.

    Args:
        folder: of the run, which this process holds.
    """
    path = folder / FILE
    path.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        why = str(error) or type(error).__name__
        # What is going to be said must not give way to a disk that is full.
        with contextlib.suppress(OSError):
            write_json(path, {'why': why[:LONGEST]})
        raise


def read(folder: Path) -> str:
    """Why the training in a folder failed; empty if it did not."""
    path = folder / FILE
    if not path.exists():
        return ''
    try:
        found: Failure = read_json(path, Failure, 'resume the run')
    except UsageError as error:
        return str(error)
    return found.why
