"""Formats of exported operating points by name. TensorFlow is loaded when one is written."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple


class Form(NamedTuple):
    """A format of the registry.

    Attributes:
        writer: module and name of a function (``engine.graph.freeze.Frozen``, path) that writes one
            operating point to a new file or folder.
        help: what it is, in a line.
    """

    writer: str
    help: str


# One line per format.
FORMS = {
    'savedmodel': Form('engine.deployment.savedmodel.save', 'SavedModel of TensorFlow, a folder'),
}


def texts() -> str:
    """All formats with what they are, for the help of a flag."""
    return '; '.join(f'{name}: {form.help}' for name, form in FORMS.items())


def write(name: str, frozen: Any, path: Path) -> None:
    """Writes one operating point.

    Args:
        name: of the format.
        frozen: the ``engine.graph.freeze.Frozen`` graph of the point.
        path: file or folder to make.
    """
    module, _, writer = FORMS[name].writer.rpartition('.')
    getattr(importlib.import_module(module), writer)(frozen, path)
