"""Networks, their operating points, their losses, their cost. Know no files and no training loop.

Importing this package does not import TensorFlow; building a network does.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

from quant.spelling import unknown

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


def names() -> list[str]:
    """Networks that can be built."""
    return sorted(_NETS)


def get(name: str) -> Any:
    """The class of a network.

    Raises:
        ValueError: no network of that name.
    """
    if name not in _NETS:
        raise ValueError(f'network {name!r} is {unknown(name, names())}')
    return _load(_NETS[name])


def options(name: str) -> list[str]:
    """Names of the options that a network alone, or some of them, have."""
    return [field.name for field in dataclasses.fields(get(name).Options)]


def create(
    name: str,
    *,
    arch: str,
    mode: str,
    sizes: Sequence[int],
    classes: int,
    width: float = 1.0,
    **options: Any,
) -> Any:
    """A new network.

    Args:
        name: one of ``names()``.
        arch: architecture of its backbone.
        mode: form of the blocks, where there are several.
        sizes: input sizes in pixels.
        classes: number of classes.
        width: factor on all channel counts.
        **options: fields of its ``Options`` that differ from their defaults.

    Raises:
        ValueError: no network of that name, or it refuses a value.
    """
    network = get(name)
    return network(
        arch=arch,
        mode=mode,
        sizes=sizes,
        classes=classes,
        width=width,
        options=network.Options(**options),
    )


def at_precisions(network: Any, bits: Sequence[int], options: Any = None) -> Any:
    """The network at several precisions; as it is without any.

    Args:
        network: a network.
        bits: that name the precisions, most bits first.
        options: a ``nets.precisions.PrecisionOptions``; None for the defaults.
    """
    if not bits:
        return network
    from nets.precisions import Precisions

    return Precisions(network, bits, options)


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
    raise ValueError(f'arch {arch!r} is {unknown(arch, archs())}')


def _load(path: str) -> Any:
    module, _, cls = path.rpartition('.')
    return getattr(importlib.import_module(module), cls)
