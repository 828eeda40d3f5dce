"""Exceptions that the command line turns into an exit status and a message without a traceback."""

import contextlib
from collections.abc import Iterator


class UsageError(ValueError):
    """Bad input, status 2.

    The message names the flag or file, the value given, and what would be right.
    """


@contextlib.contextmanager
def prefixed(text: str) -> Iterator[None]:
    """A block whose errors begin with a text: what reads a file does not know which flag named it.

    Args:
        text: to put in front.

    Raises:
        UsageError: as the block did.
    """
    try:
        yield
    except UsageError as error:
        raise UsageError(f'{text}{error}') from error


# Characters of a message: what is longer quotes something that no one would read to its end.
_LONGEST = 2000


def told(error: object) -> str:
    """A message as a terminal takes it: what UTF-8 has no bytes for is escaped, the middle cut."""
    text = str(error).encode(errors='backslashreplace').decode()
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f'{text[:half]} ... {text[-half:]}'


# Starts of lines in which TensorFlow says where, not what.
_PLACES = (
    'Graph execution error',
    'Detected at node',
    'File "',
    'Node: ',
    '[[',
    'Hint: ',
    'From /job',
)


def reason(error: Exception) -> str:
    """The line of a message of TensorFlow's that says what went wrong.

    Its first line says only that something did.
    """
    lines = [line.strip() for line in str(error).partition('Original stack trace')[0].splitlines()]
    told = [line for line in lines if line and not line.startswith(_PLACES)]
    return told[-1] if told else repr(error)


class WorkerError(Exception):
    """The workers of a training fell apart, status 75.

    Nobody asked for anything wrong: the same command resumes it.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM, status 143, as job schedulers send it before they take a machine away.

    Handled like Ctrl-C.
    """
