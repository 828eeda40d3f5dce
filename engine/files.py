"""Files that are either the old or the new one, whenever the process dies; texts and records.

Every text and every record in JSON is read here. A record is written with ``write_json`` and read
with ``read_json``, which takes the type of what the file holds, see ``engine.schema``:

    @dataclasses.dataclass(frozen=True)
    class Best:
        mean_top1: Percent
        step: Count

    write_json(path, dataclasses.asdict(best))
    best = read_json(path, Best, 'how to get it right')          # refuses what is damaged
    best = derived(path, lambda end: read_json(path, Best, end))  # None: set aside, to be made anew

A record is closed by a checksum, see ``engine.checksums``.
"""

import codecs
import contextlib
import datetime
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from engine.checksums import closed, opened
from engine.entry import remove, temporaries
from engine.errors import UsageError
from engine.schema import Misfit, checked

T = TypeVar('T')

# Bytes of a text, and of a record. More is none of ours, and would take memory to be refused.
LARGEST, LARGEST_RECORD = 2**26, 2**25

# Bytes that are read at once.
CHUNK = 2**20

# Bytes that a place must have room for.
PROBE = 4096

_ENCODINGS = {
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}


class Damaged(UsageError):
    """A file that is there and does not hold what its kind of file holds."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path to write to: ``path`` is either the old or the new file, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporaries.add(temporary)
    try:
        yield temporary
        with temporary.open('rb') as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        temporaries.discard(temporary)


def _temporary(path: Path) -> Path:
    """The name of a file or folder while this process makes it, by which ``sweep`` knows it."""
    return path.with_name(f'.{path.name}.{os.getpid()}')


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


def check_writable(folder: Path, flag: str) -> None:
    """Writes and deletes a small file in a folder, as rights alone do not tell whether one can.

    Args:
        folder: It, or the nearest folder above it that is there.
        flag: To name in the error, with the value given.

    Raises:
        UsageError: It is no folder, cannot be written, or is full.
    """
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f'{flag}: {folder} is a file; choose another place')
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UsageError(
            f'{flag}: {folder} cannot be written ({error.strerror}); choose another place'
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
    temporary = _temporary(target)
    temporaries.add(temporary)
    missing = [parent for parent in target.parents if not parent.exists()]  # the deepest first
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    finally:
        remove(temporary)
        temporaries.discard(temporary)
        for parent in missing:
            with contextlib.suppress(OSError):  # it holds what was made
                parent.rmdir()


def set_aside(path: Path) -> None:
    """Gives a damaged file another name and says so, so that it can be made anew.

    In a folder that cannot be written it stays where it is.
    """
    now = datetime.datetime.now()
    aside = path.with_name(f'{path.name}.damaged-{now:%m%d-%H%M%S-%f}')
    with contextlib.suppress(OSError):
        os.replace(path, aside)
        print(f'{path}: is kept as {aside.name} and made anew', flush=True)


def nearby(path: str) -> str:
    """A path as messages show it: below the current folder without that, another as it is."""
    below = os.path.relpath(path)
    return path if below.startswith(os.pardir) else below


def in_shell(path: Path | str) -> str:
    """A path as a command line takes it: quoted, and no flag where it starts with a dash."""
    text = str(path)
    return shlex.quote(f'./{text}' if text.startswith('-') else text)


def read_bytes(path: Path, remedy: str, largest: int = LARGEST) -> bytes:
    """All bytes of a file.

    Args:
        path: The file.
        remedy: End of the message if it cannot be read: how to get it right.
        largest: Number of bytes; a file that has more is refused.

    Raises:
        UsageError: It is missing or cannot be read.
        Damaged: It is too large.
    """
    try:
        with path.open('rb') as stream:
            content = _beginning(stream, largest + 1)
    except OSError as error:
        raise UsageError(f'{path}: cannot be read ({error.strerror}); {remedy}') from None
    except ValueError as error:  # a name with a zero in it
        raise UsageError(f'{str(path)!r}: cannot be read ({error}); {remedy}') from None
    if len(content) > largest:
        raise Damaged(f'{path}: has more than {largest} bytes; {remedy}')
    return content


def _beginning(stream: BinaryIO, largest: int) -> bytes:
    """At most so many bytes of a stream, for which room is made as they come."""
    parts = []
    while largest > 0:
        part = stream.read(min(largest, CHUNK))
        if not part:
            break
        parts.append(part)
        largest -= len(part)
    return b''.join(parts)


def read_text(path: Path, remedy: str, *, errors: str = 'strict', largest: int = LARGEST) -> str:
    r"""The text in a file, with or without a byte order mark, its lines ended by ``\n``.

    Args:
        path: The file, in UTF-8, or in UTF-16 with a byte order mark.
        remedy: End of the message if it cannot be read: how to get it right.
        errors: What becomes of other bytes, see ``bytes.decode``.
        largest: Number of bytes; a file that has more is refused.

    Raises:
        UsageError: It cannot be read.
        Damaged: It is no text.
    """
    content = read_bytes(path, remedy, largest)
    encoding = 'utf-8'
    for mark, marked in _ENCODINGS.items():
        if content.startswith(mark):
            encoding = marked
    try:
        text = content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise Damaged(
            f'{path}: no text in UTF-8 (byte {error.start}: {error.reason}); {remedy}'
        ) from None
    return text.replace('\r\n', '\n').replace('\r', '\n')


def read_names(path: Path, remedy: str) -> list[str]:
    """Lines of a list with names of files, as the names of these files are in Python.

    Args:
        path: The list.
        remedy: End of the message if it cannot be read: how to get it right.

    Raises:
        UsageError: It cannot be read.
    """
    text = read_text(path, remedy, errors='surrogateescape')
    return os.fsdecode(text.encode('utf-8', 'surrogateescape')).split('\n')


def write_text(path: Path, text: str, errors: str = 'backslashreplace') -> None:
    """Writes a text in UTF-8, see ``replacing``.

    Args:
        path: The file.
        text: Its content.
        errors: What becomes of the bytes of a file's name that is no text, see ``str.encode``.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8', errors=errors)


