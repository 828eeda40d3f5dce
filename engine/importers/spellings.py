"""MobileNetV2 as torchvision and timm spell it, in the spelling of the published RS-Nets.

Their ResNets need nothing: RS-Nets were derived from them.
"""

import collections
import re
from collections.abc import Mapping

import numpy as np

ARCH = 'mobilenetv2'

# Parts of a block in their order, of the first block and of the others: (torchvision's convolution,
# its normalisation, timm's convolution, its normalisation, number in the published sequence).
_FIRST = (('0.0', '0.1', 'conv_dw', 'bn1', 0), ('1', '2', 'conv_pw', 'bn2', 3))
_OTHERS = (
    ('0.0', '0.1', 'conv_pw', 'bn1', 0),
    ('1.0', '1.1', 'conv_dw', 'bn2', 3),
    ('2', '3', 'conv_pwl', 'bn3', 6),
)
_LAST = 18


def respelled(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Tensors of a MobileNetV2 of one input size by their published names.

    None if they are none. What is unknown keeps its name.

    Args:
        tensors: by the names of torchvision or timm.
    """
    if 'features.1.conv.0.0.weight' in tensors:
        layers = _of_torchvision()
    elif 'blocks.0.0.conv_dw.weight' in tensors and 'blocks.1.0.conv_pwl.weight' in tensors:
        layers = _of_timm(tensors)
    else:
        return None
    found = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition('.')
        if layer in layers:
            name = f'{layers[layer]}.{leaf}'
        found[name] = value
    return found


def _of_torchvision() -> dict[str, str]:
    """Published name of a layer by torchvision's."""
    found = {
        'features.0.0': 'features.0.0.module',
        'features.0.1': 'features.0.1.bn_0',
        f'features.{_LAST}.0': 'conv.0.module',
        f'features.{_LAST}.1': 'conv.1.bn_0',
        'classifier.1': 'classifier.module',
    }
    for block in range(1, _LAST):
        place = f'features.{block}.conv'
        for convolution, norm, _, _, number in _parts(block):
            found[f'{place}.{convolution}'] = f'{place}.{number}.module'
            found[f'{place}.{norm}'] = f'{place}.{number + 1}.bn_0'
    return found


def _of_timm(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Published name of a layer by timm's, which counts blocks by stage."""
    found = {
        'conv_stem': 'features.0.0.module',
        'bn1': 'features.0.1.bn_0',
        'conv_head': 'conv.0.module',
        'bn2': 'conv.1.bn_0',
        'classifier': 'classifier.module',
    }
    counts: collections.Counter[int] = collections.Counter()
    for name in tensors:
        if match := re.match(r'blocks\.(\d+)\.(\d+)\.', name):
            stage, block = int(match[1]), int(match[2])
            counts[stage] = max(counts[stage], block + 1)
    number = 0
    for stage in sorted(counts):
        for block in range(counts[stage]):
            number += 1
            for _, _, convolution, norm, part in _parts(number):
                there, ours = f'blocks.{stage}.{block}', f'features.{number}.conv'
                found[f'{there}.{convolution}'] = f'{ours}.{part}.module'
                found[f'{there}.{norm}'] = f'{ours}.{part + 1}.bn_0'
    return found


def _parts(block: int) -> tuple[tuple[str, str, str, str, int], ...]:
    """Parts of a block by its number, from 1."""
    return _FIRST if block == 1 else _OTHERS
