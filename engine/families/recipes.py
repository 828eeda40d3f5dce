"""Recipes that several families share: of the PyTorch codes, and of the embedded images."""

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

MEASURED = 'measured table in the README'
