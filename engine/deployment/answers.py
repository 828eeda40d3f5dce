"""Answers of a predictor, an image each."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.deployment.backend import Prediction, Way
from engine.deployment.images import Bad, read
from engine.deployment.views import batches


class Ranked(NamedTuple):
    """A class and how probable it is.

    Attributes:
        label: number of the class.
        name: of the class; its number where names are not known.
        score: its probability.
    """

    label: int
    name: str
    score: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer of a network about one image.

    Attributes:
        image: its path, or its number among those that were given.
        point: the operating point that answered, also where the network chose it.
        ms: milliseconds from the image to the answer; of a batch, each image's part of it.
        probabilities: float32 [classes].
        names: of the classes; none if they are not known.
        stages: the operating points that ran, the one that answered last.
    """

    image: str
    point: str
    ms: float
    probabilities: np.ndarray = dataclasses.field(repr=False)
    names: Sequence[str] = dataclasses.field(default=(), repr=False)
    stages: tuple[str, ...] = ()

    @property
    def label(self) -> int:
        """Number of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def name(self) -> str:
        """Name of the most probable class; its number where names are not known."""
        return self._name(self.label)

    @property
    def score(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities[self.label])

    def top(self, count: int = 5) -> list[Ranked]:
        """The most probable classes, the first one first.

        Args:
            count: how many; of fewer classes all.
        """
        order = np.argsort(-self.probabilities, kind='stable')
        found = []
        for label in map(int, order[:count]):
            found.append(Ranked(label, self._name(label), float(self.probabilities[label])))
        return found

    def _name(self, label: int) -> str:
        return self.names[label] if self.names else str(label)


def of_batch(
    found: Prediction, images: Sequence[str], ms: float, names: Sequence[str]
) -> Iterator[Answer]:
    """The answers of a batch.

    Args:
        found: what the network said.
        images: what to call the images.
        ms: milliseconds of each.
        names: of the classes.
    """
    assert found.probabilities is not None
    stages = found.stages or [(point,) for point in found.points]
    for image, ran, row in zip(images, stages, found.probabilities, strict=True):
        yield Answer(image, ran[-1], ms, row, names, ran)


def stream(
    way: Way,
    images: Iterable[Any],
    single: bool,
    rgb: bool | None,
    bad: Bad | None,
    total: int | None,
    classes: Sequence[str],
) -> Iterator[Answer]:
    """The answers of a way to several images, a batch when its first answer is taken.

    Args:
        way: that answers.
        images: as of ``Predictor.__call__``.
        single: whether each image is a batch of its own.
        rgb: colour order of arrays.
        bad: as of ``Predictor.__call__``.
        total: as of ``Predictor.__call__``.
        classes: names of the classes.
    """
    names: collections.deque[str] = collections.deque()
    pixels = read(images, rgb, bad, names)
    begun = time.perf_counter()
    for batch in batches(pixels, way.preprocessing, single=single, total=total):
        found = way.answer(batch)
        count = len(found.labels)
        ms = 1e3 * (time.perf_counter() - begun) / count
        own = [names.popleft() for _ in range(count)]
        yield from of_batch(found, own, ms, classes)
        begun = time.perf_counter()
