"""Takes values for a graph from a checkpoint, and says why where one does not fit the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import UsageError
from engine.runs.checkpoint import Checkpoint
from nets.points import Point, split_name
from quant.state import Kind, State

# What to do about a size without statistics.
BORROW = (
    'scripts/calibrate.py makes them; --untrained proxy, ideal or interpolate, or -eos SIZE, '
    'borrow those of trained sizes'
)


def select(
    source: Checkpoint,
    variables: Mapping[str, State],
    *,
    flag: str,
    partial: bool = False,
    detachable: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Values for the variables of a graph.

    Args:
        source: where to take them.
        variables: their declarations by name.
        flag: to name in errors.
        partial: ``variables`` are only some of a network's, so that the checkpoint may have others.
        detachable: scopes that the checkpoint may have beside.

    Raises:
        UsageError: a variable is missing or of another shape, or the checkpoint is of a network
            with more layers; the message says what it has.
    """
    if not partial:
        _check_surplus(source, variables, flag, detachable)
    lost: dict[str, State] = {}
    other: list[str] = []
    taken: dict[str, np.ndarray] = {}
    for name, state in variables.items():
        value = source.values.get(name)
        if value is not None and value.shape == state.shape:
            taken[name] = value
        elif value is None:
            lost[name] = state
        else:
            other.append(name)
    if lost:
        raise UsageError(f'{flag}: {_reason(lost, flag)}; {source.describe()}')
    if other:
        there, here = list(source.values[other[0]].shape), list(variables[other[0]].shape)
        raise UsageError(
            f'{flag}: {other[0]} is {there} in the checkpoint, {here} in the network that was '
            f'asked for; {source.describe()}'
        )
    return taken


def _check_surplus(
    source: Checkpoint, variables: Mapping[str, State], flag: str, detachable: Sequence[str]
) -> None:
    """Checks that the checkpoint has no layers that the network lacks.

    Args:
        source: the checkpoint.
        variables: declarations of the network by name.
        flag: to name in errors.
        detachable: scopes of layers that it may have beside.

    Raises:
        UsageError: it has.
    """
    parts = set()
    shared = set()
    for state in variables.values():
        shared.add(state.shared)
        if state.kind is Kind.TRAINED and not state.fresh:
            parts.add(state.shared.rpartition('/')[2])
    surplus = set()
    for name in source.values:
        layer = split_name(name)[1]
        scope, _, part = layer.rpartition('/')
        detached = not set(detachable).isdisjoint(scope.split('/'))
        if part in parts and layer not in shared and not detached:
            surplus.add(layer)
    if surplus:
        raise UsageError(
            f'{flag}: the checkpoint has {min(surplus)} (and {len(surplus) - 1} more), the network '
            f'asked for has not: another depth, mode or network; {source.describe()}'
        )


def _reason(lost: Mapping[str, State], flag: str) -> str:
    """Says which kind of variables is missing."""
    more = len(lost) - 1
    kinds = set()
    sizes = set()
    of_all = []  # trained variables that all operating points use
    for name, state in lost.items():
        kinds.add(state.kind)
        if state.point:
            sizes.add(Point.parse(state.point).size or 0)
        elif state.kind is Kind.TRAINED:
            of_all.append(name)
    first = next(iter(lost))
    if kinds == {Kind.QUANTIZER}:
        return f'no quantizer state for {first.rpartition("/")[0]} (and {more} more)'
    known = sorted(sizes - {0}, reverse=True)
    if known and not of_all:
        hint = f' ({BORROW})' if flag.startswith('-e') else ''
        return f'no statistics for size {" ".join(map(str, known))}{hint}'
    named = of_all[0] if of_all else first
    return f'no variable {named} (and {more} more): another depth, mode or network'
