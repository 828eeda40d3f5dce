"""One predictor for all networks: an operating point, or a budget.

Images of any size in, labels and scores out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.deployment.backend import Prediction, Way, joined, open_backend
from engine.deployment.views import batches, views
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.results.selection import Choice

__all__ = ['Prediction', 'Predictor']


class Predictor:
    """Predicts with a trained, imported or published network, or with an exported file.

    What computes a point is made when the point is first used. Calls from several threads are safe.
    A file with ONNX Runtime or OpenVINO needs no TensorFlow.

    Args:
        run: run folder, checkpoint prefix in one, a published checkpoint (PyTorch, Torch7,
            TensorFlow), or an ONNX file that ``scripts.export`` wrote.
        backend: ``tensorflow``, ``onnxruntime`` or ``openvino``; by default TensorFlow for a run,
            and for a file the first of the others that is installed. For these a run is exported in
            memory, which executes every layer for every image.
        epoch: of a run folder; None is the last, and all that a published checkpoint has.
        threads: of one operation; 0 takes all cores.
        weights: ``raw``, or ``ema`` for those that ``--model-ema`` averaged.

    Attributes:
        points: spellings of the operating points: the trained ones, strongest first, then those
            that were calibrated later; ``dynamic`` is the gate's own choice of widths.

    Raises:
        UsageError: there is no such checkpoint or backend, or it cannot be read.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        backend: str | None = None,
        epoch: int | None = None,
        threads: int = 0,
        weights: str = 'raw',
    ):
        self._backend = open_backend(
            str(run), backend, epoch=epoch, threads=threads, weights=weights
        )
        self._run = str(run)
        self._lock = threading.Lock()
        self._points: dict[str, Way] = {}
        self.points = self._backend.points

    @property
    def config(self) -> Config:
        """The configuration of the run.

        Raises:
            UsageError: it is a file, which has none.
        """
        return self._backend.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by label; none if the checkpoint does not know them."""
        return self._backend.classes

    def predict(
        self,
        images: Iterable[np.ndarray],
        *,
        point: str | None = None,
        budget: str | float | None = None,
    ) -> Prediction:
        """Labels and probabilities.

        Images go through the network in batches, so that memory does not grow with their number.
        After a few seconds a terminal shows progress, and a log each minute.

        Args:
            images: uint8 images [H, W, 3] in BGR order (as OpenCV reads them), of any size: a list,
                an array, or a generator, of which no more than a view is kept. They are resized and
                cropped as in evaluation.
            point: operating point; by default the strongest.
            budget: mean multiply-adds per image, such as ``300M``, in place of a point: the most
                accurate way to run that evaluation has recorded in the run folder, exits and gates
                included, or in the file.

        Raises:
            UsageError: there is no such point, nothing is within the budget, or something is no
                image.
        """
        if point is not None and budget is not None:
            raise UsageError(f'point {point} and budget {budget}: give one of them')
        policy = None
        if budget is not None:
            chosen = self.within(budget)
            policy, point = chosen.policy, chosen.point
        if policy is not None:
            way = self._backend.leaving_early(policy.size, policy.thresholds, float('inf'))
        else:
            way = self._at(point or self.points[0])
        return joined([way.answer(batch) for batch in batches(images, way.preprocessing)])

    def anytime(
        self,
        images: Iterable[np.ndarray],
        *,
        deadline_ms: float,
        size: int | None = None,
    ) -> Prediction:
        """The best answers that a network with exits has by the deadline.

        Args:
            images: as of ``predict``, but one batch.
            deadline_ms: milliseconds from now, see ``EarlyExit.predict``; a file does not compute
                exits in turn, the deepest one answers that will have ended.
            size: input size in pixels; by default the largest.

        Raises:
            UsageError: the network has no exits, or something is no image.
        """
        way = self._backend.leaving_early(size, None, deadline_ms)
        batch = views(images, way.preprocessing)
        if not batch:
            raise UsageError('images: none given')
        return way.answer(batch)

    def within(self, budget: str | float) -> Choice:
        """The most accurate recorded way to run within a budget of multiply-adds.

        Raises:
            UsageError: nothing was evaluated, nothing is within the budget, or the weights are the
                averages, of which no such record is kept.
        """
        return self._backend.within(budget)

    def _at(self, point: str) -> Way:
        """Answers at an operating point.

        Raises:
            UsageError: there is no such point.
        """
        if point not in self.points:
            raise UsageError(f'point {point!r}: {self._run} has {" ".join(self.points)}')
        with self._lock:
            if point not in self._points:
                self._points[point] = self._backend.at(point)
            return self._points[point]
