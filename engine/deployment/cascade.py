"""A cascade carried out: operating points one after the other, each for the images that are left.

Runs on any backend. Stages are those of ``engine.deployment.stages``, which exits share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from engine.data.preprocessing import Preprocessing
from engine.deployment.backend import Way
from engine.deployment.stages import Node, Stage, Staged, way_of
from engine.errors import UsageError
from engine.results import chains
from engine.results.chains import LAST, Combination
from engine.results.exit_thresholds import NEVER
from nets.points import Point

# What stages of a chain leave to later ones beside the maps of a network.
_TOTAL = 'total'


class _View(NamedTuple):
    """The images of a view, as a node that stages read.

    Attributes:
        place: among the views.
    """

    place: int


@dataclasses.dataclass(frozen=True)
class Turn:
    """A pass over a network that gives some operating points one after the other.

    Attributes:
        preprocessing: how its one view is made.
        stages: of the pass; the first takes the view. Labels and confidence are not used.
        points: what the stages give: the spelling of each point.
    """

    preprocessing: Preprocessing
    stages: Sequence[Stage]
    points: Sequence[str]


# The passes over a network that give some points.
Turns: TypeAlias = Callable[[Sequence[str]], Sequence[Turn]]


def one_by_one(at: Callable[[str], Way], points: Sequence[str]) -> list[Turn]:
    """Passes that share nothing, one for each point.

    Args:
        at: how a point answers.
        points: that are wanted.
    """
    return [_alone(at(name), name) for name in points]


def _alone(way: Way, name: str) -> Turn:
    def run(images: np.ndarray) -> list[np.ndarray]:
        found = way.answer([images])
        assert found.logits is not None
        return [found.labels, found.scores, found.logits]

    return Turn(way.preprocessing, [Stage([], [], run)], [name])


class Reading(Protocol):
    """Reads views of images: a pass, or a chain of them.

    Attributes:
        preprocessing: how they are made.
        points: that are computed of them.
    """

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def points(self) -> Sequence[str]: ...


def views_of(turns: Sequence[Reading]) -> Preprocessing:
    """How the views of several passes or chains are made together.

    Raises:
        UsageError: they are made in different ways.
    """
    first = turns[0].preprocessing
    sizes: set[int] = set()
    for turn in turns:
        own = turn.preprocessing
        sizes.update(own.sizes)
        if (own.rule, own.image_size) != (first.rule, first.image_size):
            raise UsageError(
                f'cascade: {turn.points[0]} reads images of {own.image_size} pixels and '
                f'{turns[0].points[0]} of {first.image_size}; a chain needs sizes of one view'
            )
    return dataclasses.replace(first, sizes=tuple(sorted(sizes, reverse=True)))


class _Own(NamedTuple):
    """A stage of a pass at its place in a chain.

    Attributes:
        stage: of the pass.
        view: place of its view among the images; None where it goes on from another stage.
        number: of the point that answers here; None where none of the chain does.
    """

    stage: Stage
    view: int | None
    number: int | None

    def nodes(self, combination: Combination) -> tuple[list[Node], list[Node]]:
        """Nodes that it reads and nodes that it makes, the running total of a chain among them."""
        reads = list(self.stage.reads)
        makes = list(self.stage.makes)
        if self.view is not None:
            reads.append(_View(self.view))
        if combination.sums and self.number is not None:
            makes.append(_TOTAL)
            if self.number:
                reads.append(_TOTAL)
        return reads, makes


def _stage(own: _Own, reads: list[Node], makes: list[Node], combination: Combination) -> Stage:
    """A stage of a chain: that of a pass, and what the chain makes of its logits.

    Args:
        own: the stage of the pass.
        reads: nodes that it takes, those that it only hands on included; none for the first stage,
            which takes all views.
        makes: nodes that it leaves.
        combination: how the chain answers.
    """

    def run(*feeds: np.ndarray) -> list[np.ndarray]:
        nodes = reads or [_View(place) for place in range(len(feeds))]
        maps = dict(zip(nodes, feeds, strict=True))
        inputs: list[np.ndarray] = []
        if own.view is not None:
            inputs.append(maps[_View(own.view)])
        inputs += [maps[node] for node in own.stage.reads]
        labels, confidence, logits, *made = own.stage.run(*inputs)
        left = maps | dict(zip(own.stage.makes, made, strict=True))
        if own.number is not None:
            found = combination.answer(own.number, logits, maps.get(_TOTAL))
            labels, confidence, logits = found.labels, found.confidence, found.scores
            left[_TOTAL] = found.total
        return [labels, confidence, logits, *(left[node] for node in makes)]

    return Stage(reads, makes, run)


def _linked(every: Sequence[_Own], combination: Combination) -> list[Stage]:
    """Stages of a chain, each of which hands on what later ones read.

    Args:
        every: stages of the passes, in order.
        combination: how the chain answers.
    """
    found = []
    needed: list[Node] = []  # by the stages behind
    for k in reversed(range(len(every))):
        reads, made = every[k].nodes(combination)
        if not k:
            made += [node for node in needed if isinstance(node, _View)]
        makes = [node for node in needed if node in made]
        others = [node for node in needed if node not in made]
        needed = list(dict.fromkeys([*reads, *others]))
        takes = needed if k else []
        found.append(_stage(every[k], takes, makes, combination))
    return found[::-1]


class Chain(Staged):
    """Operating points one after the other.

    Args:
        turns: gives the passes over a network, as of ``Backend.turns``.
        points: spellings, in order.
        combination: how they answer; by default each for itself.

    Attributes:
        points: spellings, in order.
        preprocessing: how the views are made that the stages read.
        ends: number of the last stage of each point.

    Raises:
        UsageError: there is no such point, or they read different images.
    """

    def __init__(self, turns: Turns, points: Sequence[str], combination: Combination | None = None):
        self.points = tuple(points)
        combination = combination or Combination(LAST, (1.0,) * len(points))
        made: list[Turn] = []
        wanted: list[Sequence[str]] = []
        for part in chains.passes(points):
            own = turns(tuple(part))
            made += own
            wanted += [part] * len(own)
        self.preprocessing = views_of(made)
        every = self._in_order(made, wanted)
        self.ends = [k for k, own in enumerate(every) if own.number is not None]
        super().__init__(_linked(every, combination))

    def _in_order(self, turns: Sequence[Turn], wanted: Sequence[Sequence[str]]) -> list[_Own]:
        """Stages of all passes, in order.

        Args:
            turns: the passes.
            wanted: points that each is made for; it goes through others on its way, also through
                such of earlier passes.
        """
        found = []
        for turn, points in zip(turns, wanted, strict=True):
            (side,) = turn.preprocessing.view_sizes
            view: int | None = self.preprocessing.view_sizes.index(side)
            for stage, name in zip(turn.stages, turn.points, strict=True):
                number = self.points.index(name) if name in points else None
                found.append(_Own(stage, view, number))
                view = None
        return found

    def every(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Answers of every point to a batch that no image leaves.

        Logarithms of probabilities, float64 [N, classes] by point.

        Args:
            images: one array per view size.
        """
        found = []
        maps: dict[Node, np.ndarray] = {}
        for k, stage in enumerate(self.stages):
            feeds = list(images)
            if k:
                feeds = [maps[node] for node in stage.reads]
            _, _, logits, *made = stage.run(*feeds)
            maps.update(zip(stage.makes, made, strict=True))
            if k in self.ends:
                found.append(logits)
        return found

    def thresholds(self, of_points: Sequence[float]) -> list[float]:
        """Thresholds by stage, of those by point: nobody leaves in between."""
        found = [NEVER] * len(self.stages)
        for end, threshold in zip(self.ends, of_points, strict=True):
            found[end] = threshold
        return found

    def point_of(self, stage: int) -> int:
        """Number of the last point that has answered when a stage has run."""
        return sum(end <= stage for end in self.ends) - 1

    def way(self, thresholds: Sequence[float] | None, deadline_ms: float = float('inf')) -> Way:
        """How the chain answers.

        Args:
            thresholds: by point; None leaves nobody before the last one.
            deadline_ms: see ``Staged.predict``.
        """
        by_stage = None if thresholds is None else self.thresholds(thresholds)
        ran = [self.points[: self.point_of(stage) + 1] for stage in range(len(self.stages))]
        return way_of(self, self.preprocessing, ran, by_stage, deadline_ms)


def ascending(points: Sequence[str]) -> list[str]:
    """Points that a deadline climbs: of each size the strongest, smallest size first."""
    strongest: dict[int, str] = {}
    for name in points:
        size = Point.within(name).size
        if size is not None:
            strongest.setdefault(size, name)
    return [strongest[size] for size in sorted(strongest)]
