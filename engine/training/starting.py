"""Where a training starts: what ``--load`` gives to each variable, and what starts afresh."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.config import Config, read_config
from engine.config.resolve import INHERITED, with_activations
from engine.errors import UsageError, prefixed
from engine.files import nearby
from engine.graph.inference import InferenceModel
from engine.importers import pytorch
from engine.optimization import parts
from engine.runs import checkpoint
from engine.runs.checkpoint import Checkpoint
from engine.runs.folder import CONFIG
from engine.training import origins, similar
from quant.state import Kind, State

# Share of the parameters that must be found.
LEAST = 0.5


def described(given: Mapping[str, Any], *, first: bool = True) -> Config | None:
    """The configuration of what ``--load`` names; None if it names nothing, or has none.

    TensorFlow is not loaded.

    Args:
        given: options by name, as flags or a record set them.
        first: whether this is the first worker; others need not have what is loaded.

    Raises:
        UsageError: there is no such run, checkpoint or file, or it cannot be read.
    """
    load = given.get('load')
    if not load:
        return None
    if not first and not Path(load).exists() and not Path(f'{load}.index').exists():
        return None
    if pytorch.is_file(load):
        with prefixed('--load '):
            return pytorch.describe(load, given.get('arch'), given.get('sizes', ()))
    record = Path(checkpoint.find(load, None, '--load')).parent / CONFIG
    return read_config(record) if record.exists() else None


def starting_values(config: Config) -> dict[str, np.ndarray] | None:
    """Values of the network's variables from ``--load``; those that it has not start afresh.

    A table is printed of what is taken, what is fresh, and why.

    Raises:
        UsageError: what is loaded cannot be read, or is of another network.
    """
    if not config.load:
        return None
    source = read(config)
    model = InferenceModel(config, data_format='NHWC')
    checkpoint.check_points(source, model.net.loaded_points, '--load')
    here, _ = model.inspect()
    there = _declared(source)
    found = origins.find(source, there, here, config)
    _check_form(source, there, config, here, model.net.detachable)
    _check_share(source, config, here, found)
    print(origins.table(source, here, found), flush=True)
    values = {name: origin.value for name, origin in found.items() if origin.value is not None}
    return values | _beside(source, here, found)


def check_parts(config: Config) -> None:
    """Checks that the network has the parts that are to learn at other rates.

    Raises:
        UsageError: it has not; the message names those that it has.
    """
    if not config.parts.used:
        return
    _, layers = InferenceModel(config, data_format='NHWC').inspect()
    try:
        parts.Parts(parts.layers_of(layers)).check(config.parts)
    except ValueError as error:
        raise UsageError(f'--{error}') from error


def read(config: Config) -> Checkpoint:
    """Reads the run, checkpoint or file that ``--load`` names, by our variable names.

    Raises:
        UsageError: it cannot be read.
    """
    assert config.load is not None
    place = nearby(config.load)
    if pytorch.is_file(place):
        with prefixed('--load '):
            return pytorch.read_fitting(place, config.arch, config.sizes)
    source = checkpoint.read(checkpoint.find(place, None, '--load'), flag='--load')
    if source.config is not None:
        return source
    return pytorch.with_config(source)


def _declared(source: Checkpoint) -> dict[str, State]:
    """Declarations of the variables of the network that a checkpoint is of, if it is known."""
    if source.config is None:
        return {}
    variables, _ = InferenceModel(source.config, data_format='NHWC').inspect()
    return variables


def _beside(
    source: Checkpoint, here: Mapping[str, State], found: Mapping[str, origins.Origin]
) -> dict[str, np.ndarray]:
    """State that a training keeps beside variables that were taken as they are."""
    beside = {}
    for name, origin in found.items():
        if origin.value is None or origin.lender != name:
            continue
        for part in here[name].beside:
            if f'{name}/{part}' in source.values:
                beside[f'{name}/{part}'] = source.values[f'{name}/{part}']
    return beside


def _check_form(
    source: Checkpoint,
    there: Mapping[str, State],
    config: Config,
    here: Mapping[str, State],
    detachable: Sequence[str],
) -> None:
    """Checks that blocks whose kernels fit are not of another form, as pre-activation ones.

    Args:
        source: the checkpoint.
        there: declarations of its network.
        config: of the network that was asked for.
        here: declarations of that.
        detachable: scopes of layers that the checkpoint may have beside.

    Raises:
        UsageError: they are.
    """
    if source.config is None or source.config.mode == config.mode:
        return
    theirs, ours = _layers(there, detachable), _layers(here, detachable)
    other = sorted(theirs ^ ours)
    if other:
        owner = 'it' if other[0] in theirs else 'the network asked for'
        raise UsageError(
            f'--load {source.prefix}: was trained with --mode {source.config.mode}, here it is '
            f'{config.mode}: another order of the layers (only {owner} has {other[0]}); give '
            f'--mode {with_activations(source.config.mode, config.qa)}'
        )


def _layers(variables: Mapping[str, State], detachable: Sequence[str]) -> set[str]:
    """Kinds of layers that a network cannot do without: the ends of their names."""
    found = set()
    for state in variables.values():
        scopes = state.shared.split('/')[:-1]
        if state.kind is not Kind.TRAINED or state.fresh:
            continue
        if scopes and set(detachable).isdisjoint(scopes):
            found.add(scopes[-1])
    return found


def _check_share(
    source: Checkpoint,
    config: Config,
    here: Mapping[str, State],
    found: Mapping[str, origins.Origin],
) -> None:
    """Checks that enough of a network was found.

    Args:
        source: the checkpoint.
        config: of the network that was asked for.
        here: declarations of its variables.
        found: where they start.

    Raises:
        UsageError: less than half of the parameters were.
    """
    share = origins.share(here, found)
    if share >= LEAST:
        return
    flags = _differences(source.config, config)
    nearest = similar.text(source, config)
    raise UsageError(
        f'--load {source.prefix}: only {share:.0%} of the parameters fit: another depth, mode or '
        f'network{flags}; {nearest}'
    )


def _differences(there: Config | None, here: Config) -> str:
    """Options of what is loaded that are others here, for messages."""
    if there is None:
        return ''
    flags = []
    for name in INHERITED:
        if getattr(there, name) != getattr(here, name):
            flags.append(f'--{name} {getattr(there, name)}')
    if there.net == here.net:
        own, other = there.options, here.options
        for field in dataclasses.fields(own):
            value = getattr(own, field.name)
            if value != getattr(other, field.name):
                flags.append(f'--{field.name} {value}')
    return f' (it was trained with {" ".join(flags)})' if flags else ''
