"""Files that are either the old or the new one, whenever the process dies; records in JSON."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.entry import remove, temporaries
from engine.errors import UsageError

# Bytes that a place must have room for.
PROBE = 4096


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


def sweep(folder: Path) -> None:
    """Deletes what dead processes left of files that they were writing somewhere in a folder."""
    for path in folder.rglob('.*'):
        number = path.suffix[1:]
        if number.isdecimal() and not _alive(int(number)):
            remove(path)


def _alive(process: int) -> bool:
    """Whether there is a process of that number, and not this one, on this machine."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def write_json(path: Path, data: Any) -> None:
    """Writes ``data`` as indented JSON, see ``replacing``."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + '\n')


def check_writable(folder: Path, flag: str) -> None:
    """Writes and deletes a small file in a folder, as rights alone do not tell whether one can.

    Args:
        folder: It, or the nearest folder above it that is there.
        flag: To name in the error, with the value given.

    Raises:
        UsageError: The folder cannot be written, or is full.
    """
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UsageError(
            f'{flag}: {folder} cannot be written ({error.strerror}); name another place'
        ) from error


def writable(path: Path) -> Path:
    """The path of a result, or its name in the current folder where that path cannot be written.

    Raises:
        UsageError: Neither can be written.
    """
    try:
        check_writable(path.parent, str(path))
    except UsageError as error:
        here = Path(f'{path.absolute().parent.name}-{path.name}')
        check_writable(Path(), str(here))
        print(f'{error}. The result goes to {here} in the current folder', file=sys.stderr)
        return here
    return path


def check_output(target: str, flag: str = '') -> Path:
    """Path of a file that a user names, before the work whose result it takes.

    Args:
        target: As given.
        flag: To name in errors, with a space behind it.

    Raises:
        UsageError: The file cannot be written.
    """
    path = Path(target)
    target = f'{flag}{target}'
    if path.is_symlink():
        path = path.resolve()
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f'{target}: no folder {path.parent}; make it first or name a file elsewhere'
        )
    if path.is_dir():
        raise UsageError(f'{target}: is a folder; give a file')
    if path.exists() and not path.is_file():
        raise UsageError(f'{target}: is no plain file; name another one')
    check_writable(path.parent, target)
    return path


@contextlib.contextmanager
def output_file(target: str) -> Iterator[Path]:
    """Path to write to in place of a file that a user names, see ``replacing``.

    To be entered before the work whose result it takes.

    Raises:
        UsageError: The file cannot be written.
    """
    with replacing(check_output(target)) as temporary:
        yield temporary


@contextlib.contextmanager
def making(target: Path, flag: str) -> Iterator[Path]:
    """Path of a file or folder to make that gets the name ``target`` when it is complete.

    To be entered before the work whose result it takes.

    Raises:
        UsageError: There is such a file or folder, or it cannot be made.
    """
    if target.exists() or target.is_symlink():
        raise UsageError(f'{flag} {target}: exists; choose a new name')
    check_writable(target.parent, f'{flag} {target}')
    temporary = target.with_name(f'.{target.name}.{os.getpid()}')
    temporaries.add(temporary)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    finally:
        remove(temporary)
        temporaries.discard(temporary)


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
