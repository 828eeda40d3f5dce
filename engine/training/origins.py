"""Finds a start for each variable of a network in a checkpoint of another network (``--load``)."""

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


def find(
    source: Checkpoint, there: Mapping[str, State], here: Mapping[str, State], config: Config
) -> dict[str, Origin]:
    """Where each variable starts, by name.

    What belongs to an operating point that the checkpoint has not starts as that of the nearest
    input size, and there of the nearest bits.

    Args:
        source: the checkpoint.
        there: declarations of its network, by name; empty where it is not known.
        here: declarations of the network.
        config: of the network.
    """
    known = _Known(source, there, config)
    found = {}
    for name, state in here.items():
        found[name] = _origin(name, state, known.lender(name, state), source, config)
    return found


class _Known:
    """The variables of a checkpoint, by what they would be for any operating point.

    Args:
        source: the checkpoint.
        there: declarations of its network.
        config: of the network that starts from it.
    """

    def __init__(self, source: Checkpoint, there: Mapping[str, State], config: Config):
        self._values = source.values
        self._there = there
        # Of a checkpoint, and of a network, whose operating points do not say them.
        self._size = max(source.sizes, default=0)
        self._bits = source.qw
        self._own_bits = config.qw
        self._index: dict[str, dict[Point, str]] = {}
        for name in source.values:
            point, shared = split_name(name)
            self._index.setdefault(shared, {})[point] = name

    def lender(self, name: str, state: State) -> str:
        """Name of the variable that one starts from; empty without one.

        Args:
            name: of the variable that starts.
            state: its declaration.
        """
        if name in self._values and self._serves(name, state):
            return name
        point, shared = split_name(name)
        best, nearest = '', None
        for other, found in self._index.get(shared, {}).items():
            # What all sizes share is nothing of one of them.
            size = point.size if state.point else other.size
            if dataclasses.replace(other, size=size, bits=point.bits) != point:
                continue
            gap = self._gap(point, other)
            if self._serves(found, state) and (nearest is None or gap < nearest):
                best, nearest = found, gap
        return best

    def _gap(self, point: Point, other: Point) -> tuple[int, ...]:
        """How far an operating point of the checkpoint is from one of the network."""
        size, bits = other.size or self._size, other.bits or self._bits
        sizes_apart = abs(size - (point.size or self._size))
        bits_apart = abs(bits - (point.bits or self._own_bits))
        # Of two as near the smaller one, as in SAN's code.
        return sizes_apart, bits_apart, size, bits

    def _serves(self, name: str, state: State) -> bool:
        """Whether a variable of the checkpoint is no quantizer's of other bits than ours."""
        there = self._there.get(name)
        if there is not None and state.bits not in (0, there.bits):
            return False
        others = dataclasses.replace(split_name(name)[0], size=None) != Point()
        if state.kind is Kind.QUANTIZER and (others or Point.within(state.point).bits):
            return self._values[name].shape == state.shape
        return True


def _origin(name: str, state: State, lender: str, source: Checkpoint, config: Config) -> Origin:
    """Where a variable starts.

    Args:
        name: of the variable.
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
                words = f'that of {split_name(lender)[0] or _only(state)}'
            return Origin(value, lender, words)
        if state.kind is not Kind.QUANTIZER:
            return Origin(None, '', f'fresh: {_misfit(value.shape, state, source, config)}')
    if state.kind is Kind.QUANTIZER:
        return Origin(None, '', OF_QUANTIZERS)
    return Origin(None, '', 'fresh: not there')


def _only(state: State) -> str:
    """The operating point of a checkpoint whose variables do not say it, in words."""
    if Point.within(state.point).size is None:
        return 'the one precision there'
    return 'the one size there'


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
