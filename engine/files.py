"""Files that are either the old or the new one, whenever the process dies; records in JSON."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.entry import temporaries
from engine.errors import UsageError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path to write to: ``path`` is either the old or the new file, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporaries.add(temporary)
    try:
        yield temporary
        with temporary.open('rb') as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        temporaries.discard(temporary)


def write_json(path: Path, data: Any) -> None:
    """Writes ``data`` as indented JSON, see ``replacing``."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + '\n')


@contextlib.contextmanager
def output_file(target: str) -> Iterator[Path]:
    """Path to write to in place of a file that a user names, see ``replacing``.

    Raises:
        UsageError: The folder of the file is not there.
    """
    path = Path(target)
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f'{target}: no folder {path.parent}; make it first or name a file elsewhere'
        )
    with replacing(path) as temporary:
        yield temporary


def read_json(path: Path, remedy: str) -> Any:
    """The value that a JSON file holds.

    Args:
        path: The file.
        remedy: End of the message if it cannot be read: how to get it right.

    Raises:
        UsageError: The file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UsageError(f'{path}: cannot be read ({error.strerror}); {remedy}') from None
    except ValueError as error:
        raise UsageError(f'{path}: damaged ({error}); {remedy}') from None


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file, see ``read_json``.

    Raises:
        UsageError: The file is missing or holds no JSON object.
    """
    data = read_json(path, remedy)
    if not isinstance(data, dict):
        raise UsageError(f'{path}: damaged (a JSON object expected); {remedy}')
    return data
