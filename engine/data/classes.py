"""Names of classes: what a network calls its answers, compared with what data call theirs."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from engine.data.sources import Relabelled, Source
from engine.data.spec import Dataset
from engine.errors import UsageError

SHOWN = 5  # differences in a message


def differences(there: Sequence[str], here: Sequence[str]) -> str:
    """The first differences of two lists of classes, for a message; empty if there are none."""
    parts = []
    for place, own, others in (('there', there, here), ('here', here, there)):
        only = sorted(set(own) - set(others))
        if only:
            parts.append(f'only {place}: {_first(only)}')
    if parts:
        return '; '.join(parts)
    moved = []
    for index, (before, after) in enumerate(zip(there, here)):
        if before != after:
            moved.append(f'{index} is {before} there and {after} here')
    return _first(moved)


def _first(texts: Sequence[str]) -> str:
    more = len(texts) - SHOWN
    text = ', '.join(texts[:SHOWN])
    return f'{text} and {more} more' if more > 0 else text


def mapped(dataset: Dataset, classes: Sequence[str], where: str) -> tuple[Dataset, str]:
    """A data set with the classes of a network, by their names.

    Args:
        dataset: data set.
        classes: names of the network's classes, in the order of its answers.
        where: the network, for messages.

    Returns:
        The data set with labels as the network counts them, and what to say about it; empty if they
        are the same.

    Raises:
        UsageError: it has classes that the network does not know.
    """
    if tuple(classes) == dataset.classes:
        return dataset, ''
    known = {name: index for index, name in enumerate(classes)}
    unique = len(known) == len(classes)
    if not unique or not set(dataset.classes) <= known.keys():
        raise UsageError(
            f'--data {dataset.name}: its {len(dataset.classes)} classes are not the '
            f'{len(classes)} of {where} ({differences(classes, dataset.classes)}); give data '
            'whose classes have the same names'
        )
    index = np.array([known[name] for name in dataset.classes], np.int64)  # [classes of the data]
    train, val = (_relabelled(source, index) for source in (dataset.train, dataset.val))
    found = dataclasses.replace(dataset, classes=tuple(classes), train=train, val=val)
    note = f'classes of --data {dataset.name} are taken by name: {len(index)} of the {len(known)}'
    return found, f'{note} of {where}, in another order or number'


def _relabelled(source: Source, index: np.ndarray) -> Source:
    return Relabelled(source, index[source.labels])
