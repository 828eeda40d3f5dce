"""Runtimes that execute exported files, by name. One is loaded when it is asked for."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from engine.errors import UsageError

# What installs the packages of all of them.
REMEDY = "python -m pip install '.[export]'"

# Logits [N, classes] of images as a file takes them, one array by input; of a file that chooses,
# which takes one image, a column for each choice behind them: what was executed.
Run = Callable[..., np.ndarray]


class CannotRun(UsageError):
    """A runtime that is installed does not take a file."""


class Loaded(Protocol):
    """A file in a runtime. A runtime of ONNX is one file with such a class, and a line below.

    Attributes:
        version: of the runtime.
    """

    version: str

    @property
    def texts(self) -> Mapping[str, str]:
        """Texts that the file carries, by name."""

    def at(self, number: int, side: int, thresholds: Sequence[float] = ()) -> Run:
        """A function that runs an operating point.

        Args:
            number: its place in the file.
            side: edge of its images, pixels.
            thresholds: by exit, in place of those of a file whose exits choose.
        """


@runtime_checkable
class Growing(Loaded, Protocol):
    """A file whose rest can follow, with texts of the points alone that can run so far."""

    def append(self, content: bytes) -> None:
        """Takes bytes that follow in the file.

        Raises:
            UsageError: they are no such bytes.
        """


# Runtimes of ONNX files, one a line, named as their package.
RUNTIMES = {
    'onnxruntime': 'engine.deployment.onnxruntime_file.OnnxRuntimeFile',
    'openvino': 'engine.deployment.openvino_file.OpenVinoFile',
}


# What runs .lqn files, the first that is there, see ``engine.deployment.native_runtimes``.
COMPILED, INTERPRETER = 'native', 'interpreter'
OF_PLANES = (COMPILED, INTERPRETER)

# Names of runtimes by the end of the files that they run.
BY_END = {'.onnx': tuple(RUNTIMES), '.lqn': OF_PLANES}


def installed() -> list[str]:
    """Names of the runtimes whose package is there."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name)]


def load(name: str, content: bytes, file: str, threads: int = 0) -> Loaded:
    """A file in a runtime.

    Args:
        name: of the runtime.
        content: bytes of the file.
        file: its name, for messages.
        threads: of one image; 0 takes all cores.

    Raises:
        UsageError: the runtime is not installed.
        CannotRun: it cannot load the file.
    """
    module, _, cls = RUNTIMES[name].rpartition('.')
    try:
        made: Any = getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise UsageError(f'backend {name!r}: {error}; {REMEDY} installs it') from error
    try:
        return made(content, threads)
    except Exception as error:  # every runtime has classes of its own for every fault
        raise CannotRun(f'{file}: {name} cannot load it ({first_line(error)})') from error


def one_by_one(run: Run) -> Run:
    """A function of several images, of one that takes a single image."""

    def each(*views: np.ndarray) -> np.ndarray:
        found = []
        for number in range(len(views[0])):
            found.append(run(*(view[number : number + 1] for view in views)))
        return np.concatenate(found)

    return each


def first_line(error: Exception) -> str:
    """The first line of a message that says what is wrong, not where."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith('Exception from')]
    return (said or [repr(error)])[0]
