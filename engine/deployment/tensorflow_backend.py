"""TensorFlow as backend of ``Predictor``: every way to run a network that evaluation has."""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.data.preprocessing import Preprocessing
from engine.deployment import trace
from engine.deployment.backend import Prediction, Way, answered, taken
from engine.deployment.early_exit import EarlyExit
from engine.deployment.run_backend import RunBackend
from engine.deployment.tf_graph import graph_of
from engine.errors import UsageError
from engine.graph import freeze
from engine.quantities import quantity
from engine.results import selection
from engine.runs.checkpoint import Checkpoint
from nets.points import Point
from quant.backend import has_gpu


class TensorFlowBackend(RunBackend):
    """A graph for every operating point, whose weights are constants.

    Args:
        source: the checkpoint.
        threads: of one operation; 0 takes all cores.
    """

    def __init__(self, source: Checkpoint, threads: int):
        super().__init__(source, threads)
        network = self.config.network()
        self._dynamic = {name: network.choosing[name] for name in network.dynamic_names}
        # Of a network that skips layers image by image, a program would execute them all.
        self._skips = bool(network.static_options)
        self._has_exits = any(point.exit is not None for point in network.points)
        self._lock = threading.Lock()
        self._exits: dict[int, tuple[EarlyExit, Preprocessing]] = {}
        self.points.extend(self._dynamic)

    def at(self, point: str) -> Way:
        """How an operating point answers."""
        told: list[str] = []
        optimizers: tuple[str, ...] = ()
        if point in self._dynamic:
            size = self._dynamic[point]
            preprocessing = dataclasses.replace(self.config.preprocessing, sizes=(size,))
            frozen, told = freeze.of_choices(self._source, point)
            frozen = freeze.folded(frozen)
        elif self._skips:
            preprocessing = self.view_of(point)
            frozen = freeze.folded(freeze.named(self._source, point))
        else:
            preprocessing = self.view_of(point)
            frozen = graph_of(trace.of_points(self._source, [point]), [point])
            if not has_gpu():
                # It moves scales into kernels; the others find nothing in seconds.
                optimizers = ('constfold',)
        (run,) = frozen.runs(self._threads, optimizers)

        def answer(batch: Sequence[np.ndarray]) -> Prediction:
            logits, *executed = run(*batch)
            if not executed:
                return answered(logits, [point] * len(logits))
            numbers = np.stack(executed, axis=1)  # [N, choices]
            return answered(logits, taken(point, told, numbers))

        return Way(preprocessing, answer)

    def within(self, budget: str | float) -> selection.Choice:
        """The most accurate recorded way to run, exits and gates included."""
        self._check_recorded(budget)
        limits = selection.Limits(madds=quantity('budget', str(budget)))
        return selection.best(selection.choices(Path(self._source.prefix).parent), limits)

    def leaving_early(
        self, size: int | None, thresholds: Sequence[float] | None, deadline_ms: float
    ) -> Way:
        """How the exits answer where images leave, see ``engine.deployment.backend.Backend``.

        Args:
            size: input size in pixels; None is the largest.
            thresholds: as of ``EarlyExit.predict``.
            deadline_ms: likewise.

        Raises:
            UsageError: there are no exits.
        """
        if not self._has_exits:
            raise UsageError(
                f'anytime: {self._source.prefix} is a {self.config.net}, which has no exits'
            )
        size = size or max(self.config.sizes)
        with self._lock:
            if size not in self._exits:
                model, values = freeze.point_model(self._source, str(Point(size=size, exit=0)))
                early = EarlyExit(model, values, size, threads=self._threads)
                self._exits[size] = early, model.config.preprocessing
            exits, preprocessing = self._exits[size]

        def answer(batch: Sequence[np.ndarray]) -> Prediction:
            found = exits.predict(batch, thresholds, deadline_ms=deadline_ms)
            points = [str(Point(size=size, exit=int(k))) for k in found.exits]
            return Prediction(found.labels, np.exp(found.confidence), points)

        return Way(preprocessing, answer)
