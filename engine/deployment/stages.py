"""Stages of a network that images leave where an answer is sure; only the rest goes on.

``Staged.predict`` answers a batch at once; ``Queue`` answers many batches in the least time.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.data.preprocessing import Preprocessing
from engine.deployment.backend import Prediction, Way, answered

Node = Any  # what a stage leaves to later ones: a feature map as the network names it, or a view


class Answers(NamedTuple):
    """Answers for N images.

    Attributes:
        labels: [N] int64, the class with the largest score.
        confidence: [N] float32, logarithm of its probability.
        exits: [N] int64, number of the stage that answered: of exits, the exit.
        logits: [N, classes] float32, what it said.
    """

    labels: np.ndarray
    confidence: np.ndarray
    exits: np.ndarray
    logits: np.ndarray


class _Map(NamedTuple):
    """A map [len(rows), ...] of the images ``rows`` (numbers in the batch, ascending)."""

    value: np.ndarray
    rows: np.ndarray


class Stage(NamedTuple):
    """The computation from one answer to the next.

    Attributes:
        reads: maps that it takes; none for the first, which takes the images.
        makes: maps that it leaves to later ones.
        run: (images, or the maps that it takes, of the images that are left) -> labels, confidence,
            logits, maps.
    """

    reads: list[Node]
    makes: list[Node]
    run: Callable[..., list[np.ndarray]] = lambda *_: []


class Staged:
    """Runs stage by stage on constant weights.

    Between stages, maps stay where TensorFlow put them: sessions take and give them uncopied.

    Args:
        stages: in order.

    Attributes:
        stages: those given, in order.
    """

    def __init__(self, stages: Sequence[Stage]):
        self.stages = list(stages)
        # Seconds per image of every stage, as it ran the last time.
        self._seconds = np.zeros(len(self.stages))

    def predict(
        self,
        images: Sequence[np.ndarray],
        thresholds: Sequence[float] | None = None,
        *,
        deadline_ms: float = float('inf'),
    ) -> Answers:
        """Answers of a batch.

        Args:
            images: uint8 [N, H, H, 3] as the data flow delivers them.
            thresholds: an image leaves at the first stage whose confidence is at least this; all
                but the last are used. None leaves nobody before the last stage.
            deadline_ms: the best answers so far are returned when the next stage will not end
                by then, judged by its last run; the first one is always computed.
        """
        started = time.perf_counter()
        count, last = len(images[0]), len(self.stages) - 1
        answers = Answers(
            labels=np.zeros(count, np.int64),
            confidence=np.zeros(count, np.float32),
            exits=np.zeros(count, np.int64),
            logits=np.zeros([count, 0], np.float32),
        )
        rows = np.arange(count)  # images that are still here
        maps: dict[Node, _Map] = {}
        for k, stage in enumerate(self.stages):
            begun = time.perf_counter()
            expected_end = begun - started + self._seconds[k] * len(rows)
            if k and 1e3 * expected_end > deadline_ms:
                break
            feeds = _feeds(stage.reads, maps, rows) if k else images
            labels, confidence, logits, *made = stage.run(*feeds)
            self._seconds[k] = (time.perf_counter() - begun) / len(rows)
            if not k:
                answers = answers._replace(logits=np.zeros(logits.shape, np.float32))
            answers.labels[rows] = labels
            answers.confidence[rows] = confidence
            answers.exits[rows] = k
            answers.logits[rows] = logits
            for node, value in zip(stage.makes, made, strict=True):
                maps[node] = _Map(value, rows)
            if k < last and thresholds is not None:
                rows = rows[confidence < thresholds[k]]
            if not len(rows):
                break
        return answers


class Left(NamedTuple):
    """Answers for any number of images, without their logits; as of ``Answers``.

    Attributes:
        best: [N, top] int64, the most probable classes, the first one first.
    """

    labels: np.ndarray
    confidence: np.ndarray
    exits: np.ndarray
    best: np.ndarray


class Queue:
    """Images on their way through the stages, which wait at each until a batch of them is there.

    With few images left of each batch, stages would run on small rests.

    Args:
        runner: what runs the stages.
        thresholds: as of ``Staged.predict``.
        size: images of a batch.
        top: classes of each image that are told.
    """

    def __init__(self, runner: Staged, thresholds: Sequence[float] | None, size: int, top: int = 1):
        self._runner = runner
        self._thresholds = thresholds
        self._size = size
        self._top = top
        self._count = 0
        self._found: list[tuple[np.ndarray, Left]] = []
        self._waiting: list[list[_Waiting]] = [[] for _ in runner.stages]

    def add(self, images: Sequence[np.ndarray]) -> None:
        """Takes a batch, and runs the stages for which enough images wait.

        Args:
            images: as of ``Staged.predict``.
        """
        numbers = self._count + np.arange(len(images[0]))
        self._count += len(numbers)
        self._run(0, images, numbers, {})
        self._run_waiting(self._size)

    def finish(self) -> Left:
        """Runs what still waits; answers of all images, in the order in which they came."""
        self._run_waiting(1)
        answers = Left(
            labels=np.zeros(self._count, np.int64),
            confidence=np.zeros(self._count, np.float32),
            exits=np.zeros(self._count, np.int64),
            best=np.zeros([self._count, self._top], np.int64),
        )
        for numbers, part in self._found:
            for whole, some in zip(answers, part):
                whole[numbers] = some
        return answers

    def _run_waiting(self, least: int) -> None:
        """Runs every stage as long as so many images wait for it."""
        for k, waiting in enumerate(self._waiting):
            while sum(len(one.numbers) for one in waiting) >= least:
                batch = _taken(waiting, self._size)
                feeds = [batch.maps[node] for node in self._runner.stages[k].reads]
                self._run(k, feeds, batch.numbers, batch.maps)

    def _run(
        self,
        k: int,
        feeds: Sequence[np.ndarray],
        numbers: np.ndarray,
        maps: Mapping[Node, np.ndarray],
    ) -> None:
        """Runs a stage; images that leave have their answer, the others wait for the next one.

        Args:
            k: number of the stage.
            feeds: what the stage takes, for the images that are left.
            numbers: of the images, in the order in which they came.
            maps: that the stage reads, of these images.
        """
        stage = self._runner.stages[k]
        labels, confidence, logits, *made = stage.run(*feeds)
        leaves = np.ones(len(numbers), bool)
        if k + 1 < len(self._runner.stages):
            leaves[:] = self._thresholds is not None and confidence >= self._thresholds[k]
        exits = np.full(len(numbers), k)
        best = labels[leaves, None]
        if self._top > 1:
            best = np.argsort(-logits[leaves], axis=1, kind='stable')[:, : self._top]
        found = Left(labels[leaves], confidence[leaves], exits[leaves], best)
        self._found.append((numbers[leaves], found))
        stay = np.flatnonzero(~leaves)
        if len(stay):
            kept = {**maps, **dict(zip(stage.makes, made, strict=True))}
            needed = {node: kept[node] for node in self._runner.stages[k + 1].reads}
            self._waiting[k + 1].append(_staying(needed, stay, numbers))


def way_of(
    runner: Staged,
    preprocessing: Preprocessing,
    ran: Sequence[tuple[str, ...]],
    thresholds: Sequence[float] | None,
    deadline_ms: float,
) -> Way:
    """How stages answer images.

    Args:
        runner: what runs them.
        preprocessing: how the views are made that they read.
        ran: the operating points that have answered, by the stage where an image leaves.
        thresholds: as of ``Staged.predict``.
        deadline_ms: as of ``Staged.predict``; batches that are queued have none.
    """

    def answer(batch: Sequence[np.ndarray]) -> Prediction:
        found = runner.predict(batch, thresholds, deadline_ms=deadline_ms)
        told = [ran[stage] for stage in found.exits.tolist()]
        whole = answered(found.logits, [points[-1] for points in told])
        scores = np.exp(found.confidence)
        return whole._replace(labels=found.labels, scores=scores, stages=told)

    def answer_all(batches: Iterable[Sequence[np.ndarray]]) -> Prediction:
        queue = None
        for batch in batches:
            # The first batch is a full one.
            queue = queue or Queue(runner, thresholds, len(batch[0]))
            queue.add(batch)
        assert queue is not None
        found = queue.finish()
        told = [ran[stage] for stage in found.exits.tolist()]
        points = [points[-1] for points in told]
        return Prediction(found.labels, np.exp(found.confidence), points, stages=told)

    return Way(preprocessing, answer, answer_all)


class _Waiting(NamedTuple):
    """Images that wait for a stage.

    Attributes:
        maps: that it reads, of these images and of others.
        rows: of these images in the maps.
        numbers: of these images, in the order in which they came.
    """

    maps: Mapping[Node, np.ndarray]
    rows: np.ndarray
    numbers: np.ndarray


def _staying(maps: Mapping[Node, np.ndarray], rows: np.ndarray, numbers: np.ndarray) -> _Waiting:
    """Those images of a batch that stay.

    Args:
        maps: of the batch.
        rows: of these images.
        numbers: of all images of the batch.
    """
    left = numbers[rows]
    if len(rows) > len(numbers) // 2:
        return _Waiting(maps, rows, left)
    # Else the maps of a whole batch would wait with a few images of it, again and again.
    few = {node: value[rows] for node, value in maps.items()}
    return _Waiting(few, np.arange(len(rows)), left)


class _Batch(NamedTuple):
    """Images for a stage: its maps, and numbers of the images."""

    maps: dict[Node, np.ndarray]
    numbers: np.ndarray


def _taken(waiting: list[_Waiting], size: int) -> _Batch:
    """Takes the first images off a queue, and puts their maps together.

    Args:
        waiting: the queue, which loses them.
        size: most that are taken.
    """
    parts: list[_Waiting] = []
    count = 0
    while waiting and count < size:
        first = waiting.pop(0)
        some = size - count
        if len(first.numbers) > some:
            rest = first._replace(rows=first.rows[some:], numbers=first.numbers[some:])
            waiting.insert(0, rest)
            first = first._replace(rows=first.rows[:some], numbers=first.numbers[:some])
        parts.append(first)
        count += len(first.numbers)
    maps = {}
    for node, like in parts[0].maps.items():
        whole = np.empty((count, *like.shape[1:]), like.dtype)
        start = 0
        for part in parts:
            stop = start + len(part.rows)
            # Out of bounds is impossible; the other modes would copy once more.
            np.take(part.maps[node], part.rows, axis=0, out=whole[start:stop], mode='clip')
            start = stop
        maps[node] = whole
    return _Batch(maps, np.concatenate([part.numbers for part in parts]))


def _feeds(reads: Sequence[Node], maps: dict[Node, _Map], rows: np.ndarray) -> list[np.ndarray]:
    """The maps that a stage reads, of the images that are left; others are dropped from them.

    Args:
        reads: what the stage reads.
        maps: as they are, of which those that are read lose the images that have left.
        rows: numbers of the images that are left.
    """
    for node in reads:
        value, known = maps[node]
        if len(known) > len(rows):
            maps[node] = _Map(value[np.searchsorted(known, rows)], rows)
    return [maps[node].value for node in reads]
