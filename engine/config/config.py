"""The configuration of a run.

Groups of options that the run folder records and that repeat the run.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import nets
from engine import families
from engine.config.options import (
    SMALLEST_SIZE,
    Architecture,
    DataOptions,
    MachineOptions,
    RunOptions,
    ViewOptions,
)
from engine.data import datasets, inputs, randaugment
from engine.data.preprocessing import Preprocessing
from engine.errors import UsageError
from engine.optimization.averages import AverageOptions
from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.schedules import ScheduleOptions
from quant import options as ranges
from quant.policy import FLOAT_BITS, QuantizationOptions

# Of the JSON that records a configuration; 1 had no groups and said no version.
VERSION = 2

# Group -> its options. Those of the network depend on it, and form the group ``options``.
GROUPS: dict[str, type[Any]] = {
    'architecture': Architecture,
    'quantization': QuantizationOptions,
    'images': DataOptions,
    'views': ViewOptions,
    'course': ScheduleOptions,
    'optimization': OptimizerOptions,
    'averages': AverageOptions,
    'run': RunOptions,
    'machine': MachineOptions,
}


def field_names(group: Any) -> list[str]:
    """Names of the fields of a dataclass or of an instance of one."""
    return [field.name for field in dataclasses.fields(group)]


def as_tuple(value: Any) -> Any:
    """The same, with a tuple in place of a list: options can be hashed."""
    if isinstance(value, list):
        return tuple(value)
    return value


# Name of an option -> the group that has it.
_GROUP_OF = {name: group for group, cls in GROUPS.items() for name in field_names(cls)}


# In transition mypy does not look into it: dataclasses.replace takes options of any group.
_frozen: Any = dataclasses.dataclass(frozen=True, init=False)


@_frozen
class Config:
    """All that decides what a run computes.

    Options have unique names, whichever group owns them, so that ``config.batch_size`` reads one
    and ``from_values`` and ``replacing`` set them.

    Attributes:
        architecture: the options that all networks have.
        options: those of this kind of network, an instance of its ``Options``.
        quantization: bits and quantizers.
        images: what is trained and evaluated on.
        views: how images become inputs.
        course: length of the training and its learning rate.
        optimization: how gradients become a step.
        averages: what is averaged over the steps.
        run: batch, seed, start.
        machine: devices that share a step.

    >>> config = Config.from_values(net='san', lr=0.2)
    >>> config.lr, config.encoding, config.replacing(qw=2).quantization.qw
    (0.2, 320.0, 2)
    """

    architecture: Architecture
    options: Any
    quantization: QuantizationOptions
    images: DataOptions
    views: ViewOptions
    course: ScheduleOptions
    optimization: OptimizerOptions
    averages: AverageOptions
    run: RunOptions
    machine: MachineOptions

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __init__(self, **values: Any):
        # In transition: Config(...) and dataclasses.replace take options of any group, and leave
        # those of other networks out.
        names = field_names(Config)
        if not set(values) <= set(names):
            groups = [values[name] for name in names if name in values]
            flat = {name: value for name, value in values.items() if name not in names}
            known: dict[str, Any] = {}
            for group in groups:
                known.update({name: getattr(group, name) for name in field_names(group)})
            net = flat.get('net', known.get('net', Architecture.net))
            own = {*_GROUP_OF, *nets.options(net)}
            foreign = {name for other in nets.names() for name in nets.options(other)} - own
            merged = {**known, **flat}
            kept = {name: value for name, value in merged.items() if name not in foreign}
            made = Config.from_values(**kept)
            values = {name: getattr(made, name) for name in names}
        elif set(values) != set(names):
            made = Config.from_values()
            values = {**{name: getattr(made, name) for name in names}, **values}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_values(cls, **values: Any) -> 'Config':
        """The configuration with these options; the others have their defaults.

        Args:
            **values: options by name, of any group.

        Raises:
            UsageError: an option is unknown, or one of other networks; or no such network.
        """
        net = values.get('net', Architecture.net)
        refuse_foreign(net, values)
        groups = {}
        for group, options in GROUPS.items():
            given = {name: values[name] for name in field_names(options) if name in values}
            groups[group] = _built(options, given)
        own = nets.get(net).Options
        given = {name: values[name] for name in field_names(own) if name in values}
        return cls(options=_built(own, given), **groups)

    def replacing(self, **values: Any) -> 'Config':
        """The same with these options; of another ``net``, what that shares with this one stays.

        Args:
            **values: options by name, of any group.

        Raises:
            UsageError: an option is unknown, or one of other networks; or no such network.
        """
        network = _network(values.get('net', self.net))
        known = {*_GROUP_OF, *field_names(network.Options)}
        kept = {name: value for name, value in self.flat().items() if name in known}
        return Config.from_values(**{**kept, **values})

    def adjusted(self, **values: Any) -> 'Config':
        """The same with those of these options that its network has; see ``replacing``."""
        known = self.flat()
        return self.replacing(**{name: values[name] for name in values if name in known})

    def flat(self) -> dict[str, Any]:
        """All options by name."""
        found: dict[str, Any] = {}
        for group in self._groups():
            found.update({name: getattr(group, name) for name in field_names(group)})
        return found

    def __getattr__(self, name: str) -> Any:
        """The option of this name, whichever group owns it."""
        groups = self.__dict__
        owner = _GROUP_OF.get(name, 'options')
        if name.startswith('_') or owner not in groups:
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        options = groups[owner]
        if name not in field_names(options):
            for other in nets.names():
                if name in nets.options(other):
                    return getattr(nets.get(other).Options, name)
            raise AttributeError(f'--net {groups["architecture"].net} has no option {name!r}')
        return getattr(options, name)

    def _groups(self) -> list[Any]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    @property
    def name(self) -> str:
        """Name of the run folder, as the published code forms it, plus what it lacks."""
        family = families.get(self.net)
        parts = [family.folder_start(self), str(self.qw), str(self.qa), *map(str, self.sizes)]
        used = {
            'distill': getattr(self.options, 'kd', False),
            'fixed_qa': self.fixed_qa,
            'private': self.private_basis,
            f'width{self.width:g}': self.width != 1,
            'sync': self.sync_bn,
            'bf16': self.bf16,
            **dict.fromkeys(family.folder_parts(self), True),
            f'seed{self.seed}': self.seed != 0,
            'finetune': bool(self.load),
        }
        parts += [text for text, holds in used.items() if holds]
        return '-'.join([*parts, Path(self.data.replace(':', '-')).name])

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become what the network takes, in training, evaluation and use."""
        return Preprocessing(
            self.augmentation, self.image_size, self.sizes, self.resize, self.inputs
        )

    def narrowed(self, sizes: Iterable[int]) -> 'Config':
        """The same at these input sizes alone; what the run calls its operating points stays.

        Raises:
            UsageError: a size is too small.
        """
        chosen = tuple(sorted(set(sizes), reverse=True))
        check_sizes(chosen, '-es')
        sized = getattr(self.options, 'sized', False) or len(self.sizes) > 1
        crop = max(self.image_size, *chosen)
        return self.adjusted(sizes=chosen, image_size=crop, sized=sized)

    def network(self) -> Any:
        """A new network of this configuration.

        Raises:
            ValueError: the network refuses an option.
        """
        return nets.get(self.net)(
            arch=self.arch,
            mode=self.mode,
            sizes=self.sizes,
            classes=self.classes,
            width=self.width,
            options=self.options,
        )

    def to_json(self) -> dict[str, Any]:
        """The version and all groups, as plain data."""
        return {'version': VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str) -> 'Config':
        """The inverse of ``to_json``; takes the record of an earlier run, without groups, too.

        Args:
            data: read from JSON.
            source: where from, for messages.

        Raises:
            UsageError: unknown options or values of another type, or a later version.
        """
        values = {name: as_tuple(value) for name, value in _recorded(data, source).items()}
        try:
            _check_types(values)
            return cls.from_values(**values)
        except UsageError as error:
            raise UsageError(f'{source}: {error}') from error

    def check(self) -> None:
        """Checks ranges, and that the options work together.

        Raises:
            UsageError: they do not; the message names the flag.
        """
        check_sizes(self.sizes)
        for group in self._groups():
            _checked(ranges.check, group)
        if self.image_size < max(self.sizes):
            raise UsageError(
                f'--image_size {self.image_size}: smaller than the largest size, {max(self.sizes)}'
            )
        self._check_quantization()
        if self.batch_size % len(self.gpu):
            raise UsageError(
                f'--batch_size {self.batch_size}: not divisible by the {len(self.gpu)} towers '
                'of --gpu'
            )
        inputs.parse(self.inputs)
        self._check_recipe()
        try:
            self.network()
        except ValueError as error:
            raise UsageError(
                f'--net {self.net} --arch {self.arch} --mode {self.mode}: {error}'
            ) from error
        families.get(self.net).check(self)

    def _check_quantization(self) -> None:
        _checked(QuantizationOptions.to_policy, self.quantization)
        if self.qa < FLOAT_BITS and self.mode == 'resnet':
            raise UsageError(
                f'--qa {self.qa} with --mode resnet: its activations stay float; '
                'use --mode preact or --mode preact_typeA'
            )

    def _check_recipe(self) -> None:
        for flag, value in (('--min_lr', self.min_lr), ('--cooldown', self.cooldown)):
            if value and self.schedule != 'cosine_epochs':
                raise UsageError(
                    f'{flag} {value} with --schedule {self.schedule}: only cosine_epochs has it'
                )
        if self.min_lr > self.lr:
            raise UsageError(f'--min_lr {self.min_lr}: must be 0 to --lr {self.lr}')
        if self.cooldown >= self.epochs:
            raise UsageError(
                f'--cooldown {self.cooldown}: must be 0 to {self.epochs - 1}, since --epochs '
                f'{self.epochs} counts these epochs too'
            )
        if self.randaugment:
            try:
                randaugment.parse(self.randaugment)
            except ValueError as error:
                raise UsageError(f'--randaugment {error}') from error


