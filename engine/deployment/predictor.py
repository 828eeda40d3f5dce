"""``Predictor``: classifies images by any run folder or exported file, at a point or in a budget.

Images of any size in, labels and scores out.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.deployment import answers
from engine.deployment import images as inputs
from engine.deployment.answers import Answer
from engine.deployment.asked import Asked
from engine.deployment.backend import Prediction, Way, joined, open_backend
from engine.deployment.choosing import every_way
from engine.deployment.views import batches, views
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.deployment.backend import Backend
    from engine.deployment.cascade import Chain
    from engine.results.cascades import Cascade
    from engine.results.chains import Combination
    from engine.results.choice import Choice

__all__ = ['Answer', 'Prediction', 'Predictor']


class Predictor:
    """Predicts with a trained, imported or published network, or with an exported file.

    What computes a point is made when the point is first used. Calls from several threads are safe,
    and run side by side. A file with ONNX Runtime or OpenVINO needs no TensorFlow. Called with
    images it gives an ``Answer`` for each.

    Args:
        run: run folder, checkpoint prefix in one, a published checkpoint (PyTorch, Torch7,
            TensorFlow), or an ONNX or .lqn file that ``scripts.export`` wrote.
        point: operating point of calls that name none; by default the strongest.
        budget: in place of a point, see ``predict``.
        deadline_ms: in place of a point, see ``__call__``.
        cascade: in place of a point, see ``predict``.
        backend: ``tensorflow``, ``onnxruntime`` or ``openvino``; by default TensorFlow for a run,
            and for a file the first of the others that is installed. For these a run is exported in
            memory, which executes every layer for every image. A .lqn file has ``native``, the
            library in C, and ``interpreter``, which is slow.
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
        point: str | None = None,
        budget: str | float | None = None,
        deadline_ms: float | None = None,
        cascade: str | Path | None = None,
        backend: str | None = None,
        epoch: int | None = None,
        threads: int = 0,
        weights: str = 'raw',
    ):
        self._default = asked = Asked(point, budget, deadline_ms, cascade)
        asked.check()
        opened = open_backend(str(run), backend, epoch, threads, weights, asked)
        self._opened: Backend | None = opened
        self._run = str(run)
        self._lock = threading.Lock()
        self._points: dict[str, Way] = {}
        self._chains: dict[Any, Chain] = {}
        self.points = opened.points
        if point is not None:
            self._check_point(point)

    def __enter__(self) -> Predictor:
        """The predictor, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Lets go of everything that was built; a closed predictor answers nothing."""
        with self._lock:
            self._opened = None
            self._points.clear()
            self._chains.clear()

    @property
    def _backend(self) -> Backend:
        """The backend that answers.

        Raises:
            UsageError: it is closed.
        """
        if self._opened is None:
            raise UsageError(f'{self._run}: this predictor is closed; make a new one')
        return self._opened

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

    @property
    def has_exits(self) -> bool:
        """Whether a network stops when time is up: it has classifiers at several depths."""
        return self._backend.has_exits

    def __call__(
        self,
        images: Any,
        *,
        point: str | None = None,
        budget: str | float | None = None,
        deadline_ms: float | None = None,
        cascade: str | Path | None = None,
        thresholds: Sequence[float] | None = None,
        RGB: bool | None = None,
        bad: inputs.Bad | None = None,
        total: int | None = None,
    ) -> Any:
        """The answer to an image, or an iterator of the answers to several.

        Several images go through the network in batches, a batch when its first answer is taken;
        with a deadline one by one.

        Args:
            images: a path, an image of Pillow, an array uint8 [H, W, 3] or [H, W]; or a list, an
                array or a generator of such. Files are decoded as in evaluation, which does not
                turn them as their EXIF data ask for.
            point: operating point; by default that of the predictor.
            budget: in place of a point, see ``predict``.
            deadline_ms: milliseconds for an image, in place of a point: a network with exits gives
                the best answer that it has by then, others run the most accurate point that
                ``scripts.profile`` has measured to be as fast.
            cascade: in place of a point, see ``predict``.
            thresholds: in place of a point, see ``predict``.
            RGB: colour order of arrays [H, W, 3]: RGB, or BGR as OpenCV reads them.
            bad: is told the name of an image that cannot be read and why, and it is left out;
                without it that is an error.
            total: how many images there are, for the progress that a terminal shows.

        Raises:
            UsageError: there is no such point, nothing is within the budget, or something is no
                image that can be read.
        """
        way, single = self._chosen(Asked(point, budget, deadline_ms, cascade, thresholds))
        if inputs.is_one(images):
            (answer,) = answers.stream(way, [images], True, RGB, None, 1, self.classes)
            return answer
        if total is None and isinstance(images, Sequence | np.ndarray):
            total = len(images)
        return answers.stream(way, images, single, RGB, bad, total, self.classes)

    def warm_up(self, *points: str) -> None:
        """Builds what answers and runs it, so that a first answer takes no longer than others.

        Args:
            *points: operating points; by default what calls use that name none, and exits that
                answer by a deadline.

        Raises:
            UsageError: there is no such point, or nothing is within the budget.
        """
        ways = [self._at(point) for point in points]
        if not points:
            ways.append(self._chosen(Asked())[0])
            with self._lock:
                # Images that leave early would not reach the last stages.
                ways += [chain.way(None) for chain in self._chains.values()]
        if self.has_exits and not points:
            with contextlib.suppress(UsageError):
                ways.append(self._backend.leaving_early(None, None, float('inf')))
        for way in ways:
            side = max(way.preprocessing.view_sizes)
            blank = np.zeros([side, side, 3], np.uint8)
            # The first run prepares, and the second takes its time.
            with every_way():
                for _ in range(2):
                    list(answers.stream(way, [blank], True, False, None, 1, self.classes))

    def _chosen(self, asked: Asked) -> tuple[Way, bool]:
        """The way that answers a call, and whether it takes images one by one.

        Args:
            asked: of the call.

        Raises:
            UsageError: two ways are asked for, there is no such point, or nothing is within limits.
        """
        if not asked.given:
            asked = self._default
        asked.check()
        if asked.deadline_ms is not None:
            if self.has_exits:
                return self._backend.leaving_early(None, None, asked.deadline_ms), True
            return self._way(self._backend.within(None, asked.deadline_ms)), True
        if asked.budget is not None:
            return self._way(self.within(asked.budget)), False
        if asked.cascade is not None:
            from engine.results import cascades

            found = cascades.read(Path(asked.cascade))
            found.check_identity(self._backend.identity(), f'cascade {asked.cascade}')
            return self._of_cascade(found), False
        if asked.thresholds is not None:
            return self._backend.leaving_early(None, asked.thresholds, float('inf')), False
        return self._at(asked.point or self.points[0]), False

    def _of_cascade(self, cascade: Cascade) -> Way:
        """How a cascade answers.

        Raises:
            UsageError: there is no such point, or a file carries out another chain.
        """
        carried = self._backend.carried(cascade)
        if carried is not None:
            return carried
        for point in cascade.points:
            self._check_point(point)
        return self._chain(cascade.points, cascade.combination).way(cascade.thresholds)

    def _chain(self, points: Sequence[str], combination: Combination | None = None) -> Chain:
        """Operating points one after the other, built when they are first used.

        Args:
            points: in order.
            combination: how they answer; by default each for itself.
        """
        from engine.deployment.cascade import Chain

        key = tuple(points), combination
        with self._lock:
            backend = self._backend
            if key not in self._chains:
                self._chains[key] = Chain(backend.turns, points, combination)
            return self._chains[key]

    def _way(self, choice: Choice) -> Way:
        """How a recorded choice answers."""
        if choice.cascade is not None:
            return self._of_cascade(choice.cascade)
        policy = choice.policy
        if policy is not None:
            return self._backend.leaving_early(policy.size, policy.thresholds, float('inf'))
        return self._at(choice.point)

    def predict(
        self,
        images: Iterable[np.ndarray],
        *,
        point: str | None = None,
        budget: str | float | None = None,
        cascade: str | Path | None = None,
        thresholds: Sequence[float] | None = None,
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
                accurate way to run that evaluation has recorded in the run folder, exits, gates
                and cascades included, or in the file.
            cascade: file that ``scripts.thresholds`` wrote, in place of a point: images go on to
                the next operating point of a chain until an answer is sure. A file that carries
                out a cascade takes others of its chain.
            thresholds: by exit, or by stage of a file that carries out a cascade, in place of a
                point: the least logarithm of the probability of the answer with which an image
                leaves there.

        Raises:
            UsageError: there is no such point, nothing is within the budget, or something is no
                image.
        """
        way, _ = self._chosen(Asked(point, budget, None, cascade, thresholds))
        if way.answer_all is not None:
            return way.answer_all(batches(images, way.preprocessing))
        found = []
        for batch in batches(images, way.preprocessing):
            # Of any number of images, those of every class would fill the memory.
            found.append(way.answer(batch).without_classes())
        return joined(found)

    def anytime(
        self,
        images: Iterable[np.ndarray],
        *,
        deadline_ms: float,
        size: int | None = None,
    ) -> Prediction:
        """The best answers that a network has by the deadline.

        With exits it goes on from one to the next; others run their sizes in turn, smallest first.

        Args:
            images: as of ``predict``, but one batch.
            deadline_ms: milliseconds from now, see ``Staged.predict``; a file does not compute
                exits in turn, the deepest one answers that will have ended.
            size: input size in pixels of the exits; by default the largest.

        Raises:
            UsageError: the network has neither exits nor sizes, or something is no image.
        """
        way = self._climbing(size, deadline_ms)
        batch = views(images, way.preprocessing)
        if not batch:
            raise UsageError('images: none given')
        return way.answer(batch)

    def _climbing(self, size: int | None, deadline_ms: float) -> Way:
        """How exits, or sizes in turn, answer by a deadline.

        Args:
            size: of the exits.
            deadline_ms: milliseconds.

        Raises:
            UsageError: there are none.
        """
        from engine.deployment.cascade import ascending

        points = ascending(self.points)
        if self.has_exits or size is not None or not points:
            return self._backend.leaving_early(size, None, deadline_ms)
        return self._chain(points).way(None, deadline_ms)

    def within(self, budget: str | float) -> Choice:
        """The most accurate recorded way to run within a budget of multiply-adds.

        Raises:
            UsageError: nothing was evaluated, nothing is within the budget, or the weights are the
                averages, of which no such record is kept.
        """
        return self._backend.within(budget)

    def append(self, content: bytes) -> list[str]:
        """Takes the rest of a .lqn file that was cut; returns the points that can run since.

        Args:
            content: what follows in the file, or a part of it.

        Raises:
            UsageError: this is no such file, or that no such rest.
        """
        backend = self._backend
        found = backend.append(content)
        with self._lock:
            self.points = backend.points
            self._points.clear()
        return found

    def _at(self, point: str) -> Way:
        """Answers at an operating point.

        Raises:
            UsageError: there is no such point.
        """
        self._check_point(point)
        with self._lock:
            backend = self._backend
            if point not in self._points:
                self._points[point] = backend.at(point)
            return self._points[point]

    def _check_point(self, point: str) -> None:
        if point not in self.points:
            raise UsageError(f'point {point!r}: {self._run} has {" ".join(self.points)}')
