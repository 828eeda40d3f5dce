"""Snapping: a copy of a run whose levels are small whole numbers times a scale.

The nearest such levels are put in their place before anything is evaluated, and the network that is
evaluated is the one that is shipped: nothing is rounded afterwards. How a quantizer is snapped, it
says where it declares its variables.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from engine.errors import UsageError
from engine.graph.inference import InferenceModel
from engine.runs import history, matching
from engine.runs.checkpoint import Checkpoint
from nets.points import split_name
from quant.quantizer import Quantizer

Snap = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Snapped:
    """A snapped checkpoint.

    Attributes:
        source: with the snapped values.
        variables: how many of them have levels.
        moved: largest change of one relative to the largest of its channel.
    """

    source: Checkpoint
    variables: int
    moved: float


def check(source: Checkpoint) -> None:
    """Checks that a run can have levels to snap, as its configuration says.

    Args:
        source: the checkpoint, as ``checkpoint.recorded`` has it or read.

    Raises:
        UsageError: its quantizers have other levels, or there are none.
    """
    if not any(quantizer.snaps for quantizer in _quantizers(source)):
        raise UsageError(_without_levels(source))


def is_left_out(source: Checkpoint) -> bool:
    """Whether the record of a training says that no level is a whole number.

    Args:
        source: as of ``check``.
    """
    assert source.config is not None
    found = _quantizers(source)
    # Two levels are whole numbers times half of their distance anyway.
    learned = [quantizer for quantizer in found if quantizer.snaps and quantizer.bits > 1]
    # A copy has no history: its levels may have been changed.
    trained = bool(history.recorded(Path(source.prefix).parent))
    return trained and not source.config.snap_epochs and bool(found) and len(learned) == len(found)


def _quantizers(source: Checkpoint) -> set[Quantizer]:
    assert source.config is not None
    policy = source.config.quantization.to_policy()
    return policy.quantizers('weight') | policy.quantizers('activation')


def _without_levels(source: Checkpoint) -> str:
    return (
        f'{source.prefix}: has no levels to snap: its quantizers have multiples of a scale, '
        'or it is in float; export it as it is'
    )


def snapped(source: Checkpoint) -> Snapped:
    """A checkpoint with whole numbers for levels, of all points that it has, calibrated ones too.

    Args:
        source: the checkpoint, of a run.

    Raises:
        UsageError: it has no levels that could be snapped.
    """
    rules = _rules(source)
    values = dict(source.values)
    moved = [0.0]
    count = 0
    for name, value in source.values.items():
        # What is calibrated has a point of its own that the configuration does not know.
        _, shared = split_name(name)
        if shared not in rules:
            continue
        values[name] = rules[shared](value)
        largest = np.maximum(np.abs(value).max(axis=0), np.finfo(np.float32).tiny)
        moved.append(float((np.abs(values[name] - value) / largest).max()))
        count += 1
    if not count:
        raise UsageError(_without_levels(source))
    return Snapped(dataclasses.replace(source, values=values), count, max(moved))


def would_change(source: Checkpoint) -> bool:
    """Whether a checkpoint has levels that are not whole numbers yet."""
    try:
        return snapped(source).moved > 0
    except UsageError:
        return False


def _rules(source: Checkpoint) -> Mapping[str, Snap]:
    """Functions that snap variables, by name without the point.

    Raises:
        UsageError: the checkpoint lacks variables.
    """
    assert source.config is not None
    model = InferenceModel(source.config.adjusted(kd=False), data_format='NHWC')
    variables, _ = model.inspect()
    matching.select(source, variables, flag='RUN', partial=True)
    return {state.shared: state.snapped for state in variables.values() if state.snapped}
