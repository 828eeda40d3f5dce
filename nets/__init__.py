"""Networks, their operating points, their losses, their cost. Know no files and no training loop.

Importing this package does not import TensorFlow; building a network does.
"""

import importlib
from typing import Any

KD_TYPES = ('ens_topdown', 'ens')

# Name on the command line -> class. One line per network.
_NETS = {'resnet': 'nets.resnet.ResNet'}


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
    module, _, cls = _NETS[name].rpartition('.')
    return getattr(importlib.import_module(module), cls)
