"""Early exit for real: images leave where an exit is sure, only the rest is computed further."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.graph.freeze import Part, Values, freeze
from engine.graph.inference import InferenceModel
from nets.layers.rows import take_rows
from nets.losses import log_confidence
from quant.backend import tf

Node = Any  # a feature map, as the network names it


class Answers(NamedTuple):
    """Answers for N images.

    Attributes:
        labels: [N] int64, the class with the largest score.
        confidence: [N] float32, logarithm of its probability.
        exits: [N] int64, the exit that answered.
        logits: [N, classes] float32, what it said.
    """

    labels: np.ndarray
    confidence: np.ndarray
    exits: np.ndarray
    logits: np.ndarray


class _Map(NamedTuple):
    """A feature map [len(rows), ...] of the images ``rows`` (numbers in the batch, ascending)."""

    value: np.ndarray
    rows: np.ndarray


class _Stage(NamedTuple):
    """The computation from one exit to the next.

    Attributes:
        reads: maps that it takes; none for the first, which takes the images.
        makes: maps that it leaves to later ones.
        run: (images, or a map and the rows to take of it in turn) -> labels, confidence, logits,
            maps.
    """

    reads: list[Node]
    makes: list[Node]
    run: Callable[..., list[np.ndarray]] = lambda *_: []


class EarlyExit:
    """Runs a network with exits stage by stage, on constant weights.

    Between stages, maps stay where TensorFlow put them: sessions take and give them uncopied.

    Args:
        model: a configuration with exits.
        values: of its variables.
        size: input size in pixels, one of the network's.
        threads: of one operation; 0 takes all cores.
    """

    def __init__(
        self,
        model: InferenceModel,
        values: Values,
        size: int,
        *,
        threads: int = 0,
    ):
        stages: list[_Stage] = []
        frozen = freeze(lambda: _build(model, size, stages), values)
        self._stages = []
        for stage, run in zip(stages, frozen.runs(threads), strict=True):
            self._stages.append(stage._replace(run=run))
        self._classes = model.config.classes
        # Seconds per image of every stage, as it ran the last time.
        self._seconds = np.zeros(len(self._stages))

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
            thresholds: an image leaves at the first exit whose confidence is at least this; all
                but the last are used. None leaves nobody before the last exit.
            deadline_ms: the best answers so far are returned when the next stage will not end
                by then, judged by its last run; the first exit is always computed.
        """
        started = time.perf_counter()
        count, last = len(images[0]), len(self._stages) - 1
        answers = Answers(
            labels=np.zeros(count, np.int64),
            confidence=np.zeros(count, np.float32),
            exits=np.zeros(count, np.int64),
            logits=np.zeros([count, self._classes], np.float32),
        )
        rows = np.arange(count)  # images that are still here
        maps: dict[Node, _Map] = {}
        for k, stage in enumerate(self._stages):
            begun = time.perf_counter()
            expected_end = begun - started + self._seconds[k] * len(rows)
            if k and 1e3 * expected_end > deadline_ms:
                break
            feeds = _feeds(stage.reads, maps, rows) if k else images
            labels, confidence, logits, *made = stage.run(*feeds)
            self._seconds[k] = (time.perf_counter() - begun) / len(rows)
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


def _feeds(reads: Sequence[Node], maps: Mapping[Node, _Map], rows: np.ndarray) -> list[np.ndarray]:
    """Every map that a stage reads, and where in it the images ``rows`` are."""
    feeds = []
    for node in reads:
        feeds.append(maps[node].value)
        feeds.append(np.searchsorted(maps[node].rows, rows))
    return feeds


def _build(model: InferenceModel, size: int, stages: list[_Stage]) -> list[Part]:
    """Builds every stage from placeholders, and adds it to ``stages``."""
    parts = []
    blocks = model.blocks(training=False)
    maps: dict[Node, tf.Tensor] = {}
    for k in range(model.net.exits):
        feeds, view = [], None
        if k == 0:
            *specs, _ = model.inputs()
            feeds = [tf.placeholder(spec.dtype, spec.shape) for spec in specs]
            view = model.views(feeds)[size]
        reads = list(maps)
        for node, tensor in maps.items():
            value = tf.placeholder(tensor.dtype, tensor.shape)
            rows = tf.placeholder(tf.int64, [None])
            feeds.extend((value, rows))
            maps[node] = take_rows(value, rows)
        logits, after = model.net.exit(k, size, view, dict(maps), blocks)
        makes = [node for node in after if node not in maps]
        fetches = [tf.argmax(logits, axis=1), log_confidence(logits), logits]
        fetches.extend(after[node] for node in makes)
        parts.append(Part(feeds, fetches))
        stages.append(_Stage(reads, makes))
        maps = after
    return parts
