"""Formats of exported networks by name. TensorFlow is loaded when one is written."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.errors import UsageError

# Logits [N, classes] of images uint8 [N, side, side, 3], an array by input, at the point of this
# number in the file. Behind them, where the file chooses image by image, a column for each choice:
# what was executed.
Runtime = Callable[[Sequence[np.ndarray], int], np.ndarray]


class Exporter:
    """Base of all formats. A format is one file with a subclass, and one line in the table below.

    Attributes:
        static: whether every layer is executed for every image, also where a network of the
            training framework skips some.
        snapped: whether it holds whole numbers, as ``engine.deployment.snapping`` makes them.
        tolerated: share of the images that may be answered differently than by evaluation.
        chooses: whether it can hold what a network chooses image by image.
        thresholds: by exit, where exits choose.
        cascade: the ``engine.results.cascades.Cascade`` to write in place of operating points.
    """

    static = False
    snapped = False
    tolerated = 0.0
    chooses = False
    thresholds: Sequence[float] = ()
    cascade: Any = None

    def leave_resize(self) -> None:
        """Has files take images of the point's own size, which those who call them make.

        Raises:
            UsageError: the format has no such files.
        """
        raise UsageError('--no-preprocess: only ONNX files can do without; --out NAME.onnx')

    def cut(self, bits: int) -> None:
        """Has files hold the part alone that points of so many bits need.

        Args:
            bits: of these points.

        Raises:
            UsageError: the format has no such files.
        """
        raise UsageError(f'--bits-first {bits}: only .lqn files come in parts; --out NAME.lqn')

    def check(self, source: Any) -> None:
        """Checks what the record of a run says of what the format needs, before it is written.

        Args:
            source: the ``engine.runs.checkpoint.Checkpoint``, as its run folder describes it.

        Raises:
            UsageError: the format cannot hold it.
        """

    def write(self, source: Any, points: Sequence[str], path: Path) -> None:
        """Writes operating points to a new file or folder.

        Args:
            source: the ``engine.runs.checkpoint.Checkpoint``.
            points: spellings of operating points that it has, strongest first; of a cascade, that
                of its chain.
            path: to make.

        Raises:
            NotImplementedError: a format must have this method.
        """
        raise NotImplementedError(type(self).__name__)

    def runtimes(self, path: Path) -> dict[str, Runtime]:
        """Programs on this machine that run such a file, by name and version.

        Args:
            path: what was written.
        """
        return {}

    def note(self, path: Path, texts: Mapping[str, str]) -> None:
        """Adds texts to a file that carries some.

        Args:
            path: what was written.
            texts: by name.
        """


class Form(NamedTuple):
    """A format of the registry.

    Attributes:
        exporter: module and name of a subclass of ``Exporter``.
        help: what it is, in a line.
    """

    exporter: str
    help: str


# One line per format.
FORMS = {
    'savedmodel': Form(
        'engine.deployment.savedmodel.SavedModel', 'SavedModel of TensorFlow, kernels in float32'
    ),
    'packed': Form('engine.deployment.onnx_export.Packed', 'ONNX, kernels as packed codes'),
    'int8': Form(
        'engine.deployment.onnx_export.Int8', 'ONNX, layers of whole numbers, for a snapped run'
    ),
    'float': Form('engine.deployment.onnx_export.Float', 'ONNX, kernels in float32'),
    'native': Form(
        'engine.deployment.native_export.Native', 'bit planes, for the runtime in C and for numpy'
    ),
}

# The format of a path that ends so; of all others, a folder.
ENDS = {'.onnx': 'packed', '.lqn': 'native'}


def default(path: Path) -> str:
    """The format that a path asks for by its end."""
    return ENDS.get(path.suffix, 'savedmodel')


def asked(form: str | None, path: Path) -> str:
    """The format that is asked for, by name or by the end of the path.

    Args:
        form: its name; None leaves it to the path.
        path: of the file or folder to make.

    Raises:
        UsageError: whoever opens the file would take it for another format.
    """
    ends = {'.onnx': onnx(), '.lqn': ['native']}
    if form is not None and form not in ends.get(path.suffix, [form]):
        fits = ', '.join(ends[path.suffix])
        raise UsageError(
            f'--form {form} with --out {path}: {path.suffix} files are of --form {fits}; give '
            'another name, or leave --form out'
        )
    return form or default(path)


def onnx() -> list[str]:
    """Names of the formats that are ONNX files."""
    return [name for name, form in FORMS.items() if form.help.startswith('ONNX')]


def texts() -> str:
    """All formats with what they are, for the help of a flag."""
    return '; '.join(f'{name}: {form.help}' for name, form in FORMS.items())


def exporter(name: str) -> Exporter:
    """The format of a name."""
    module, _, cls = FORMS[name].exporter.rpartition('.')
    return getattr(importlib.import_module(module), cls)()
