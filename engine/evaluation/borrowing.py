"""Evaluation of sizes without statistics of their own: from which sizes they take them."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine import families
from engine.config.config import Config
from engine.errors import UsageError
from engine.runs import checkpoint, matching
from engine.runs.checkpoint import Checkpoint
from engine.runs.untrained_sizes import lend, nearest, neighbours
from quant.state import Kind, State


@dataclasses.dataclass(frozen=True)
class Borrowed:
    """Statistics that some of the evaluated sizes take from trained ones.

    Attributes:
        lenders: trained sizes by evaluated size: one, or two to interpolate between.
        kernels: whether a size computes with the kernels of its lender, too.
        moving: second checkpoint, whose moving mean and variance are taken instead
            (``--fix_mean_var``), or None.
    """

    lenders: Mapping[int, tuple[int, ...]]
    kernels: bool = True
    moving: Checkpoint | None = None

    def names(self) -> dict[int, str]:
        """Statistics that each borrowing size uses, as records spell them."""
        found = {}
        for size, lenders in self.lenders.items():
            name = '+'.join(f's{lender}' for lender in lenders)
            if not self.kernels and len(lenders) == 1:
                name += '-ideal'
            if self.moving:
                name += '-moving'
            found[size] = name
        return found


def check(source: Checkpoint, config: Config, untrained: str | None, eos: int | None) -> None:
    """Checks that there are statistics of what is evaluated, or flags that say whose to take.

    Args:
        source: the checkpoint, as ``checkpoint.recorded`` has it or read.
        config: as of ``borrow``.
        untrained: likewise.
        eos: likewise.

    Raises:
        UsageError: there are none.
    """
    missing = [size for size in config.sizes if size not in source.sizes]
    if eos is not None and eos not in source.sizes:
        raise UsageError(f'-eos {eos}: no statistics for size {eos}; {source.describe()}')
    if missing and eos is None and untrained is None:
        raise UsageError(
            f'-es {_spelled(config.sizes)}: no statistics for size {_spelled(missing)} '
            f'({matching.BORROW}); {source.describe()}'
        )


def borrow(
    source: Checkpoint,
    config: Config,
    *,
    untrained: str | None,
    eos: int | None,
    fix_mean_var: bool,
    epoch: int | None,
) -> Borrowed:
    """Follows ``--untrained``, ``-eos`` and ``--fix_mean_var``.

    Args:
        source: the checkpoint.
        config: narrowed to the sizes that are evaluated.
        untrained: ``proxy`` runs a size with the statistics (and generated kernels) of the nearest
            trained one, ``ideal`` with its own generated kernels and the statistics of the nearest
            one, ``interpolate`` with its own kernels and statistics between those of the two
            neighbours.
        eos: lender of all sizes.
        fix_mean_var: take moving means and variances from the checkpoint of the tested size.
        epoch: of that checkpoint; None is the last.

    Raises:
        UsageError: a size has no statistics and nothing says what to take, or the flags do not fit
            together.
    """
    check(source, config, untrained, eos)
    missing = [size for size in config.sizes if size not in source.sizes]
    lenders: dict[int, tuple[int, ...]] = {}
    if eos is not None:
        lenders = dict.fromkeys(config.sizes, (eos,))
    elif untrained == 'interpolate':
        for size in missing:
            lenders[size] = neighbours(size, source.trained)
    else:
        for size in missing:
            lenders[size] = (nearest(size, source.trained),)
    kernels = families.get(config.net).lends_kernels(untrained)
    if not fix_mean_var:
        return Borrowed(lenders, kernels)
    return Borrowed(lenders, kernels, _moving(source, config, eos, epoch))


def variable_values(
    source: Checkpoint,
    variables: Mapping[str, State],
    borrowed: Borrowed,
    detachable: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Values of the variables of an inference graph.

    Args:
        source: the checkpoint.
        variables: shapes by name.
        borrowed: what some sizes take from others.
        detachable: scopes of layers that the checkpoint may have beside.

    Raises:
        UsageError: the checkpoint lacks a size or anything else that the network needs.
    """
    lent = lend(source.values, variables, borrowed.lenders)
    lending = dataclasses.replace(source, values=source.values | lent)
    values = matching.select(lending, variables, flag='-ec', detachable=detachable)
    if borrowed.moving is not None:
        moving = {name: one for name, one in variables.items() if one.kind is Kind.MOVING}
        values |= matching.select(borrowed.moving, moving, flag='--fix_mean_var', partial=True)
    return values


def _moving(source: Checkpoint, config: Config, eos: int | None, epoch: int | None) -> Checkpoint:
    """The second checkpoint of ``--fix_mean_var``, at the path with the tested size for ``eos``.

    Raises:
        UsageError: there is no one size to put in the place of ``eos``, or no ``eos`` in the path.
    """
    if eos is None or len(config.sizes) != 1:
        raise UsageError('--fix_mean_var: needs -eos and one size in -es')
    here = str(Path(source.prefix).parent)
    path = replace_number(here, eos, config.sizes[0])
    if path == here:
        raise UsageError(
            f'--fix_mean_var: {here} has no {eos} in its path to put {config.sizes[0]} in place of'
        )
    return checkpoint.read(checkpoint.find(path, epoch, '--fix_mean_var'), flag='--fix_mean_var')


def replace_number(text: str, old: int, new: int) -> str:
    """``text`` with a number in place of another, wherever that stands as a whole number.

    Args:
        text: to change.
        old: the number to look for.
        new: the number to put there.

    >>> replace_number('runs/2240-224', 224, 160)
    'runs/2240-160'
    """
    parts = []
    for digits, group in itertools.groupby(text, str.isdigit):
        part = ''.join(group)
        if digits and part == str(old):
            part = str(new)
        parts.append(part)
    return ''.join(parts)


def _spelled(sizes: Sequence[int]) -> str:
    return ' '.join(map(str, sizes))
