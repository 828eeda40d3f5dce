"""Gates that say nearly the same of all held-out images, and runs without them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.data.sources import Source
from engine.data.spec import Dataset
from engine.deployment import trace
from engine.deployment.tf_graph import graph_of
from engine.errors import UsageError
from engine.graph.inference import InferenceModel
from engine.runs.checkpoint import Checkpoint
from nets.points import split_name

# Rates of execution by gate, of each input size in turn.
Rates = Mapping[str, Sequence[float]]


def check(source: Checkpoint, dataset: Dataset) -> Source:
    """Checks that a run has gates to remove, and returns the held-out images that judge them.

    Args:
        source: the checkpoint, as ``checkpoint.recorded`` has it or read.
        dataset: that has the images.

    Raises:
        UsageError: no images were held out, or there are no gates of blocks.
    """
    assert source.config is not None
    network = source.config.network()
    try:
        network.settled({})
    except NotImplementedError as error:
        raise UsageError(
            f'{source.prefix}: is a {source.config.net}, which has no gates of blocks to remove'
        ) from error
    held = dataset.holdout
    if held is None:
        raise UsageError(
            f'{source.prefix}: has no hold-out, by which gates are judged; --holdout N of training '
            'sets images aside'
        )
    return held


def rates(source: Checkpoint, dataset: Dataset) -> Rates:
    """The share of held-out images for which each gate is open.

    Args:
        source: the checkpoint.
        dataset: that has them.

    Raises:
        UsageError: no images were held out, or there are no gates of blocks.
    """
    held = check(source, dataset)
    assert source.config is not None
    names = list(source.config.network().choosing)
    whole = trace.of_points(source, names)
    images = dataclasses.replace(dataset, val=held)
    found: dict[str, list[float]] = {}
    for name in names:
        told = [choice.name for choice in whole.points[name].choices]
        if not told:
            raise UsageError(f'{source.prefix}: has no gate left to remove')
        executed = _executed(source, whole, name, images)  # [images, gates]
        for gate, share in zip(told, executed.mean(axis=0).tolist()):
            found.setdefault(gate, []).append(share)
    return found


def _executed(source: Checkpoint, whole: Any, name: str, images: Dataset) -> np.ndarray:
    """[images, gates] 1 where a body is executed, else 0.

    Args:
        source: the checkpoint.
        whole: its program.
        name: of its choices.
        images: that are run.
    """
    # Loads TensorFlow: what ``check`` refuses needs none.
    from engine.evaluation.evaluate import eval_flow

    assert source.config is not None
    preprocessing = source.config.preprocessing
    place = preprocessing.view_sizes.index(whole.points[name].side)
    (run,) = graph_of(whole, [name], telling=True).runs()
    parts = []
    for batch in eval_flow(source.config, images, 0):
        _, *numbers = run(batch[place])
        parts.append(np.stack(numbers, axis=1))
    return np.concatenate(parts)


def settled(found: Rates, share: float) -> dict[str, bool]:
    """Whether blocks are executed whose gate says the same of so many images at every size.

    Args:
        found: rates.
        share: of the images.

    >>> settled({'a': [0.99, 1.0], 'b': [0.99, 0.5], 'c': [0.0, 0.01], 'd': [0.98, 0.98]}, 0.98)
    {'a': True, 'c': False, 'd': True}
    """
    same = {}
    for gate, shares in found.items():
        if min(shares) >= share:
            same[gate] = True
        elif min(1 - rate for rate in shares) >= share:
            same[gate] = False
    return same


def without(source: Checkpoint, executed: Mapping[str, bool]) -> Checkpoint:
    """A checkpoint without some gates.

    Args:
        source: the checkpoint.
        executed: whether what each of them chooses is executed for good, by name.
    """
    assert source.config is not None
    before = source.config
    after = before.replacing(**before.network().settled(executed))
    gone = _shared(before) - _shared(after)
    values = {}
    for name, value in source.values.items():
        # What is calibrated has a point of its own that the configuration does not know.
        _, shared = split_name(name)
        if shared not in gone:
            values[name] = value
    return dataclasses.replace(source, config=after, values=values)


def _shared(config: Any) -> set[str]:
    """Names of the variables of a network without their points."""
    variables, _ = InferenceModel(config.adjusted(kd=False), data_format='NHWC').inspect()
    return {split_name(name)[1] for name in variables}
