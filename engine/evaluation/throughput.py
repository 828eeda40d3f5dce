"""Images per second of alternatives on one batch of validation images."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from engine.data.datasets import Dataset
from engine.evaluation.evaluate import eval_flow
from engine.graph.tower import Model
from engine.runs.checkpoint import Restore
from engine.timing import images_per_second
from quant import backend
from quant.backend import new_graph, tf

BATCH, ROUNDS = 32, 8

# Tensors to compute, by the name of the alternative, from the views of a batch by size.
Build = Callable[[Any], Mapping[str, list[tf.Tensor]]]


def measure(
    model: Model, values: Mapping[str, np.ndarray], dataset: Dataset, build: Build
) -> dict[str, float]:
    """Median images per second, by alternative.

    Args:
        model: Network and how images become its input.
        values: Trained arrays by variable name.
        dataset: Its first validation images are the batch.
        build: Makes the tensors of every alternative in the default graph.
    """
    batch = min(BATCH, len(dataset.val))
    *images, _ = next(iter(eval_flow(model.config, dataset, 0, batch_size=batch)))
    with new_graph(), backend.session() as session:
        feeds = [tf.placeholder(tf.uint8, array.shape) for array in images]
        runs = {}
        for name, fetches in build(model.views(feeds)).items():
            run = session.make_callable(fetches, feeds)
            runs[name] = functools.partial(run, *images)
        Restore(values).init(session)
        return images_per_second(runs, len(images[0]), ROUNDS)
