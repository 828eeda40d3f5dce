"""Codes of a few bits each in bytes."""

import numpy as np


def packing(bits: int) -> tuple[int, int]:
    """Bytes that are unpacked together, and codes in them: as few bits as can be lie idle.

    >>> packing(2), packing(3), packing(5)
    ((1, 4), (3, 8), (2, 3))
    """
    ways = [(size, 8 * size // bits) for size in (1, 2, 3)]
    return max(ways, key=lambda way: (way[1] * bits / way[0], -way[0]))


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes in groups of bytes, the first code and the first byte in the lowest bits.

    Args:
        codes: uint8 [codes].
        bits: of each.

    Returns:
        uint8 [groups, bytes].
    """
    size, count = packing(bits)
    groups = -(-codes.size // count)
    padded = np.zeros(groups * count, np.int64)
    padded[: codes.size] = codes
    shifts = bits * np.arange(count)
    numbers = (padded.reshape(groups, count) << shifts).sum(axis=1)  # [groups]
    found = numbers[:, None] >> (8 * np.arange(size))
    return (found & 255).astype(np.uint8)
