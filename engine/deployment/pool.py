"""The constants of a program in the making, each stored once."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.deployment.coding import coded
from engine.deployment.program import Constant, Floats, Part


class Constants(dict[str, Constant]):
    """A pool in the making, in which a value and the start of a value are found again."""

    def __init__(self) -> None:
        super().__init__()
        # By number of axes and first value, which a part and its whole have in common.
        self._values: dict[Any, dict[str, np.ndarray]] = {}

    def add(self, value: np.ndarray, name: str, *, kernel: bool = False) -> Part:
        """The part of the pool that has a value, which is added if there is none.

        Args:
            value: float32.
            name: that it is to get.
            kernel: whether it may be stored by codes.
        """
        value = np.ascontiguousarray(value, np.float32)
        corner = tuple(slice(extent) for extent in value.shape)
        first = value.ravel()[:1].tolist()
        alike = self._values.setdefault((value.ndim, *first), {})
        for known, whole in alike.items():
            if _contains(whole.shape, value.shape) and np.array_equal(whole[corner], value):
                return Part(known, value.shape)
        place = name
        while place in self:
            place = f'{place}+'
        alike[place] = value
        self[place] = Floats(value)
        if kernel:
            self[place] = coded(value)
        return Part(place, value.shape)


def _contains(whole: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """Whether an array of one shape can start with one of another."""
    if len(whole) != len(part):
        return False
    return all(extent <= full for extent, full in zip(part, whole))