def _network(name: str) -> Any:
    try:
        return nets.get(name)
    except ValueError:
        raise UsageError(f'--net {name}: unknown; there are {", ".join(nets.names())}') from None


def _built(options: type[Any], given: Mapping[str, Any]) -> Any:
    """Options that check themselves when they are made."""
    try:
        return options(**given)
    except ValueError as error:
        raise UsageError(f'--{error}') from error


def _checked(check: Callable[[Any], object], group: Any) -> None:
    try:
        check(group)
    except ValueError as error:
        raise UsageError(f'--{error}') from error


def refuse_foreign(net: str, given: Iterable[str]) -> None:
    """Refuses options of other networks, which would be ignored.

    Raises:
        UsageError: there is one, or no such network.
    """
    own = {*_GROUP_OF, *field_names(_network(net).Options)}
    for name in sorted(set(given) - own):
        raise UsageError(_foreign(name, net))


def _foreign(name: str, net: str) -> str:
    """Says why a network has no such option."""
    if any(name in nets.options(other) for other in nets.names()):
        return f'--{name}: --net {net} has no such option'
    return f'unknown option {name!r}'


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


def _recorded(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Options of the network of a record of any version, by name."""
    if 'version' in data:
        return _ungrouped(data, source)
    return _of_flat(data, source)


def _ungrouped(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Options by name from the groups of a record."""
    if data['version'] != VERSION:
        raise UsageError(f'{source}: version {data["version"]!r} is unknown; there is {VERSION}')
    for group, options in data.items():
        known = group in (*GROUPS, 'options') and isinstance(options, dict)
        if not known and group != 'version':
            raise UsageError(
                f'{source}: unknown group {group!r}; it was written by another version'
            )
    values = flat_record(data)
    net = values.get('net', Architecture.net)
    if net in nets.names():
        _refuse_unknown(values, {*_GROUP_OF, *nets.options(net)}, source)
    return values


def _of_flat(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Options of the network of a record that has no groups, and lists those of all networks."""
    every = set(_GROUP_OF)
    for net in nets.names():
        every.update(nets.options(net))
    data = datasets.completed(data)
    _refuse_unknown(data, every, source)
    net = data.get('net', Architecture.net)
    if net not in nets.names():
        return dict(data)
    known = {*_GROUP_OF, *nets.options(net)}
    return {name: value for name, value in data.items() if name in known}


def _refuse_unknown(given: Iterable[str], known: Iterable[str], source: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(
            f'{source}: unknown field {unknown[0]!r}; it was written by another version'
        )


def _check_types(values: Mapping[str, Any]) -> None:
    """Refuses values whose type is not that of the default."""
    defaults: dict[str, Any] = {}
    for options in (*GROUPS.values(), _network(values.get('net', Architecture.net)).Options):
        defaults.update({field.name: field.default for field in dataclasses.fields(options)})
    for name, value in values.items():
        kind = type(defaults[name])
        accepted: Any = kind
        if kind is float:
            accepted = (int, float)
        elif defaults[name] is None:
            accepted = (str, type(None))
        if not isinstance(value, accepted):
            raise UsageError(f'field {name!r} holds {value!r}, not a {kind.__name__}')


def check_sizes(sizes: tuple[int, ...], flag: str = '--sizes') -> None:
    """Checks input sizes.

    Raises:
        UsageError: a size is too small or repeated; the message names ``flag``.
    """
    text = ' '.join(map(str, sizes))
    if not sizes or min(sizes) < SMALLEST_SIZE:
        raise UsageError(f'{flag} {text}: every size must be at least {SMALLEST_SIZE} pixels')
    if len(set(sizes)) < len(sizes):
        raise UsageError(f'{flag} {text}: a size is repeated; give each once')


def read_config(path: Path) -> Config:
    """The configuration recorded in a file.

    Raises:
        UsageError: the file cannot be read as one.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f'{path}: no readable run configuration ({error})') from error
    if not isinstance(data, dict):
        raise UsageError(f'{path}: no run configuration (it holds {data!r:.40})')
    return Config.from_json(data, str(path))
