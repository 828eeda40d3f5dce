"""One exported file in one runtime, in a process of its own, see ``turns``.

    python -m scripts.bench.deploy_process RUNTIME FILE NUMBER SIDE

A process of its own shows what a program that does nothing else needs: processor time until its
first answer, and memory.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.deployment import runtimes
from engine.deployment.runtimes import COMPILED, Loaded
from scripts.bench import turns


def prepared(argv: Sequence[str]) -> tuple[Mapping[str, Any], Callable[[], Any]]:
    """Nothing to say of a file, and a function that answers for a random image."""
    runtime, file, number, side = argv
    edge = int(side)
    run = loaded(runtime, Path(file)).at(int(number), edge)
    image = np.random.default_rng(0).integers(256, size=(1, edge, edge, 3), dtype=np.uint8)
    return {}, lambda: run(image)


def loaded(runtime: str, path: Path) -> Loaded:
    """A file in a runtime with one thread."""
    if runtime == COMPILED:
        from engine.deployment import native_runtimes

        return native_runtimes.load(path, runtime, threads=1)
    return runtimes.load(runtime, path.read_bytes(), str(path), threads=1)


if __name__ == '__main__':
    # After the turn of another process nothing of this one is in the caches of the processor.
    turns.serve(lambda: prepared(sys.argv[1:]), again=True)
