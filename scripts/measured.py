"""What was measured and is kept in ``docs/measured``: a file for each experiment, with its origin.

A file is an object with ``origin``, how its numbers came about, and ``rows``, ``figures`` by name,
or what else the experiment gives. ``scripts.measure`` writes it; ``scripts.pages`` draws tables,
figures and pictures of it.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.files import read_json, write_text
from engine.schema import Part

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'docs' / 'measured'
REMEDY = 'python -m scripts.measure NAME writes it'


@dataclasses.dataclass(frozen=True)
class Origin:
    """How numbers came about.

    Attributes:
        command: That gave them.
        commit: Of the code; where ``note`` says so, of the text that first had them.
        machine: In words.
        date: When, ``2026-11-27``.
        seconds: That it took; 0 where that is not known.
        note: What else a reader has to know.
    """

    command: str
    commit: str
    machine: str
    date: str
    seconds: float = 0.0
    note: str = ''


@dataclasses.dataclass(frozen=True)
class Measured(Part):
    """The part that all files have.

    Attributes:
        origin: Of the numbers.
    """

    origin: Origin


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """The file of an experiment."""
    return folder / f'{name}.json'


def names(folder: Path = FOLDER) -> list[str]:
    """Experiments that were measured."""
    return sorted(path.stem for path in folder.glob('*.json'))


def origin(name: str, folder: Path = FOLDER) -> Origin:
    """How the numbers of an experiment came about.

    Raises:
        UsageError: It was not measured, or the file is damaged.
    """
    return read_json(path_of(name, folder), Measured, REMEDY).origin


def rows(name: str, folder: Path = FOLDER, *, field: str = 'rows') -> list[dict[str, Any]]:
    """The rows of an experiment.

    Args:
        name: Of the experiment.
        folder: Of the files.
        field: Of the file that has them.

    Raises:
        UsageError: It was not measured, or the file has none.
    """
    content = read_json(path_of(name, folder), dict[str, Any], REMEDY)
    found = content.get(field)
    if not isinstance(found, list):
        raise UsageError(f'{path_of(name, folder)}: has no {field}; {REMEDY}')
    return found


def figures(name: str, folder: Path = FOLDER) -> dict[str, float]:
    """The figures of an experiment by name.

    Raises:
        UsageError: It was not measured, or the file has none.
    """
    content = read_json(path_of(name, folder), dict[str, Any], REMEDY)
    found = content.get('figures')
    if not isinstance(found, dict):
        raise UsageError(f'{path_of(name, folder)}: has no figures; {REMEDY}')
    return found


def write(path: Path, source: Origin, content: Mapping[str, Any]) -> None:
    """Writes the file of an experiment, each row on a line of its own.

    Args:
        path: Of the file.
        source: How the numbers came about.
        content: Fields beside ``origin``.
    """
    lines = [f'"origin": {json.dumps(dataclasses.asdict(source), indent=1)}']
    for name, value in content.items():
        lines.append(f'{json.dumps(name)}: {_text(value)}')
    write_text(path, '{\n' + ',\n'.join(lines) + '\n}\n')


def _text(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value, indent=1)
    return '[\n' + ',\n'.join(map(json.dumps, value)) + '\n]'
