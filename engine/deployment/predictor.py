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
from nets.points import Point


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
        points: spellings of the operating points: the trained ones, strongest first, then those
            that were calibrated later; ``dynamic`` is the gate's own choice of widths.

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
        self._weights = weights
        self._folder = Path(self._source.prefix).parent
        self._threads = threads
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
        probabilities = _softmax(self._run(point)(batch))  # [N, classes]
        labels = probabilities.argmax(axis=1)
        scores = probabilities[np.arange(len(labels)), labels]
        return Prediction(labels, scores, [point] * len(labels))

    def anytime(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        *,
        deadline_ms: float,
        size: int | None = None,
    ) -> Prediction:
        """The best answers that a network with exits has by the deadline.

        Args:
            images: as of ``predict``.
            deadline_ms: milliseconds from now, see ``EarlyExit.predict``.
            size: input size in pixels; by default the largest.

        Raises:
            UsageError: the network has no exits, or something is no image.
        """
        if all(point.exit is None for point in self.config.network().points):
            raise UsageError(
                f'anytime: {self._source.prefix} is a {self.config.net}, which has no exits'
            )
        batch = self._views(images)
        size = size or max(self.config.sizes)
        return self._leave_early(batch, size, None, deadline_ms=deadline_ms)

    def within(self, budget: str | float) -> selection.Choice:
        """The most accurate recorded way to run within a budget of multiply-adds.

        Raises:
            UsageError: nothing was evaluated, nothing is within the budget, or the weights are the
                averages, of which no such record is kept.
        """
        if self._weights != 'raw':
            raise UsageError(
                f'budget {budget}: evaluation recorded what the trained weights can do, and these '
                f'are weights={self._weights!r}; give a point'
            )
        limits = selection.Limits(madds=quantity('budget', str(budget)))
        return selection.best(selection.choices(self._folder), limits)

    def _run(self, point: str) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
        if point not in self.points:
            raise UsageError(f'point {point!r}: {self._source.prefix} has {" ".join(self.points)}')
        with self._lock:
            if point not in self._runs:
                build = freeze.dynamic if point in self._dynamic else freeze.named
                (run,) = build(self._source, point).runs(self._threads)
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
                model, values = freeze.point_model(self._source, str(Point(size=size, exit=0)))
                self._exits[size] = EarlyExit(model, values, size, threads=self._threads)
        found = self._exits[size].predict(batch, thresholds, deadline_ms=deadline_ms)
        points = [str(Point(size=size, exit=int(k))) for k in found.exits]
        return Prediction(found.labels, np.exp(found.confidence), points)

    def _views(self, images: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
        """One array per view size, as evaluation makes them.

        Raises:
            UsageError: there are no images, or one is not uint8 [H, W, 3].
        """
        for image in images:
            if not _is_image(image):
                kind, shape = getattr(image, 'dtype', type(image)), getattr(image, 'shape', ())
                raise UsageError(f'images: expected uint8 [H, W, 3], found {kind} {list(shape)}')
        if not len(images):
            raise UsageError('images: none given')
        views = map(self.config.preprocessing.eval_views, images)
        return [np.stack(size) for size in zip(*views)]


def _is_image(image: object) -> bool:
    """Whether it is an array uint8 [H, W, 3]."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return False
    return image.ndim == 3 and image.shape[2] == 3


def _read(run: str, epoch: int | None, weights: str) -> Checkpoint:
    """The checkpoint that a path stands for, of a run folder or a published one.

    Raises:
        UsageError: there is none, or a published checkpoint is asked for its epoch or averages.
    """
    path = Path(run)
    if (path / 'config.json').exists() or (path.parent / 'config.json').exists():
        return checkpoint.read(checkpoint.find(run, epoch, 'run'), flag='run', weights=weights)
    if not path.exists() and not Path(f'{run}.index').exists():
        raise UsageError(f'run {run}: no such run folder or checkpoint')
    if epoch is not None:
        raise UsageError(
            f'epoch {epoch}: {run} is a published checkpoint, which has no epochs; leave it out, '
            'or import each file with scripts/import_checkpoint.py'
        )
    if weights != 'raw':
        raise UsageError(
            f'weights {weights!r}: {run} is a published checkpoint, which has one kind'
        )
    imported = pytorch.read(run, sizes=None, arch=None, allow=())
    return Checkpoint(run, imported.values, imported.config)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [N, classes]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
