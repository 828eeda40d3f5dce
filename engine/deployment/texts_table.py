"""The texts of an exported file as tables for the console."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from engine.data.inputs import GREY
from engine.deployment.texts import Texts

# Names of classes that are shown.
SHOWN = 12

_POINTS = (
    'point',
    'image side',
    'size',
    'top-1, %',
    'top-5, %',
    'evaluated images',
    'MAdds, M',
    'weights, kB',
)
_FORMATS = ('', '', '', '.2f', '.2f', '', '.3f', '.1f')


def table(found: Texts) -> str:
    """All texts: what runs, what runs it, what it was made of."""
    parts = [_points(found), _about(found)]
    if found.budgets:
        rows = [
            (one.point, one.madds / 1e6, one.top1, _spelled(one.thresholds))
            for one in found.budgets
        ]
        headers = ('chosen by', 'mean MAdds, M', 'top-1, %', 'thresholds')
        parts.append(tabulate(rows, headers, floatfmt=('', '.3f', '.2f')))
    if found.verified:
        rows = [dataclasses.astuple(one) for one in found.verified]
        headers = ('checked with', 'point', 'images', 'answers that differ')
        parts.append(tabulate(rows, headers, disable_numparse=True))
    return '\n\n'.join(parts)


def _points(found: Texts) -> str:
    rows = []
    for one in found.points:
        madds = _scaled(one.madds, 1e6)
        weights = _scaled(one.weight_bytes, 1e3)
        score = (one.top1, one.top5, one.evaluated)
        rows.append((one.point, one.side, one.size, *score, madds, weights))
    return tabulate(rows, _POINTS, floatfmt=_FORMATS)


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _about(found: Texts) -> str:
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
        ways = dict(zip(choice.numbers, choice.madds or choice.numbers))
        spelled = ', '.join(f'{number}: {madds:,} MAdds' for number, madds in ways.items())
        rows.append((f'executed: {choice.name}', spelled if choice.madds else str(choice.numbers)))
    for value in (found.network, found.source, found.versions):
        for field in dataclasses.fields(value):
            member = getattr(value, field.name)
            if member is not None and member != ():
                rows.append((field.name.replace('_', ' '), _spelled(member)))
    return tabulate(rows, tablefmt='plain', disable_numparse=True)


def _steps(name: str, steps: Sequence[str]) -> list[tuple[str, str]]:
    """A line for each step."""
    names = [name, *[''] * (len(steps) - 1)]
    return list(zip(names, steps))


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
