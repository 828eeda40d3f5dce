"""Moving averages of variables over the steps of a training."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from quant.options import option

# Scope of the averages of ``--model-ema``: ``model_ema/conv0/W`` follows ``conv0/W``.
SCOPE = 'model_ema/'

# Which weights are meant: those that are trained, or their averages.
WEIGHTS = ('raw', 'ema')


@dataclasses.dataclass(frozen=True)
class AverageOptions:
    """Averages over the steps of a training."""

    model_ema: float = option(
        0.0,
        'decay of a moving average of the weights, evaluated beside them; 0 keeps none',
        low=0,
        below=1,
    )


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables by name without the averages, and the averages by the names that they follow."""
    others = {}
    averages = {}
    for name, value in values.items():
        if name.startswith(SCOPE):
            averages[name.removeprefix(SCOPE)] = value
        else:
            others[name] = value
    return others, averages


def follow(pairs: Iterable[tuple[Any, Any]], decay: float) -> list[Any]:
    """Ops that move averages: ``average = decay * average + (1 - decay) * value``.

    Args:
        pairs: (average, variable that it follows), of one shape and type.
        decay: share of the average that stays.
    """
    moves = []
    for average, variable in pairs:
        change = (1 - decay) * (average - variable)
        moves.append(average.assign_sub(change, read_value=False))
    return moves
