"""Groups of options, and which options a network has."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import nets
from engine.config.options import (
    Architecture,
    DataOptions,
    MachineOptions,
    RunOptions,
    ViewOptions,
)
from engine.data.mixing import MixingOptions
from engine.errors import UsageError
from engine.optimization.averages import AverageOptions
from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.parts import PartOptions
from engine.optimization.schedules import ScheduleOptions
from engine.optimization.teaching import TeachingOptions
from nets.losses import LossOptions
from nets.precisions import PrecisionOptions
from quant.policy_options import QuantizationOptions
from quant.spelling import unknown

# Group -> its options. Those of the network depend on it, and form the group ``options``.
GROUPS: dict[str, type[Any]] = {
    'architecture': Architecture,
    'quantization': QuantizationOptions,
    'precisions': PrecisionOptions,
    'images': DataOptions,
    'views': ViewOptions,
    'mixing': MixingOptions,
    'course': ScheduleOptions,
    'optimization': OptimizerOptions,
    'parts': PartOptions,
    'averages': AverageOptions,
    'teaching': TeachingOptions,
    'losses': LossOptions,
    'run': RunOptions,
    'machine': MachineOptions,
}
OF_NETWORK = 'options'


def field_names(group: Any) -> list[str]:
    """Names of the fields of a dataclass or of an instance of one."""
    return [field.name for field in dataclasses.fields(group)]


# Name of an option that all networks have -> the group that has it.
_OWNERS = {name: group for group, cls in GROUPS.items() for name in field_names(cls)}


def owner(name: str) -> str:
    """The group of an option; that of the network for an option that no other group has."""
    return _OWNERS.get(name, OF_NETWORK)


def network(name: str) -> Any:
    """The class of a network.

    Raises:
        UsageError: no such network.
    """
    try:
        return nets.get(name)
    except ValueError:
        raise UsageError(f'--net {name}: {unknown(name, nets.names())}') from None


def of_net(net: str) -> dict[str, type[Any]]:
    """Group -> the class of its options, those of the network included.

    Raises:
        UsageError: no such network.
    """
    return {**GROUPS, OF_NETWORK: network(net).Options}


def option_names(net: str) -> set[str]:
    """Names of all options that a run with this network has.

    Raises:
        UsageError: no such network.
    """
    return {*_OWNERS, *field_names(network(net).Options)}


def refuse_foreign(net: str, given: Iterable[str]) -> None:
    """Refuses options of other networks, which would be ignored.

    Raises:
        UsageError: there is one, or no such network.
    """
    for name in sorted(set(given) - option_names(net)):
        if any(name in nets.options(other) for other in nets.names()):
            raise UsageError(f'--{name}: --net {net} has no such option')
        raise UsageError(f'unknown option {name!r}')
