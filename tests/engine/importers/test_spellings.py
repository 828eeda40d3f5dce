"""MobileNetV2 as torchvision and timm spell it has the tensors of a published one of one size."""

import numpy as np
import pytest

from engine.importers import spellings

# Blocks by stage of the network.
STAGES = (1, 2, 3, 4, 3, 3, 1)
BN = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def published() -> set[str]:
    """Names of a published network of one size, from its description."""
    found = set()

    def layer(convolution, norm):
        found.add(f'{convolution}.module.weight')
        found.update(f'{norm}.bn_0.{leaf}' for leaf in BN)

    layer('features.0.0', 'features.0.1')
    for block in range(1, 18):
        for number in (0, 3) if block == 1 else (0, 3, 6):
            layer(f'features.{block}.conv.{number}', f'features.{block}.conv.{number + 1}')
    layer('conv.0', 'conv.1')
    return found | {'classifier.module.weight', 'classifier.module.bias'}


def torchvision() -> set[str]:
    found = {'classifier.1.weight', 'classifier.1.bias'}

    def layer(convolution, norm):
        found.add(f'{convolution}.weight')
        found.update(f'{norm}.{leaf}' for leaf in BN)

    layer('features.0.0', 'features.0.1')
    for block in range(1, 18):
        start = f'features.{block}.conv'
        layer(f'{start}.0.0', f'{start}.0.1')
        if block > 1:
            layer(f'{start}.1.0', f'{start}.1.1')
        last = 1 if block == 1 else 2
        layer(f'{start}.{last}', f'{start}.{last + 1}')
    layer('features.18.0', 'features.18.1')
    return found


def timm() -> set[str]:
    found = {'classifier.weight', 'classifier.bias'}

    def layer(convolution, norm):
        found.add(f'{convolution}.weight')
        found.update(f'{norm}.{leaf}' for leaf in BN)

    layer('conv_stem', 'bn1')
    for stage, blocks in enumerate(STAGES):
        parts = ('conv_pw', 'conv_dw', 'conv_pwl') if stage else ('conv_dw', 'conv_pw')
        for block in range(blocks):
            for number, part in enumerate(parts, 1):
                start = f'blocks.{stage}.{block}'
                layer(f'{start}.{part}', f'{start}.bn{number}')
    layer('conv_head', 'bn2')
    return found


@pytest.mark.parametrize('names', [torchvision, timm])
def test_every_name_has_its_place(names):
    tensors = {name: np.zeros(1) for name in names()}
    found = spellings.respelled(tensors)
    assert set(found) == published()
    assert len(found) == len(tensors)


def test_other_networks_are_left_alone():
    for name in ('layer1.0.conv1.weight', 'features.1.conv.0.module.weight', 'blocks.0.0.x.weight'):
        assert spellings.respelled({name: np.zeros(1)}) is None
