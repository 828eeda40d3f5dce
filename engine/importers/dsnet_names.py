"""Names and layouts of the published DS-Net checkpoints."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.importers.names import convert

_LAYERS = {
    'conv_dw': 'depthwise',
    'conv_pw': 'pointwise',
    'bn1': 'depthwise/bn',
    'bn2': 'pointwise/bn',
    'gate.conv_reduce': 'se/reduce',
    'gate.conv_expand': 'se/expand',
}
_FIXED = {
    'conv_stem': 'conv0',
    'bn1': 'conv0/bn',
    'classifier': 'linear',
    'blocks.3.first_block.gate.gate.0': 'slimming_gate',
}
_BLOCK = r'blocks\.(\d+)\.(?:first_block|residual_blocks\.(\d+))\.(.+)'
_AFFINE = {'weight': 'gamma', 'bias': 'beta'}
_STATISTICS = {'running_mean': 'mean/EMA', 'running_var': 'variance/EMA'}
_PLAIN = {'weight': 'W', 'bias': 'b'}


class Place(NamedTuple):
    """Where a published tensor goes: a variable of ours, and its row if that holds the statistics of all widths."""

    name: str
    row: int | None = None


def from_dsnet(name: str) -> Place | None:
    """The place of a published tensor, with or without the ``module.`` of DataParallel; None for unused counters.

    Raises:
        ValueError: the name is no part of a DS-Net.

    >>> from_dsnet('blocks.3.residual_blocks.0.bn2.aux_bn.7.running_var')
    Place(name='group3/block1/pointwise/bn/variance/EMA', row=7)
    >>> from_dsnet('module.conv_stem.weight')
    Place(name='conv0/W', row=None)
    """
    name = name.removeprefix('module.')
    if name.endswith('num_batches_tracked'):
        return None
    layer, _, leaf = name.rpartition('.')
    widths = re.fullmatch(r'(.+)\.aux_bn\.(\d+)', layer)
    scope = _scope(widths[1] if widths else layer)
    leaves = _AFFINE | _STATISTICS if widths else _PLAIN
    if scope is None or leaf not in leaves:
        raise ValueError(f'{name} is no part of a DS-Net')
    return Place(
        f'{scope}/{leaves[leaf]}', int(widths[2]) if widths and leaf in _STATISTICS else None
    )


def assemble(
    published: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """Published tensors by our name and in our layout.

    The published largest network shares the statistics of the widest uniform one in the last stages. Here they have
    a row each, and get the same values. Any other width that is not published keeps means of 0 and variances of 1, by
    which it is known to have no statistics.

    Args:
        published: tensors by published name.
        shapes: shapes of our variables by name; what is not among them (a gate that is not built) is left out.

    Raises:
        ValueError: a name or a shape does not fit.
    """
    values, rows = {}, []
    for name, value in published.items():
        place = from_dsnet(name)
        if place is None or place.name not in shapes:
            continue
        if place.row is None:
            values[place.name] = convert(value, place.name, shapes[place.name])
        else:
            rows.append((place.name, place.row, value))
    found, there = tables(rows, shapes), {(name, row) for name, row, _ in rows}
    for name, table in found.items():
        if len(table) > 2 and (name, len(table) - 1) not in there:
            table[-1] = table[-2]
    return values | found


def tables(
    rows: Iterable[tuple[str, int, np.ndarray]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """Statistics of all widths by name of their variable, from those of single widths.

    Args:
        rows: (name of the variable, row, the values of the active channels).
        shapes: shapes of the variables.

    Raises:
        ValueError: a row does not fit.
    """
    found: dict[str, np.ndarray] = {}
    for name, row, value in rows:
        if name not in found:
            found[name] = np.full(shapes[name], float(name.endswith('variance/EMA')), 'float32')
        if row >= len(found[name]) or value.ndim != 1 or len(value) > found[name].shape[1]:
            raise ValueError(
                f'{name}: row {row} of {list(value.shape)} does not fit {list(shapes[name])}'
            )
        found[name][row, : len(value)] = value
    return found


def _scope(layer: str) -> str | None:
    if layer in _FIXED:
        return _FIXED[layer]
    block = re.fullmatch(_BLOCK, layer)
    if not block or block[3] not in _LAYERS:
        return None
    return f'group{block[1]}/block{int(block[2]) + 1 if block[2] else 0}/{_LAYERS[block[3]]}'
