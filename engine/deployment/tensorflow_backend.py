"""TensorFlow as backend of ``Predictor``: every way to run a network that evaluation has."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence

import numpy as np

from engine.data.preprocessing import Preprocessing
from engine.deployment import trace
from engine.deployment.backend import Prediction, Way, answered, check_count, taken, tells
from engine.deployment.cascade import Turn, one_by_one
from engine.deployment.early_exit import EarlyExit
from engine.deployment.program import Program
from engine.deployment.resizing import resized_first
from engine.deployment.run_backend import RunBackend
from engine.deployment.stages import way_of
from engine.deployment.tf_graph import graph_of, serving
from engine.errors import UsageError
from engine.graph import freeze
from engine.results.choice import Choice
from engine.runs.checkpoint import Checkpoint
from nets.points import Point
from quant import backend


class Served:
    """The program of an operating point, or of choices image by image, as TensorFlow runs it.

    Args:
        whole: the program.
        name: of the point or of the choices in it.
        threads: of one operation; 0 takes all cores.
    """

    def __init__(self, whole: Program, name: str, threads: int):
        self._whole = resized_first(whole)
        self._name = name
        self._threads = threads
        choices = whole.points[name].choices
        self._told = [choice.name for choice in choices]
        # What is no axis of operating points, nobody is told.
        self._telling = tells(self._told)
        self._lock = threading.Lock()
        self._runs: dict[int | None, Callable[..., list[np.ndarray]]] = {}

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Logits [N, classes], and the number [N] of each choice that tells a point.

        Args:
            images: uint8 [N, side, side, 3].
        """
        # Where nothing is chosen, any number of images takes the same nodes.
        batch = 1 if len(images) == 1 and self._told else None
        with self._lock:
            if batch not in self._runs:
                self._runs[batch] = self._made(batch)
        return self._runs[batch](images)

    def _made(self, batch: int | None) -> Callable[..., list[np.ndarray]]:
        frozen = graph_of(self._whole, [self._name], batch=batch, telling=self._telling)
        (run,) = serving(frozen, self._threads)
        return run

    def predict(self, point: str, batch: Sequence[np.ndarray]) -> Prediction:
        """Answers.

        Args:
            point: what answers, as callers know it.
            batch: one array of images.
        """
        (images,) = batch
        logits, *executed = self.run(images)
        if not executed:
            return answered(logits, [point] * len(logits))
        numbers = np.stack(executed, axis=1)  # [N, choices]
        return answered(logits, taken(point, self._told, numbers))


class TensorFlowBackend(RunBackend):
    """A graph for every operating point, whose weights are constants.

    Args:
        source: the checkpoint.
        threads: of one operation; 0 takes all cores.
    """

    def __init__(self, source: Checkpoint, threads: int):
        super().__init__(source, threads)
        backend.pool(threads)
        network = self.config.network()
        self._dynamic = {name: network.choosing[name] for name in network.dynamic_names}
        self._lock = threading.Lock()
        self._exits: dict[int, tuple[EarlyExit, Preprocessing]] = {}
        self.points.extend(self._dynamic)

    def at(self, point: str) -> Way:
        """How an operating point answers.

        Args:
            point: one of ``points``; of a network that skips layers image by image, they are.
        """
        name = self.config.network().as_evaluated(point)
        if point in self._dynamic:
            size = self._dynamic[point]
            preprocessing = dataclasses.replace(self.config.preprocessing, sizes=(size,))
        else:
            preprocessing = self.view_of(point)
        served = Served(trace.of_points(self._source, [name]), name, self._threads)
        return Way(preprocessing, functools.partial(served.predict, point))

    def within(self, budget: str | float | None, ms: float | None = None) -> Choice:
        """The most accurate recorded way to run within limits, exits and gates included."""
        return self.recorded(budget, ms)

    def leaving_early(
        self, size: int | None, thresholds: Sequence[float] | None, deadline_ms: float
    ) -> Way:
        """How the exits answer where images leave, see ``engine.deployment.backend.Backend``.

        Args:
            size: input size in pixels; None is the largest.
            thresholds: as of ``Staged.predict``.
            deadline_ms: as of ``Staged.predict``.

        Raises:
            UsageError: there are no exits.
        """
        if not self.has_exits:
            raise UsageError(
                f'anytime: {self._source.prefix} is a {self.config.net}, which has no exits'
            )
        size = size or max(self.config.sizes)
        exits, preprocessing = self._early(size)
        check_count(thresholds, len(exits.stages), self._source.prefix)
        names = tuple(str(Point(size=size, exit=k)) for k in range(len(exits.stages)))
        ran = [names[: k + 1] for k in range(len(names))]
        return way_of(exits, preprocessing, ran, thresholds, deadline_ms)

    def turns(self, points: Sequence[str]) -> list[Turn]:
        """The passes over the network that give some points: one for all exits."""
        last = Point.parse(points[-1])
        if last.exit is None or last.size is None:
            return one_by_one(self.at, points)
        runner, preprocessing = self._early(last.size)
        exits = range(last.exit + 1)
        names = [str(dataclasses.replace(last, exit=k)) for k in exits]
        return [Turn(preprocessing, runner.stages[: len(names)], names)]

    def _early(self, size: int) -> tuple[EarlyExit, Preprocessing]:
        """The exits of a size in turn, and how the images are made that they read."""
        with self._lock:
            if size not in self._exits:
                model, _ = freeze.point_model(self._source, str(Point(size=size, exit=0)))
                alone = dataclasses.replace(self._source, config=model.config)
                early = EarlyExit(alone, size, threads=self._threads)
                preprocessing = dataclasses.replace(model.config.preprocessing, sizes=(size,))
                self._exits[size] = early, preprocessing
            return self._exits[size]
