"""Lists of what there is to choose from, a line each: ``--list WHAT``."""

import inspect
from collections.abc import Callable
from typing import Any

import nets
from engine import families
from engine.data import datasets, folder
from engine.errors import UsageError
from engine.families.family import Family
from engine.optimization import optimizers, schedules
from quant import specs
from quant.spelling import unknown


def _summary(described: Any) -> str:
    """First line of a docstring, as the description of what has it."""
    documentation = inspect.getdoc(described) or ''
    return documentation.partition('\n')[0].rstrip('.')


def _networks() -> dict[str, str]:
    found = {}
    for name in nets.names():
        family = families.get(name)
        # A network that is not listed there says itself what it is.
        listed = type(family) is not Family
        found[name] = _summary(family if listed else nets.get(name))
    return found


def _presets() -> dict[str, str]:
    return {name: preset.expect for name, preset in families.presets().items()}


def _quantizers() -> dict[str, str]:
    found = {specs.FLOAT: 'No quantization'}
    for name in specs.names():
        found[name] = specs.summary(name)
    return found


def _datasets() -> dict[str, str]:
    found = {name: f'--data {spec.help}' for name, spec in datasets.SPECS.items()}
    found['folder'] = f'--data: {folder.HELP}'
    return found


def _optimizers() -> dict[str, str]:
    return {name: optimizers.summary(name) for name in optimizers.names()}


def _schedules() -> dict[str, str]:
    return {name: schedules.summary(name) for name in schedules.names()}


LISTS: dict[str, Callable[[], dict[str, str]]] = {
    'quantizers': _quantizers,
    'nets': _networks,
    'presets': _presets,
    'datasets': _datasets,
    'optimizers': _optimizers,
    'schedules': _schedules,
}


def text(what: str) -> str:
    """A line for everything of a kind: its name, and what it is.

    Raises:
        UsageError: there is no list of that name.
    """
    if what not in LISTS:
        raise UsageError(f'--list {what}: {unknown(what, LISTS)}')
    found = LISTS[what]()
    width = max(map(len, found))
    return '\n'.join(f'{name:{width}}  {description}' for name, description in found.items())
