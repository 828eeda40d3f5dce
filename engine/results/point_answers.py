"""Answers of all operating points of a run to its images: a record that cascades are chosen by.

Pure numpy. Of more than ``KEPT`` classes, the most probable are kept, and what is left is spread
evenly over the others.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine import arrays
from engine.errors import UsageError
from engine.results.exit_records import HOLDOUT, VALIDATION

FILE = 'answers.npz'
KEPT = 32

# Start of the names of the arrays of a set of images.
_STARTS = {HOLDOUT: 'holdout', VALIDATION: 'validation'}


@dataclasses.dataclass(frozen=True)
class Logits:
    """Logits of one point for N images, less the largest of each.

    Attributes:
        ids: [N, kept] int32, classes, the most probable first.
        values: [N, kept] float32, their logits.
        rest: [N] float32, logarithm of the sum of the exponentials of the others; ``-inf`` without.
    """

    ids: np.ndarray
    values: np.ndarray
    rest: np.ndarray

    def dense(self, classes: int) -> np.ndarray:
        """Logits [N, classes], float64."""
        others = classes - self.ids.shape[1]
        found = np.full([len(self.ids), classes], -np.inf)
        if others:
            found[:] = (self.rest - np.log(others))[:, None]
        np.put_along_axis(found, self.ids, self.values, axis=1)
        return found

    def part(self, rows: slice) -> 'Logits':
        """Those of some images."""
        return Logits(self.ids[rows], self.values[rows], self.rest[rows])


def sparse(logits: np.ndarray) -> Logits:
    """The logits [N, classes] of a point as they are kept."""
    values = logits.astype(np.float64)
    order = np.argsort(-values, axis=1, kind='stable')  # [N, classes]
    values = np.take_along_axis(values, order, axis=1)
    values -= values[:, :1]
    rest = np.full(len(values), -np.inf)
    if values.shape[1] > KEPT:
        rest = np.log(np.exp(values[:, KEPT:]).sum(axis=1))
    kept = values[:, :KEPT].astype(np.float32)
    return Logits(order[:, :KEPT].astype(np.int32), kept, rest.astype(np.float32))


def joined(parts: Sequence[Logits]) -> Logits:
    """Those of several batches, in order."""
    ids = np.concatenate([part.ids for part in parts])
    values = np.concatenate([part.values for part in parts])
    rest = np.concatenate([part.rest for part in parts])
    return Logits(ids, values, rest)


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers of the points of a network to a set of images.

    Attributes:
        labels: [N] int64, the right classes.
        classes: number of classes.
        points: logits by spelling of the point.
    """

    labels: np.ndarray
    classes: int
    points: Mapping[str, Logits]


def write(path: Path, found: Mapping[str, Answers], identity: str) -> None:
    """Writes a record.

    Args:
        path: of the file.
        found: by name of the set of images.
        identity: of the checkpoint.
    """
    values: dict[str, np.ndarray] = {'identity': np.array(identity)}
    for name, answers in found.items():
        start = _STARTS[name]
        values[f'{start}.labels'] = answers.labels
        values[f'{start}.classes'] = np.array(answers.classes)
        for point, logits in answers.points.items():
            for field, array in vars(logits).items():
                values[f'{start}.{point}.{field}'] = array
    arrays.write(path, values)


def read(path: Path, identity: str) -> dict[str, Answers] | None:
    """A record of a checkpoint; None where there is none of it.

    Args:
        path: of the file.
        identity: of the checkpoint.

    Raises:
        UsageError: it is damaged, or the network has diverged.
    """
    if not path.exists():
        return None
    remedy = 'delete it, and it is made anew'
    stored = arrays.read(path, {'identity': arrays.Array('U', 0)}, remedy)
    if str(stored['identity']) != identity:
        return None
    found = {}
    for name, start in _STARTS.items():
        found[name] = _read_set(stored, start, f'{path}: damaged ({name}); {remedy}')
    return found


def _read_set(stored: Mapping[str, np.ndarray], start: str, fault: str) -> Answers:
    """The answers for a set of images.

    Args:
        stored: arrays by name.
        start: of their names.
        fault: message if they are none.

    Raises:
        UsageError: they are none.
    """
    wanted = {f'{start}.labels', f'{start}.classes'}
    ends = ('ids', 'values', 'rest')
    names = {name.split('.')[1] for name in stored if name.startswith(f'{start}.')}
    points = sorted(names - {'labels', 'classes'})
    for point in points:
        wanted.update(f'{start}.{point}.{end}' for end in ends)
    if not points or not wanted <= stored.keys():
        raise UsageError(fault)
    labels, classes = stored[f'{start}.labels'], int(stored[f'{start}.classes'])
    found = {}
    for point in points:
        logits = Logits(*(stored[f'{start}.{point}.{end}'] for end in ends))
        _check(logits, labels, classes, fault)
        found[point] = logits
    return Answers(labels.astype(np.int64), classes, found)


def _check(logits: Logits, labels: np.ndarray, classes: int, fault: str) -> None:
    """Checks the logits of a point.

    Args:
        logits: of the point.
        labels: the right classes.
        classes: number of classes.
        fault: message if they are none.

    Raises:
        UsageError: they are none.
    """
    ids, values, rest = logits.ids, logits.values, logits.rest
    fits = ids.shape == values.shape == (len(labels), min(KEPT, classes))
    if not fits or rest.shape != labels.shape or not len(labels):
        raise UsageError(fault)
    for array in (ids, labels):
        if array.dtype.kind not in 'iu' or array.min() < 0 or array.max() >= classes:
            raise UsageError(fault)
    if not np.isfinite(values).all() or np.isnan(rest).any():
        raise UsageError(f'{fault}; or the network has diverged')
