"""Options by name from the JSON that records a configuration, of this and earlier versions."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nets
from engine.config import groups
from engine.config.options import Architecture
from engine.data import datasets
from engine.data.balance import SAMPLER
from engine.errors import UsageError
from engine.files import read_json
from engine.schema import Misfit, checked, field_of

# Of the JSON that records a configuration; 1 had no groups and said no version.
VERSION = 2


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UsageError: the file holds none.
    """
    return read_json(path, dict[str, Any], 'give the configuration of a run')


def flat_record(data: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name from a record of any version, unchecked.

    Args:
        data: read from the JSON of a run.
    """
    values: dict[str, Any] = {}
    if 'version' not in data:
        values.update(data)
    else:
        for options in data.values():
            if isinstance(options, dict):
                values.update(options)
    # An option that did not stay: nothing where it was not asked for.
    if values.get('damping') == 0:
        del values['damping']
    # Whether classes were drawn alike, before they could count alike.
    if isinstance(values.get('balance'), bool):
        values['balance'] = SAMPLER if values['balance'] else 'none'
    return values


def options(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Options of the network of a record of any version, by name, their types checked.

    Args:
        data: read from JSON.
        source: where from, for messages.

    Raises:
        UsageError: unknown options or values of another type, or a later version.
    """
    values = _of_groups(data, source) if 'version' in data else _of_flat(data, source)
    if 'schedule' in values:
        values.setdefault('absolute', True)
        # As sessions and quantizers were before there was a choice.
        values.setdefault('operation_threads', 1)
        values.setdefault('rewriting', 'on')
        values.setdefault('native', 'off')
    try:
        return checked_options(values, ranged='version' in data)
    except (Misfit, UsageError) as error:
        raise UsageError(f'{source}: {error}') from error


def _of_groups(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Options by name from a record that has groups.

    Raises:
        UsageError: an unknown option or group, or another version.
    """
    if data['version'] != VERSION:
        raise UsageError(f'{source}: version {data["version"]!r} is unknown; there is {VERSION}')
    for group, values in data.items():
        known = group in (*groups.GROUPS, groups.OF_NETWORK) and isinstance(values, dict)
        if not known and group != 'version':
            raise UsageError(
                f'{source}: unknown group {group!r}; it was written by another version'
            )
    values = flat_record(data)
    net = values.get('net', Architecture.net)
    if net in nets.names():
        _refuse_unknown(values, groups.option_names(net), source)
    return values


def _of_flat(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Options of the network of a record that has no groups, and lists those of all networks."""
    every: set[str] = set()
    for net in nets.names():
        every.update(groups.option_names(net))
    data = datasets.completed(flat_record(data))
    _refuse_unknown(data, every, source)
    net = data.get('net', Architecture.net)
    if net not in nets.names():
        return dict(data)
    known = groups.option_names(net)
    return {name: value for name, value in data.items() if name in known}


def _refuse_unknown(given: Iterable[str], known: Iterable[str], source: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(
            f'{source}: unknown field {unknown[0]!r}; it was written by another version'
        )


def checked_options(values: Mapping[str, Any], *, ranged: bool) -> dict[str, Any]:
    """The values of a record as the options of its network take them, those that it has.

    Args:
        values: of the record by name.
        ranged: whether they must be in the ranges that options have today.

    Raises:
        Misfit: one is of another type or out of range.
        UsageError: no such network.
    """
    net = checked(values.get('net', Architecture.net), str, 'net')
    found: dict[str, Any] = {}
    for cls in groups.of_net(net).values():
        for name in groups.field_names(cls):
            if name in values:
                found[name] = field_of(values[name], cls, name, name, ranged=ranged)
    return found
