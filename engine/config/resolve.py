"""Makes the configuration of a run of the flags that were given.

What they leave open comes from the preset, the network, the data set and what ``--load`` names.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from engine.config import embedded, overview
from engine.config.config import Config, check_sizes
from engine.config.groups import refuse_foreign
from engine.config.options import Architecture, DataOptions, RunOptions, ViewOptions
from engine.config.presets import PRESETS, data_defaults, network_defaults
from engine.data import augment, datasets, inputs
from engine.data.balance import BY_WEIGHT, class_weights, is_uneven
from engine.data.folder import FOLDER
from engine.data.spec import Dataset
from engine.data.split import Split
from engine.errors import UsageError
from engine.optimization import optimizers, schedules
from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.schedules import ScheduleOptions
from quant import options as ranges
from quant import specs
from quant.policy_options import BITS, QuantizationOptions
from quant.quantizer import FLOAT_BITS
from quant.spelling import unknown

# Steps that a pass over a folder has by default, as far as batches are larger than the least.
LEAST_STEPS = 16
LEAST_BATCH = 16

# What a network that starts from another one takes from it.
INHERITED = ('net', 'arch', 'mode', 'width', 'activation', 'inputs')


def resolve(
    given: Mapping[str, Any], loaded: Config | None = None
) -> tuple[Config, Dataset, list[str]]:
    """The configuration that is asked for.

    Later wins: defaults of the options, of the network, of the data set, what is loaded, the
    preset, the flags.

    Args:
        given: options by name, as flags or a record set them.
        loaded: configuration of the network that training starts from, whose form this one has.

    Returns:
        Configuration, data set, and notes for the user on how they came about.

    Raises:
        UsageError: an option is out of range or does not go with the others, or the data are bad.
    """
    preset = PRESETS.get(given.get('preset', ''))
    of_preset = preset.at(given) if preset is not None else {}
    asked = {**of_preset, **given}
    of_loaded = _inherited(loaded, asked) if loaded is not None else {}
    values = {**of_loaded, **asked}
    net = values.get('net', Architecture.net)
    refuse_foreign(net, given)
    _refuse_of_other_optimizers(values, given)
    check_sizes(tuple(values.get('sizes', Architecture.sizes)))
    notes = _settle_data(values, given)
    dataset = _open(values)
    of_data = data_defaults(net, dataset.spec)
    arch = {**of_data, **values}.get('arch', Architecture.arch)
    of_net = network_defaults(net, arch)
    marks = schedules.fitted((of_net, of_data, of_preset), given)
    values = {**of_net, **of_data, **values, **marks}
    values.update(completed_views(given, {**of_net, **of_data, **of_loaded, **of_preset}))
    notes += _settle_mode(values, asked, loaded)
    if loaded is not None:
        notes.append(f'as --load {given["load"]}: {_inherited_flags(values, asked)}')
    notes += _of_few_images(values, dataset, given, asked)
    _settle(values, dataset)
    config = _checked(values, given)
    notes += _folder_notes(config, dataset)
    notes += _weight_notes(config, dataset)
    if preset is not None:
        notes.append(f'preset {config.preset}, expected: {preset.expect}')
    return config, dataset, notes


def _settle_data(values: dict[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Takes the embedded set, and what fits it, where no data are named; says so.

    Args:
        values: options by name, which are changed.
        given: those that flags or a record set.

    Raises:
        UsageError: a preset is for other data, or sizes do not fit the embedded set.
    """
    if 'data' in values:
        return []
    if given.get('preset') in PRESETS:
        raise UsageError(f'--preset {given["preset"]}: is a recipe for ImageNet; give --data DIR')
    values.update(embedded.options(values))
    return [embedded.note(values, given.get('sizes'))]


def _settle_mode(
    values: dict[str, Any], asked: Mapping[str, Any], loaded: Config | None
) -> list[str]:
    """Takes a form of blocks that can have activations of these bits; says so.

    Args:
        values: options by name, which are changed.
        asked: those that were asked for.
        loaded: configuration of the network that training starts from.
    """
    if 'mode' not in values:
        quantized = _activation_bits(values) < QuantizationOptions.qa
        values['mode'] = 'preact' if quantized else 'resnet'
        return [f'mode {values["mode"]}: the default is preact with --qa below 32, else resnet']
    if loaded is not None and 'mode' not in asked:
        values['mode'] = with_activations(values['mode'], _activation_bits(values))
    return []


