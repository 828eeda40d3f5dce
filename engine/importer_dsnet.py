"""Published checkpoints of DS-Net: which network the tensors are of, and which widths have statistics."""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.errors import UsageError
from nets.dsnet_names import assemble, from_dsnet
from nets.slimnets import MOBILENETS, WIDTHS

# The largest network: beyond the uniform widths.
LARGEST = WIDTHS

Tensors = Mapping[str, np.ndarray]


def options(path: str, tensors: Tensors, *, arch: str | None, stage: str | None) -> dict[str, Any]:
    """Fields of ``Config`` that these tensors, by PyTorch names, tell.

    Args:
        path: of the file, for messages.
        tensors: by published name.
        arch: architecture; None for the one whose layers these are.
        stage: None for the supernet, as every file holds weights of a gate, trained or not.

    Raises:
        UsageError: they are of no DS-Net.
    """
    stem, bias = tensors.get('conv_stem.weight'), tensors.get('classifier.bias')
    if stem is None or bias is None:
        raise UsageError(f'{path}: holds no complete DS-Net (conv_stem.weight and classifier.bias)')
    arch = arch or _arch(path, tensors)
    width = len(stem) / MOBILENETS[arch].stem.choices[-1] if arch in MOBILENETS else 1.0
    return {'arch': arch, 'width': width, 'classes': len(bias), 'stage': stage or 'supernet'}


def name(published: str) -> str | None:
    """Our name of a published tensor, several of which can be rows of one variable; None for unused counters.

    Raises:
        ValueError: the name is no part of a DS-Net.
    """
    place = from_dsnet(published)
    return place.name if place else None


def values(tensors: Tensors, shapes: Mapping[str, Sequence[int]]) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Arrays in our layout by our name, and the widths with statistics.

    The published calibration sets all statistics to 0 and 1 and then runs the uniform widths, so that the largest
    network has none afterwards.

    Args:
        tensors: by published name.
        shapes: of our variables by name.

    Raises:
        ValueError: a name or a shape does not fit.
    """
    found = assemble(tensors, shapes)
    untouched = [_untouched(found[mean], found[mean.replace('mean/EMA', 'variance/EMA')])
                 for mean in found if mean.endswith('mean/EMA')]
    return found, tuple(width for width in range(LARGEST + 1)
                        # Stages of two rows are wide in the largest network only.
                        if not any(rows[width if len(rows) > 2 else int(width == LARGEST)] for rows in untouched))


def _untouched(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """[rows] whether the statistics of a width are still 0 and 1."""
    return ~(mean.any(axis=1) | (variance != 1).any(axis=1))


def _arch(path: str, names: Tensors) -> str:
    """The architecture of which these are names of the layers."""
    layers = {(int(m[1]), m[2]) for text in names
              if (m := re.match(r'blocks\.(\d+)\.(first_block|residual_blocks\.\d+)\.', text))}
    counts = tuple(collections.Counter(stage for stage, _ in sorted(layers)).values())
    for arch, form in MOBILENETS.items():
        if tuple(stage.layers for stage in form.stages) == counts:
            return arch
    raise UsageError(f'{path}: no DS-Net has {" ".join(map(str, counts)) or "0"} layers in its stages')
