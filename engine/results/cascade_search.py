"""The search for a cascade: thresholds of every chain, and the best of them within a budget.

Pure numpy. All is chosen on the hold-out images, by the accuracy that is to be expected: the mean
of the share that is right and of the calibrated probability of the answers. The first alone goes
by luck, since candidates differ in some tens of images; the second knows how probable every answer
was, but is no better than its calibration.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.errors import UsageError
from engine.results import chains, exit_thresholds
from engine.results.replays import Replay, Stages

# Points of a chain that is searched for.
STAGES = 3

# Points of a search over all chains; of more, those that no other beats.
MOST_POINTS = 10

# Values of log p, see ``exit_thresholds.shares``: of two stages, from 2 to 98 percent leave early.
_LOG_P = np.linspace(-4, 4, 81)


class Candidate(NamedTuple):
    """A chain with thresholds, on the hold-out images.

    Attributes:
        points: of the chain.
        thresholds: [K].
        expected: percent right that is to be expected of such images.
        cost: mean cost of an image.
    """

    points: tuple[str, ...]
    thresholds: np.ndarray
    expected: float
    cost: float


def all_chains(single: Mapping[str, float], top1: Callable[[str], float]) -> list[tuple[str, ...]]:
    """Chains of at most ``STAGES`` points that ascend in cost.

    Args:
        single: cost of each point alone.
        top1: percent right that is to be expected of a point.
    """
    ordered = sorted(single, key=lambda name: single[name])
    if len(ordered) > MOST_POINTS:
        ordered = _strongest(ordered, top1)
    found = []
    for count in range(1, STAGES + 1):
        for points in itertools.combinations(ordered, count):
            ascending = [single[name] for name in points]
            if len(set(ascending)) == count:
                found.append(points)
    return found


def _strongest(ordered: Sequence[str], top1: Callable[[str], float]) -> list[str]:
    """Points that nothing cheaper beats, and of too many the same number from all costs.

    Args:
        ordered: points by cost.
        top1: percent right that is to be expected of a point.
    """
    front: list[str] = []
    for name in ordered:
        if not front or top1(name) > top1(front[-1]):
            front.append(name)
    if len(front) <= MOST_POINTS:
        return front
    places = np.linspace(0, len(front) - 1, MOST_POINTS).round().astype(int)
    return [front[place] for place in places]


def candidates(
    replay: Replay,
    points: tuple[str, ...],
    single: Mapping[str, float],
    budgets: Iterable[float] = (),
) -> list[Candidate]:
    """A chain with many thresholds.

    Args:
        replay: on the hold-out images.
        points: of the chain.
        single: cost of each point alone.
        budgets: mean costs that are met as closely as can be, beside others.
    """
    if len(points) == 1:
        return [alone(replay, points[0], single[points[0]])]
    stages = replay.stages(points)
    costs = chains.costs(points, single)
    tried = []
    for log_p in _LOG_P:
        share = exit_thresholds.shares(float(np.exp(log_p)), len(points))
        tried.append(exit_thresholds.thresholds(stages.confidence, share))
    for budget in budgets:
        if costs[0] <= budget < costs[-1]:
            tried.append(exit_thresholds.solve(stages.confidence, costs, budget))
    chances = replay.chances(points)
    return [_candidate(points, thresholds, costs, stages, chances) for thresholds in tried]


def _candidate(
    points: tuple[str, ...],
    thresholds: np.ndarray,
    costs: np.ndarray,
    stages: Stages,
    chances: np.ndarray,
) -> Candidate:
    """A chain with thresholds.

    Args:
        points: of the chain.
        thresholds: [K].
        costs: [K], up to each stage.
        stages: of the chain on the hold-out images.
        chances: [N, K], how probable it is that each stage is right.
    """
    leaves = exit_thresholds.chosen(stages.confidence, thresholds)  # [N]
    rows = np.arange(len(leaves))
    right = stages.right[rows, leaves]
    chance = chances[rows, leaves]
    expected = 50 * float(right.mean() + chance.mean())
    return Candidate(points, thresholds, expected, float(costs[leaves].mean()))


def alone(replay: Replay, point: str, cost: float) -> Candidate:
    """A point without others, as a chain of one stage.

    Args:
        replay: on the hold-out images.
        point: spelling.
        cost: of the point.
    """
    points = (point,)
    thresholds, costs = np.array([exit_thresholds.ALWAYS]), np.array([cost])
    return _candidate(points, thresholds, costs, replay.stages(points), replay.chances(points))


def within(found: Sequence[Candidate], budget: float) -> Candidate:
    """The most accurate candidate within a budget; of equals the cheapest.

    Args:
        found: candidates, some of which are cheap enough.
        budget: mean cost of an image.

    Raises:
        UsageError: none is.
    """
    kept = [one for one in found if one.cost <= budget]
    if not kept:
        least = min(one.cost for one in found)
        raise UsageError(
            f'the smallest possible budget is {least:,.10g}, the cost of the first stage; got '
            f'{budget:,.10g}'
        )
    return max(kept, key=lambda one: (one.expected, -one.cost, -len(one.points)))


def reaching(found: Sequence[Candidate], top1: float) -> Candidate:
    """The cheapest candidate of an accuracy.

    Args:
        found: candidates.
        top1: percent right, at least.

    Raises:
        UsageError: none is so accurate.
    """
    kept = [one for one in found if one.expected >= top1]
    if not kept:
        most = max(found, key=lambda one: one.expected)
        raise UsageError(
            f'{top1:.2f} % expected by the hold-out images: the most accurate cascade has '
            f'{most.expected:.2f} % ({chains.spelled(most.points)})'
        )
    return min(kept, key=lambda one: (one.cost, -one.expected, len(one.points)))
