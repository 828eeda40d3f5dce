"""The texts of an exported file as tables for the console."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from engine.data.inputs import GREY
from engine.deployment.texts import CascadeText, Texts
from engine.results.formats import Column, Table

# Names of classes that are shown.
SHOWN = 12

_POINTS = (
    Column('point', 'point'),
    Column('side', 'image side'),
    Column('size', 'size'),
    Column('top1', 'top-1, %', 2),
    Column('top5', 'top-5, %', 2),
    Column('evaluated', 'evaluated images'),
    Column('madds', 'MAdds, M', 3, 1e6),
    Column('weight_bytes', 'weights, kB', 1, 1e3),
)
_JUDGED = ('images', 'top1', 'madds')
_FACTS = (Column('fact', 'fact'), Column('value', 'value'))
_STAGES = (
    Column('stage', 'stage'),
    Column('point', 'point'),
    Column('threshold', 'threshold', 4),
    Column('temperature', 'temperature', 3),
    Column('madds', 'MAdds so far, M', 3, 1e6),
    Column('holdout_share', 'hold-out, %', 1, 0.01),
    Column('validation_share', 'validation, %', 1, 0.01),
)
_BUDGETS = (
    Column('point', 'chosen by'),
    Column('madds', 'mean MAdds, M', 3, 1e6),
    Column('top1', 'top-1, %', 2),
    Column('thresholds', 'thresholds'),
)
_VERIFIED = (
    Column('runtime', 'checked with'),
    Column('point', 'point'),
    Column('images', 'images'),
    Column('differing', 'answers that differ'),
)


def tables(found: Texts) -> list[Table]:
    """All texts: what runs, what it was made of, what runs it."""
    parts = [_points(found), Table('facts', _FACTS, _facts(found))]
    if found.cascade is not None:
        parts.append(_stages(found, found.cascade))
    if found.budgets:
        rows = []
        for one in found.budgets:
            rows.append((one.point, one.madds, one.top1, _spelled(one.thresholds)))
        parts.append(Table('budgets', _BUDGETS, rows))
    if found.verified:
        checks = [dataclasses.astuple(one) for one in found.verified]
        parts.append(Table('verified', _VERIFIED, checks))
    return parts


def _points(found: Texts) -> Table:
    rows = []
    for one in found.points:
        score = (one.top1, one.top5, one.evaluated)
        rows.append((one.point, one.side, one.size, *score, one.madds, one.weight_bytes))
    return Table('points', _POINTS, rows)


def _stages(found: Texts, cascade: CascadeText) -> Table:
    (choice,) = found.choices
    costs = choice.madds or (None,) * len(cascade.points)
    columns = (
        choice.numbers,
        cascade.points,
        cascade.thresholds,
        cascade.temperatures,
        costs,
        cascade.holdout_shares,
        cascade.validation_shares,
    )
    return Table('cascade', _STAGES, list(zip(*columns, strict=True)))


def _chosen(cascade: CascadeText) -> list[tuple[str, str]]:
    """How a cascade was chosen, and what it does."""
    rows = [
        ('cascade answers by', cascade.combine),
        ('cascade for', cascade.asked),
        ('cascade in place of', cascade.instead),
        ('cascade of identity', cascade.identity),
    ]
    for name in ('holdout', 'validation'):
        count, top1, madds = [getattr(cascade, f'{name}_{what}') for what in _JUDGED]
        mean = '' if madds is None else f', {madds / 1e6:.3f} M MAdds'
        rows.append((f'cascade, {name}', f'{top1:.2f} % of {count}{mean}'))
    return rows


def _facts(found: Texts) -> list[tuple[str, str]]:
    """A line for each other fact."""
    images = found.images
    channels = 1 if images.channels == GREY else 3
    shape = f'[N, side, side, {channels}]'
    rows = [
        ('input', f'{images.dtype} {shape}, 0 to 255, {images.channels}'),
        *_steps('before it', images.before),
        *_steps('inside', images.inside),
        ('mean', _spelled(images.mean)),
        ('std', _spelled(images.std)),
        ('preparation', f'{images.augmentation}, {images.resize}, {images.inputs}'),
        ('classes', _classes(found)),
        ('executed', found.executed),
    ]
    for choice in found.choices:
        spelled = str(choice.numbers)
        if choice.madds:
            ways = zip(choice.numbers, choice.madds)
            spelled = ', '.join(f'{number}: {madds:,} MAdds' for number, madds in ways)
        rows.append((f'executed: {choice.name}', spelled))
    if found.cascade is not None:
        rows += _chosen(found.cascade)
    for value in (found.network, found.source, found.versions):
        for field in dataclasses.fields(value):
            member = getattr(value, field.name)
            if member is not None and member != ():
                rows.append((field.name.replace('_', ' '), _spelled(member)))
    return rows


def _steps(name: str, steps: Sequence[str]) -> list[tuple[str, str]]:
    """A line for each step."""
    return [(name, step) for step in steps]


def _spelled(value: Any) -> str:
    if isinstance(value, tuple):
        return ', '.join(map(str, value)) or 'none'
    return str(value)


def _classes(found: Texts) -> str:
    names: Sequence[str] = found.class_names
    if not names:
        return f'{found.network.classes}, names not known'
    text = ', '.join(names[:SHOWN])
    if len(names) > SHOWN:
        text += f' and {len(names) - SHOWN} more'
    return f'{len(names)}: {text}'
