"""Options by name from the JSON that records a configuration, of this and earlier versions."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nets
from engine.config import groups
from engine.config.options import Architecture
from engine.data import datasets
from engine.errors import UsageError

# Of the JSON that records a configuration; 1 had no groups and said no version.
VERSION = 2


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UsageError: the file holds none.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f'{path}: no readable run configuration ({error})') from error
    if not isinstance(data, dict):
        raise UsageError(f'{path}: no run configuration (it holds {data!r:.40})')
    return data


def as_tuple(value: Any) -> Any:
    """The same, with a tuple in place of a list: options can be hashed."""
    if isinstance(value, list):
        return tuple(value)
    return value


def flat_record(data: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name from a record of any version, unchecked.

    Args:
        data: read from the JSON of a run.
    """
    if 'version' not in data:
        return dict(data)
    values: dict[str, Any] = {}
    for options in data.values():
        if isinstance(options, dict):
            values.update(options)
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
    values = {name: as_tuple(value) for name, value in values.items()}
    if 'schedule' in values:
        values.setdefault('absolute', True)
    try:
        _check_types(values)
    except UsageError as error:
        raise UsageError(f'{source}: {error}') from error
    return values


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
    data = datasets.completed(data)
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


def _check_types(values: Mapping[str, Any]) -> None:
    """Refuses values whose type is not that of the default.

    Raises:
        UsageError: there is one, or no such network.
    """
    defaults: dict[str, Any] = {}
    for cls in groups.of_net(values.get('net', Architecture.net)).values():
        defaults.update({field.name: field.default for field in dataclasses.fields(cls)})
    for name, value in values.items():
        kind = type(defaults[name])
        accepted: Any = kind
        if kind is float:
            accepted = (int, float)
        elif defaults[name] is None:
            accepted = (str, type(None))
        if not isinstance(value, accepted):
            raise UsageError(f'field {name!r} holds {value!r}, not a {kind.__name__}')
