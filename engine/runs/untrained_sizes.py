"""Statistics for input sizes that were never trained: those of a trained size, or between two."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import UsageError
from nets.points import Point, renamed
from quant.state import Kind, State


def nearest(size: int, trained: Sequence[int]) -> int:
    """The trained size next to ``size``; of two as near, the smaller one, as in SAN's code."""
    return min(sorted(trained), key=lambda other: abs(other - size))


def neighbours(size: int, trained: Sequence[int]) -> tuple[int, int]:
    """The trained sizes below and above ``size``.

    Raises:
        UsageError: there are none on both sides.
    """
    below = [other for other in trained if other <= size]
    above = [other for other in trained if other >= size]
    if not below or not above:
        raise UsageError(
            f'--untrained interpolate: {size} does not lie between two of the trained sizes '
            f'{" ".join(map(str, trained))}; use --untrained proxy, or scripts/calibrate.py'
        )
    return max(below), min(above)


def lend(
    values: Mapping[str, np.ndarray],
    variables: Mapping[str, State],
    lenders: Mapping[int, Sequence[int]],
) -> dict[str, np.ndarray]:
    """Values of what operating points of some sizes have for themselves, from trained sizes.

    With two lenders, affine parameters, means and variances are linear in the size between them
    (SAN's data-free inference shifts by half of the distance); the state of quantizers is that of
    the nearer one. Whatever the lender lacks is left out.

    Args:
        values: of a checkpoint, by name.
        variables: declarations of the network that is going to use them, by name.
        lenders: one or two trained sizes by size that borrows.
    """
    lent = {}
    for name, state in variables.items():
        point = Point.parse(state.point) if state.point else Point()
        if point.size is None or point.size not in lenders:
            continue
        found = {}
        for size in lenders[point.size]:
            other = renamed(name, point, dataclasses.replace(point, size=size))
            if other in values:
                found[size] = values[other]
        if len(found) == len(set(lenders[point.size])):
            lent[name] = _lent(found, point.size, state.kind)
    return lent


def lend_bits(
    values: Mapping[str, np.ndarray], variables: Mapping[str, State], trained: Sequence[int]
) -> dict[str, np.ndarray]:
    """Affine parameters of operating points of other bits, from those of the nearest precision.

    Of two as near that of more bits. Statistics and quantizers of other bits are no use.

    Args:
        values: of a checkpoint, by name.
        variables: declarations of the network that is going to use them, by name.
        trained: bits of the precisions that were trained.
    """
    lent = {}
    for name, state in variables.items():
        point = Point.parse(state.point) if state.point else Point()
        if state.kind is not Kind.TRAINED or point.bits is None or name in values:
            continue
        bits = _nearest_bits(point.bits, trained)
        other = renamed(name, point, dataclasses.replace(point, bits=bits))
        if other in values:
            lent[name] = values[other]
    return lent


def _nearest_bits(bits: int, trained: Sequence[int]) -> int:
    return min(sorted(trained, reverse=True), key=lambda other: abs(other - bits))


def _lent(found: Mapping[int, np.ndarray], size: int, kind: Kind) -> np.ndarray:
    """The value at ``size`` of a variable that has the values ``found`` at one or two others."""
    below, above = min(found), max(found)
    if kind is Kind.QUANTIZER or below == above:
        return found[nearest(size, list(found))]
    share = (size - below) / (above - below)
    between = (1 - share) * found[below] + share * found[above]
    return between.astype(found[below].dtype)
