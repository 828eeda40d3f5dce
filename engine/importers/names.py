"""Names and layouts of the published PyTorch networks."""

import math
import re
from collections.abc import Sequence

import numpy as np

from engine.importers.checks import misfit

# Kind of network -> what it is called. ``rsnet`` includes the plain ResNets of torchvision, which
# have one size.
KINDS = {'rsnet': 'an RS-Net', 'san': 'a SAN', 'aig': 'a ConvNet-AIG', 'msdnet': 'an MSDNet'}

_STATISTICS = {
    'weight': 'gamma',
    'bias': 'beta',
    'running_mean': 'mean/EMA',
    'running_var': 'variance/EMA',
}

_STORED = {'weight': 'W', 'bias': 'b'}
_GENERATED = {'weight': 'slope', 'bias': 'offset'}

# Normalisations of networks with one size; the others have one per position, bn_0, bn_1 ...
_ONE_SIZE = (
    r'(^|\.)bn\d$|\.fc1bn$|\.(downsample|shortcut)\.1$|\.net\.[14]$|^blocks\.0\.0\.layers\.0\.1$'
)

_FIXED = {
    'fc': 'linear',
    'classifier': 'linear',
    'linear': 'linear',
    'conv1': 'conv0',
    'bn1': 'conv0',
    'features.0.0': 'conv0',
    'features.0.1': 'conv0',
    'features.0.fc': 'conv0',
    'features.0.bn': 'conv0',
    'conv.0': 'conv_last',
    'conv.1': 'conv_last',
    'conv.fc': 'conv_last',
    'conv.bn': 'conv_last',
}

# Layers of a residual block beside conv1, bn1 ...: projections, and the gates of ConvNet-AIG.
_RESIDUAL = {f'{name}.{i}': 'convshortcut' for name in ('downsample', 'shortcut') for i in (0, 1)}
_GATES = {'fc1': 'gate1', 'fc1bn': 'gate1', 'fc2': 'gate2'}

# Layers of an inverted residual by index of its published sequence; the first block of the network
# has no expansion.
_INVERTED = {0: 'expand', 1: 'expand', 3: 'depthwise', 4: 'depthwise', 6: 'project', 7: 'project'}
_FIRST = {0: 'depthwise', 1: 'depthwise', 3: 'project', 4: 'project'}

# MSDNet: (a convolution or its normalisation, our scope). A block begins with the stem (block 0
# only) and holds layers and transitions, whose maps are numbered from the finest one that survives.
_MSDNET = (
    (r'blocks\.0\.0\.layers\.(\d+)\.net\.[01]', r'stem/map\1'),
    (r'blocks\.0\.0\.layers\.0\.[01]', 'stem/map0'),
    (
        r'blocks\.(\d+)\.(\d+)\.layers\.(\d+)\.conv_(normal|down)\.net\.[01]',
        r'block\1/layer\2/map\3/\4/conv1',
    ),
    (
        r'blocks\.(\d+)\.(\d+)\.layers\.(\d+)\.conv_(normal|down)\.net\.[34]',
        r'block\1/layer\2/map\3/\4/conv2',
    ),
    (r'blocks\.(\d+)\.(\d+)\.m\.(\d+)\.net\.[01]', r'block\1/transition\2/map\3'),
    (r'classifier\.(\d+)\.m\.0\.net\.[01]', r'head\1/conv1'),
    (r'classifier\.(\d+)\.m\.1\.net\.[01]', r'head\1/conv2'),
    (r'classifier\.(\d+)\.linear', r'head\1/linear'),
)

# What a checkpoint stores and no network uses: counters, and the projections that SAN replaces by
# generated ones.
_UNUSED = r'num_batches_tracked$'
_UNUSED_BY_SAN = r'\.downsample\.'


def from_pytorch(name: str, *, arch: str, kind: str, sizes: Sequence[int]) -> str | None:
    """Our name of a published tensor; None for what no network uses.

    The ``module.`` of DataParallel, in front of all names, is expected to be taken off.

    Args:
        name: such as ``layer1.0.conv1.module.weight``.
        arch: architecture by our name.
        kind: one of ``KINDS``.
        sizes: input sizes by position.

    Raises:
        ValueError: the name is no part of such a network, or of a position without a size.

    >>> from_pytorch('layer2.0.bn3.bn_1.running_var', arch='resnet18', kind='san', sizes=(224, 192))
    'group1/block0/convshortcut/bn/s192/variance/EMA'
    >>> from_pytorch('layer1.0.fc1bn.weight', arch='resnet50', kind='aig', sizes=(224,))
    'group0/block0/gate1/bn/s224/gamma'
    >>> name = 'blocks.1.2.layers.0.conv_down.net.3.weight'
    >>> from_pytorch(name, arch='msdnet', kind='msdnet', sizes=(32,))
    'block1/layer2/map0/down/conv2/W'
    """
    if re.search(_UNUSED, name) or (kind == 'san' and re.search(_UNUSED_BY_SAN, name)):
        return None
    if name == 'alpha' and kind == 'rsnet':
        return name
    layer, _, leaf = name.rpartition('.')
    layer = layer.removesuffix('.module')
    private, position = re.fullmatch(r'(.*)\.bn_(\d+)', layer), 0
    if private:
        layer, position = private[1], int(private[2])
    scope = _scope(layer, arch, kind)
    if scope is None or leaf not in _STATISTICS:
        raise ValueError(f'{name} is no part of {KINDS[kind]} {arch}')
    if private or re.search(_ONE_SIZE, layer):
        if position >= len(sizes):
            raise ValueError(f'{name}: position {position}, but there are {len(sizes)} sizes')
        return f'{scope}/bn/s{sizes[position]}/{_STATISTICS[leaf]}'
    leaves = _STORED
    if kind == 'san' and re.search(r'\bfc\d*$', layer) and scope != 'linear':
        leaves = _GENERATED
    return f'{scope}/{leaves.get(leaf, leaves["bias"])}'


