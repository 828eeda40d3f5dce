"""The library that runs ``.lqn`` files, through ctypes: no TensorFlow, no Python headers."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.deployment.runtimes import CannotRun
from engine.errors import UsageError

REMEDY = 'python -m engine.deployment.native_build compiles it'
STEM = 'lqn'

_FOLDER = Path(__file__).parent
_SOURCES = _FOLDER.parents[1] / 'runtime'
_SUFFIXES = {'darwin': '.dylib', 'win32': '.dll'}
# As in runtime/lqn.c.
MOST_THREADS = 256
# Bytes of a message.
_TEXT = 256
# Room for the times of so many steps; a point that has more is run again.
_STEPS = 1024


class NoLibrary(UsageError):
    """The library was not compiled."""


class PointOfFile(NamedTuple):
    """An operating point of a file.

    Attributes:
        name: its spelling.
        sides: of the images that it takes, one for each view.
        channels: of these images.
        choices: numbers that say what was executed.
        here: whether the part of the file that it needs is here.
    """

    name: str
    sides: tuple[int, ...]
    channels: int
    choices: int
    here: bool


class _Point(ctypes.Structure):
    """``struct lqn_point``."""

    _fields_ = (
        ('name', ctypes.c_char_p),
        ('side', ctypes.c_int),
        ('channels', ctypes.c_int),
        ('views', ctypes.c_int),
        ('sides', ctypes.POINTER(ctypes.c_int32)),
        ('choices', ctypes.c_int),
        ('is_here', ctypes.c_int),
    )


class _Step(ctypes.Structure):
    """``struct lqn_step``."""

    _fields_ = (('name', ctypes.c_char_p), ('seconds', ctypes.c_double))


_HANDLE = ctypes.c_void_p
_SIGNATURES = {
    'lqn_open_bytes': (_HANDLE, [_HANDLE, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]),
    'lqn_append': (ctypes.c_int, [_HANDLE, ctypes.c_char_p, ctypes.c_size_t]),
    'lqn_points': (ctypes.c_int, [_HANDLE]),
    'lqn_point': (ctypes.c_int, [_HANDLE, ctypes.c_int, ctypes.POINTER(_Point)]),
    'lqn_text': (ctypes.c_char_p, [_HANDLE, ctypes.c_char_p]),
    'lqn_set_threads': (ctypes.c_int, [_HANDLE, ctypes.c_int]),
    'lqn_set_point': (ctypes.c_int, [_HANDLE, ctypes.c_int]),
    'lqn_classes': (ctypes.c_int, [_HANDLE]),
    'lqn_run': (ctypes.c_int, [_HANDLE, _HANDLE, ctypes.c_size_t, _HANDLE, _HANDLE]),
    'lqn_time': (ctypes.c_int, [_HANDLE, _HANDLE, ctypes.POINTER(_Step), ctypes.c_int]),
    'lqn_kernels': (ctypes.c_char_p, [_HANDLE]),
    'lqn_error': (ctypes.c_char_p, [_HANDLE]),
    'lqn_close': (None, [_HANDLE]),
}


def sources() -> list[Path]:
    """Files in C, where they are beside the package."""
    return sorted(_SOURCES.glob('*.c'))


def path() -> Path:
    """Where the library of these sources lies, or would; without sources, one that is there."""
    suffix = _SUFFIXES.get(sys.platform, '.so')
    files = sorted(_SOURCES.glob('*.[ch]'))
    if not files:
        built = sorted(_FOLDER.glob(f'{STEM}-*{suffix}'))
        return built[-1] if built else _FOLDER / f'{STEM}{suffix}'
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return _FOLDER / f'{STEM}-{digest.hexdigest()[:12]}{suffix}'


@functools.cache
def load(file: Path | None = None) -> ctypes.CDLL:
    """The library with the types of its functions.

    Args:
        file: where it lies; default: beside this package.

    Raises:
        NoLibrary: it is not there.
    """
    place = file or path()
    if not place.exists():
        raise NoLibrary(f'the library that runs .lqn files is not there; {REMEDY}')
    library = ctypes.CDLL(str(place))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


class NativeNetwork:
    """A network of a ``.lqn`` file. It belongs to one thread at a time.

    Args:
        content: of the file.
        file: its name, for messages.
        threads: that share the work of an image.
        library: where the library lies; default: beside this package.

    Raises:
        NoLibrary: the library is not there.
        CannotRun: the file is damaged, or of another version.
    """

    def __init__(self, content: bytes, file: str, threads: int = 1, library: Path | None = None):
        self._library = load(library)
        self._file = file
        why = ctypes.create_string_buffer(_TEXT)
        self._handle = self._library.lqn_open_bytes(content, len(content), why, _TEXT)
        if not self._handle:
            raise CannotRun(f'{file}: {why.value.decode(errors="replace")}')
        self._check(self._library.lqn_set_threads(self._handle, threads))

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Gives the memory back."""
        handle = getattr(self, '_handle', None)
        self._handle = None
        if handle:
            self._library.lqn_close(handle)

    @property
    def kernels(self) -> str:
        """Name of the instructions that compute."""
        return self._library.lqn_kernels(self._handle).decode()

    @property
    def points(self) -> list[PointOfFile]:
        """All points in the order of the file."""
        return [self._point(place) for place in range(self._library.lqn_points(self._handle))]

    def text(self, name: str) -> str | None:
        """A text that the file carries."""
        found = self._library.lqn_text(self._handle, name.encode())
        return None if found is None else self._decoded(found)

    def append(self, content: bytes) -> None:
        """Appends the rest of a file that was cut: points of more bits can run then.

        Args:
            content: what follows in the file.

        Raises:
            CannotRun: it is not what follows.
        """
        self._check(self._library.lqn_append(self._handle, content, len(content)))

    def run(self, place: int, *views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits [N, classes] float32, and int32 [N, choices] what was executed.

        Args:
            place: of the point in the file.
            *views: uint8 [N, side, side, channels], as many as the point takes.

        Raises:
            CannotRun: the point cannot run.
            ValueError: images have another shape or type.
        """
        point, given = self._set(place, views)
        pointers = _pointers(given)
        count = len(given[0])
        logits = np.empty((count, self._library.lqn_classes(self._handle)), np.float32)
        executed = np.empty((count, point.choices), np.int32)
        self._check(
            self._library.lqn_run(
                self._handle, pointers, count, logits.ctypes.data, executed.ctypes.data
            )
        )
        return logits, executed

    def times(self, place: int, *views: np.ndarray) -> list[tuple[str, float]]:
        """Name and seconds of each step of a point, for the first of some images; as of ``run``."""
        _, given = self._set(place, views)
        pointers = _pointers(given)
        steps = (_Step * _STEPS)()
        count = self._library.lqn_time(self._handle, pointers, steps, len(steps))
        if count > len(steps):
            steps = (_Step * count)()
            count = self._library.lqn_time(self._handle, pointers, steps, count)
        if count < 0:
            self._check(-1)
        return [(self._decoded(step.name), step.seconds) for step in steps[:count]]

    def _set(self, place: int, views: Sequence[np.ndarray]) -> tuple[PointOfFile, list[np.ndarray]]:
        """Sets a point, and checks its images.

        Args:
            place: as of ``run``.
            views: as of ``run``.

        Raises:
            CannotRun: the point cannot run.
            ValueError: images have another shape or type.
        """
        self._check(self._library.lqn_set_point(self._handle, place))
        point = self._point(place)
        given = []
        for side, view in zip(point.sides, views, strict=True):
            expected = (len(views[0]), side, side, point.channels)
            if view.shape != expected or view.dtype != np.uint8:
                raise ValueError(f'images are {view.dtype} {view.shape}; expected uint8 {expected}')
            given.append(np.ascontiguousarray(view))
        return point, given

    def _point(self, place: int) -> PointOfFile:
        about = _Point()
        self._check(self._library.lqn_point(self._handle, place, ctypes.byref(about)))
        sides = (about.side, *(about.sides[number] for number in range(about.views - 1)))
        return PointOfFile(
            self._decoded(about.name), sides, about.channels, about.choices, bool(about.is_here)
        )

    def _decoded(self, string: bytes) -> str:
        try:
            return string.decode()
        except UnicodeDecodeError as error:
            raise CannotRun(f'{self._file}: is damaged: a name or a text is no UTF-8') from error

    def _check(self, status: int) -> None:
        if status:
            text = self._library.lqn_error(self._handle).decode(errors='replace')
            raise CannotRun(f'{self._file}: {text}')


def _pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    """Where the numbers of arrays lie."""
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
