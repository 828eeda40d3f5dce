"""Statistics for input sizes that were never trained: borrowed from a trained size, or interpolated between two."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import UsageError

UNTRAINED = ('proxy', 'ideal', 'interpolate')


def nearest(size: int, trained: Sequence[int]) -> int:
    """The trained size next to ``size``; of two as near, the smaller one, as in SAN's proxy inference."""
    return min(sorted(trained), key=lambda other: abs(other - size))


def neighbours(size: int, trained: Sequence[int]) -> tuple[int, int]:
    """The trained sizes below and above ``size``.

    Raises:
        UsageError: there are none on both sides.
    """
    below, above = [s for s in trained if s <= size], [s for s in trained if s >= size]
    if not below or not above:
        raise UsageError(
            f'--untrained interpolate: {size} does not lie between two of the trained sizes '
            f'{" ".join(map(str, trained))}; use --untrained proxy, or scripts/calibrate.py'
        )
    return max(below), min(above)


def lend(
    values: Mapping[str, np.ndarray], size: int, lenders: Sequence[int]
) -> dict[str, np.ndarray]:
    """Variables of ``size`` (normalisation and private quantizers) from those of one or two trained sizes.

    With two lenders, affine parameters, means and variances are linear in the size between them (SAN's data-free
    inference shifts by half of the distance); the bases of quantizers are those of the nearer one.
    """
    below, above = min(lenders), max(lenders)
    share = (size - below) / (above - below) if above > below else 0.0
    near = nearest(size, lenders)
    lent = {}
    for name, value in values.items():
        if not re.search(rf'/s{near}/', name):
            continue
        target = name.replace(f'/s{near}/', f'/s{size}/')
        if re.search(r'/(gamma|beta|EMA)$', name):
            low, high = (
                values[name.replace(f'/s{near}/', f'/s{other}/')] for other in (below, above)
            )
            value = ((1 - share) * low + share * high).astype(value.dtype)
        lent[target] = value
    return lent
