"""Compares what an exported network answers with what evaluation answers."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from engine import timing
from engine.console import followed
from engine.data import classes
from engine.data.datasets import open_dataset
from engine.data.spec import Dataset
from engine.deployment import chaining
from engine.deployment.forms import Exporter, Runtime
from engine.deployment.texts import VerifiedText
from engine.errors import UsageError
from engine.graph import freeze
from engine.results.cascades import Cascade
from engine.runs.checkpoint import Checkpoint
from nets.points import Point

# Images of a batch.
BATCH = 250

# Single images by each runtime in turn, for the time of one.
ROUNDS = 20

# A larger difference of logits is more than another order of sums.
DIFFERENCE = 1e-3


@dataclasses.dataclass
class Comparison:
    """Answers of a runtime at a point beside those of evaluation, added up over images.

    Attributes:
        runtime: name and version.
        point: spelling.
        choices: how many numbers say what was executed.
        staged: whether it is a cascade, of which the stage belongs to the answer.
        images: how many were compared.
        differing: answers that differ.
        apart: images with a logit that differs by more than ``DIFFERENCE``.
        otherwise: images of which other parts of the network were executed.
        right: answers of the runtime that are right.
        expected_right: answers of evaluation that are right.
        seconds: of one image alone, the median; not a number of a slow runtime.
    """

    runtime: str
    point: str
    choices: int = 0
    staged: bool = False
    images: int = 0
    differing: int = 0
    apart: int = 0
    otherwise: int = 0
    right: int = 0
    expected_right: int = 0
    seconds: float = float('nan')

    @property
    def wrong(self) -> int:
        """Answers that differ; of a cascade also those that another stage gave."""
        return max(self.differing, self.otherwise) if self.staged else self.differing

    def add(self, found: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> None:
        """Adds images.

        Args:
            found: of the runtime, [N, classes + choices].
            expected: of evaluation, [N, classes + choices].
            labels: [N].
        """
        classes = found.shape[1] - self.choices
        self.otherwise += int((found != expected)[:, classes:].any(axis=1).sum())
        logits = found[:, :classes]
        expected = expected[:, :classes]
        answers = logits.argmax(axis=1)
        evaluated = expected.argmax(axis=1)
        furthest = np.abs(logits - expected).max(axis=1)  # [N]
        self.images += len(logits)
        self.differing += int((answers != evaluated).sum())
        self.apart += int((furthest > DIFFERENCE).sum())
        self.right += int((answers == labels).sum())
        self.expected_right += int((evaluated == labels).sum())

    def percent(self, count: int) -> float:
        """A number of images in percent of all."""
        return 100 * count / self.images


class Images(NamedTuple):
    """Images that an export is checked with.

    Attributes:
        read: image of a number, uint8 [H, W, 3], BGR.
        labels: [N]; None of images that show nothing.
        total: N.
        what: where they are from.
    """

    read: Callable[[int], np.ndarray]
    labels: np.ndarray | None
    total: int
    what: str


def opened(source: Checkpoint, data: str | None) -> Dataset | None:
    """The data with the images that an exported file is checked with; None if none are known.

    Args:
        source: what is exported, as ``checkpoint.recorded`` has it or read.
        data: as of ``--data``; None for what the run recorded.

    Raises:
        UsageError: they are not there.
    """
    assert source.config is not None
    config = source.config
    place = data or config.data
    if not place:
        return None
    try:
        return open_dataset(place, size=config.image_size, split=config.split)
    except UsageError as error:
        raise UsageError(
            f'{error}. An exported file is checked with evaluation images; --data says where '
            'they are'
        ) from error


def images(source: Checkpoint, dataset: Dataset | None, count: int) -> Images:
    """Evaluation images of a data set, or noise without one.

    Fewer than all are taken at equal distances.

    Args:
        source: what is exported.
        dataset: that has them.
        count: how many.

    Raises:
        UsageError: they are of other classes.
    """
    assert source.config is not None
    if dataset is None:
        return _noise(source.config.image_size, min(count, BATCH))
    if source.class_names:
        dataset, _ = classes.mapped(dataset, source.class_names, source.prefix)
    shown = dataset.val
    count = min(count, len(shown))
    # The first ones can be of one class.
    numbers = np.linspace(0, len(shown) - 1, count).round().astype(int).tolist()
    labels = np.asarray(shown.labels)[numbers]
    return Images(lambda number: shown.read(numbers[number]), labels, count, 'evaluation images')


def _noise(side: int, count: int) -> Images:
    """Images without meaning.

    Args:
        side: of them, in pixels.
        count: how many.
    """

    def read(number: int) -> np.ndarray:
        rng = np.random.default_rng(number)
        return rng.integers(256, size=(side, side, 3), dtype=np.uint8)

    return Images(read, None, count, 'images of noise: the run knows of no data; --data names some')


def compare(
    exporter: Exporter, path: Path, source: Checkpoint, points: Sequence[str], given: Images
) -> list[Comparison]:
    """Runs an exported network in every runtime that there is, a batch at a time.

    Args:
        exporter: its format.
        path: what was written.
        source: what it was made of.
        points: that it holds, in its order.
        given: images.
    """
    evaluations: list[_Evaluation | _Stages]
    if exporter.cascade is not None:
        evaluations = [_Stages(source, exporter.cascade, exporter)]
    else:
        evaluations = [_Evaluation(source, point, exporter) for point in points]
    runtimes = exporter.runtimes(path)
    found = {}
    for number, point in enumerate(points):
        for name in runtimes:
            choices = evaluations[number].choices
            staged = exporter.cascade is not None
            found[number, name] = Comparison(name, point, choices, staged)
    _answer(evaluations, runtimes, given, found)
    for number, evaluation in enumerate(evaluations):
        image = evaluation.views([given.read(0)])
        timed = {}
        for name, run in runtimes.items():
            # The interpreter is slow, and took a few of them.
            if found[number, name].images == given.total:
                timed[name] = functools.partial(run, image, number)
        for name, seconds in timing.median_seconds(timed, ROUNDS).items():
            found[number, name].seconds = seconds
    return list(found.values())


def _answer(
    evaluations: Sequence['_Evaluation | _Stages'],
    runtimes: Mapping[str, Runtime],
    given: Images,
    found: Mapping[tuple[int, str], Comparison],
) -> None:
    """Adds the answers to all images, a batch at a time.

    Args:
        evaluations: by point.
        runtimes: by name.
        given: images.
        found: comparisons by number of the point and name of the runtime, which are added to.
    """
    starts = range(0, given.total, BATCH)
    for start in followed(starts, 'verifying', len(starts), 'batches', delay=1):
        numbers = range(start, min(start + BATCH, given.total))
        batch = [given.read(number) for number in numbers]
        labels = np.full(len(batch), -1)
        if given.labels is not None:
            labels = given.labels[numbers.start : numbers.stop]
        for number, evaluation in enumerate(evaluations):
            views = evaluation.views(batch)
            expected = evaluation.run(*views)
            for name, run in runtimes.items():
                one = found[number, name]
                answers = run(views, number)
                # A slow runtime takes the first images of a batch.
                some = slice(len(answers))
                one.add(answers, expected[some], labels[some])


class _Evaluation:
    """Evaluation at one operating point.

    Args:
        source: the checkpoint.
        point: spelling.
        exporter: the format.

    Attributes:
        choices: how many numbers say what was executed.
        side: edge of its images, pixels.
    """

    def __init__(self, source: Checkpoint, point: str, exporter: Exporter):
        assert source.config is not None
        size = source.config.network().choosing.get(point)
        if size is not None:
            model, _ = freeze.choosing_model(source, point)
            frozen, _ = freeze.of_choices(source, point, exporter.thresholds)
        else:
            model, _ = freeze.point_model(source, point)
            frozen = freeze.named(source, point, static=exporter.static)
            size = model.size_of(Point.parse(point))
        frozen = freeze.folded(frozen)
        (self._run,) = frozen.runs()
        self.choices = len(frozen.signatures[0].fetches) - 1
        self._preprocessing = model.config.preprocessing
        side = self._preprocessing.side(size)
        self.side = side
        self._place = self._preprocessing.view_sizes.index(side)

    def views(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Images as the point takes them, uint8 [N, side, side, 3].

        Args:
            batch: uint8 [H, W, 3], BGR, of any size.
        """
        views = [self._preprocessing.eval_views(image)[self._place] for image in batch]
        return [np.stack(views)]

    def run(self, view: np.ndarray) -> np.ndarray:
        """Logits [N, classes], and behind them what was executed by choice."""
        logits, *executed = self._run(view)
        columns = [numbers[:, None] for numbers in executed]  # [N, 1] each
        return np.concatenate([logits, *columns], axis=1)


