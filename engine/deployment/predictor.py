"""One predictor for all networks: an operating point, or a budget.

Images of any size in, labels and scores out.
"""

import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from engine.config.config import Config
from engine.data.preprocessing import Preprocessing
from engine.deployment.early_exit import EarlyExit
from engine.errors import UsageError
from engine.graph import freeze
from engine.importers import pytorch
from engine.quantities import quantity
from engine.results import selection
from engine.runs import checkpoint
from engine.runs.checkpoint import Checkpoint
from nets.points import Point

# Most images of a batch, and most pixels of their views together.
LARGEST_BATCH, BATCH_PIXELS = 256, 2**21


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
        self._points: dict[str, _Way] = {}
        self._exits: dict[int, tuple[EarlyExit, Preprocessing]] = {}
        self.points = freeze.points(self._source)
        self._dynamic = self.config.network().dynamic_names
        self.points.extend(self._dynamic)

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        assert self._source.config is not None
        return self._source.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by label; none if the checkpoint does not know them."""
        return self._source.class_names

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
                included.

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
            way = self._leaving_early(policy.size, policy.thresholds)
        else:
            way = self._at(point or self.points[0])
        return _joined([way.answer(batch) for batch in _batches(images, way.preprocessing)])

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
            deadline_ms: milliseconds from now, see ``EarlyExit.predict``.
            size: input size in pixels; by default the largest.

        Raises:
            UsageError: the network has no exits, or something is no image.
        """
        if all(point.exit is None for point in self.config.network().points):
            raise UsageError(
                f'anytime: {self._source.prefix} is a {self.config.net}, which has no exits'
            )
        way = self._leaving_early(size or max(self.config.sizes), None, deadline_ms=deadline_ms)
        batch = _views(images, way.preprocessing)
        if not batch:
            raise UsageError('images: none given')
        return way.answer(batch)

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

    def _at(self, point: str) -> '_Way':
        """Answers at an operating point.

        Raises:
            UsageError: there is no such point.
        """
        if point not in self.points:
            raise UsageError(f'point {point!r}: {self._source.prefix} has {" ".join(self.points)}')
        with self._lock:
            if point not in self._points:
                self._points[point] = self._build(point)
            return self._points[point]

    def _build(self, point: str) -> '_Way':
        if point in self._dynamic:
            preprocessing = self.config.preprocessing
            frozen = freeze.dynamic(self._source, point)
        else:
            model, values = freeze.point_model(self._source, point)
            preprocessing = model.config.preprocessing
            frozen = freeze.of_point(model, Point.parse(point), values)
        (run,) = frozen.runs(self._threads)

        def answer(batch: Sequence[np.ndarray]) -> Prediction:
            probabilities = _softmax(run(*batch)[0])  # [N, classes]
            labels = probabilities.argmax(axis=1)
            scores = probabilities[np.arange(len(labels)), labels]
            return Prediction(labels, scores, [point] * len(labels))

        return _Way(preprocessing, answer)

    def _leaving_early(
        self,
        size: int,
        thresholds: Sequence[float] | None,
        *,
        deadline_ms: float = float('inf'),
    ) -> '_Way':
        """Answers of the exits where images leave."""
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

        return _Way(preprocessing, answer)


class _Way(NamedTuple):
    """One way to answer images.

    Attributes:
        preprocessing: how their views are made; a calibrated size has its own.
        answer: of a batch, one array per view size.
    """

    preprocessing: Preprocessing
    answer: Callable[[Sequence[np.ndarray]], Prediction]


def _batches(
    images: Iterable[np.ndarray], preprocessing: Preprocessing
) -> Iterator[list[np.ndarray]]:
    """Views of so many images at a time that a network of their size runs them well.

    Raises:
        UsageError: there are no images, or one is not uint8 [H, W, 3]; of a list before any is run.
    """
    total = None
    if isinstance(images, Sequence | np.ndarray):
        total = len(images)
        for number, image in enumerate(images):
            _check_image(image, number)
    pixels = sum(side**2 for side in preprocessing.view_sizes)
    count = max(1, min(LARGEST_BATCH, BATCH_PIXELS // pixels))
    rest = iter(images)
    done = 0
    # A log gets a line per minute.
    seconds = 0.5 if sys.stderr.isatty() else 60
    with tqdm(total=total, unit='image', desc='predicting', delay=3, mininterval=seconds) as bar:
        while batch := _views(itertools.islice(rest, count), preprocessing, done):
            yield batch
            done += len(batch[0])
            bar.update(len(batch[0]))
    if not done:
        raise UsageError('images: none given')


def _views(
    images: Iterable[np.ndarray], preprocessing: Preprocessing, start: int = 0
) -> list[np.ndarray]:
    """One array per view size, as evaluation makes them; empty for no images.

    Args:
        images: each is let go of when its views are made.
        preprocessing: makes them.
        start: number of the first image, for messages.

    Raises:
        UsageError: one is not uint8 [H, W, 3].
    """
    made = []
    for number, image in enumerate(images, start):
        _check_image(image, number)
        views = preprocessing.eval_views(image)
        made.append([np.array(view) for view in views])
    return [np.stack(size) for size in zip(*made)]


def _joined(parts: Sequence[Prediction]) -> Prediction:
    """Answers of several batches, in order."""
    labels = np.concatenate([part.labels for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    points: list[str] = []
    for part in parts:
        points += part.points
    return Prediction(labels, scores, points)


def _check_image(image: object, number: int) -> None:
    """Refuses what is no image.

    Raises:
        UsageError: it is not uint8 [H, W, 3], or empty.
    """
    if not _is_image(image):
        kind, shape = getattr(image, 'dtype', type(image)), getattr(image, 'shape', ())
        raise UsageError(
            f'images: expected uint8 [H, W, 3], found {kind} {list(shape)} (number {number})'
        )


def _is_image(image: object) -> bool:
    """Whether it is an array uint8 [H, W, 3] of at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not image.size:
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
