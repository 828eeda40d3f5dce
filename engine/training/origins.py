"""Where the variables of a network start that is not the one that is loaded."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from tabulate import tabulate

from engine.config.config import Config
from engine.quantities import counted
from engine.runs.checkpoint import Checkpoint
from nets.points import Point, split_name
from quant.state import Kind, State

SAME = 'the same there'
OF_QUANTIZERS = 'fresh: from the loaded weights and a first batch'


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where one variable starts.

    Attributes:
        value: its value; None starts afresh.
        lender: name of the variable that it is from; empty without one.
        words: for the user.
    """

    value: np.ndarray | None
    lender: str
    words: str


# Name of a variable without the scope of its operating point -> its name by point.
_Index = Mapping[str, Mapping[Point, str]]


def find(source: Checkpoint, here: Mapping[str, State], config: Config) -> dict[str, Origin]:
    """Where each variable starts, by name.

    What belongs to an operating point that the checkpoint has not starts as that of the nearest
    input size.

    Args:
        source: the checkpoint.
        here: declarations of the network, by name.
        config: of the network.
    """
    index: dict[str, dict[Point, str]] = {}
    for name in source.values:
        point, shared = split_name(name)
        index.setdefault(shared, {})[point] = name
    found = {}
    for name, state in here.items():
        lender = name
        if name not in source.values:
            lender = _lender(name, state, index, max(source.sizes, default=0))
        found[name] = _origin(name, state, lender, source, config)
    return found


def _lender(name: str, state: State, index: _Index, size: int) -> str:
    """Name of the variable that stands for one of another input size; empty without one.

    Args:
        name: of the variable.
        state: its declaration.
        index: what the checkpoint has.
        size: of a checkpoint whose operating points do not say it.
    """
    point, shared = split_name(name)
    if not state.point or not index.get(shared):
        return ''
    best, nearest = '', None
    for other, found in index[shared].items():
        if dataclasses.replace(other, size=point.size) != point:
            continue
        # Of two as near the smaller one, as in SAN's code.
        gap = abs((other.size or size) - (point.size or size)), other.size or size
        if nearest is None or gap < nearest:
            best, nearest = found, gap
    return best


def _origin(name: str, state: State, lender: str, source: Checkpoint, config: Config) -> Origin:
    """Where a variable starts.

    Args:
        name: of it.
        state: its declaration.
        lender: name of the variable of the checkpoint that stands for it; empty without one.
        source: the checkpoint.
        config: of the network.
    """
    if lender:
        value = source.values[lender]
        if value.shape == state.shape:
            words = SAME
            if lender != name:
                words = f'that of {split_name(lender)[0] or "the one size there"}'
            return Origin(value, lender, words)
        if state.kind is not Kind.QUANTIZER:
            return Origin(None, '', f'fresh: {_misfit(value.shape, state, source, config)}')
    if state.kind is Kind.QUANTIZER:
        return Origin(None, '', OF_QUANTIZERS)
    return Origin(None, '', 'fresh: not there')


def _misfit(shape: tuple[int, ...], state: State, source: Checkpoint, config: Config) -> str:
    """Says why a value of a shape does not fit.

    Args:
        shape: of the value.
        state: declaration of the variable.
        source: the checkpoint.
        config: of the network.
    """
    inner = shape[:-1] == state.shape[:-1]
    ends = shape[-1:], state.shape[-1:]
    if inner and ends == ((source.classes,), (config.classes,)):
        return f'{counted(source.classes, "class")} there, {config.classes} here'
    return f'{list(shape)} there, {list(state.shape)} here'


def share(here: Mapping[str, State], found: Mapping[str, Origin]) -> float:
    """Share of the parameters that have a start, of those that none of several classes need.

    Args:
        here: declarations by name.
        found: where they start.
    """
    total, taken = 0, 0
    for name, state in here.items():
        if state.kind is not Kind.TRAINED or state.fresh or 'classes' in found[name].words:
            continue
        count = int(np.prod(state.shape))
        total += count
        if found[name].value is not None:
            taken += count
    return taken / total if total else 1.0


def table(source: Checkpoint, here: Mapping[str, State], found: Mapping[str, Origin]) -> str:
    """A table of the variables that were taken, of the fresh ones, and why.

    Args:
        source: the checkpoint.
        here: declarations by name.
        found: where they start.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, origin in found.items():
        groups.setdefault((_part(name, here[name], origin), origin.words), []).append(name)
    rows = []
    for (part, words), names in _joined(groups).items():
        numbers = sum(int(np.prod(here[name].shape)) for name in names)
        rows.append([part, len(names), f'{numbers:,}', words])
    used = {origin.lender for origin in found.values()}
    unused = [name for name in source.values if name not in used and _is_layer(name)]
    text = tabulate(rows, ['start of', 'variables', 'numbers', f'from {source.prefix}'])
    if unused:
        text += f'\nnot used: {counted(len(unused), "variable")} there, such as {unused[0]}'
    return text


def _is_layer(name: str) -> bool:
    """Whether a variable is a kernel, or the weight of a normalisation."""
    return name.rpartition('/')[2] in ('W', 'gamma') or name.endswith('.weight')


def _part(name: str, state: State, origin: Origin) -> str:
    """The part of a network that a variable is told of with."""
    if state.kind in (Kind.QUANTIZER, Kind.TRAINING):
        return 'quantizers'
    if origin.words == SAME:
        return 'layers'
    if state.point:
        return f'normalisation {state.point}'
    return name.partition('/')[0]


def _joined(groups: Mapping[tuple[str, str], list[str]]) -> dict[tuple[str, str], list[str]]:
    """Groups with the parts that have the same origin in one row."""
    by_words: dict[str, list[tuple[str, list[str]]]] = {}
    for (part, words), names in groups.items():
        by_words.setdefault(words, []).append((part, names))
    found = {}
    for words, members in by_words.items():
        parts = [part for part, _ in members]
        short = [parts[0], *(part.removeprefix('normalisation ') for part in parts[1:])]
        text = ' '.join(short)
        if len(text) > 40:
            text = f'{parts[0]} ... {short[-1]}'
        found[text, words] = [name for _, names in members for name in names]
    return found