class _Stages:
    """A cascade as evaluation carries it out; attributes and methods as of ``_Evaluation``.

    Args:
        source: the checkpoint.
        cascade: the cascade.
        exporter: the format.
    """

    choices = 1

    def __init__(self, source: Checkpoint, cascade: Cascade, exporter: Exporter):
        names = chaining.stage_names(source, cascade.points)
        self._stages = [_Evaluation(source, name, exporter) for name in names]
        self._cascade = cascade
        # One stage by edge of its images, in the order of the inputs of a file.
        self._reading: dict[int, _Evaluation] = {}
        for stage in self._stages:
            self._reading.setdefault(stage.side, stage)

    def views(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Images as the stages take them, by edge."""
        found = []
        for stage in self._reading.values():
            found += stage.views(batch)
        return found

    def run(self, *views: np.ndarray) -> np.ndarray:
        """Logits [N, classes] of the stage that answers, and behind them its number."""
        combination = self._cascade.combination
        by_side = dict(zip(self._reading, views, strict=True))
        rows = np.arange(len(views[0]))  # images that are still here
        total: np.ndarray | None = None
        found = np.empty(0)
        for number, stage in enumerate(self._stages):
            said = stage.run(by_side[stage.side][rows])
            logits = said[:, : said.shape[1] - stage.choices]
            answered = combination.answer(number, logits, total)
            scores = logits / np.float32(combination.temperatures[number])
            if combination.sums and number:
                scores = answered.scores.astype(np.float32)
            if not number:
                found = np.empty((len(rows), scores.shape[1] + 1), np.float32)
            found[rows, :-1] = scores
            found[rows, -1] = number
            left = answered.confidence < self._cascade.thresholds[number]  # [images still here]
            rows = rows[left]
            total = answered.total[left] if combination.sums else None
            if not len(rows):
                break
        return found


def facts(found: Sequence[Comparison]) -> tuple[VerifiedText, ...]:
    """The comparisons without what differs from one measurement to the next.

    Points of which the same is to be said are said together.
    """
    points: dict[tuple[str, int, int], list[str]] = {}
    for one in found:
        points.setdefault((one.runtime, one.images, one.wrong), []).append(one.point)
    rows = []
    for (runtime, images, differing), alike in points.items():
        rows.append(VerifiedText(runtime, ' '.join(alike), images, differing))
    return tuple(rows)


def table(found: Sequence[Comparison], *, labelled: bool) -> str:
    """The comparisons for the console.

    Args:
        found: comparisons.
        labelled: whether the images have right answers.
    """
    apart = f'logits apart > {DIFFERENCE:g}, %'
    headers = ['runtime', 'point', 'images', 'answers that differ', apart, 'ms']
    formats = ['', '', '', '', '.2f', '.3f']
    if labelled:
        headers += ['top-1, %', 'evaluated, %']
        formats += ['.2f', '.2f']
    choosing = any(one.choices for one in found)
    if choosing:
        headers.append('executed otherwise')
        formats.append('')
    rows = []
    for one in found:
        ms = None if math.isnan(one.seconds) else 1e3 * one.seconds
        row = [one.runtime, one.point, one.images, one.differing, one.percent(one.apart), ms]
        if labelled:
            row += [one.percent(one.right), one.percent(one.expected_right)]
        if choosing:
            row.append(one.otherwise)
        rows.append(row)
    return tabulate(rows, headers, floatfmt=formats, missingval='-')
