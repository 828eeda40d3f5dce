"""Names and layouts of the published PyTorch networks (RS-Nets float, SAN): what an importer needs."""

import re
from collections.abc import Sequence

import numpy as np

_STATISTICS = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'mean/EMA', 'running_var': 'variance/EMA'}

# Layers of an inverted residual by index of its published sequence; the first block of the network has no expansion.
_INVERTED = {0: 'expand', 1: 'expand', 3: 'depthwise', 4: 'depthwise', 6: 'project', 7: 'project'}
_FIRST = {0: 'depthwise', 1: 'depthwise', 3: 'project', 4: 'project'}

# What a checkpoint stores and no network uses: counters, and the projections that SAN replaces by generated ones.
_UNUSED = r'num_batches_tracked$'
_UNUSED_BY_SAN = _UNUSED + r'|\.downsample\.'


def from_pytorch(name: str, *, arch: str, san: bool, sizes: Sequence[int]) -> str | None:
    """Our name of a published tensor, without the ``module.`` of DataParallel; None for what no network uses.

    Args:
        name: such as ``layer1.0.conv1.module.weight``.
        arch: architecture by our name.
        san: whether it is a SAN, else an RS-Net.
        sizes: input sizes by position.

    Raises:
        ValueError: the name is no part of such a network, or of a position without a size.

    >>> from_pytorch('layer2.0.bn3.bn_1.running_var', arch='resnet18', san=True, sizes=(224, 192))
    'group1/block0/convshortcut/bn/s192/variance/EMA'
    """
    if re.search(_UNUSED_BY_SAN if san else _UNUSED, name):
        return None
    if name == 'alpha' and not san:
        return name
    layer, _, leaf = name.rpartition('.')
    layer = layer.removesuffix('.module')
    statistics = re.fullmatch(r'(.*)\.bn_(\d+)', layer)
    scope = _scope(statistics[1] if statistics else layer, arch, san)
    if scope is None or leaf not in _STATISTICS:
        raise ValueError(f'{name} is no part of {"a SAN" if san else "an RS-Net"} {arch}')
    if statistics:
        if int(statistics[2]) >= len(sizes):
            raise ValueError(f'{name}: position {statistics[2]}, but there are {len(sizes)} sizes')
        return f'{scope}/bn/s{sizes[int(statistics[2])]}/{_STATISTICS[leaf]}'
    if scope == 'linear':
        return f'linear/{"W" if leaf == "weight" else "b"}'
    if san and re.search(r'\bfc\d*$', layer):
        return f'{scope}/{"slope" if leaf == "weight" else "offset"}'
    return f'{scope}/W'


def _scope(layer: str, arch: str, san: bool) -> str | None:
    """Scope of a convolution or normalisation from the published name of its module."""
    fixed = {'fc': 'linear', 'classifier': 'linear', 'conv1': 'conv0', 'bn1': 'conv0',
             'features.0.0': 'conv0', 'features.0.1': 'conv0', 'features.0.fc': 'conv0', 'features.0.bn': 'conv0',
             'conv.0': 'conv_last', 'conv.1': 'conv_last', 'conv.fc': 'conv_last', 'conv.bn': 'conv_last'}
    if layer in fixed:
        return fixed[layer]
    if block := re.fullmatch(r'layer(\d+)\.(\d+)\.(?:(?:conv|bn|fc)(\d)|(downsample\.[01]))', layer):
        last = 2 if arch in ('resnet18', 'resnet34') else 3
        shortcut = block[4] or int(block[3]) > last
        return f'group{int(block[1]) - 1}/block{block[2]}/' + ('convshortcut' if shortcut else f'conv{block[3]}')
    if block := re.fullmatch(r'features\.(\d+)\.(?:conv\.(\d)|(?:fc|bn)(\d))', layer):
        first = block[1] == '1'
        if block[2]:
            part = (_FIRST if first else _INVERTED).get(int(block[2]))
        else:
            parts = ('depthwise', 'project') if first else ('expand', 'depthwise', 'project')
            part = parts[int(block[3]) - 1] if int(block[3]) <= len(parts) else None
        return f'block{int(block[1]) - 1}/{part}' if part else None
    return None


def convert(value: np.ndarray, name: str, shape: Sequence[int]) -> np.ndarray:
    """A published tensor in our layout.

    Kernels come as (out, in / groups, k, k), depthwise ones as (C, 1, k, k), generated ones as flat vectors of that
    order; fully connected weights as (out, in).

    Args:
        value: the published tensor.
        name: our name of it.
        shape: our shape of it.

    Raises:
        ValueError: the number of values does not fit.
    """
    if value.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f'{name}: {list(value.shape)} does not fit {list(shape)}')
    if len(shape) == 2:
        return np.ascontiguousarray(value.T)
    if len(shape) < 4:
        return value.reshape(shape)
    height, width, inputs, outputs = shape
    if name.split('/')[-2] == 'depthwise':
        return value.reshape(inputs, 1, height, width).transpose(2, 3, 0, 1).copy()
    return value.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0).copy()
