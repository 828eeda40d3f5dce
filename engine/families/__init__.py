"""One file per family of networks: all that the engine knows of it beside the network.

Importing this package imports no TensorFlow. What a family brings from rooms above this one
(evaluators, callbacks) it names by its path, which is imported when it is asked for.
"""

import functools
from collections.abc import Callable
from typing import Any

from engine.families.family import Family, Preset, load
from quant import specs

# Name on the command line -> class. A network that is not listed gets the answers of ``Family``.
_FAMILIES = {
    'rsnet': 'engine.families.rsnet.RSNetFamily',
    'san': 'engine.families.san.SANFamily',
    'aig': 'engine.families.aig.AIGFamily',
    'msdnet': 'engine.families.msdnet.MSDNetFamily',
    'dsnet': 'engine.families.dsnet.DSNetFamily',
}


@functools.cache
def get(net: str) -> Family:
    """The family of a network, by its name on the command line."""
    if net not in _FAMILIES:
        return Family(net)
    return load(_FAMILIES[net])(net)


@functools.cache
def presets() -> dict[str, Preset]:
    """The presets of all families by name, and for any network those of methods by theirs."""
    found: dict[str, Preset] = {}
    for net in _FAMILIES:
        found.update(get(net).presets)
    for name in specs.names():
        recipe = specs.recipe(name)
        if recipe is not None:
            found[name] = Preset(**vars(recipe))
    return found


@functools.cache
def importers() -> list[Any]:
    """Readers of published checkpoints, of all families that have such."""
    return [get(net).importer for net in _FAMILIES if get(net).importer_path]


def reader() -> Callable[..., Any]:
    """Reads a checkpoint that has no configuration beside it: (prefix, values) -> checkpoint."""
    paths = [get(net).reader_path for net in _FAMILIES]
    return load(next(filter(None, paths)))
