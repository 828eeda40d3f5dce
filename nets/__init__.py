"""Networks, their operating points, their losses, their cost. Know no files and no training loop.

Importing this package does not import TensorFlow; building a network does.
"""

import importlib
import inspect
from typing import Any

# Name on the command line -> class. One line per network.
_NETS = {
    'aig': 'nets.aig.AIG',
    'dsnet': 'nets.dsnet.DSNet',
    'msdnet': 'nets.msdnet.MSDNet',
    'rsnet': 'nets.rsnet.RSNet',
    'san': 'nets.san.SAN',
}

# Start of an architecture's name -> class of the backbone.
_BACKBONES = {
    'resne': 'nets.backbones.resnet.ResNet',
    'mobilenetv2': 'nets.backbones.mobilenet.MobileNetV2',
}

# What their options can be, by network where it differs.
KD_TYPES = {'rsnet': ('ens_topdown', 'ens', 'none'), 'san': ('topdown',), 'msdnet': ('topdown',)}
STARTS = {'san': ('published', 'scaled'), 'msdnet': ('original', 'torch')}
RATE_LOSSES = ('batch', 'class')
PRUNES = ('max', 'min')
STEPMODES = ('even', 'lin_grow')
STAGES = ('supernet', 'gate')


def names() -> list[str]:
    """Networks that can be built."""
    return sorted(_NETS)


def get(name: str) -> Any:
    """The class of a network.

    Raises:
        ValueError: no network of that name.
    """
    if name not in _NETS:
        raise ValueError(f'network {name!r} is unknown; there are {", ".join(names())}')
    return _load(_NETS[name])


def options(name: str) -> list[str]:
    """Names of what the constructor of a network takes."""
    return list(inspect.signature(get(name)).parameters)


def archs() -> list[str]:
    """Architectures of all backbones."""
    modules = (importlib.import_module(path.rpartition('.')[0]) for path in _BACKBONES.values())
    return [arch for module in modules for arch in module.ARCHS]


def backbone(arch: str) -> Any:
    """The class of a backbone: it maps one input to logits and knows no operating points.

    Raises:
        ValueError: no architecture of that name.
    """
    for start, path in _BACKBONES.items():
        if arch.startswith(start):
            return _load(path)
    raise ValueError(f'arch {arch!r} is unknown; there are {", ".join(archs())}')


def _load(path: str) -> Any:
    module, _, cls = path.rpartition('.')
    return getattr(importlib.import_module(module), cls)
