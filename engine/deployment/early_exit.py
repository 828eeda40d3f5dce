"""Early exit for real: images leave where an exit is sure, only the rest is computed further."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.graph.freeze import freeze
from engine.graph.inference import InferenceModel
from nets.layers.rows import take_rows
from nets.losses import log_confidence
from quant.backend import tf

Node = Any  # a feature map, as the network names it


class Answers(NamedTuple):
    """What N images were found to be.

    Attributes:
        labels: [N] int64, the class with the largest score.
        confidence: [N] float32, logarithm of its probability.
        exits: [N] int64, the exit that answered.
    """

    labels: np.ndarray
    confidence: np.ndarray
    exits: np.ndarray


@dataclasses.dataclass
class _Map:
    """A feature map of the images ``rows`` (numbers in the batch, ascending)."""

    value: np.ndarray
    rows: np.ndarray


class _Stage(NamedTuple):
    """What leads from one exit to the next.

    Attributes:
        reads: maps that it takes; none for the first, which takes the images.
        makes: maps that it leaves to later ones.
        run: (images, or a map and the rows to take of it in turn) -> labels, confidence, maps.
    """

    reads: list[Node]
    makes: list[Node]
    run: Any


class EarlyExit:
    """Runs a network with exits stage by stage, on constant weights.

    Between stages, maps stay where TensorFlow put them: sessions take and give them uncopied.

    Args:
        model: a configuration with exits.
        values: its variables by name.
        size: input size in pixels, one of the network's.
        threads: of one operation; 0 takes all cores.
    """

    def __init__(
        self,
        model: InferenceModel,
        values: Mapping[str, np.ndarray],
        size: int,
        *,
        threads: int = 0,
    ):
        stages: list[tuple[list[Node], list[Node]]] = []
        runs = freeze(lambda: _build(model, size, stages), values).runs(threads)
        self._stages = [_Stage(reads, makes, run) for (reads, makes), run in zip(stages, runs)]
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
        started, count, last = time.perf_counter(), len(images[0]), len(self._stages) - 1
        found = Answers(
            np.zeros(count, np.int64), np.zeros(count, np.float32), np.zeros(count, np.int64)
        )
        rows, maps = np.arange(count), dict[Node, _Map]()
        for k, stage in enumerate(self._stages):
            begun = time.perf_counter()
            if k and 1e3 * (begun - started + self._seconds[k] * len(rows)) > deadline_ms:
                break
            labels, confidence, *made = stage.run(
                *(images if k == 0 else _feeds(stage.reads, maps, rows))
            )
            self._seconds[k] = (time.perf_counter() - begun) / len(rows)
            for array, value in zip(found, (labels, confidence, k)):
                array[rows] = value
            maps |= {node: _Map(value, rows) for node, value in zip(stage.makes, made)}
            if k < last and thresholds is not None:
                rows = rows[confidence < thresholds[k]]
            if not len(rows):
                break
        return found


def _feeds(reads: Sequence[Node], maps: Mapping[Node, _Map], rows: np.ndarray) -> list[np.ndarray]:
    """Every map that a stage reads, and where in it the images ``rows`` are."""
    return [
        array
        for node in reads
        for array in (maps[node].value, np.searchsorted(maps[node].rows, rows))
    ]


def _build(
    model: InferenceModel, size: int, stages: list[tuple[list[Node], list[Node]]]
) -> list[tuple[list[tf.Tensor], list[tf.Tensor]]]:
    """Builds every stage from placeholders; ``stages`` gets the maps that each reads and makes."""
    net, parts = model.net, []
    state: dict[Node, tf.Tensor] = {}
    blocks = model.blocks(training=False)
    for k in range(net.exits):
        feeds, view = [], None
        if k == 0:
            feeds = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
            view = model.views(feeds)[size]
        reads = list(state)
        for node, tensor in state.items():
            feeds += [tf.placeholder(tensor.dtype, tensor.shape), tf.placeholder(tf.int64, [None])]
            state[node] = take_rows(*feeds[-2:])
        logits, after = net.exit(k, size, view, dict(state), blocks)
        makes = [node for node in after if node not in state]
        parts.append(
            (
                feeds,
                [
                    tf.argmax(logits, axis=1),
                    log_confidence(logits),
                    *(after[node] for node in makes),
                ],
            )
        )
        stages.append((reads, makes))
        state = after
    return parts
