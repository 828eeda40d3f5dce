"""Backend of ``Predictor`` for exported ONNX files, which needs a runtime and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.data.augment import AUGMENTATIONS
from engine.data.preprocessing import RESIZES, Preprocessing
from engine.deployment import texts
from engine.deployment.backend import Prediction, Way, answered, joined
from engine.deployment.runtimes import Loaded, load
from engine.deployment.texts import ImageText, PointText
from engine.errors import UsageError
from engine.files import read_bytes
from engine.quantities import quantity

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.results.selection import Choice

# Bytes of a file: more than an ONNX file can have.
LARGEST = 2**31

# End of a message.
NO_EXITS = "computes a point at once; Predictor(RUN, backend='tensorflow') stops at exits"


class FileBackend:
    """All operating points of a file.

    Args:
        path: of the file.
        runtime: name of what runs it.
        threads: of one image; 0 takes all cores.

    Attributes:
        points: spellings of the operating points, strongest first.
        classes: names of the classes, by label.

    Raises:
        UsageError: the file cannot be read, was not exported, or the runtime is not installed.
    """

    def __init__(self, path: Path, runtime: str, threads: int):
        self._file = str(path)
        remedy = 'python -m scripts.export RUN --out NAME.onnx writes one'
        content = read_bytes(path, remedy, LARGEST)
        self._loaded = load(runtime, content, self._file, threads)
        self._texts = texts.parse(self._loaded.texts, self._file)
        self.points = [point.point for point in self._texts.points]
        self.classes = self._texts.class_names

    @property
    def config(self) -> Config:
        """None.

        Raises:
            UsageError: always: a file has texts.
        """
        raise UsageError(
            f'{self._file}: has no configuration of a run; python -m scripts.export --show shows '
            'what is known of it'
        )

    def at(self, point: str) -> Way:
        """How an operating point answers."""
        number = self.points.index(point)
        found = way(
            self._loaded,
            self._texts.points[number],
            self._texts.images,
            number=number,
            classes=self._texts.network.classes,
        )
        if not self._texts.choices:
            return found
        return _one_by_one(found)

    def within(self, budget: str | float) -> Choice:
        """The most accurate point within a budget, by what is recorded in the file.

        Raises:
            UsageError: nothing is, or the file chooses its cost itself.
        """
        if self._texts.choices:
            raise UsageError(
                f'budget {budget}: {self._file} chooses its cost image by image; give no budget'
            )
        return within(self._file, self._texts.points, budget)

    def leaving_early(
        self, size: int | None, thresholds: Sequence[float] | None, deadline_ms: float
    ) -> Way:
        """None, see ``engine.deployment.backend.Backend``.

        Args:
            size: of no use.
            thresholds: of no use.
            deadline_ms: of no use.

        Raises:
            UsageError: always: a file computes a point at once.
        """
        raise UsageError(f'anytime: {self._file} {NO_EXITS}')


def way(loaded: Loaded, point: PointText, images: ImageText, *, number: int, classes: int) -> Way:
    """How an operating point of a file answers.

    Args:
        loaded: the file.
        point: what is computed.
        images: how its images are made.
        number: place of the point in the file.
        classes: how many.

    Raises:
        UsageError: its images are made in a way that is not known here.
    """
    if images.augmentation not in AUGMENTATIONS or images.resize not in RESIZES:
        raise UsageError(
            f'{point.point}: its images are made by {images.augmentation} and {images.resize}, '
            'which this version does not have'
        )
    view = images.view or point.side
    preprocessing = Preprocessing(
        images.augmentation, view, (point.size,), images.resize, images.inputs
    )
    run = loaded.at(number, point.side)

    def answer(batch: Sequence[np.ndarray]) -> Prediction:
        (views,) = batch  # uint8 [N, view, view, 3]
        if images.dtype == 'float32':
            from engine.data.preprocess import resized

            views = resized(views, images.resize, point.size)
        rows = run(views)  # [N, classes + choices]
        logits = rows[:, :classes].astype(np.float32)
        return answered(logits, point.point)

    return Way(preprocessing, answer)


def _one_by_one(found: Way) -> Way:
    """The same for files that choose image by image, which take one at a time."""

    def answer(batch: Sequence[np.ndarray]) -> Prediction:
        (views,) = batch
        parts = [found.answer([view[None]]) for view in views]
        return joined(parts)

    return Way(found.preprocessing, answer)


def within(file: str, points: Sequence[PointText], budget: str | float) -> Choice:
    """The most accurate point within a budget of multiply-adds.

    Args:
        file: what has the points, for messages.
        points: with what was recorded of them.
        budget: mean multiply-adds of an image.

    Raises:
        UsageError: nothing was recorded, or nothing is within the budget.
    """
    from engine.results import selection

    known = []
    for one in points:
        if one.top1 is not None and one.madds is not None:
            known.append(selection.Choice(file, one.point, one.top1, one.madds, one.weight_bytes))
    if not known:
        raise UsageError(
            f'budget {budget}: {file} has no recorded accuracy; evaluate the run with '
            '`imagenet_tf.py --eval` before, or give a point'
        )
    return selection.best(known, selection.Limits(madds=quantity('budget', str(budget))))
