"""Architectures whose kernels are like those of a checkpoint."""

import collections
import math
from collections.abc import Iterable

import nets
from engine.config.config import Config
from engine.errors import UsageError
from engine.graph.inference import InferenceModel
from engine.runs.checkpoint import Checkpoint
from nets.backbones import slimmable

# How many are named, and the share of the parameters that they have in common at least.
COUNT, LEAST = 3, 0.01

# Shape of a kernel -> how many there are.
_Shapes = collections.Counter[tuple[int, ...]]


def text(source: Checkpoint, config: Config) -> str:
    """A sentence that names the nearest architectures and the parameters that they share.

    Args:
        source: the checkpoint.
        config: of the network that was asked for.
    """
    wanted = _kernels(value.shape for value in source.values.values())
    candidates = sorted({*archs(), config.arch})
    print(f'{source.prefix}: comparing with {len(candidates)} architectures', flush=True)
    found = []
    for arch in candidates:
        shapes = _shapes(arch, config)
        if shapes is not None:
            found.append((_overlap(wanted, shapes), arch))
    found.sort(key=lambda one: -one[0])
    nearest = [f'--arch {arch} ({share:.0%})' for share, arch in found if share >= LEAST]
    if not nearest:
        return 'no architecture here has kernels of its shapes'
    return f'nearest by the shapes of its kernels: {", ".join(nearest[:COUNT])}'


def archs() -> tuple[str, ...]:
    """Architectures of the backbones of all networks."""
    return (*nets.archs(), *slimmable.ARCHS)


def _shapes(arch: str, config: Config) -> _Shapes | None:
    """Kernels of a float network at one size; None where the network has no such architecture."""
    size = config.sizes[-1:]
    try:
        there = Config.from_values(
            net=config.net, arch=arch, mode=_mode(arch, config), sizes=size, width=config.width
        )
        variables, _ = InferenceModel(there, data_format='NHWC').inspect()
    except (UsageError, ValueError):
        return None
    return _kernels(state.shape for state in variables.values())


def _mode(arch: str, config: Config) -> str:
    """The mode that was asked for, or the one that an architecture has."""
    try:
        config.replacing(arch=arch).network()
    except ValueError:
        return 'pytorch'
    return config.mode


def _kernels(shapes: Iterable[tuple[int, ...]]) -> _Shapes:
    return collections.Counter(tuple(shape) for shape in shapes if len(shape) == 4)


def _overlap(one: _Shapes, other: _Shapes) -> float:
    """Share of the parameters that two sets of kernels have in common, of the larger set."""
    larger = max(_numbers(one), _numbers(other), 1)
    return _numbers(one & other) / larger


def _numbers(shapes: _Shapes) -> int:
    total = 0
    for shape, count in shapes.items():
        total += count * math.prod(shape)
    return total
