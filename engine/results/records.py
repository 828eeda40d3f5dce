"""Records of a run folder that tables are made of, read and checked. Pure Python."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine.config.record import flat_record
from engine.data import datasets
from engine.errors import UsageError
from engine.files import read_record
from engine.results.costs import Layers
from nets import cost
from nets.points import DYNAMIC
from quant import QuantizationOptions, Rule, quantizer

FLOAT_BITS = 32


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


class Score(NamedTuple):
    """One file of ``eval/``.

    Attributes:
        point: Spelling of the operating point, or ``ensemble`` or the like.
        bn: Spelling of the point whose normalisation statistics were used.
        top1: Percent.
        top5: Percent.
        images: How many were evaluated; None in the records of early versions.
        data: What ``--data`` named; None likewise.
        dataset: Which data set that is; None likewise.
    """

    point: str
    bn: str
    top1: float
    top5: float
    images: int | None
    data: str | None
    dataset: str | None = None


def evaluate_again(folder: Path) -> str:
    """How to repair the records of evaluation."""
    return f'run `imagenet_tf.py --eval -ec {folder}` again'


def read_config(folder: Path) -> dict[str, Any]:
    """Fields of ``config.json``, with float written as 32 bits.

    Raises:
        UsageError: There is no such run folder, or its file is damaged.
    """
    remedy = 'give a run folder as imagenet_tf.py writes it'
    if not folder.is_dir():
        raise UsageError(f'{folder}: no such run folder; {remedy}')
    path = folder / 'config.json'
    config = flat_record(read_record(path, remedy))
    for name, default in (('qw', FLOAT_BITS), ('qa', FLOAT_BITS), ('sizes', [])):
        config[name] = config.get(name) or default
    if not config.get('net') or not isinstance(config['sizes'], list):
        raise UsageError(f'{path}: damaged ("net" must be a name, "sizes" a list); {remedy}')
    try:
        quantization_of(config)
    except (TypeError, ValueError) as error:
        raise UsageError(f'{path}: damaged ({error}); {remedy}') from None
    return config


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


def _name(own: str, common: str, bits: int) -> str:
    """Name of the quantizer of weights or activations, from the spec of its own or of both."""
    if bits == FLOAT_BITS:
        return quantizer.FLOAT
    spec = common if own in ('', quantizer.FLOAT) else own
    name, _ = quantizer.split(spec)
    return name


def read_layers(folder: Path) -> Layers:
    """Layer records by operating point.

    Raises:
        UsageError: The file is missing or damaged.
    """
    path = folder / 'layers.json'
    remedy = f'run `imagenet_tf.py --eval -ec {folder}`, which writes it'
    data = read_record(path, remedy)
    try:
        return cost.from_json(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{path}: damaged (no layer records: {error}); {remedy}') from None


def read_score(path: Path) -> Score:
    """One evaluation record.

    Raises:
        UsageError: It cannot be read, or its percentages are none.
    """
    remedy = evaluate_again(path.parent.parent)
    record = read_record(path, remedy)
    point = record.get('point')
    percentages = [record.get('top1'), record.get('top5')]
    if not isinstance(point, str) or not all(map(_is_percentage, percentages)):
        raise UsageError(
            f'{path}: damaged ("point" must be a name, "top1" and "top5" percentages); {remedy}'
        )
    return Score(
        point,
        record.get('bn') or point,
        float(record['top1']),
        float(record['top5']),
        record.get('images'),
        record.get('data'),
        record.get('dataset'),
    )


def _is_percentage(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 100


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
        size = point.removesuffix(DYNAMIC).rstrip('-') or f's{largest}'
        path = folder / 'routes' / f'{size}.json'
    else:
        path = folder / 'gates' / f'{point}.json'
    if not path.exists():
        return None
    remedy = evaluate_again(folder)
    try:
        return float(read_record(path, remedy)['madds'])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{path}: damaged (no "madds": {error!r}); {remedy}') from None


def read_times(folder: Path) -> dict[str, float]:
    """Milliseconds of one image alone by operating point, where ``scripts.profile`` measured them.

    Raises:
        UsageError: The record is damaged.
    """
    path = folder / 'profile.json'
    if not path.exists():
        return {}
    remedy = f'run python -m scripts.profile {folder} again'
    record = read_record(path, remedy)
    times = {}
    try:
        for point, measured in record['points'].items():
            times[point] = float(measured['batch1_ms'])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{path}: damaged (no milliseconds: {error!r}); {remedy}') from None
    return times
