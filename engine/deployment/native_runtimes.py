"""What runs ``.lqn`` files, by name: the library in C, and the interpreter in numpy."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine import processor
from engine.deployment import interpreter, native_library, native_reader, native_writer, texts
from engine.deployment.choices import Confident
from engine.deployment.native_library import NativeNetwork
from engine.deployment.native_reader import NativeFile
from engine.deployment.program import Floats, Program
from engine.deployment.runtimes import INTERPRETER, Growing, Run
from engine.errors import UsageError


class _OfFile:
    """Base of what runs a file, see ``engine.deployment.runtimes.Growing``.

    Args:
        file: the file.
    """

    def __init__(self, file: NativeFile):
        self._file = file

    @property
    def texts(self) -> Mapping[str, str]:
        """Texts by name, those of the points that can run."""
        return texts_of(self._file)

    def at(self, number: int, side: int, thresholds: Sequence[float] = ()) -> Run:
        """A function that runs a point, see ``engine.deployment.runtimes.Loaded``.

        Args:
            number: its place among the points that can run.
            side: edge of its images, pixels.
            thresholds: by exit, in place of those of the file.
        """
        del side
        name = self._file.points[number]
        if not thresholds:
            return self._stored(name)
        return self._changed(name, with_thresholds(self._file.program([name]), thresholds))

    def _stored(self, name: str) -> Run:
        """A function that runs a point of the file.

        Raises:
            NotImplementedError: a runtime must have this method.
        """
        raise NotImplementedError(type(self).__name__)

    def _changed(self, name: str, whole: Program) -> Run:
        """A function that runs a point of another program.

        Raises:
            NotImplementedError: a runtime must have this method.
        """
        raise NotImplementedError(type(self).__name__)

    def append(self, content: bytes) -> None:
        """Takes bytes that follow in the file."""
        self._file.append(content)


class Interpreted(_OfFile):
    """A file in the interpreter."""

    version = np.__version__

    def _stored(self, name: str) -> Run:
        return self._changed(name, self._file.program([name]))

    def _changed(self, name: str, whole: Program) -> Run:
        def run(*views: np.ndarray) -> np.ndarray:
            return np.concatenate(interpreter.answers(whole, name, *views), axis=1)

        return run


class Compiled(_OfFile):
    """A file in the library in C, which answers one call at a time.

    Args:
        file: the file.
        threads: that share the work of an image.

    Raises:
        UsageError: the library is not there, or does not take the file.
    """

    def __init__(self, file: NativeFile, threads: int):
        super().__init__(file)
        self._threads = threads
        self._network = NativeNetwork(file.complete, file.name, threads)
        self._lock = threading.Lock()
        self.version = self._network.kernels

    def _stored(self, name: str) -> Run:
        return self._run(self._network, self._file.all_points.index(name))

    def _changed(self, name: str, whole: Program) -> Run:
        del name
        content = native_writer.serialized(whole, {})
        return self._run(NativeNetwork(content, self._file.name, self._threads), 0)

    def _run(self, network: NativeNetwork, place: int) -> Run:
        """A function that runs a point.

        Args:
            network: that has it.
            place: of the point in it.
        """

        def run(*views: np.ndarray) -> np.ndarray:
            with self._lock:
                logits, executed = network.run(place, *views)
            return np.concatenate([logits, executed.astype(np.float32)], axis=1)

        return run

    def append(self, content: bytes) -> None:
        before = len(self._file.complete)
        super().append(content)
        more = self._file.complete[before:]
        if more:
            with self._lock:
                self._network.append(more)


def texts_of(file: NativeFile) -> dict[str, str]:
    """Texts of a file, of those points alone that can run.

    Raises:
        UsageError: they are not those of an exported file.
    """
    found = texts.parse(file.texts, file.name)
    if [point.point for point in found.points] != file.all_points:
        raise UsageError(f'{file.name}: tells of other points than it has; export it again')
    there = set(file.points)
    kept = tuple(point for point in found.points if point.point in there)
    return file.texts | dataclasses.replace(found, points=kept).spelled()


def with_thresholds(whole: Program, thresholds: Sequence[float]) -> Program:
    """A program whose exits let images go by other thresholds.

    Args:
        whole: the program.
        thresholds: by exit, or by stage.
    """
    constants = dict(whole.constants)
    points = {}
    for name, point in whole.points.items():
        operations = []
        for operation in point.operations:
            if isinstance(operation, Confident):
                part = dataclasses.replace(operation.threshold, name=f'exit{operation.exit}')
                value = np.array([thresholds[operation.exit]], np.float32)
                constants[part.name] = Floats(value)
                operation = dataclasses.replace(operation, threshold=part)
            operations.append(operation)
        points[name] = dataclasses.replace(point, operations=tuple(operations))
    return Program(points, constants)


def load(path: Path, name: str, threads: int) -> Growing:
    """A file in a runtime.

    Args:
        path: of the file.
        name: of the runtime, of ``OF_PLANES``.
        threads: of one image; 0 takes all cores.

    Raises:
        UsageError: it cannot be read, or the runtime is not there.
        Damaged: it is damaged.
    """
    file = native_reader.read(path)
    if name == INTERPRETER:
        return Interpreted(file)
    return Compiled(file, threads or min(processor.cores(), native_library.MOST_THREADS))


def is_there(name: str) -> bool:
    """Whether a runtime of ``OF_PLANES`` can run: the library was compiled."""
    return name == INTERPRETER or native_library.path().exists()
