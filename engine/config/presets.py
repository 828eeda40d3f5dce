"""Presets and defaults of all families, see ``engine.families``."""

from typing import Any

from engine import families
from engine.families.recipes import DATA_DEFAULTS as DATA_DEFAULTS

PRESETS = families.presets()


def data_defaults(net: str, data: str) -> dict[str, Any]:
    """What a data set of small images changes in the defaults, for this network."""
    return families.get(net).data_defaults(data)


def network_defaults(net: str, arch: str) -> dict[str, Any]:
    """Published settings of a network that was only ever defined in PyTorch or Torch.

    Nothing for the others.
    """
    return families.get(net).defaults(arch)
