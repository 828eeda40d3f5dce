"""The configuration of a run.

Groups of options that the run folder records and that repeat the run.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nets
from engine import families
from engine.config import groups, record
from engine.config.options import (
    SMALLEST_SIZE,
    Architecture,
    DataOptions,
    MachineOptions,
    RunOptions,
    ViewOptions,
)
from engine.data import augment, inputs, randaugment
from engine.data.mixing import MixingOptions
from engine.data.preprocessing import Preprocessing
from engine.data.split import Split
from engine.errors import UsageError, prefixed
from engine.optimization.averages import AverageOptions
from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.parts import PartOptions
from engine.optimization.schedules import ScheduleOptions
from engine.optimization.teaching import TeachingOptions
from engine.quantities import counted
from nets.losses import LossOptions
from nets.precisions import PrecisionOptions
from quant import options as ranges
from quant.policy_options import QuantizationOptions
from quant.quantizer import FLOAT_BITS


@dataclasses.dataclass(frozen=True)
class Config:
    """All that decides what a run computes.

    Options have unique names, whichever group owns them, so that ``config.batch_size`` reads one
    and ``from_values`` and ``replacing`` set them.

    Attributes:
        architecture: the options that all networks have.
        options: those of this kind of network, an instance of its ``Options``.
        quantization: bits and quantizers.
        precisions: what the precisions of a network of several learn.
        images: what is trained and evaluated on.
        views: how images become inputs.
        mixing: how images of a batch are mixed.
        course: length of the training and its learning rate.
        optimization: how gradients become a step.
        parts: which parts of the network learn at another rate, or not.
        averages: what is averaged over the steps.
        teaching: what it learns from beside the labels.
        losses: how losses are made of answers and labels.
        run: batch, seed, start.
        machine: devices that share a step.

    >>> config = Config.from_values(net='san', lr=0.2)
    >>> config.lr, config.encoding, config.replacing(qw=2).quantization.qw
    (0.2, 320.0, 2)
    """

    architecture: Architecture
    options: Any
    quantization: QuantizationOptions
    precisions: PrecisionOptions
    images: DataOptions
    views: ViewOptions
    mixing: MixingOptions
    course: ScheduleOptions
    optimization: OptimizerOptions
    parts: PartOptions
    averages: AverageOptions
    teaching: TeachingOptions
    losses: LossOptions
    run: RunOptions
    machine: MachineOptions

    @classmethod
    def from_values(cls, **values: Any) -> 'Config':
        """The configuration with these options; the others have their defaults.

        Args:
            **values: options by name, of any group.

        Raises:
            UsageError: an option is unknown, or one of other networks; or no such network.
        """
        net = values.get('net', Architecture.net)
        groups.refuse_foreign(net, values)
        made = {}
        for group, options in groups.of_net(net).items():
            names = groups.field_names(options)
            made[group] = _built(options, {name: values[name] for name in names if name in values})
        return cls(**made)

    def replacing(self, **values: Any) -> 'Config':
        """The same with these options; of another ``net``, what that shares with this one stays.

        Args:
            **values: options by name, of any group.

        Raises:
            UsageError: an option is unknown, or one of other networks; or no such network.
        """
        known = groups.option_names(values.get('net', self.net))
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
            found.update({name: getattr(group, name) for name in groups.field_names(group)})
        return found

    def __getattr__(self, name: str) -> Any:
        """The option of this name, whichever group owns it.

        Raises:
            AttributeError: this network has no such option.
        """
        # Copying asks for special methods before there are groups.
        options = self.__dict__.get(groups.owner(name))
        if options is None or name.startswith('_'):
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        if name not in groups.field_names(options):
            raise AttributeError(f'no option {name!r} of --net {self.net}')
        return getattr(options, name)

    def _groups(self) -> list[Any]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    @property
    def name(self) -> str:
        """Name of the run folder, as the published code forms it, plus what it lacks."""
        family = families.get(self.net)
        bits = [str(self.qw), str(self.qa)]
        if self.bits:
            bits = ['bits', *(text.replace(':', 'a') for text in self.bits)]
        parts = [family.folder_start(self), *bits, *map(str, self.sizes)]
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
            'parts': self.parts.used,
            'taught': bool(self.teacher),
            'cascades': self.for_cascades,
        }
        parts += [text for text, holds in used.items() if holds]
        return '-'.join([*parts, Path(self.data.replace(':', '-')).name])

    @property
    def split(self) -> Split:
        """How images are divided of which none are for validation."""
        return Split(self.val_split, self.split_seed)

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

    def at_bits(self, bits: Iterable[int | None]) -> 'Config':
        """The same at these precisions alone, which may be new ones; None is that without any.

        Args:
            bits: of points.

        Raises:
            UsageError: one is no precision.
        """
        wanted = [one for one in bits if one is not None]
        if not wanted:
            return self
        try:
            quantization = self.quantization.at_bits(wanted)
        except ValueError as error:
            raise UsageError(f'--{error}') from error
        return dataclasses.replace(self, quantization=quantization)

    def network(self) -> Any:
        """A new network of this configuration.

        Raises:
            ValueError: the network refuses an option.
        """
        network = nets.get(self.net)(
            arch=self.arch,
            mode=self.mode,
            sizes=self.sizes,
            classes=self.classes,
            width=self.width,
            options=self.options,
        )
        return nets.at_precisions(network, self.quantization.point_bits, self.precisions)

    def to_json(self) -> dict[str, Any]:
        """The version and all groups, as plain data."""
        return {'version': record.VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str) -> 'Config':
        """The inverse of ``to_json``; takes the record of an earlier run, without groups, too.

        Args:
            data: read from JSON.
            source: where from, for messages.

        Raises:
            UsageError: unknown options or values of another type, or a later version.
        """
        values = record.options(data, source)
        with prefixed(f'{source}: '):
            return cls.from_values(**values)

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
                f'--batch_size {self.batch_size}: not divisible by the '
                f'{counted(len(self.gpu), "tower")} of --gpu'
            )
        if self.mixing.mixes and self.batch_size < 2 * len(self.gpu):
            raise UsageError(
                f'--batch_size {self.batch_size} with --mixup or --cutmix: each tower of '
                '--gpu needs two images to mix'
            )
        inputs.parse(self.inputs)
        try:
            augment.named(self.augmentation)
        except ValueError as error:
            raise UsageError(f'--augmentation {error}') from error
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
        if self.score_holdout and not self.holdout:
            raise UsageError('--score_holdout: there are no such images; give --holdout, too')
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
        _checked(lambda parts: parts.factors, self.parts)
        if self.randaugment:
            try:
                randaugment.parse(self.randaugment)
            except ValueError as error:
                raise UsageError(f'--randaugment {error}') from error


def _built(options: type[Any], given: Mapping[str, Any]) -> Any:
    """Options that check themselves when they are made.

    Raises:
        UsageError: one is out of range.
    """
    try:
        return options(**given)
    except ValueError as error:
        raise UsageError(f'--{error}') from error


def _checked(check: Callable[[Any], object], group: Any) -> None:
    try:
        check(group)
    except ValueError as error:
        raise UsageError(f'--{error}') from error


def check_sizes(sizes: tuple[int, ...], flag: str = '--sizes') -> None:
    """Checks input sizes.

    Raises:
        UsageError: a size is too small or repeated; the message names ``flag``.
    """
    text = ' '.join(map(str, sizes))
    if not sizes or min(sizes) < SMALLEST_SIZE:
        raise UsageError(f'{flag} {text}: every size must be at least {SMALLEST_SIZE} pixels')
    check_distinct(flag, sizes, 'size')


def check_distinct(flag: str, values: Sequence[int], noun: str = 'value') -> None:
    """Checks that values of a flag differ.

    Args:
        flag: that names them.
        values: numbers.
        noun: what one of them is.

    Raises:
        UsageError: one is there twice.
    """
    if len(set(values)) < len(values):
        text = ' '.join(map(str, values))
        raise UsageError(f'{flag} {text}: a {noun} is repeated; give each once')


def read_config(path: Path) -> Config:
    """The configuration recorded in a file.

    Raises:
        UsageError: the file cannot be read as one.
    """
    return Config.from_json(record.read(path), str(path))
