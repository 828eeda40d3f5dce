"""The lock of a run folder: one process trains in it, and says that it lives.

A lock is a file ``.lock-<n>`` that names its owner and whose time of change is the owner's last
sign of life. A new one has the number after the highest, which only one process can create, so
that of several which find a dead owner one wins. On the owner's machine its process is looked for;
elsewhere, where a folder is shared, a lock without a sign of life for ``EXPIRED`` seconds is dead.
"""

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from engine.entry import temporaries
from engine.errors import UsageError, WorkerError
from engine.files import read_json

START = '.lock-'

# Seconds between two signs of life, and without one after which an owner elsewhere is dead: a
# network file system may stall for 30 s.
BEAT = 5.0
EXPIRED = 60.0

# Signs of life that are waited for before a lock is taken from another machine: clocks jump.
WATCHED = 3

# How often a lock is tried for while others make and remove theirs.
TRIES = 100

# What a file system answers that has no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process as a lock names it.

    Attributes:
        host: name of its machine.
        pid: number of the process there.
        since: when it took the lock, by its own clock.
        machine: tells machines, their starts and their containers apart.
        began: tells processes of the same number apart; empty where the system does not say.
    """

    host: str = '?'
    pid: int = 0
    since: str = '?'
    machine: str = ''
    began: str = ''

    def __str__(self) -> str:
        return f'process {self.pid} on {self.host} since {self.since}'

    @property
    def here(self) -> bool:
        """Whether its process would be seen from here."""
        return self.machine == _machine()


def _machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts = [Path('/proc/sys/kernel/random/boot_id').read_text().strip()]
        parts.append(os.readlink('/proc/self/ns/pid'))
    return ' '.join(parts)


def _began(pid: int) -> str | None:
    """When a process of this machine began, in its own words; None if there is no such process.

    Empty where the system does not say.
    """
    if pid <= 0:
        return None
    try:
        text = Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass
        return ''
    state, *fields = text.rpartition(')')[2].split()
    if state in 'ZX':
        return None
    return fields[18]


def _myself() -> Owner:
    pid = os.getpid()
    since = f'{datetime.datetime.now():%Y-%m-%d %H:%M:%S}'
    return Owner(socket.gethostname(), pid, since, _machine(), _began(pid) or '')


@dataclasses.dataclass(frozen=True)
class _Found:
    """A lock in a folder: its file, its owner, and its last sign of life in the folder's time."""

    path: Path
    owner: Owner
    beat: float

    @property
    def number(self) -> int:
        return int(self.path.name.removeprefix(START))

    def lives(self, now: float) -> bool:
        """Whether its owner is there, at this time of the file system."""
        if self.owner.here:
            began = _began(self.owner.pid)
            return began is not None and (began in ('', self.owner.began) or not self.owner.began)
        return abs(now - self.beat) < EXPIRED


def _read(path: Path) -> _Found | None:
    """The lock in a file, whose owner is unknown where the text makes no sense; None if gone."""
    owner = Owner()
    try:
        beat = path.stat().st_mtime
        owner = read_json(path, Owner, 'it is the lock of a run')
    except FileNotFoundError:
        return None
    except UsageError:
        if not path.exists():
            return None
    return _Found(path, owner, beat)


def is_lock(path: Path) -> bool:
    """Whether a file of a run folder belongs to its lock."""
    return path.name.startswith(START)


def _locks(folder: Path) -> list[_Found]:
    """The locks in a folder, the highest number first."""
    found = []
    for path in folder.iterdir():
        if re.fullmatch(re.escape(START) + r'\d{1,9}', path.name):
            lock = _read(path)
            if lock is not None:
                found.append(lock)
    return sorted(found, key=lambda lock: lock.number, reverse=True)


def holder(folder: Path) -> Owner | None:
    """The living process that holds a folder, as far as it can be told without waiting.

    Raises:
        OSError: the folder cannot be read.
    """
    now = time.time()
    for lock in _locks(folder):
        if lock.lives(now):
            return lock.owner
    return None