def _checked(values: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """The configuration of settled values.

    Args:
        values: options by name, among which are such as the network does not have.
        given: those that flags or a record set.

    Raises:
        UsageError: an option is out of range or does not go with the others.
    """
    known = Config.from_values(net=values.get('net', Architecture.net)).flat()
    config = Config.from_values(**{name: values[name] for name in values if name in known})
    config.check()
    _refuse_unused_quantizer(config, given)
    if config.for_cascades and len(config.sizes) < 2:
        raise UsageError(
            f'--for_cascades with --sizes {config.sizes[0]}: a cascade of sizes needs two of them'
        )
    return config


def _refuse_of_other_optimizers(values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    name = values.get('optimizer', OptimizerOptions.optimizer)
    if name not in optimizers.names():
        raise UsageError(f'--optimizer {name}: {unknown(name, optimizers.names())}')
    for option in optimizers.foreign((name, values.get('quantizer_optimizer', '')), given):
        # A record holds the options of all optimizers.
        if given[option] == getattr(OptimizerOptions, option):
            continue
        raise UsageError(f'--{option}: --optimizer {name} has no such option')


def _refuse_unused_quantizer(config: Config, given: Mapping[str, Any]) -> None:
    """Refuses a quantizer that nobody knows, or that is asked for where nothing says any bits.

    Raises:
        UsageError: such a quantizer is given.
    """
    spec = given.get('quantizer', specs.FLOAT)
    if spec == specs.FLOAT:
        return
    name, _ = specs.split(spec)
    try:
        specs.kind(name)
    except ValueError as error:
        raise UsageError(f'--quantizer {spec}: {error}') from error
    is_float = all(getattr(config, field) == FLOAT_BITS for field in BITS)
    if is_float and given.keys().isdisjoint(BITS) and not config.policy:
        raise UsageError(f'--quantizer {spec}: nothing is quantized; give --qw, --qa or both')


def _open(values: dict[str, Any]) -> Dataset:
    """Opens the data; paths in ``values`` become those of the record, which hold everywhere.

    Raises:
        UsageError: ``image_size`` is out of range.
    """
    size = values.get('image_size')
    if size is not None:
        try:
            ranges.check(ViewOptions(image_size=size))
        except ValueError as error:
            raise UsageError(f'--{error}') from error
    names = [name for name in ('val_split', 'split_seed') if name in values]
    try:
        options = DataOptions(**{name: values[name] for name in names})
        ranges.check(options)
    except ValueError as error:
        raise UsageError(f'--{error}') from error
    dataset = datasets.open_dataset(
        values['data'],
        size=size,
        skip=values.get('skip_list', ''),
        split=Split(options.val_split, options.split_seed),
    )
    values['data'] = datasets.located(datasets.named(values['data']).data)
    for name in ('skip_list', 'load', 'teacher'):
        if values.get(name):
            values[name] = datasets.absolute(values[name])
    return dataset


def _inherited(loaded: Config, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a network that is loaded, as far as the one that is asked for can have them.

    Args:
        loaded: configuration of the network that training starts from.
        asked: options that were asked for.
    """
    found = {name: getattr(loaded, name) for name in INHERITED}
    net = asked.get('net', loaded.net)
    if net == loaded.net:
        return found
    found['net'] = net
    try:
        Config.from_values(**found).network()
    except (UsageError, ValueError):
        return {'net': net, 'inputs': loaded.inputs}
    return found


def _inherited_flags(values: Mapping[str, Any], asked: Collection[str]) -> str:
    """Flags that stand for what is taken from the network that is loaded."""
    flags = []
    for name in INHERITED:
        if name in values and name not in asked:
            flags.append(f'--{name} {values[name]}')
    return ' '.join(flags) or 'nothing that was not given'


def with_activations(mode: str, bits: int) -> str:
    """The mode of a network that starts from one of ``mode`` and quantizes its activations.

    ``pytorch`` has the layers of ``resnet``, and pads on both sides.

    Args:
        mode: of the network that is loaded.
        bits: of the activations; 32 leaves them float.
    """
    if mode == 'resnet' and bits < QuantizationOptions.qa:
        return 'pytorch'
    return mode


def _activation_bits(values: Mapping[str, Any]) -> int:
    """Bits of the activations; 32 leaves them float.

    Raises:
        UsageError: there is no such quantizer, or it has no such bits.
    """
    known = ('qa', 'bits', 'weight_quantizer', 'activation_quantizer')
    names = [name for name in known if name in values]
    try:
        quantization = QuantizationOptions(**{name: values[name] for name in names})
    except ValueError as error:
        raise UsageError(f'--{error}') from error
    return quantization.qa


def _of_few_images(
    values: dict[str, Any],
    dataset: Dataset,
    given: Mapping[str, Any],
    asked: Mapping[str, Any],
) -> list[str]:
    """Makes the default batch smaller where a pass would have few steps; says so.

    Args:
        values: options by name, which are changed.
        dataset: the data.
        given: options that flags or a record set.
        asked: the same, and those of a preset.
    """
    whole = values.get('batch_size', RunOptions.batch_size)
    if not dataset.layout or 'batch_size' in asked or 'steps_per_epoch' in asked:
        return []
    batch = whole
    images = len(dataset.train)
    while batch > images or (batch > LEAST_BATCH and images < LEAST_STEPS * batch):
        batch //= 2
    if batch == whole:
        return []
    values['batch_size'] = batch
    text = f'batch_size {batch}, not {whole}: there are {images} training images'
    rate = values.get('lr', ScheduleOptions.lr)
    if 'lr' not in asked:
        values['lr'] = rate * batch / whole
        text += f'; lr {values["lr"]:g} in proportion'
    elif 'lr' in given:
        alike = rate * batch / whole
        text += f'; --lr {rate:g} stays: where it is meant for batches of {whole}, give {alike:g}'
    return [text]


def completed_views(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, str]:
    """Options about views of which flags give a part; the rest of them follows from defaults.

    Args:
        given: options by name, as flags set them.
        defaults: of the options that flags leave open, by name.

    Raises:
        UsageError: a part is no spelling of an augmentation or of inputs.
    """
    found = {}
    for name, complete in (('augmentation', augment.completed), ('inputs', inputs.completed)):
        if name in given:
            found[name] = complete(given[name], defaults.get(name, getattr(ViewOptions, name)))
    return found


def _folder_notes(config: Config, dataset: Dataset) -> list[str]:
    """Lines about images that the user has laid out: what was found, how they become inputs."""
    if not dataset.layout:
        return []
    notes = [overview.data_line(dataset), overview.images_line(config)]
    if is_uneven(dataset.train.labels) and config.balance == DataOptions.balance:
        counts = np.bincount(dataset.train.labels)
        notes.append(
            f'classes are uneven, {counts[counts > 0].min()} to {counts.max()} training images: '
            '--balance sampler draws them alike, --balance weights has them count alike'
        )
    return notes


def _weight_notes(config: Config, dataset: Dataset) -> list[str]:
    """A line about classes that count more or less than others."""
    weights = {}
    for name, weight in zip(dataset.classes, config.class_weights):
        if weight:
            weights[name] = weight
    if not weights:
        return []
    least, most = min(weights, key=weights.__getitem__), max(weights, key=weights.__getitem__)
    return [
        f'--balance weights: an image of {least} counts {weights[least]:.3g} times in the losses, '
        f'one of {most} {weights[most]:.3g} times'
    ]


def _settle(values: dict[str, Any], dataset: Dataset) -> None:
    """Adds what follows from the data."""
    sizes = tuple(sorted(values.get('sizes', Architecture.sizes), reverse=True))
    values['sizes'] = sizes
    values['dataset'] = dataset.spec.name
    side = max(dataset.spec.image_size, *sizes)
    if dataset.spec.name == FOLDER.name and not dataset.spec.small:
        # No published recipe has larger views than are used: they would only be thinned out.
        side = max(sizes)
    values.setdefault('image_size', side)
    values.setdefault('classes', len(dataset.classes))
    batch = max(values.get('batch_size', RunOptions.batch_size), 1)
    images = len(dataset.train) - values.get('holdout', 0)
    values.setdefault('steps_per_epoch', max(1, images // batch))
    values['class_weights'] = ()
    if values.get('balance') == BY_WEIGHT:
        values['class_weights'] = class_weights(dataset.train.labels, len(dataset.classes))
