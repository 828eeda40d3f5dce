"""Records of a run folder that tables are made of, read and checked. Pure Python."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nets
from engine.config.record import checked_options, flat_record
from engine.data import datasets
from engine.errors import UsageError
from engine.files import in_shell, read_json
from engine.results.costs import Layers
from engine.schema import Amount, Count, Part, Percent, checked
from nets import cost
from nets.points import DYNAMIC, Point
from quant import QuantizationOptions, Rule, precision, specs
from quant.quantizer import FLOAT_BITS


class Quantization(NamedTuple):
    """Quantizers and bits of a network.

    Attributes:
        weight: Name of the quantizer of weights; ``float`` without one.
        activation: Name of the quantizer of activations; ``float`` without one.
        qw: Bits of weights; 32 is float, here and below.
        qa: Bits of activations.
        stem_bits: Bits of the weights of the first layer.
        head_bits: Bits of the weights of the classifier and of its input.
        rules: Further rules of a policy file.
    """

    weight: str
    activation: str
    qw: int
    qa: int
    stem_bits: int = FLOAT_BITS
    head_bits: int = FLOAT_BITS
    rules: tuple[Rule, ...] = ()


@dataclasses.dataclass(frozen=True)
class Score(Part):
    """One file of ``eval/``.

    Attributes:
        point: Spelling of the operating point, or ``ensemble`` or the like.
        top1: Percent.
        top5: Percent.
        bn: Spelling of the point whose normalisation statistics were used; that of the point itself
            in the records of early versions.
        images: How many were evaluated; this and what follows is None in the records of early
            versions.
        data: What ``--data`` named.
        dataset: Which data set that is.
        checkpoint: Prefix of what was evaluated.
    """

    point: str
    top1: Percent
    top5: Percent
    bn: str = ''
    images: Count | None = None
    data: str | None = None
    dataset: str | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'bn', self.bn or self.point)


@dataclasses.dataclass(frozen=True)
class Decisions(Part):
    """Decisions of the gates of a network: a file of ``gates/`` or ``routes/``.

    Attributes:
        madds: Mean multiply-adds of an image.
    """

    madds: Amount


@dataclasses.dataclass(frozen=True)
class Times(Part):
    """Measured times of an operating point.

    Attributes:
        batch1_ms: Milliseconds of one image alone.
    """

    batch1_ms: Amount


def evaluate_again(folder: Path) -> str:
    """How to repair the records of evaluation."""
    return f'run `imagenet_tf.py --eval -ec {in_shell(folder)}` again'


def read_config(folder: Path) -> dict[str, Any]:
    """Fields of ``config.json``, with float written as 32 bits.

    Raises:
        UsageError: There is no such run folder, or its file is damaged.
    """
    remedy = 'give a run folder as imagenet_tf.py writes it'
    if folder.is_file():
        raise UsageError(f'{folder}: is a file; {remedy}')
    if not folder.is_dir():
        raise UsageError(f'{folder}: no such run folder; {remedy}')
    path = folder / 'config.json'
    config = flat_record(read_json(path, dict[str, Any], remedy))
    config.setdefault('net', None)
    given = {name: value for name, value in config.items() if value is not None}
    try:
        if checked(config['net'], str, 'net') in nets.names():
            checked_options(given, ranged=False)
        for name, default in (('qw', FLOAT_BITS), ('qa', FLOAT_BITS), ('sizes', [])):
            config[name] = config.get(name) or default
        quantization_of(config)
    except (TypeError, ValueError) as error:
        raise UsageError(f'{path}: damaged ({error}); {remedy}') from None
    return config


def network_of(config: Mapping[str, Any]) -> str:
    """Network of a run in words; empty if it is not known.

    >>> network_of({'net': 'rsnet', 'arch': 'resnet18'}), network_of({'net': 'msdnet'})
    ('rsnet resnet18', 'msdnet')
    """
    words = (config.get('net'), config.get('arch'))
    return ' '.join(dict.fromkeys(filter(None, words)))


def dataset_of(config: Mapping[str, Any]) -> str:
    """Name of the data set of a run.

    Args:
        config: Fields of its ``config.json``.
    """
    return str(datasets.completed(config)['dataset'])


def quantization_of(config: Mapping[str, Any]) -> Quantization:
    """Quantizers and bits of a run.

    Args:
        config: Fields of its ``config.json``; those that are missing have their defaults.

    Raises:
        ValueError: A field has a value that no version has written.
    """
    names = [field.name for field in dataclasses.fields(QuantizationOptions)]
    known = {name: config[name] for name in names if config.get(name) is not None}
    options = QuantizationOptions(**known)
    weight, activation = options.weight_quantizer, options.activation_quantizer
    return Quantization(
        _name(weight, options.quantizer, options.qw),
        _name(activation, options.quantizer, options.qa),
        options.qw,
        options.qa,
        options.stem_bits,
        options.head_bits,
        options.policy,
    )


def bits_of(config: Mapping[str, Any]) -> str:
    """Bits of weights and activations of a run, at each of its precisions.

    Args:
        config: Fields of its ``config.json``.

    >>> bits_of({'qw': 2, 'qa': 32}), bits_of({'qw': 4, 'qa': 4, 'bits': ['4', '2:4']})
    ('2/32', '4/4 2/4')
    """
    pairs = [(config['qw'], config['qa'])]
    if config.get('bits'):
        pairs = list(precision.parse_all(config['bits']))
    return ' '.join(f'{weights}/{activations}' for weights, activations in pairs)


def bits_at(config: Mapping[str, Any], point: str) -> tuple[int, int]:
    """Bits of weights and of activations of an operating point of a run.

    Args:
        config: Fields of its ``config.json``.
        point: Spelling of the point, or a name with one in it.

    Raises:
        ValueError: The run has no such precision.
    """
    bits = Point.within(point).bits
    if bits is None:
        return config['qw'], config['qa']
    known = QuantizationOptions(bits=tuple(config.get('bits') or ()))
    for weights, activations in known.at_bits([bits]).precisions:
        if weights == bits:
            return weights, activations
    raise ValueError(f'{point}: no precision of the run')


def _name(own: str, common: str, bits: int) -> str:
    """Name of the quantizer of weights or activations, from the spec of its own or of both."""
    if bits == FLOAT_BITS:
        return specs.FLOAT
    spec = common if own in ('', specs.FLOAT) else own
    name, _ = specs.split(spec)
    return name


def read_layers(folder: Path) -> Layers:
    """Layer records by operating point.

    Raises:
        UsageError: The file is missing or damaged.
    """
    path = folder / 'layers.json'
    remedy = f'run `imagenet_tf.py --eval -ec {in_shell(folder)}`, which writes it'
    return read_json(path, dict[str, list[cost.LayerRecord]], remedy)


def read_score(path: Path) -> Score:
    """One evaluation record.

    Raises:
        UsageError: It cannot be read.
    """
    return read_json(path, Score, evaluate_again(path.parent.parent))


def read_expected_madds(folder: Path, point: str, largest: int | None) -> float | None:
    """Mean multiply-adds of an image as gates were measured to decide; None without gates.

    Args:
        folder: Run folder.
        point: Spelling of the operating point, ``dynamic``, or ``dynamic`` after a size.
        largest: Input size in pixels that ``dynamic`` alone is about.

    Raises:
        UsageError: The record is damaged.
    """
    if point.endswith(DYNAMIC):
        at = Point.within(point)
        at = dataclasses.replace(at, size=at.size or largest)
        path = folder / 'routes' / f'{at}.json'
    else:
        path = folder / 'gates' / f'{point}.json'
    if not path.exists():
        return None
    return read_json(path, Decisions, evaluate_again(folder)).madds
