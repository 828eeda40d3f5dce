"""The protocol of evaluators: their input, and all that they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.data.datasets import Dataset
from engine.evaluation.evaluate import Score
from engine.graph.tower import Model
from engine.runs.checkpoint import Checkpoint
from nets.cost import LayerRecord


@dataclasses.dataclass(frozen=True)
class Scored:
    """A network and its score on the validation images.

    Attributes:
        model: the network.
        layers: layer records by spelling of the operating point.
        score: counts of right answers, accumulators and per-image outputs.
        folder: run folder that results are written to.
    """

    model: Model
    layers: Mapping[str, Sequence[LayerRecord]]
    score: Score
    folder: Path


@dataclasses.dataclass(frozen=True)
class Evaluation(Scored):
    """A score with what it takes to run the network again.

    Attributes:
        values: variables by name.
        dataset: the data set that was scored.
        threads: decoding threads.
        sampled: whether choices were drawn, so that they are no property of the network.
        borrowed: whether some sizes used the statistics of others.
    """

    values: Mapping[str, np.ndarray]
    dataset: Dataset
    threads: int
    sampled: bool = False
    borrowed: bool = False

    def parts(self) -> list[Evaluation]:
        """An evaluation of each precision of the network by itself.

        Each has the score of them all; of a network of one precision it is this one.
        """
        precisions = list(dict.fromkeys(point.bits for point in self.model.net.points))
        if len(precisions) == 1:
            return [self]
        found = []
        for bits in precisions:
            config = self.model.config.at_bits([bits])
            model = Model(config, data_format=self.model.data_format, options=self.model.options)
            found.append(dataclasses.replace(self, model=model))
        return found

    @property
    def source(self) -> Checkpoint:
        """The network and its variables as a checkpoint, of which programs are made."""
        return Checkpoint(str(self.folder), dict(self.values), self.model.config)


class Evaluator(Protocol):
    """Reports on one kind of choice."""

    def report(self, evaluation: Evaluation) -> str:
        """Measures, writes files into the run folder, and returns text for the console."""

    def monitor(self, scored: Scored) -> dict[str, float]:
        """Writes what every epoch of a training records, and returns metrics by name."""
