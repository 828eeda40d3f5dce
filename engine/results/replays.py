"""Chains of operating points on recorded answers: what each of their stages says of every image.

Pure numpy.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.results import calibration, chains, point_answers
from engine.results.chains import Answered, Combination
from engine.results.point_answers import Answers, Logits

# Images whose answers are computed at a time.
_PART = 4096


class Outcome(NamedTuple):
    """Answers of the last stage of a chain to N images.

    Attributes:
        confidence: [N] float64, logarithm of the probability of its answer.
        right: [N] bool, whether that is right.
        near: [N] bool, whether the right class is among its five most probable ones.
    """

    confidence: np.ndarray
    right: np.ndarray
    near: np.ndarray


class Stages(NamedTuple):
    """Answers of the stages of a chain to N images: an ``Outcome`` by stage, arrays [N, K]."""

    confidence: np.ndarray
    right: np.ndarray
    near: np.ndarray


class Replay:
    """Chains of points on recorded images.

    Args:
        answers: of all points.
        combine: one of ``chains.COMBINES``.
        temperatures: by point.
    """

    def __init__(self, answers: Answers, combine: str, temperatures: Mapping[str, float]):
        self.images = len(answers.labels)
        self._answers = answers
        self._combine = combine
        self._temperatures = temperatures
        self._known: dict[tuple[str, ...], Outcome] = {}
        self._chances: dict[tuple[str, ...], np.ndarray] = {}

    def stages(self, points: Sequence[str]) -> Stages:
        """Outcomes of every stage of a chain."""
        found = []
        for ran in self._counted(points):
            if ran not in self._known:
                self._known[ran] = self._outcome(ran)
            found.append(self._known[ran])
        return Stages(*(np.stack(columns, axis=1) for columns in zip(*found)))

    def chances(self, points: Sequence[str]) -> np.ndarray:
        """[N, K] float64: how probable it is that each stage of a chain is right.

        The probability of its answer, with a temperature for the stage, which is fitted on these
        very images: this is no judgement of them.
        """
        found = []
        for ran in self._counted(points):
            if ran not in self._chances:
                self._chances[ran] = self._chance(ran)
            found.append(self._chances[ran])
        return np.stack(found, axis=1)

    def _counted(self, points: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """By stage of a chain, the points that its answer is made of."""
        for last in range(len(points)):
            ran = tuple(points[: last + 1])
            if self._combine == chains.LAST:
                ran = ran[-1:]
            yield ran

    def _answered(self, ran: tuple[str, ...]) -> Iterator[tuple[slice, Answered]]:
        """Answers of the last of some stages, of some images at a time."""
        temperatures = tuple(self._temperatures.get(name, 1.0) for name in ran)
        combination = Combination(self._combine, temperatures)
        for start in range(0, self.images, _PART):
            rows = slice(start, start + _PART)
            total = None
            for stage, name in enumerate(ran):
                logits = self._answers.points[name].part(rows).dense(self._answers.classes)
                answered = combination.answer(stage, logits, total)
                total = answered.total
            yield rows, answered

    def _outcome(self, ran: tuple[str, ...]) -> Outcome:
        """The outcome of the last of some stages."""
        parts = []
        for rows, answered in self._answered(ran):
            labels = self._answers.labels[rows]
            own = np.take_along_axis(answered.scores, labels[:, None], axis=1)
            # Of equal scores, the class of the lower number comes first.
            lower = np.arange(self._answers.classes) < labels[:, None]  # [N, classes]
            ahead = (answered.scores > own) | (lower & (answered.scores == own))
            near = ahead.sum(axis=1) < 5
            parts.append(Outcome(answered.confidence, answered.labels == labels, near))
        return Outcome(*map(np.concatenate, zip(*parts)))

    def _chance(self, ran: tuple[str, ...]) -> np.ndarray:
        """[N] probability that the last of some stages is right."""
        parts = [point_answers.sparse(answered.scores) for _, answered in self._answered(ran)]
        logits = point_answers.joined(parts)
        return probability(logits, self._answers.classes, temperature(logits, self._answers))


def temperature(logits: Logits, answers: Answers) -> float:
    """The temperature with which the right classes are most likely, see ``calibration``.

    Args:
        logits: of a point or stage.
        answers: that they belong to.
    """
    values, counts = _columns(logits, answers.classes)
    hits = logits.ids == answers.labels[:, None]  # [N, kept]
    elsewhere = hits.shape[1]
    columns = np.where(hits.any(axis=1), hits.argmax(axis=1), elsewhere)
    return calibration.temperature(values, columns, counts)


def probability(logits: Logits, classes: int, temperature: float) -> np.ndarray:
    """[N] float64, of the most probable class.

    Args:
        logits: of N images.
        classes: number of classes.
        temperature: by which logits are divided.
    """
    values, counts = _columns(logits, classes)
    # That of the largest is 0.
    return 1 / (np.exp(values / temperature) @ counts)


def _columns(logits: Logits, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, columns] float64, and how many classes each column stands for, [columns]."""
    values = logits.values.astype(np.float64)
    kept = values.shape[1]
    counts = np.ones(kept)
    others = classes - kept
    if others:
        spread = logits.rest - np.log(others)
        values = np.concatenate([values, spread[:, None]], axis=1)
        counts = np.append(counts, others)
    return values, counts
