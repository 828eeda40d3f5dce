"""Images per second of what ``Predictor`` serves, on one batch of validation images."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.data.datasets import Dataset
from engine.deployment import trace
from engine.deployment.tensorflow_backend import Served
from engine.evaluation.evaluate import first_images
from engine.runs.checkpoint import Checkpoint
from engine.timing import images_per_second

BATCH, ROUNDS = 32, 8


def measure(
    source: Checkpoint, dataset: Dataset, ways: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Median images per second, by alternative.

    Args:
        source: What was evaluated.
        dataset: Its first validation images are the batch.
        ways: Points, or choices image by image, that run one after the other, by alternative.
    """
    assert source.config is not None
    images = first_images(source.config, dataset, BATCH)
    by_side = dict(zip(source.config.preprocessing.view_sizes, images, strict=True))
    runs = {}
    for way, names in ways.items():
        each = [_run(source, name, by_side) for name in names]
        runs[way] = functools.partial(_run_all, each)
    return images_per_second(runs, len(images[0]), ROUNDS)


def _run(
    source: Checkpoint, name: str, images: Mapping[int, np.ndarray]
) -> Callable[[], list[np.ndarray]]:
    """A call that computes a point.

    Args:
        source: that has it.
        name: of it, or of a choice.
        images: uint8 [N, side, side, C] by side.
    """
    whole = trace.of_points(source, [name])
    served = Served(whole, name, threads=0)
    return functools.partial(served.run, images[whole.points[name].side])


def _run_all(runs: Sequence[Callable[[], Any]]) -> None:
    for run in runs:
        run()
