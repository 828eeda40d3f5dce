"""Files that choose in a runtime: what follows a choice is prepared when an image first takes it.

Otherwise a runtime prepares all branches, and keeps the kernels that each of them cuts: a network
that chooses among four widths took twice the time and memory of its widest.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from engine.deployment.cutting import Cut, Part

# Arrays of a part by name: those that it gives, of those that it takes among others; they are valid
# until the next call of the same thread.
Execute = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

# Prepares a part.
Prepare = Callable[[Part], Execute]

_EVERY = contextvars.ContextVar('_EVERY', default=False)


@contextlib.contextmanager
def every_way() -> Iterator[None]:
    """A block in which an image takes every way, so that no later one waits for its own."""
    before = _EVERY.set(True)
    try:
        yield
    finally:
        _EVERY.reset(before)


class Choosing:
    """A part that is cut at its choice, made between runs of the parts; any thread may call it.

    Args:
        cut: the part.
        prepare: prepares one as a whole.
    """

    def __init__(self, cut: Cut, prepare: Prepare):
        self._condition, self._outputs = cut.condition, cut.outputs
        self._prepare = prepare
        self._head = prepare(cut.head)
        # What is not prepared yet: kernels of the rest need not be kept.
        self._ways = dict(cut.ways)
        self._branches: dict[bool, Execute] = {}
        self._lock = threading.Lock()

    def __call__(self, given: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        values = {**given, **self._head(given)}
        taken = bool(values[self._condition].item())
        if _EVERY.get():
            self._branch(not taken, values)(values)
        found = {**values, **self._branch(taken, values)(values)}
        return {name: found[name] for name in self._outputs}

    def _branch(self, taken: bool, values: Mapping[str, np.ndarray]) -> Execute:
        """The way that follows.

        Args:
            taken: whether the condition is true.
            values: what is handed on, by name; that of other images has its types and shapes.
        """
        with self._lock:
            if taken not in self._branches:
                part = self._ways[taken].told(values)
                cut = part.cut()
                if cut is None:
                    self._branches[taken] = self._prepare(part)
                else:
                    self._branches[taken] = Choosing(cut, self._prepare)
                del self._ways[taken]
            return self._branches[taken]