def _scope(layer: str, arch: str, kind: str) -> str | None:
    """Scope of a layer or of its normalisation from the published name of its module."""
    if kind == 'msdnet':
        for pattern, scope in _MSDNET:
            if match := re.fullmatch(pattern, layer):
                return match.expand(scope)
        return None
    if layer in _FIXED:
        return _FIXED[layer]
    if block := re.fullmatch(r'layer(\d+)\.(\d+)\.(.+)', layer):
        part = _residual_part(block[3], arch, kind)
        return part and f'group{int(block[1]) - 1}/block{block[2]}/{part}'
    if block := re.fullmatch(r'features\.(\d+)\.(.+)', layer):
        part = _inverted_part(block[2], first=block[1] == '1')
        return part and f'block{int(block[1]) - 1}/{part}'
    return None


def _residual_part(module: str, arch: str, kind: str) -> str | None:
    """Layer of a residual block; None if it has no such module."""
    if module in _RESIDUAL:
        return _RESIDUAL[module]
    if kind == 'aig' and module in _GATES:
        return _GATES[module]
    numbered = re.fullmatch(r'(?:conv|bn|fc)(\d)', module)
    if numbered is None:
        return None
    # The generated projections of a SAN are numbered behind the layers of the block.
    layers = 2 if arch in ('resnet18', 'resnet34') else 3
    if kind == 'san' and int(numbered[1]) > layers:
        return 'convshortcut'
    return f'conv{numbered[1]}'


def _inverted_part(module: str, *, first: bool) -> str | None:
    """Layer of an inverted residual; the first block of a network has no expansion."""
    if indexed := re.fullmatch(r'conv\.(\d)', module):
        return (_FIRST if first else _INVERTED).get(int(indexed[1]))
    if numbered := re.fullmatch(r'(?:fc|bn)(\d)', module):
        parts = ('depthwise', 'project') if first else ('expand', 'depthwise', 'project')
        if int(numbered[1]) <= len(parts):
            return parts[int(numbered[1]) - 1]
    return None


def convert(value: np.ndarray, name: str, shape: Sequence[int]) -> np.ndarray:
    """A published tensor in our layout.

    Kernels come as (out, in / groups, k, k), depthwise ones as (C, 1, k, k), generated ones as flat
    vectors of that order; fully connected weights as (out, in), or those of gates as
    (out, in, 1, 1).

    Args:
        value: the published tensor.
        name: our name of it.
        shape: our shape of it.

    Raises:
        ValueError: it has another shape.
    """
    accepted = _published_shapes(name, tuple(shape))
    if value.shape not in accepted:
        raise ValueError(
            f'{name}: {list(value.shape)} does not fit {list(shape)}, '
            f'{misfit(value.shape, accepted)}'
        )
    if len(shape) == 2:
        return np.ascontiguousarray(value.reshape(tuple(shape)[::-1]).T)
    if len(shape) < 4:
        return value.reshape(shape)
    height, width, inputs, outputs = shape
    if _is_depthwise(name):
        return value.reshape(inputs, 1, height, width).transpose(2, 3, 0, 1).copy()
    return value.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0).copy()


def _is_depthwise(name: str) -> bool:
    return name.split('/')[-2] == 'depthwise'


def _published_shapes(name: str, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes that published tensors have which become a variable of ours.

    Args:
        name: of the variable.
        shape: of the variable.
    """
    if len(shape) == 2:
        inputs, outputs = shape
        return [(outputs, inputs), (outputs, inputs, 1, 1)]
    if len(shape) < 4:
        return [shape]
    if name.rpartition('/')[2] in _GENERATED.values():
        count = math.prod(shape)
        return [(count, 1), (count,)]
    height, width, inputs, outputs = shape
    if _is_depthwise(name):
        return [(inputs, 1, height, width)]
    return [(outputs, inputs, height, width)]