class Lock:
    """A lock that this process holds.

    Args:
        path: its file.
        owner: this process.
    """

    def __init__(self, path: Path, owner: Owner):
        self._path = path
        self._owner = owner
        self._over = threading.Event()
        temporaries.add(path)
        self._thread = threading.Thread(target=self._beat, name='lock', daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            # A file system that answers with an error may answer the next time.
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def check(self) -> None:
        """Checks that nobody has taken this process for dead, as after it was suspended.

        Raises:
            WorkerError: another process has the folder.
        """
        mine = _read(self._path)
        if mine is None or mine.owner != self._owner:
            others = [str(lock.owner) for lock in _locks(self._path.parent)]
            taken = ', '.join(others) or 'another process'
            raise WorkerError(
                f'--logdir {self._path.parent}: {taken} has taken it over, because this one gave '
                f'no sign of life for {EXPIRED:g} s; this one ends and writes nothing more'
            )

    def release(self) -> None:
        """Gives the folder back."""
        self._over.set()
        with contextlib.suppress(OSError):
            mine = _read(self._path)
            if mine is not None and mine.owner == self._owner:
                self._path.unlink()
        temporaries.discard(self._path)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Lock]:
    """Holds the lock of a folder, which is made if it is not there and goes if it stays empty.

    Args:
        folder: of a run.

    Raises:
        UsageError: a process of this machine holds it, or the folder cannot be written.
        WorkerError: a process of another machine holds it.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f'--logdir {folder}: is a file; choose a folder')
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            lock = _acquire(folder)
        except OSError as error:
            raise UsageError(f'--logdir {folder}: cannot be written ({error.strerror})') from error
        try:
            yield lock
        finally:
            lock.release()
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


def _acquire(folder: Path) -> Lock:
    """Takes the lock of a folder.

    Raises:
        UsageError: a process of this machine holds it.
        WorkerError: a process of another machine holds it.
        OSError: the folder cannot be written.
    """
    owner = _myself()
    candidate = folder / f'{START}{uuid.uuid4().hex}'
    problem = OSError(errno.EAGAIN, 'others make and remove it again and again')
    for _ in range(TRIES):
        # A process that gives up removes the folder that it made.
        try:
            folder.mkdir(parents=True, exist_ok=True)
            candidate.write_text(json.dumps(dataclasses.asdict(owner)) + '\n', encoding='utf-8')
            path = _next(folder, candidate)
        except FileNotFoundError as error:
            problem = error
            continue
        finally:
            candidate.unlink(missing_ok=True)
        if path is not None:
            return Lock(path, owner)
    raise problem


def _next(folder: Path, candidate: Path) -> Path | None:
    """The file of the next lock, made of the candidate; None where another process was faster.

    Raises:
        UsageError: a process of this machine holds the folder.
        WorkerError: a process of another machine holds it.
    """
    before = _locks(folder)
    _refuse_living(folder, before, candidate.stat().st_mtime)
    number = before[0].number + 1 if before else 1
    path = folder / f'{START}{number}'
    if not _created(path, candidate):
        return None
    # Another one may have read the folder before these dead locks were there.
    others = [lock for lock in _locks(folder) if lock.path != path]
    try:
        _refuse_living(folder, others, candidate.stat().st_mtime)
    except (UsageError, WorkerError):
        path.unlink(missing_ok=True)
        raise
    for lock in others:
        lock.path.unlink(missing_ok=True)
        print(f'--logdir {folder}: taken over from {lock.owner}, which is gone', flush=True)
    return path


def _created(path: Path, candidate: Path) -> bool:
    """Makes a lock of a candidate, whole at once; False if there is one of this name.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        os.link(candidate, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            with path.open('x', encoding='utf-8') as stream:
                stream.write(candidate.read_text(encoding='utf-8'))
        except FileExistsError:
            return False
    return True


def _refuse_living(folder: Path, locks: list[_Found], now: float) -> None:
    """Refuses a folder one of whose locks has a living owner.

    Args:
        folder: of a run.
        locks: that are in it.
        now: the time by the clock of its file system.

    Raises:
        UsageError: a process of this machine lives.
        WorkerError: a process of another machine lives.
    """
    for lock in locks:
        if not lock.lives(now) and (lock.owner.here or not _changes(lock)):
            continue
        text = f'--logdir {folder}: {lock.owner} trains in it; wait, or choose another --logdir'
        if lock.owner.here:
            raise UsageError(f'{text} (or -a n)')
        raise WorkerError(
            f'{text}. If it is dead, its lock can be taken over {EXPIRED:g} s after its last '
            'sign of life'
        )


def _changes(lock: _Found) -> bool:
    """Whether a lock of another machine, which seems dead, shows a sign of life."""
    print(f'{lock.path}: no sign of life of {lock.owner}; watching it', flush=True)
    for _ in range(WATCHED):
        time.sleep(BEAT)
        later = _read(lock.path)
        if later is not None and later.beat != lock.beat:
            return True
    return False
