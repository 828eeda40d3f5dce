"""Published PyTorch files of random tensors, with names and shapes of RS-Nets and SAN."""

import re
from collections import OrderedDict
from pathlib import Path

import numpy as np

from tests.engine.importers.torch_format import of, write


def norm(name: str, channels: int, positions: int) -> dict[str, tuple[int, ...]]:
    """Private normalisations, one per position; their counters are no part of the model."""
    leaves = {
        'weight': (channels,),
        'bias': (channels,),
        'running_mean': (channels,),
        'running_var': (channels,),
        'num_batches_tracked': (),
    }
    return {
        f'{name}.bn_{i}.{leaf}': shape for i in range(positions) for leaf, shape in leaves.items()
    }


def resnet18(positions: int, classes: int, *, san: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by published name.

    SAN stores projections that it never uses beside those it generates.
    """
    shapes = {'conv1.module.weight': (64, 3, 7, 7), **norm('bn1', 64, positions)}
    inputs = 64
    for layer, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            kernels = {1: (channels, inputs, 3, 3), 2: (channels, channels, 3, 3)}
            scope, projected = f'layer{layer}.{block}', inputs != channels
            if san and projected:
                kernels[3] = (channels, inputs, 1, 1)
            for n, kernel in kernels.items():
                shapes |= (
                    _generated(f'{scope}.fc{n}', kernel)
                    if san
                    else {f'{scope}.conv{n}.module.weight': kernel}
                )
                shapes |= norm(f'{scope}.bn{n}', channels, positions)
            if projected:
                shapes |= {
                    f'{scope}.downsample.0.module.weight': (channels, inputs, 1, 1),
                    **norm(f'{scope}.downsample.1', channels, positions),
                }
            inputs = channels
    shapes |= {'fc.module.weight': (classes, 512), 'fc.module.bias': (classes,)}
    return shapes if san else {'alpha': (positions,), **shapes}


def _generated(name: str, kernel: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    count = int(np.prod(kernel))
    return {f'{name}.weight': (count, 1), f'{name}.bias': (count,)}


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Values that give moderate logits: kernels small, scales and variances positive."""
    rng = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith('num_batches_tracked'):
            return np.asarray(7, '<i8')
        if name.endswith('running_var') or '.bn_' in name and name.endswith('weight'):
            return rng.uniform(0.5, 1.5, shape).astype('<f4')
        deviation = 0.1 if len(shape) < 2 and '.fc' not in name else 0.02
        return (deviation * rng.standard_normal(shape, 'float32')).astype('<f4')

    return {name: draw(name, shape) for name, shape in shapes.items()}


def write_published(
    path: Path, tensors: dict[str, np.ndarray], *, arch: str | None, form: str = 'zip'
) -> Path:
    """What the published codes save: DataParallel's prefix, state of the optimizer, accuracy."""
    state = OrderedDict(
        {
            f'module.{name}': of(value, 'Long' if value.dtype.kind == 'i' else 'Float')
            for name, value in tensors.items()
        }
    )
    momentum = {0: {'momentum_buffer': of(np.ones(3))}}
    content = {
        'epoch': 120,
        'state_dict': state,
        'best_acc1': 71.5,
        'optimizer': {'state': momentum, 'param_groups': [{'lr': 0.1, 'params': [0]}]},
    }
    return write(path, form, content | ({} if arch is None else {'arch': arch}))


def torchvision18(classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the ResNet-18 of torchvision."""
    found = {}
    for name, shape in resnet18(1, classes, san=False).items():
        if name != 'alpha':
            found[re.sub(r'\.module(?=\.)|\.bn_0(?=\.)', '', name)] = shape
    return found
