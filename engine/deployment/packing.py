"""Codes of a few levels each in bytes."""

import numpy as np


def packing(levels: int) -> tuple[int, int]:
    """Bytes that are unpacked together, and codes in them: as few bits as can be lie idle.

    >>> packing(3), packing(4), packing(8), packing(32)
    ((1, 5), (1, 4), (3, 8), (2, 3))
    """
    ways = [(size, _codes_in(size, levels)) for size in (1, 2, 3)]
    return max(ways, key=lambda way: (way[1] / way[0], -way[0]))


def _codes_in(size: int, levels: int) -> int:
    """How many codes of so many levels a number of ``size`` bytes holds."""
    count = 0
    while levels ** (count + 1) <= 256**size:
        count += 1
    return count


def pack(codes: np.ndarray, levels: int) -> np.ndarray:
    """Codes in groups of bytes, as digits of a number whose lowest digit and byte come first.

    Args:
        codes: uint8 [codes].
        levels: that each can stand for, at least 2: the base of the number.

    Returns:
        uint8 [groups, bytes].
    """
    size, count = packing(levels)
    groups = -(-codes.size // count)
    padded = np.zeros(groups * count, np.int64)
    padded[: codes.size] = codes
    places = levels ** np.arange(count)
    numbers = (padded.reshape(groups, count) * places).sum(axis=1)  # [groups]
    found = numbers[:, None] >> (8 * np.arange(size))
    return (found & 255).astype(np.uint8)
