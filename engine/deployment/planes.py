"""Codes as bit planes, the most significant first, and codes that several kernels share.

Where one kernel has the values of another one in finer steps, as networks of several precisions
have, the codes of the coarse one are the leading bits of those of the fine one: its first planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.deployment.program import Codes

# Rows of a kernel by which most of those that share no codes are told.
FIRST_ROWS = 64


def bits_of(levels: int) -> int:
    """Planes of codes that stand for so many levels.

    >>> bits_of(2), bits_of(3), bits_of(4), bits_of(256)
    (1, 2, 2, 8)
    """
    return (levels - 1).bit_length()


def to_planes(codes: np.ndarray, bits: int) -> list[bytes]:
    """The planes of codes, the most significant first.

    Args:
        codes: uint8 of any shape.
        bits: of each.

    >>> [plane.hex() for plane in to_planes(np.uint8([0, 1, 2, 3, 3]), 2)]
    ['1c', '1a']
    """
    flat = codes.reshape(-1)
    found = []
    for place in reversed(range(bits)):
        plane = (flat >> place) & 1
        found.append(np.packbits(plane, bitorder='little').tobytes())
    return found


def from_planes(planes: Sequence[bytes], count: int) -> np.ndarray:
    """Codes uint8 [count] of their leading planes; all of them, or the first ones.

    >>> from_planes(to_planes(np.uint8([0, 1, 2, 3, 3]), 2)[:1], 5).tolist()
    [0, 0, 1, 1, 1]
    """
    codes = np.zeros(count, np.uint8)
    for plane in planes:
        packed = np.frombuffer(plane, np.uint8)
        codes <<= 1
        codes |= np.unpackbits(packed, count=count, bitorder='little')
    return codes


class Shared(NamedTuple):
    """Codes of one kernel or of several.

    Attributes:
        codes: uint8 of the kernels' shape, those of the finest kernel.
        bits: of the finest codes.
        tables: levels [L, C] float32 by name of the kernel, which takes the first planes.
    """

    codes: np.ndarray
    bits: int
    tables: dict[str, np.ndarray]


def shared(kernels: Mapping[str, Codes]) -> list[Shared]:
    """Kernels by the codes that they share.

    Args:
        kernels: by name.
    """
    found: list[Shared] = []
    by_shape: dict[tuple[int, ...], list[int]] = {}
    # Coarse kernels first: each finer one refines what is there.
    for name in sorted(kernels, key=lambda one: _steps(kernels[one])):
        kernel = kernels[name]
        alike = by_shape.setdefault(kernel.shape, [])
        refined = _first((_refined(found[place], name, kernel), place) for place in alike)
        if refined is None:
            alike.append(len(found))
            bits = bits_of(len(kernel.levels))
            found.append(Shared(kernel.codes, bits, {name: kernel.levels}))
        else:
            one, place = refined
            found[place] = one
    return found


def _steps(kernel: Codes) -> int:
    """Levels that the weights of all channels have."""
    used = np.zeros(kernel.levels.shape, bool)
    used[kernel.codes, np.arange(kernel.shape[-1])] = True
    return int(used.sum())


def _first(tried: Iterable[tuple[Shared | None, int]]) -> tuple[Shared, int] | None:
    for found, place in tried:
        if found is not None:
            return found, place
    return None


def _refined(coarse: Shared, name: str, kernel: Codes) -> Shared | None:
    """Codes of which those of a coarse kernel are the leading bits; None where there are none.

    Args:
        coarse: that kernel, or several.
        name: of another kernel.
        kernel: this one, of the same shape and no fewer levels.
    """
    channels = kernel.shape[-1]
    before = coarse.codes.reshape(-1, channels)  # [weights of a channel, C]
    codes = kernel.codes.reshape(-1, channels)
    if _parents(before[:FIRST_ROWS], codes[:FIRST_ROWS], len(kernel.levels)) is None:
        return None
    parents = _parents(before, codes, len(kernel.levels))
    if parents is None:
        return None
    children, more = _children(parents)
    # Codes of their own would take no more.
    if more >= bits_of(len(kernel.levels)):
        return None
    table = _table(children, kernel.levels, 2 ** (coarse.bits + more))
    finer = children[codes, np.arange(channels)].astype(np.uint8)
    tables = {**coarse.tables, name: table}
    return Shared(finer.reshape(kernel.shape), coarse.bits + more, tables)


def _parents(before: np.ndarray, codes: np.ndarray, levels: int) -> np.ndarray | None:
    """The coarse code that goes with each level of a channel, int64 [L, C]; -1 of unused ones.

    None where a level goes with several coarse codes.

    Args:
        before: coarse codes, [weights of a channel, C].
        codes: fine codes, [weights of a channel, C].
        levels: that these stand for.
    """
    channels = np.arange(codes.shape[1])
    found = np.full((levels, len(channels)), -1, np.int64)
    found[codes, channels] = before
    if not np.array_equal(found[codes, channels], before):
        return None
    return found


def _children(parents: np.ndarray) -> tuple[np.ndarray, int]:
    """The fine code of each level, int64 [L, C], -1 of unused ones; bits that it has more.

    Args:
        parents: coarse code of each level, see ``_parents``.
    """
    places = np.zeros(parents.shape, np.int64)  # among the levels of a coarse code
    channels = np.arange(parents.shape[1])
    # Levels so far, by coarse code. Those that were learned need not be in the order of the codes.
    counts = np.zeros((int(parents.max()) + 1, len(channels)), np.int64)
    for level, parent in enumerate(parents):
        used = parent >= 0
        places[level, used] = counts[parent[used], channels[used]]
        counts[parent[used], channels[used]] += 1
    more = bits_of(int(places.max()) + 1)
    return np.where(parents >= 0, (parents << more) + places, -1), more


def _table(codes: np.ndarray, levels: np.ndarray, count: int) -> np.ndarray:
    """Levels by code, [count, C] float32, of which unused ones repeat a neighbour.

    Args:
        codes: of each level, [L, C]; -1 of unused ones.
        levels: [L, C].
        count: of codes.
    """
    found = np.full((count, levels.shape[1]), np.nan, np.float32)
    for level, places in enumerate(codes):
        (used,) = np.nonzero(places >= 0)
        found[places[used], used] = levels[level, used]
    for place in range(1, count):
        missing = np.isnan(found[place])
        found[place, missing] = found[place - 1, missing]
    for place in reversed(range(count - 1)):
        missing = np.isnan(found[place])
        found[place, missing] = found[place + 1, missing]
    return found
