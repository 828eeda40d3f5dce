"""Conditions that accuracies were measured in, only equal ones being compared. Pure Python."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from engine.data import datasets
from engine.data.folder import FOLDER, IMAGENET
from engine.quantities import counted
from engine.results.records import Score, dataset_of
from engine.runs import data_record

T = TypeVar('T')

# Between the parts of a text of conditions.
_BETWEEN = '; '

# Data sets whose name does not say which images they are.
_UNNAMED = ('', FOLDER.name, IMAGENET.name)


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
        fields = known
        if not own:
            fields = {**_without_dataset(config), 'data': data}
        dataset = dataset_of(fields)
    parts = [dataset]
    if dataset in _UNNAMED:
        parts.append(_split(folder) or f'of {os.path.realpath(data)}')
    classes: Any = known.get('classes')
    parts.append(counted(classes, 'class'))
    if score is not None and score.images is not None:
        parts.append(counted(score.images, 'image'))
    for name in ('augmentation', 'resize', 'inputs'):
        parts.append(f'{name} {known.get(name)}')
    return _BETWEEN.join(parts)


def _without_dataset(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != 'dataset'}


def _split(folder: Path) -> str:
    """The validation images by their content; empty where the run has not recorded it."""
    record = data_record.read(folder)
    if record is None or record.val is None or not record.val.content:
        return ''
    return f'validation images {record.val.content}'


def comparable(found: Iterable[T], conditions_of: Callable[[T], str]) -> dict[str, list[T]]:
    """Groups of measurements that may be compared, by the conditions they were made in."""
    groups: dict[str, list[T]] = {}
    for one in found:
        groups.setdefault(conditions_of(one), []).append(one)
    return groups


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
