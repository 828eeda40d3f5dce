"""Finds codes and levels of quantized kernels in their values, of which a channel has few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.deployment.program import Codes, Constant, Floats

# Levels of a channel of a stored kernel: its codes have 8 bits at most.
MOST_LEVELS = 256


def coded(kernel: np.ndarray) -> Constant:
    """A kernel by codes, which give its very values back, or as it is where that takes less.

    Args:
        kernel: float32, output channels last.

    >>> kernel = coded(np.float32([[-1, 0.5], [1, 0.25], [1, 0.5]] * 9))
    >>> print(kernel.codes[:3].tolist(), kernel.levels.tolist(), kernel.stored_bits)
    [[0, 1], [1, 0], [1, 1]] [[-1.0, 0.25], [1.0, 0.5]] 184
    """
    columns = kernel.reshape(-1, kernel.shape[-1])  # [weights of a channel, C]
    found = []
    for column in columns.T:
        values = np.unique(column)
        if len(values) > MOST_LEVELS:
            return Floats(kernel)
        found.append(values)
    levels = _table(found)
    codes = np.empty(columns.shape, np.uint8)
    for channel, column in enumerate(columns.T):
        codes[:, channel] = np.searchsorted(levels[:, channel], column)
    by_codes = Codes(codes.reshape(kernel.shape), levels)
    as_it_is = Floats(kernel)
    if by_codes.stored_bits < as_it_is.stored_bits:
        return by_codes
    return as_it_is


def are_pairs(levels: np.ndarray) -> bool:
    """Whether every level [L, C] of a channel has one of the other sign, and none is in the middle.

    >>> are_pairs(np.float32([[-2], [-1], [1], [2]])), are_pairs(np.float32([[-1], [0], [1]]))
    (True, False)
    """
    return len(levels) % 2 == 0 and np.array_equal(levels, -levels[::-1])


def _table(found: Sequence[np.ndarray]) -> np.ndarray:
    """Levels [L, C] of channels, in pairs of both signs where these are no more.

    A channel that happens to use three levels of four has the fourth then, as the others have.

    Args:
        found: the levels of each channel, ascending.

    >>> print(_table([np.float32([-2, -1, 1, 2]), np.float32([-1, 3])]).T.tolist())
    [[-2.0, -1.0, 1.0, 2.0], [-3.0, -1.0, 1.0, 3.0]]
    """
    most = max(2, *(len(values) for values in found))
    pairs = [np.unique(np.abs(values)) for values in found]
    if most % 2 or max(map(len, pairs)) > most // 2:
        return _filled(found, most)
    above = _filled(pairs, most // 2)
    return np.concatenate([-above[::-1], above])


def _filled(found: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Levels [count, C] of channels with so many at most, which repeat their largest.

    Args:
        found: the levels of each channel, ascending.
        count: of levels.
    """
    levels = np.empty((count, len(found)), np.float32)
    for channel, values in enumerate(found):
        levels[:, channel] = values[-1]
        levels[: len(values), channel] = values
    return levels
