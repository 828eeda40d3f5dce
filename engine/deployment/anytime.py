"""Anytime answers of exported files: those of the deepest exit that ends by a deadline."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

import numpy as np

from engine.deployment.backend import Prediction, Way
from engine.errors import UsageError
from nets.points import Point


def exits_of(points: Sequence[str], size: int | None, source: str) -> list[str]:
    """The operating points that are exits at a size, shallowest first.

    Args:
        points: spellings.
        size: in pixels; None is the largest that has exits.
        source: what has the points, for messages.

    Raises:
        UsageError: there are none.

    >>> exits_of(['s16', 's12-x1', 's12-x0', 's8-x0'], None, 'net.onnx')
    ['s12-x0', 's12-x1']
    """
    found: dict[int, dict[int, str]] = {}
    for name in points:
        point = Point.within(name)
        if point.exit is not None:
            found.setdefault(point.size or 0, {})[point.exit] = name
    exits = found.get(size or max(found, default=0), {})
    if not exits:
        where = f' at {size} pixels' if size else ''
        raise UsageError(f'anytime: {source} has no exits{where}')
    return [exits[exit] for exit in sorted(exits)]


class Anytime:
    """Exits, each of which computes all that is in front of it.

    Args:
        ways: how each answers, shallowest first. An image is run by each to see how long it takes.
    """

    def __init__(self, ways: Sequence[Way]):
        self._ways = ways
        # Seconds per image of every exit, as it ran the last time.
        self._seconds = [_seconds(way) for way in ways]

    def by(self, deadline_ms: float) -> Way:
        """How the deepest exit answers that will have ended; if none will, the first answers.

        Args:
            deadline_ms: milliseconds from when images are given.
        """
        return Way(self._ways[0].preprocessing, functools.partial(self._answer, deadline_ms))

    def _answer(self, deadline_ms: float, batch: Sequence[np.ndarray]) -> Prediction:
        count = len(batch[0])
        deepest = 0
        for exit, seconds in enumerate(self._seconds):
            if 1e3 * seconds * count <= deadline_ms:
                deepest = exit
        begun = time.perf_counter()
        found = self._ways[deepest].answer(batch)
        self._seconds[deepest] = (time.perf_counter() - begun) / count
        return found


def _seconds(way: Way) -> float:
    """Seconds of one image, of which the first prepares what runs it."""
    channels = way.preprocessing.channels
    sides = way.preprocessing.view_sizes
    blank = [np.zeros([1, side, side, channels], np.uint8) for side in sides]
    way.answer(blank)
    begun = time.perf_counter()
    way.answer(blank)
    return time.perf_counter() - begun
