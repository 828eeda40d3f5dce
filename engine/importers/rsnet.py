"""Checkpoints of the published RS-Nets quantization code (TensorFlow), by our names.

Its files say nothing about their network but names and shapes, from which bits and classes follow.
Those of our own code without a run folder are read by the same rules.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from engine.runs.checkpoint import Checkpoint

# Start of the published names.
_ROOT = 'imagenet/'

# Published name -> ours, applied in order. The moving-average shadows carry their whole scope
# twice.
_RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'^(?:.*/)?imagenet/', ''),
    (r'/bn-(preact|last)(\d+)/bn/', lambda m: f'/bn_{m[1]}/s{int(m[2])}/'),
    (r'/bn(\d+)/', lambda m: f'/bn/s{int(m[1])}/'),
    (r'/ActivationQuantization/', '/'),
)


def from_published(name: str) -> str | None:
    """Our name of a variable of the published code; None for what is no part of the network.

    >>> from_published('imagenet/group0/block1/bn-preact096/bn/mean/EMA')
    'group0/block1/bn_preact/s96/mean/EMA'
    """
    if not name.startswith((_ROOT, 'alpha')):
        return None
    for pattern, ours in _RENAMES:
        name = re.sub(pattern, ours, name)
    return name


def read(prefix: str, values: Mapping[str, np.ndarray]) -> Checkpoint:
    """A checkpoint that has no configuration beside it.

    Args:
        prefix: where it was read.
        values: by the names in the file.
    """
    ours = dict(values)
    if any(name.startswith(_ROOT) for name in values):
        ours = {}
        for published, value in values.items():
            name = from_published(published)
            if name is not None:
                ours[name] = value
    weights, activations = _bits(ours)
    return Checkpoint(prefix, ours, None, weights, activations, _classes(ours))


def _bits(values: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Bits of the bases of weights and of activations; 32 where there are none, or several."""
    weights, activations = set(), set()
    for name, value in values.items():
        if name.endswith('/weight_quant/basis'):
            weights.add(len(value))
        elif name.endswith('/basis'):
            activations.add(len(value))
    return _only(weights), _only(activations)


def _only(bits: set[int]) -> int:
    return bits.pop() if len(bits) == 1 else 32


def _classes(values: Mapping[str, np.ndarray]) -> int:
    """Number of classes of the classifiers; 0 if there is none."""
    for name, value in values.items():
        if name.split('/')[-2:] == ['linear', 'b']:
            return len(value)
    return 0
