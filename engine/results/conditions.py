"""What accuracies were measured on: only those of equal conditions are compared. Pure Python."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.data import datasets
from engine.files import read_json
from engine.results.records import Score, dataset_of
from engine.schema import Part

# Between the parts of a text of conditions.
_BETWEEN = '; '

# Data sets whose name says which images they are.
_UNNAMED = ('', 'folder', 'imagenet')


@dataclasses.dataclass(frozen=True)
class _Images(Part):
    """Images as a run recorded them.

    Attributes:
        content: Fingerprint; empty in early records.
    """

    content: str = ''


@dataclasses.dataclass(frozen=True)
class _Data(Part):
    """What is read here of the record of a run's data.

    Attributes:
        val: Validation images; None in early records.
    """

    val: _Images | None = None


def measured_on(folder: Path, config: Mapping[str, Any], score: Score | None = None) -> str:
    """The conditions of a record of evaluation: data set, its validation images, their preparation.

    Args:
        folder: Run folder.
        config: Fields of its ``config.json``.
        score: The record; without one, those of the run itself.

    Raises:
        UsageError: What the run recorded of its data cannot be read.
    """
    known = datasets.completed(config)
    own = score is None or score.data in (None, known.get('data'))
    data = str(known.get('data') or '') if own or score is None else str(score.data)
    dataset = score.dataset if score is not None else None
    if not dataset:
        dataset = dataset_of(known if own else {**_without_dataset(config), 'data': data})
    parts = [dataset]
    if dataset in _UNNAMED:
        parts.append(_split(folder) or f'of {os.path.realpath(data)}')
    parts.append(f'{known.get("classes")} classes')
    if score is not None and score.images is not None:
        parts.append(f'{score.images} images')
    for name in ('augmentation', 'resize', 'inputs'):
        parts.append(f'{name} {known.get(name)}')
    return _BETWEEN.join(parts)


def _without_dataset(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != 'dataset'}


def _split(folder: Path) -> str:
    """The validation images by their content; empty where the run has not recorded it."""
    path = folder / 'data.json'
    if not path.exists():
        return ''
    val = read_json(path, _Data, 'set it aside to compare by the place of the data').val
    return f'validation images {val.content[:16]}' if val and val.content else ''


def labels(texts: Iterable[str]) -> dict[str, str]:
    """Short names of conditions: the parts that not all of them have; empty if all are equal.

    >>> labels(['cifar10; 10 classes', 'animals28; 10 classes', 'cifar10; 10 classes'])
    {'cifar10; 10 classes': 'cifar10', 'animals28; 10 classes': 'animals28'}
    >>> labels(['cifar10; 10 classes'])
    {'cifar10; 10 classes': ''}
    """
    parts = {text: text.split(_BETWEEN) for text in dict.fromkeys(texts)}
    common = set.intersection(*map(set, parts.values())) if parts else set()
    found = {}
    for text, own in parts.items():
        found[text] = ', '.join(part for part in own if part not in common)
    return found
