"""Backends of ``Predictor``: what they have in common, and which one a path asks for."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from engine.data.preprocessing import Preprocessing
from engine.deployment.asked import Asked
from engine.deployment.names import STAGE
from engine.deployment.runtimes import BY_END, OF_PLANES, RUNTIMES
from engine.errors import UsageError
from engine.results import chains
from nets.points import Point
from quant.spelling import unknown

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.deployment.cascade import Turn
    from engine.results.cascades import Cascade
    from engine.results.choice import Choice

TENSORFLOW = 'tensorflow'


class Prediction(NamedTuple):
    """Answers for N images.

    Attributes:
        labels: [N] int64, the class of the largest score.
        scores: [N] float32, its probability.
        points: what answered: the operating point by image, also where the network chose it; with
            gates of blocks, which are no axis of operating points, that of the run or file.
        probabilities: [N, classes] float32, of a batch; None in what joins the batches of any
            number of images.
        logits: [N, classes] float32, of which the probabilities are the softmax; None where these
            are.
        stages: the operating points that ran for each image, the one that answered last; None
            where that one ran alone.
    """

    labels: np.ndarray
    scores: np.ndarray
    points: list[str]
    probabilities: np.ndarray | None = None
    logits: np.ndarray | None = None
    stages: list[tuple[str, ...]] | None = None

    def without_classes(self) -> Prediction:
        """The same without what it says of every class, which of many images fills the memory."""
        return self._replace(probabilities=None, logits=None)


class Way(NamedTuple):
    """One way to answer images.

    Attributes:
        preprocessing: how their views are made; a calibrated size has its own.
        answer: of a batch, one array per view size.
        answer_all: of many batches in order, where that takes less than one after the other.
    """

    preprocessing: Preprocessing
    answer: Callable[[Sequence[np.ndarray]], Prediction]
    answer_all: Callable[[Iterable[Sequence[np.ndarray]]], Prediction] | None = None


class Backend(Protocol):
    """The protocol of backends, which answer images.

    Attributes:
        points: spellings of the operating points, strongest first.
        classes: names of the classes, by label; none if they are not known.
        has_exits: whether it can stop at exits, or at stages.
    """

    points: list[str]
    classes: tuple[str, ...]
    has_exits: bool

    @property
    def config(self) -> Config:
        """The configuration of the run.

        Raises:
            UsageError: there is no run.
        """

    def at(self, point: str) -> Way:
        """How an operating point answers, which may take seconds to make.

        Args:
            point: one of ``points``.
        """

    def within(self, budget: str | float | None, ms: float | None = None) -> Choice:
        """The most accurate recorded way to run within limits.

        Args:
            budget: mean multiply-adds of an image; None is no limit.
            ms: milliseconds of one image; None is no limit.

        Raises:
            UsageError: nothing was evaluated, or nothing is within the budget.
        """

    def leaving_early(
        self, size: int | None, thresholds: Sequence[float] | None, deadline_ms: float
    ) -> Way:
        """How the exits, or the stages of a file, answer where images leave.

        Args:
            size: input size in pixels; None is the largest.
            thresholds: as of ``Staged.predict``, one for each exit or stage.
            deadline_ms: as of ``Staged.predict``.

        Raises:
            UsageError: there are no exits, or others than there are thresholds.
        """

    def carried(self, cascade: Cascade) -> Way | None:
        """How a file that carries out a cascade answers by another one; None of all else.

        Raises:
            UsageError: it is of another chain.
        """

    def turns(self, points: Sequence[str]) -> Sequence[Turn]:
        """The passes over the network that give some points.

        Args:
            points: that one pass can give in turn, see ``engine.results.chains.passes``.

        Raises:
            UsageError: there is no such point.
        """

    def append(self, content: bytes) -> list[str]:
        """Takes the rest of a file that was cut; returns the points that can run since.

        Args:
            content: what follows in the file, or a part of it.

        Raises:
            UsageError: it is no such file, or no such rest.
        """

    def identity(self) -> str:
        """The identity of the checkpoint, see ``engine.runs.fingerprint``.

        Raises:
            UsageError: it is not known.
        """


def open_backend(
    run: str, name: str | None, epoch: int | None, threads: int, weights: str, asked: Asked
) -> Backend:
    """The backend that a path, and a name if one is given, ask for.

    Args:
        run: as of ``Predictor``.
        name: as of its ``backend``.
        epoch: as of ``Predictor``.
        threads: likewise.
        weights: likewise.
        asked: what answers where a call names nothing.

    Raises:
        UsageError: there is no such backend, or it cannot read what lies there.
    """
    known = (TENSORFLOW, *RUNTIMES, *OF_PLANES)
    if name not in (None, *known):
        raise UsageError(f'backend {name!r}: {unknown(str(name), known)}')
    path = Path(run)
    runtimes = BY_END.get(path.suffix)
    if runtimes is None or path.is_dir():
        if name in OF_PLANES:
            raise UsageError(f'backend {name!r}: it runs .lqn files, and {run} is none')
        return _of_run(run, name or TENSORFLOW, epoch, threads, weights, asked)
    if epoch is not None or weights != 'raw':
        given = f'epoch {epoch}' if epoch is not None else f'weights {weights!r}'
        raise UsageError(f'{given}: {run} is a file with one set of weights; leave it out')
    if name is not None and name not in runtimes:
        runs = 'run folders' if name == TENSORFLOW else 'other files'
        raise UsageError(
            f'backend {name!r}: it runs {runs}, and {run} is a file for {", ".join(runtimes)}'
        )
    from engine.deployment.file_backend import FileBackend

    return FileBackend(path, name or _installed(runtimes), threads)


def _of_run(
    run: str, name: str, epoch: int | None, threads: int, weights: str, asked: Asked
) -> Backend:
    """A backend for a run folder or a published checkpoint; arguments as of ``open_backend``."""
    # A file needs nothing of what reads runs.
    from engine.deployment import run_backend

    if name != TENSORFLOW:  # which alone has the times and ways that were recorded
        asked = Asked(asked.point)
    source = run_backend.read(run, epoch, weights, asked)
    if name == TENSORFLOW:
        from engine.deployment.tensorflow_backend import TensorFlowBackend

        return TensorFlowBackend(source, threads)
    from engine.deployment.packed_backend import PackedBackend

    return PackedBackend(source, name, threads)


def _installed(names: Sequence[str]) -> str:
    """The first of some runtimes that is there, or the one to install."""
    for name in names:
        if name in OF_PLANES:
            from engine.deployment import native_runtimes

            if native_runtimes.is_there(name):
                return name
        elif importlib.util.find_spec(name):
            return name
    return names[0]


def _axes() -> set[str]:
    """Names of the axes of operating points."""
    return {field.name for field in dataclasses.fields(Point)}


def tells(told: Sequence[str]) -> bool:
    """Whether choices of these names tell an operating point."""
    return not {STAGE, *_axes()}.isdisjoint(told)


def taken(name: str, told: Sequence[str], executed: np.ndarray) -> list[str]:
    """The operating point of each image, where a network chose it.

    Args:
        name: of what answered: an operating point, or choices.
        told: names of the choices; of an axis of operating points, it tells the point, and so does
            the stage of a cascade.
        executed: [N, choices], what was chosen.

    >>> taken('s28-dynamic', ['exit'], np.array([[1], [0]]))
    ['s28-x1', 's28-x0']
    >>> taken('s28-dynamic', ['group0/block1'], np.array([[1]]))
    ['s28-dynamic']
    >>> taken('s12+s20', ['stage'], np.array([[1]]))
    ['s20']
    """
    if not tells(told):
        return [name] * len(executed)
    if STAGE in told:
        chain = chains.parsed(name)
        return [chain[int(row[told.index(STAGE)])] for row in executed]
    axes = _axes()
    known = {}
    for place, choice in enumerate(told):
        if choice in axes:
            known[choice] = place
    points = []
    for row in executed:
        chosen = {axis: int(row[place]) for axis, place in known.items()}
        points.append(str(dataclasses.replace(Point.within(name), **chosen)))
    return points


def check_count(thresholds: Sequence[float] | None, stages: int, name: str) -> None:
    """Checks that there is a threshold for each exit, or for each stage.

    Args:
        thresholds: as they were given; None needs none.
        stages: how many exits or stages there are.
        name: of what has them, for the message.

    Raises:
        UsageError: there are more or fewer.
    """
    if thresholds is not None and len(thresholds) != stages:
        raise UsageError(f'thresholds: {len(thresholds)} given; {name} takes {stages}, one a stage')


def answered(logits: np.ndarray, points: list[str]) -> Prediction:
    """Answers by the largest logit.

    Args:
        logits: [N, classes].
        points: what answered, by image.
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)  # [N, classes]
    labels = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(labels)), labels]
    return Prediction(labels, scores, points, probabilities, logits)


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Answers of several batches, in order."""
    labels = np.concatenate([part.labels for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    probabilities = _whole([part.probabilities for part in parts])
    logits = _whole([part.logits for part in parts])
    points: list[str] = []
    stages: list[tuple[str, ...]] = []
    for part in parts:
        points += part.points
        stages += part.stages or []
    told = stages if len(stages) == len(points) else None
    return Prediction(labels, scores, points, probabilities, logits, told)


def _whole(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Arrays joined; None unless all are there."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return np.concatenate(known)
