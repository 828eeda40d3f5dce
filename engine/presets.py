"""Whole recipes by name, with the published number they aim at, and the defaults that follow from the data set."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named recipe: field values of ``Config``.

    Attributes:
        values: what it sets; an explicit flag beats it.
        expect: the number to expect and where it was read.
    """

    values: dict[str, Any]
    expect: str


_README = 'top-1 at 224/192/160/128/96 in the quantization table of the RS-Nets README (yikaiw/RS-Nets)'
_RS = {'sizes': (224, 192, 160, 128, 96), 'kd': True, 'batch_size': 256, 'steps_per_epoch': 5000, 'epochs': 120,
       'lr': 0.1, 'wd': 5e-5, 'schedule': 'step', 'warmup': 0.0, 'resize': 'nearest'}
_SMALL = {'mode': 'preact', 'depth': 8, 'sizes': (28, 24, 20, 16, 12), 'kd': True, 'data': 'animals28',
          'private_basis': True}

PRESETS = {
    'rs18_w2a32': Preset({**_RS, 'depth': 18, 'mode': 'resnet', 'qw': 2},
                         f'68.8/67.6/66.0/63.1/56.6; {_README}'),
    'rs18_w2a2': Preset({**_RS, 'depth': 18, 'mode': 'preact', 'qw': 2, 'qa': 2},
                         f'65.8/64.8/62.9/59.3/52.5; {_README}'),
    'rs50_w2a32': Preset({**_RS, 'depth': 50, 'mode': 'resnet', 'qw': 2},
                         f'76.0/75.1/73.8/71.7/67.3; {_README}'),
    'rs50_w2a2': Preset({**_RS, 'depth': 50, 'mode': 'preact', 'qw': 2, 'qa': 2},
                         f'74.0/73.1/71.4/68.9/63.4; {_README}'),
    'demo': Preset({**_SMALL, 'epochs': 4}, 'about 95 at every size in float; measured table in the README'),
    'study': Preset({**_SMALL, 'epochs': 15}, 'about 97 at every size in float; measured table in the README'),
}

# What a small data set changes in the defaults of Config. ImageNet-style folders keep the published recipe.
_SMALL_IMAGES = {'batch_size': 64, 'lr': 0.05, 'schedule': 'cosine', 'warmup': 0.5, 'wd': 2e-4, 'resize': 'area'}
_CIFAR = {**_SMALL_IMAGES, 'depth': 20, 'epochs': 100, 'lr': 0.1, 'batch_size': 128}
DATA_DEFAULTS = {
    'animals28': {**_SMALL_IMAGES, 'depth': 8, 'sizes': (28, 24, 20, 16, 12), 'epochs': 5},
    'cifar10': {**_CIFAR, 'sizes': (32, 28, 24, 20, 16)},
    'cifar100': {**_CIFAR, 'sizes': (32, 28, 24, 20, 16)},
}
