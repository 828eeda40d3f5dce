"""Backend of ``Predictor`` for exported files, which needs a runtime and nothing else."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.data import augment
from engine.data.preprocessing import RESIZES, Preprocessing
from engine.deployment import texts
from engine.deployment.anytime import Anytime, exits_of
from engine.deployment.backend import Prediction, Way, answered, check_count, taken
from engine.deployment.names import EXIT, STAGE
from engine.deployment.runtimes import (
    RUNTIMES,
    CannotRun,
    Growing,
    Loaded,
    Run,
    load,
    one_by_one,
)
from engine.deployment.texts import BudgetText, ImageText, PointText
from engine.errors import UsageError, prefixed
from engine.files import read_bytes
from engine.quantities import quantity
from engine.results import chains
from nets.points import Point

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.deployment.cascade import Turn
    from engine.results.cascades import Cascade
    from engine.results.choice import Choice
    from engine.results.exit_thresholds import ExitPolicy

# Bytes of a file: more than an ONNX file can have.
LARGEST = 2**31

# Sizes and thresholds that are kept ready, the latest ones: each may hold a compiled network.
MOST_READY = 8


class FileBackend:
    """All operating points of a file.

    Args:
        path: of the file.
        runtime: name of what runs it.
        threads: of one image; 0 takes all cores.

    Attributes:
        points: spellings of the operating points, strongest first.
        classes: names of the classes, by label.
        has_exits: whether it can stop at exits, or at the stages of a cascade.

    Raises:
        UsageError: the file cannot be read, was not exported, or the runtime is not installed.
    """

    def __init__(self, path: Path, runtime: str, threads: int):
        self._file = str(path)
        self._loaded = _loaded(path, runtime, threads)
        self._texts = texts.parse(self._loaded.texts, self._file)
        self.points = [point.point for point in self._texts.points]
        self.classes = self._texts.class_names
        exits = [name for name in self.points if Point.within(name).exit is not None]
        self.has_exits = bool(exits) or self._stops() > 0
        self._lock = threading.Lock()
        self._exits: dict[tuple[int | None, tuple[float, ...] | None], Anytime] = {}

    def append(self, content: bytes) -> list[str]:
        """Takes the rest of a file that was cut; returns the points that can run since.

        Args:
            content: what follows in the file, or a part of it.

        Raises:
            UsageError: it is no such file, or no such rest.
        """
        if not isinstance(self._loaded, Growing):
            raise UsageError(f'{self._file}: is whole; only .lqn files come in parts')
        with self._lock:
            self._loaded.append(content)
            self._texts = texts.parse(self._loaded.texts, self._file)
            before = set(self.points)
            self.points = [point.point for point in self._texts.points]
            # Ways are by the number of a point.
            self._exits.clear()
        return [point for point in self.points if point not in before]

    def _stops(self) -> int:
        """How many exits or stages there are, at which images leave by thresholds."""
        for choice in self._texts.choices:
            if choice.name in (EXIT, STAGE):
                return len(choice.numbers)
        return 0

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
        return self._at(point)

    def _at(self, point: str, thresholds: Sequence[float] = ()) -> Way:
        """How an operating point answers, by these thresholds where exits choose."""
        number = self.points.index(point)
        run = self._loaded.at(number, self._texts.points[number].side, thresholds)
        if self._texts.choices:
            run = one_by_one(run)
        sides: Sequence[int] = ()
        if self._texts.cascade is not None:
            sides = self._texts.cascade.sides
        return way(
            run,
            self._texts.points[number],
            self._texts.images,
            [choice.name for choice in self._texts.choices],
            sides,
        )

    def within(self, budget: str | float | None, ms: float | None = None) -> Choice:
        """The most accurate way to run within a budget, by what is recorded in the file.

        Args:
            budget: mean multiply-adds of an image.
            ms: of no use: a file has recorded no times.

        Raises:
            UsageError: nothing is.
        """
        if ms is not None or budget is None:
            raise UsageError(
                f'deadline_ms {ms}: {self._file} has no exits and no recorded times; give a point '
                'or a budget'
            )
        if self._texts.choices:
            sizes = {point.point: point.size for point in self._texts.points}
            return within(self._file, self._texts.budgets, budget, sizes)
        return within(self._file, self._texts.points, budget)

    def leaving_early(
        self, size: int | None, thresholds: Sequence[float] | None, deadline_ms: float
    ) -> Way:
        """How exits or stages answer, see ``engine.deployment.backend.Backend``.

        Args:
            size: input size in pixels; None is the largest.
            thresholds: as of ``Staged.predict``, for a file that chooses by them.
            deadline_ms: see ``Anytime``.

        Raises:
            UsageError: there are no exits, or others than there are thresholds.
        """
        check_count(thresholds, self._stops(), self._file)
        key = size, None if thresholds is None else tuple(thresholds)
        with self._lock:
            found = self._exits.pop(key, None)
            if found is None:
                found = Anytime(self._by_exit(size, thresholds))
            self._exits[key] = found  # behind those of earlier calls
            if len(self._exits) > MOST_READY:
                del self._exits[next(iter(self._exits))]
            return found.by(deadline_ms)

    def turns(self, points: Sequence[str]) -> list[Turn]:
        """The passes over the network that give some points: one for each."""
        from engine.deployment import cascade

        return cascade.one_by_one(self.at, points)

    def identity(self) -> str:
        """The identity of the checkpoint of a cascade.

        Raises:
            UsageError: the file holds none, and does not tell it.
        """
        if self._texts.cascade is None:
            raise UsageError(
                f'cascade: {self._file} holds points and no cascade; give the run, or a file of '
                'python -m scripts.export RUN --cascade FILE'
            )
        return self._texts.cascade.identity

    def carried(self, cascade: Cascade) -> Way | None:
        """How the file answers by other thresholds of the cascade that it carries out.

        Raises:
            UsageError: the other one is of another chain.
        """
        own = self._texts.cascade
        if own is None:
            return None
        if (own.points, own.combination) != (cascade.points, cascade.combination):
            raise UsageError(
                f'cascade: {self._file} carries out {self.points[0]}, by {own.combine} and '
                f'temperatures {own.temperatures}, not {cascade.name}, by {cascade.combine} and '
                f'{cascade.temperatures}; give the run'
            )
        return self.leaving_early(None, cascade.thresholds, float('inf'))

    def _by_exit(self, size: int | None, thresholds: Sequence[float] | None) -> list[Way]:
        """How each exit answers, or, by thresholds, all of them.

        Raises:
            UsageError: there are no exits.
        """
        from engine.results.exit_thresholds import only_exit

        count = self._stops()
        if not count:
            return [self._at(point) for point in exits_of(self.points, size, self._file)]
        names = [one.point for one in self._texts.points if size in (None, one.size)]
        if not names:
            raise UsageError(f'size {size}: {self._file} has {" ".join(self.points)}')
        if thresholds is not None:
            return [self._at(names[0], thresholds)]
        return [self._at(names[0], only_exit(exit, count)) for exit in range(count)]


def _loaded(path: Path, runtime: str, threads: int) -> Loaded:
    """A file in a runtime.

    Args:
        path: of the file.
        runtime: name of the runtime.
        threads: of one image; 0 takes all cores.

    Raises:
        UsageError: it cannot be read, or the runtime is not installed.
        CannotRun: the runtime cannot load it.
    """
    if runtime in RUNTIMES:
        remedy = 'python -m scripts.export RUN --out NAME.onnx writes one'
        content = read_bytes(path, remedy, LARGEST)
        try:
            return load(runtime, content, str(path), threads)
        except CannotRun as error:
            raise CannotRun(f'{error}; {remedy}') from error
    from engine.deployment import native_runtimes

    return native_runtimes.load(path, runtime, threads)


def way(
    run: Run,
    point: PointText,
    images: ImageText,
    told: Sequence[str] = (),
    sides: Sequence[int] = (),
) -> Way:
    """How an operating point of a file answers.

    Args:
        run: computes it.
        point: what is computed.
        images: how its images are made.
        told: names of the choices that it tells of.
        sides: of further images that it takes.

    Raises:
        UsageError: its images are made in a way that is not known here.
    """
    try:
        augment.named(images.augmentation)
        known = images.resize in RESIZES
    except ValueError:
        known = False
    if not known:
        raise UsageError(
            f'{point.point}: its images are made by {images.augmentation} and {images.resize}, '
            'which this version does not have'
        )
    view = images.view or point.side
    sizes = (point.side, *sides) if sides else (point.size,)
    preprocessing = Preprocessing(
        images.augmentation, view, tuple(sorted(sizes, reverse=True)), images.resize, images.inputs
    )

    def answer(batch: Sequence[np.ndarray]) -> Prediction:
        views = list(batch)  # uint8 [N, view, view, 3] each
        if images.dtype == 'float32':
            from engine.data.preprocess import resized

            views = [resized(one, images.resize, point.size) for one in views]
        if sides:
            views = [views[preprocessing.sizes.index(size)] for size in sizes]
        rows = run(*views)  # [N, classes + choices]
        classes = rows.shape[1] - len(told)
        logits = rows[:, :classes].astype(np.float32)
        found = answered(logits, taken(point.point, told, rows[:, classes:]))
        if STAGE not in told:
            return found
        chain = chains.parsed(point.point)
        return found._replace(stages=[chain[: chain.index(one) + 1] for one in found.points])

    return Way(preprocessing, answer)


def within(
    file: str,
    points: Sequence[PointText | BudgetText],
    budget: str | float,
    sizes: Mapping[str, int] | None = None,
) -> Choice:
    """The most accurate way to run within a budget of multiply-adds.

    Args:
        file: what has the points, for messages.
        points: with what was recorded of them.
        budget: mean multiply-adds of an image.
        sizes: by point, in pixels, of what chooses by thresholds.

    Raises:
        UsageError: nothing was recorded, or nothing is within the budget.
    """
    from engine.results import choice, selection

    known = []
    for one in points:
        if one.top1 is not None and one.madds is not None:
            weight_bytes = one.weight_bytes if isinstance(one, PointText) else None
            found = choice.Choice(file, one.point, one.top1, one.madds, weight_bytes)
            if isinstance(one, BudgetText) and one.thresholds and sizes is not None:
                policy = _policy(one, sizes[one.point], file)
                found = dataclasses.replace(found, policy=policy)
            known.append(found)
    if not known:
        raise UsageError(
            f'budget {budget}: {file} has no recorded accuracy; evaluate the run with '
            '`imagenet_tf.py --eval` before, or give a point'
        )
    madds = quantity('budget', str(budget))
    with prefixed(f'budget {budget}: '):
        return selection.best(known, selection.Limits(madds=madds))


def _policy(recorded: BudgetText, size: int, file: str) -> ExitPolicy:
    """Thresholds of a file that chooses by them, as a policy of a run.

    Args:
        recorded: the thresholds.
        size: of the images, in pixels.
        file: name of the file.
    """
    from engine.results import exit_records, exit_thresholds

    madds = float(recorded.madds)
    exits = tuple(range(len(recorded.thresholds)))
    unit = exit_records.MADDS
    return exit_thresholds.ExitPolicy(size, exits, recorded.thresholds, madds, madds, unit, file)
