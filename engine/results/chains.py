"""Chains of operating points: an image goes on from one to the next until an answer is sure.

Pure numpy. What runs a chain and what chooses its thresholds compute answers by these functions.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.errors import UsageError
from nets.points import Point

# Which stages answer together: the latest alone, or the mean of all that ran.
LAST, MEAN = 'last', 'mean'
COMBINES = (LAST, MEAN)

# Stages of a chain: more pay for answers that hardly any image needs.
LARGEST_CHAIN = 5

# Between the points of a spelling.
BETWEEN = '+'


def spelled(points: Sequence[str]) -> str:
    """One word for a chain.

    >>> spelled(['s96', 's160'])
    's96+s160'
    """
    return BETWEEN.join(points)


def parsed(text: str) -> tuple[str, ...]:
    """The points of the word for a chain.

    >>> parsed('s96+s160')
    ('s96', 's160')
    """
    return tuple(text.split(BETWEEN))


def passes(points: Sequence[str]) -> Iterator[list[str]]:
    """Parts of a chain, each of the points that one pass of the network gives in turn.

    Exits of one network that follow each other share a pass, all else is computed anew.

    >>> list(passes(['s20-x1', 's28-x0', 's28-x2']))
    [['s20-x1'], ['s28-x0', 's28-x2']]
    """
    part: list[str] = []
    for name in points:
        if part and not _goes_on(Point.parse(part[-1]), Point.parse(name)):
            yield part
            part = []
        part.append(name)
    if part:
        yield part


def _goes_on(before: Point, after: Point) -> bool:
    """Whether a pass that has reached an exit reaches another one."""
    if before.exit is None or after.exit is None or before.exit >= after.exit:
        return False
    return dataclasses.replace(before, exit=after.exit) == after


def costs(points: Sequence[str], single: Mapping[str, float]) -> np.ndarray:
    """[K] float64: cost of an image up to each stage of a chain, with all that ran before.

    Args:
        points: the chain.
        single: cost of each point alone, earlier exits included.

    >>> costs(['s12', 's20'], {'s12': 2.0, 's20': 5.0}).tolist()
    [2.0, 7.0]
    """
    found = []
    before = 0.0
    for part in passes(points):
        found += [before + single[name] for name in part]
        before += single[part[-1]]
    return np.array(found, np.float64)


def check_known(points: Sequence[str], single: Mapping[str, float], place: str) -> None:
    """Checks that points are those of a network.

    Args:
        points: to be checked.
        single: cost of each point that the network has.
        place: start of messages: the flag or file that gave them.

    Raises:
        UsageError: a point is not there, or there is none.
    """
    unknown = [name for name in points if name not in single]
    if unknown or not points:
        named = ' '.join(unknown) or 'none'
        raise UsageError(f'{place}: no point {named}; there are {" ".join(single)}')


def check(points: Sequence[str], single: Mapping[str, float], place: str) -> None:
    """Checks that points are a chain of a network.

    Args:
        points: to be checked.
        single: cost of each point that the network has.
        place: start of messages: the flag or file that gave them.

    Raises:
        UsageError: a point is not there, does not cost more than the one before, or they are too
            many.
    """
    check_known(points, single, place)
    if len(points) > LARGEST_CHAIN:
        raise UsageError(f'{place}: {len(points)} stages; give at most {LARGEST_CHAIN}')
    for before, after in zip(points, points[1:]):
        if single[after] <= single[before]:
            ascending = ' '.join(sorted(set(points), key=lambda name: single[name]))
            raise UsageError(
                f'{place}: {after} costs no more than {before} before it; each stage must cost '
                f'more than the one before, as in {ascending}'
            )


def log_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Logarithms of the softmax of logits [N, classes], float64.

    That of the largest does not saturate: it is computed from what the others have.

    Args:
        logits: [N, classes].
        temperature: by which they are divided.
    """
    scaled = logits.astype(np.float64) / temperature
    largest = scaled.argmax(axis=1)[:, None]  # [N, 1]
    shifted = scaled - np.take_along_axis(scaled, largest, axis=1)
    others = np.exp(shifted)
    np.put_along_axis(others, largest, 0.0, axis=1)
    return shifted - np.log1p(others.sum(axis=1, keepdims=True))


class Answered(NamedTuple):
    """Answers of a stage to N images.

    Attributes:
        labels: [N] int64, the most probable class.
        confidence: [N] float64, logarithm of its probability.
        scores: [N, classes] float64, logarithms of all probabilities.
        total: [N, classes] float64, sum of the probabilities of all stages so far.
    """

    labels: np.ndarray
    confidence: np.ndarray
    scores: np.ndarray
    total: np.ndarray


class Combination(NamedTuple):
    """How the stages of a chain answer.

    Attributes:
        combine: one of ``COMBINES``.
        temperatures: by which the logits of each stage are divided.
    """

    combine: str
    temperatures: tuple[float, ...]

    @property
    def sums(self) -> bool:
        """Whether a stage needs what the ones before it said."""
        return self.combine == MEAN

    def answer(self, stage: int, logits: np.ndarray, total: np.ndarray | None) -> Answered:
        """The answers of a stage.

        Args:
            stage: its number.
            logits: [N, classes], of its point.
            total: of the stage before; None for the first, and where ``sums`` says so.
        """
        scores = log_probabilities(logits, self.temperatures[stage])
        own = np.exp(scores)
        total = own if total is None else total + own
        if self.sums and stage:
            scores = np.log(np.maximum(total / (stage + 1), np.finfo(np.float64).tiny))
        labels = scores.argmax(axis=1)
        confidence = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
        return Answered(labels, confidence, scores, total)
