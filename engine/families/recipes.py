"""Recipes that several families share.

Of the PyTorch codes, of small data sets, of the embedded images.
"""

from typing import Any

# Settings of the PyTorch codes (RS-Nets float, SAN) that reach the published numbers; SAN's own
# defaults do not.
PYTORCH: dict[str, Any] = {
    'mode': 'pytorch',
    'inputs': 'unit_rgb',
    'resize': 'antialias',
    'batch_size': 256,
    'epochs': 120,
    'lr': 0.1,
    'schedule': 'cosine',
    'warmup': 0.0,
    'wd': 1e-4,
    'decay': 'all',
    'nesterov': False,
}

# What a MobileNetV2 changes in it.
MOBILE: dict[str, Any] = {'epochs': 150, 'lr': 0.05, 'wd': 4e-5}

IMAGENET_SIZES = (224, 192, 160, 128, 96)

# A small network on the embedded images, at five sizes.
SMALL: dict[str, Any] = {
    'arch': 'resnet8',
    'sizes': (28, 24, 20, 16, 12),
    'kd': True,
    'data': 'animals28',
    'private_basis': True,
}

# What a small data set changes in the defaults of Config. ImageNet-style folders keep the published
# recipe.
_SMALL_IMAGES: dict[str, Any] = {
    'batch_size': 64,
    'lr': 0.05,
    'schedule': 'cosine',
    'warmup': 0.5,
    'wd': 2e-4,
    'resize': 'area',
}
_CIFAR: dict[str, Any] = {
    **_SMALL_IMAGES,
    'arch': 'resnet20',
    'sizes': (32, 28, 24, 20, 16),
    'epochs': 100,
    'lr': 0.1,
    'batch_size': 128,
}
DATA_DEFAULTS: dict[str, dict[str, Any]] = {
    'animals28': {
        **_SMALL_IMAGES,
        'arch': 'resnet8',
        'sizes': (28, 24, 20, 16, 12),
        'epochs': 5,
    },
    'cifar10': _CIFAR,
    'cifar100': _CIFAR,
}

MEASURED = 'measured table in the README'
