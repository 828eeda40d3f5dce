"""Describes what is exported: the texts of a file, from a run folder and its checkpoint."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engine.data import augment, inputs
from engine.data.inputs import GREY
from engine.data.preprocessing import Preprocessing
from engine.deployment import cascade_text, texts
from engine.deployment.program import Program
from engine.results import costs, exit_records, records, selection
from engine.results.cascades import Cascade
from engine.results.costs import Layers
from engine.runs import data_record
from engine.runs.checkpoint import Checkpoint
from engine.version import __version__
from nets import cost
from nets.points import Point
from quant.policy import Rule


def describe(
    source: Checkpoint,
    whole: Program,
    form: str,
    *,
    resizes: bool = True,
    library: str = 'onnx',
    cascade: Cascade | None = None,
) -> texts.Texts:
    """The texts of a file but for how it is checked.

    Args:
        source: what it is made of.
        whole: the program that is written.
        form: as of ``--form``.
        resizes: whether the file makes the sizes of its points itself.
        library: that writes it.
        cascade: that is written in place of operating points.
    """
    config = source.config
    assert config is not None
    if cascade is not None:
        held = cascade_text.of_cascade(source, cascade, whole.points[cascade.name])
    else:
        held = _held(source, whole)
    return texts.Texts(
        images=images(config.preprocessing, resizes=resizes),
        network=_network(source),
        source=_source(source),
        versions=texts.VersionText(__version__, f'{library} {metadata.version(library)}', form),
        class_names=source.class_names,
        **held,
    )


def _held(source: Checkpoint, whole: Program) -> dict[str, Any]:
    """Texts of the operating points of a program, and of what it chooses image by image."""
    sides = {}
    choosing = []
    for name, point in whole.points.items():
        sides[name] = point.side
        if point.choices:
            choosing.append(name)
    return {'points': points(source, sides, choosing), **_choices(source, whole)}


def points(
    source: Checkpoint, sides: Mapping[str, int], choosing: Sequence[str] = ()
) -> tuple[texts.PointText, ...]:
    """Operating points with what the run recorded of them.

    Args:
        source: their checkpoint.
        sides: edges in pixels of their images, by spelling.
        choosing: those that choose image by image.
    """
    config = source.config
    assert config is not None
    layers = _layers(Path(source.prefix).parent)
    # What was evaluated with gates says nothing of all their blocks.
    static = not config.network().static_options
    found = []
    for name, side in sides.items():
        size = Point.within(name).size or max(config.sizes)
        known: dict[str, Any] = {}
        score = _score(source, name) if static else None
        if score is not None:
            known.update(top1=score.top1, top5=score.top5, evaluated=score.images)
        spent = costs.point_cost(layers, name, config.sizes)
        if spent is not None:
            known.update(madds=spent.madds, weight_bytes=spent.weight_bytes)
        if name in choosing:
            known['madds'] = _always(layers, name)
        found.append(texts.PointText(name, side, size, **known))
    return tuple(found)


def _choices(source: Checkpoint, whole: Program) -> dict[str, Any]:
    """Texts of a file that chooses image by image; none of another one."""
    assert source.config is not None
    layers = _layers(Path(source.prefix).parent)
    (name, point), *_ = whole.points.items()
    if not point.choices:
        return {}
    found = []
    for choice in point.choices:
        madds = [_madds(layers, name, choice.name, number) for number in choice.numbers]
        known = tuple(one for one in madds if one is not None)
        found.append(texts.ChoiceText(choice.name, choice.numbers, known))
    budgets: list[texts.BudgetText] = []
    for name in whole.points:
        budgets += _budgets(source, name)
    return {
        'choices': tuple(found),
        'executed': 'as the output executed says, image by image',
        'budgets': tuple(budgets),
    }


def _budgets(source: Checkpoint, name: str) -> list[texts.BudgetText]:
    """Recorded ways to run what chooses image by image, cheapest first.

    Args:
        source: the checkpoint.
        name: of what chooses.
    """
    config = source.config
    assert config is not None
    folder = Path(source.prefix).parent
    point = Point.within(name)
    if config.network().points[0].exit is not None:
        return _thresholds(source, name)
    # Gates of blocks are evaluated under the name of their size.
    for recorded in (name, str(point)):
        score = _score(source, recorded)
        madds = records.read_expected_madds(folder, recorded, max(config.sizes))
        if score is not None and madds is not None:
            return [texts.BudgetText(name, score.top1, round(madds))]
    return []


def _thresholds(source: Checkpoint, name: str) -> list[texts.BudgetText]:
    """Thresholds of exits by budget, set on hold-out images and scored on those of evaluation.

    Args:
        source: the checkpoint.
        name: of what chooses.
    """
    size = Point.within(name).size
    assert source.config is not None and size is not None
    folder = Path(source.prefix).parent
    exits = [str(point) for point in source.config.network().points if point.size == size]
    recorded = size in exit_records.recorded_sizes(folder)
    if not recorded or any(_score(source, point) is None for point in exits):
        return []
    found = []
    for choice in selection.front(selection.policies(folder, size, device='')):
        assert choice.policy is not None
        # As exact as the input takes them.
        thresholds = np.array(choice.policy.thresholds, np.float32).tolist()
        found.append(texts.BudgetText(name, choice.top1, round(choice.madds), tuple(thresholds)))
    return found


def _madds(layers: Layers, name: str, choice: str, number: int) -> int | None:
    """Multiply-adds that a choice adds to what is always executed; None without layer records.

    Args:
        layers: of the run.
        name: of what chooses.
        choice: axis of operating points, or scope of what is executed or not.
        number: that is chosen.
    """
    size = Point(size=Point.within(name).size)
    if choice in {field.name for field in dataclasses.fields(Point)}:
        chosen = dataclasses.replace(size, **{choice: number})
        found = costs.point_cost(layers, str(chosen), ())
        return found.madds if found else None
    if str(size) not in layers:
        return None
    return number * cost.madds([layer for layer in layers[str(size)] if layer.gate == choice])


def _always(layers: Layers, name: str) -> int | None:
    """Multiply-adds of what is executed whatever is chosen; None without layer records."""
    if not layers:
        return None
    always = layers.get(str(Point(size=Point.within(name).size)), ())
    return cost.madds([layer for layer in always if not layer.gate])


def _layers(folder: Path) -> Layers:
    """Layer records of a run; none of a checkpoint that lies alone."""
    if not (folder / 'layers.json').exists():
        return {}
    return records.read_layers(folder)


def _score(source: Checkpoint, point: str) -> records.Score | None:
    """The record of evaluation of this very checkpoint at a point; None if there is none."""
    prefix = Path(source.prefix)
    path = prefix.parent / 'eval' / f'{point}.json'
    if source.weights != 'raw' or not path.exists():
        return None
    score = records.read_score(path)
    other = Path(score.checkpoint or prefix).name != prefix.name
    if other or score.bn != point:
        return None
    return score


def images(rule: Preprocessing, *, resizes: bool = True) -> texts.ImageText:
    """How images are prepared.

    Args:
        rule: of the run.
        resizes: whether the file makes the sizes of its points itself.
    """
    numbers = inputs.parse(rule.inputs)
    inside = ['divide by 255']
    if numbers.rgb:
        inside.insert(0, 'turn BGR into RGB')
    if numbers.mean:
        inside += ['subtract mean', 'divide by std']
    order = GREY if numbers.grey else 'BGR'
    network_order = 'RGB' if numbers.rgb else order
    before = [f'decode to 8-bit {order}, as OpenCV reads files']
    if rule.antialias:
        before.append(rule.eval_rule('side'))
        view = None
    else:
        before.append(rule.eval_rule(rule.image_size))
        view = rule.image_size
        resize = f'resize to size x size: {_RESIZES[rule.resize]}'
        steps = inside if resizes else before
        steps.append(resize)
    return texts.ImageText(
        dtype='uint8' if resizes else 'float32',
        layout='NHWC',
        channels=order,
        before=tuple(before),
        inside=tuple(inside),
        network_channels=network_order,
        mean=numbers.mean,
        std=numbers.std,
        augmentation=augment.evaluated_as(rule.augmentation),
        resize=rule.resize,
        inputs=rule.inputs,
        view=view,
    )


# What the resizes of the graph are, in words.
_RESIZES = {
    'area': 'means over areas, not rounded',
    'nearest': 'row and column floor(i * view / size)',
}


def _network(source: Checkpoint) -> texts.NetworkText:
    config = source.config
    assert config is not None
    bits = records.quantization_of(config.flat())
    return texts.NetworkText(
        net=config.net,
        arch=config.arch,
        width=config.width,
        classes=config.classes,
        weights=bits.weight,
        activations=bits.activation,
        qw=bits.qw,
        qa=bits.qa,
        stem_bits=bits.stem_bits,
        head_bits=bits.head_bits,
        policy=tuple(map(_spelled, bits.rules)),
    )


def _spelled(rule: Rule) -> str:
    return repr(rule)


def _source(source: Checkpoint) -> texts.SourceText:
    config = source.config
    assert config is not None
    prefix = Path(source.prefix)
    found: dict[str, Any] = {}
    record = data_record.read(prefix.parent)
    if record is not None:
        for part, identity in (('training', record.train), ('validation', record.val)):
            if identity is not None:
                found[f'{part}_images'] = identity.images
                found[f'{part}_crc32'] = identity.crc32
                found[f'{part}_content'] = identity.content or None
    return texts.SourceText(
        run=prefix.absolute().parent.name,
        checkpoint=prefix.name,
        weights=source.weights,
        sha256=digest(source.values),
        data=records.dataset_of(config.flat()),
        **found,
    )


def digest(values: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays, whatever file holds them.

    >>> digest({'a': np.zeros(2), 'b': np.ones(1)})[:12]
    '4e50afe9d9f1'
    """
    found = hashlib.sha256()
    for name in sorted(values):
        array = np.ascontiguousarray(values[name])
        start = f'{name} {array.dtype.str} {array.shape}\n'
        found.update(start.encode(errors='surrogateescape'))
        found.update(array.tobytes())
    return found.hexdigest()