def write_json(path: Path, data: Any) -> None:
    """Writes ``data`` as indented JSON with a checksum, see ``replacing``."""
    write_text(path, to_json(data))


def to_json(data: Any) -> str:
    """Indented JSON with a checksum, see the module."""
    plain = json.loads(json.dumps(data))
    return json.dumps(closed(plain), indent=1) + '\n'


def read_json(path: Path, kind: Any, remedy: str) -> Any:
    """The value that a JSON file holds, as that type.

    Args:
        path: The file.
        kind: Type of the value, see ``engine.schema``.
        remedy: End of the message if it cannot be read: how to get it right.

    Raises:
        UsageError: The file cannot be read.
        Damaged: It holds something else, or what was written has been changed.
    """
    text = read_text(path, remedy, largest=LARGEST_RECORD)
    try:
        return checked(opened(json.loads(text, object_pairs_hook=_unique)), kind)
    except RecursionError:
        raise Damaged(f'{path}: damaged (nested too deeply); {remedy}') from None
    except ValueError as error:
        raise Damaged(f'{path}: damaged ({error}); {remedy}') from None


def derived(path: Path, read: Callable[[str], T]) -> T | None:
    """The content of a file that can be made anew; None if it is missing or, said so, damaged.

    A damaged file gets another name. One that cannot be read at all is left where it is.

    Args:
        path: The file.
        read: Reads it; takes the end of a message.
    """
    if not path.exists():
        return None
    try:
        return read('it is made anew')
    except Damaged as error:
        print(error, flush=True)
        set_aside(path)
    except UsageError as error:
        print(error, flush=True)
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these fields.

    Raises:
        Misfit: One is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Misfit(twice, 'is there twice')
    return found
