"""Presets and defaults of all families, see ``engine.families``."""

from typing import Any

from engine import families
from engine.data import datasets
from engine.data.spec import DatasetSpec

PRESETS = families.presets()


def data_defaults(net: str, dataset: str | DatasetSpec) -> dict[str, Any]:
    """Values that a data set changes in the defaults, for this network.

    Args:
        net: name of the network.
        dataset: it, or its name as a run records it; nothing is changed for one that is not known.
    """
    spec = dataset if isinstance(dataset, DatasetSpec) else datasets.SPECS.get(dataset)
    return families.get(net).data_defaults(spec) if spec else {}


def network_defaults(net: str, arch: str) -> dict[str, Any]:
    """Published settings of a network that was only ever defined in PyTorch or Torch.

    Nothing for the others.
    """
    return families.get(net).defaults(arch)
