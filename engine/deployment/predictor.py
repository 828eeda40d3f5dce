"""One predictor for all networks: an operating point, or a budget.

Images of any size in, labels and scores out.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.config.config import Config
from engine.deployment.early_exit import EarlyExit
from engine.errors import UsageError
from engine.graph import freeze
from engine.importers import pytorch
from engine.quantities import quantity
from engine.results import selection
from engine.runs import checkpoint
from engine.runs.checkpoint import Checkpoint


class Prediction(NamedTuple):
    """Answers for N images.

    Attributes:
        labels: [N] int64, the class of the largest score.
        scores: [N] float32, its probability.
        points: what answered: the operating point by image.
    """

    labels: np.ndarray
    scores: np.ndarray
    points: list[str]


class Predictor:
    """Predicts with a trained, imported or published network.

    Graphs are built when a point is first used, with weights as constants. Calls from several
    threads are safe.

    Args:
        run: run folder, checkpoint prefix in one, or a published checkpoint (PyTorch, Torch7,
            TensorFlow).
        epoch: of a run folder; None is the last, and all that a published checkpoint has.
        threads: of one operation; 0 takes all cores.
        weights: ``raw``, or ``ema`` for those that ``--model-ema`` averaged.

    Attributes:
        points: spellings of the operating points, strongest first; ``dynamic`` is the gate's own
            choice of widths.

    Raises:
        UsageError: there is no such checkpoint, or it cannot be read.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        epoch: int | None = None,
        threads: int = 0,
        weights: str = 'raw',
    ):
        self._source = _read(str(run), epoch, weights)
        self._folder, self._threads = Path(self._source.prefix).parent, threads
        self._lock = threading.Lock()
        self._runs: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {}
        self._exits: dict[int, EarlyExit] = {}
        self.points = freeze.points(self._source)
        self._dynamic = self.config.network().dynamic_names
        self.points.extend(self._dynamic)

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        assert self._source.config is not None
        return self._source.config

    def predict(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        *,
        point: str | None = None,
        budget: str | float | None = None,
    ) -> Prediction:
        """Labels and probabilities.

        Args:
            images: uint8 images [H, W, 3] in BGR order (as OpenCV reads them), of any size, or one
                array of them; they are resized and cropped as in evaluation.
            point: operating point; by default the strongest.
            budget: mean multiply-adds per image, such as ``300M``, in place of a point: the most
                accurate way to run that evaluation has recorded in the run folder, exits and gates
                included.

        Raises:
            UsageError: there is no such point, nothing is within the budget, or something is no
                image.
        """
        if point is not None and budget is not None:
            raise UsageError(f'point {point} and budget {budget}: give one of them')
        batch = self._views(images)
        if budget is not None:
            chosen = self.within(budget)
            if chosen.policy is not None:
                return self._leave_early(batch, chosen.policy.size, chosen.policy.thresholds)
            point = chosen.point
        point = point or self.points[0]
        probabilities = _softmax(self._run(point)(batch))
        labels = probabilities.argmax(axis=1)
        return Prediction(
            labels, probabilities[np.arange(len(labels)), labels], [point] * len(labels)
        )

    def anytime(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        *,
        deadline_ms: float,
        size: int | None = None,
    ) -> Prediction:
        """The best answers that a network with exits has by the deadline.

        See ``EarlyExit.predict``.

        Raises:
            UsageError: the network has no exits.
        """
        if not any('-x' in point for point in self.points):
            raise UsageError(
                f'anytime: {self._source.prefix} is a {self.config.net}, which has no exits'
            )
        return self._leave_early(
            self._views(images), size or max(self.config.sizes), None, deadline_ms=deadline_ms
        )

    def within(self, budget: str | float) -> selection.Choice:
        """The most accurate recorded way to run within a budget of multiply-adds.

        Raises:
            UsageError: nothing was evaluated, or nothing is within the budget.
        """
        return selection.best(
            selection.choices(self._folder), selection.Limits(madds=quantity('budget', str(budget)))
        )

    def _run(self, point: str) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
        if point not in self.points:
            raise UsageError(f'point {point!r}: {self._source.prefix} has {" ".join(self.points)}')
        with self._lock:
            if point not in self._runs:
                graph = (
                    freeze.dynamic(self._source, point)
                    if point in self._dynamic
                    else freeze.named(self._source, point)
                )
                (run,) = graph.runs(self._threads)
                self._runs[point] = lambda batch: run(*batch)[0]
            return self._runs[point]

    def _leave_early(
        self,
        batch: Sequence[np.ndarray],
        size: int,
        thresholds: Sequence[float] | None,
        *,
        deadline_ms: float = float('inf'),
    ) -> Prediction:
        with self._lock:
            if size not in self._exits:
                model, values = freeze.point_model(self._source, f's{size}-x0')
                self._exits[size] = EarlyExit(model, values, size, threads=self._threads)
        found = self._exits[size].predict(batch, thresholds, deadline_ms=deadline_ms)
        return Prediction(
            found.labels, np.exp(found.confidence), [f's{size}-x{k}' for k in found.exits]
        )

    def _views(self, images: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
        """One array per view size, as evaluation makes them."""
        for image in images:
            if (
                not isinstance(image, np.ndarray)
                or image.dtype != np.uint8
                or image.ndim != 3
                or image.shape[2] != 3
            ):
                raise UsageError(
                    f'images: expected uint8 [H, W, 3], found '
                    f'{getattr(image, "dtype", type(image))} '
                    f'{list(getattr(image, "shape", ()))}'
                )
        if not len(images):
            raise UsageError('images: none given')
        views = map(self.config.preprocessing.eval_views, images)
        return [np.stack(size) for size in zip(*views)]


def _read(run: str, epoch: int | None, weights: str) -> Checkpoint:
    if (Path(run) / 'config.json').exists() or (Path(run).parent / 'config.json').exists():
        return checkpoint.read(checkpoint.find(run, epoch, 'run'), flag='run', weights=weights)
    if not Path(run).exists() and not Path(f'{run}.index').exists():
        raise UsageError(f'run {run}: no such run folder or checkpoint')
    if epoch is not None:
        raise UsageError(
            f'epoch {epoch}: {run} is a published checkpoint, which has no epochs; leave it '
            'out, or '
            'import each file with scripts/import_checkpoint.py'
        )
    imported = pytorch.read(run, sizes=None, arch=None, allow=())
    return Checkpoint(run, imported.values, imported.config)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
