"""Published checkpoints of DS-Net: which network the tensors are of, and which widths have statistics."""

import collections
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.importers.dsnet_names import from_dsnet
from nets.backbones.slimmable import MOBILENETS, WIDTHS
from nets.layers.routing import SCOPE

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
    # Any width has all variables; those with statistics follow.
    return {
        'arch': arch,
        'width': width,
        'classes': len(bias),
        'stage': stage or 'supernet',
        'widths': () if stage == 'gate' else (0,),
    }


def name(published: str, *, gate: bool) -> str | None:
    """Our name of a published tensor, several of which can be rows of one variable; None for unused counters.

    Args:
        published: its name.
        gate: whether the network has a gate.

    Raises:
        ValueError: the name is no part of a DS-Net.
    """
    place = from_dsnet(published)
    return place.name if place and (gate or not place.name.startswith(SCOPE)) else None


def widths(path: str, values: Tensors) -> tuple[int, ...]:
    """Widths with statistics: those that are not 0 and 1 any more.

    The published calibration sets all of them to 0 and 1 and runs the uniform widths, so that the largest network has
    none afterwards.

    Args:
        path: of the file, for messages.
        values: by our name.

    Raises:
        UsageError: there are none.
    """
    means = [name for name in values if name.endswith('mean/EMA')]
    touched = [
        values[name].any(axis=1)
        | (values[name.replace('mean/EMA', 'variance/EMA')] != 1).any(axis=1)
        for name in means
    ]
    # Stages of two rows are wide in the largest network only.
    found = tuple(
        width
        for width in range(LARGEST + 1)
        if all(rows[width if len(rows) > 2 else int(width == LARGEST)] for rows in touched)
    )
    if not found:
        raise UsageError(f'{path}: no width has statistics; give a checkpoint of a trained network')
    return found


def _arch(path: str, names: Tensors) -> str:
    """The architecture of which these are names of the layers."""
    layers = {
        (int(m[1]), m[2])
        for text in names
        if (m := re.match(r'blocks\.(\d+)\.(first_block|residual_blocks\.\d+)\.', text))
    }
    counts = tuple(collections.Counter(stage for stage, _ in sorted(layers)).values())
    for arch, form in MOBILENETS.items():
        if tuple(stage.layers for stage in form.stages) == counts:
            return arch
    raise UsageError(
        f'{path}: no DS-Net has {" ".join(map(str, counts)) or "0"} layers in its stages'
    )
