"""Cascades in words: a table of what each gives, and how sure that is."""

from collections.abc import Sequence
from typing import Any

from engine.results.cascades import Cascade
from engine.results.exit_records import HOLDOUT, MS, VALIDATION
from engine.results.formats import Column, Table


def readable(value: float, unit: str) -> str:
    """A cost as text."""
    return f'{value:.3g} ms' if unit == MS else f'{value / 1e6:.2f} M'


def table(chosen: Sequence[Cascade]) -> Table:
    """A row for each cascade: accuracy and cost on both sets of images, and where images leave."""
    unit, millions = (MS, 1.0) if chosen[0].unit == MS else (f'{chosen[0].unit}, M', 1e6)
    columns = [Column('asked', 'asked'), Column('chain', 'chain')]
    for field, name in (('holdout', HOLDOUT), ('validation', VALIDATION)):
        columns.append(Column(f'{field}_cost', f'{name} {unit}', 2, millions))
        columns.append(Column(f'{field}_top1', 'top-1', 2))
    columns += [
        Column('instead', 'instead'),
        Column('gain', 'gain'),
        Column('percent_by_stage', '% by stage'),
    ]
    rows = []
    for one in chosen:
        row: list[Any] = [one.asked, one.name]
        for judged in (one.holdout, one.validation):
            row += [judged.cost, judged.top1]
        shares = ' '.join(f'{100 * share:.1f}' for share in one.validation.shares)
        rows.append([*row, one.instead, f'{one.validation.gain:+.2f}', shares])
    return Table('cascades', columns, rows)


def remarks(chosen: Cascade) -> list[str]:
    """Intervals, whether so many images settle anything, and how sure confidence is."""
    lines = []
    for name, judged in ((HOLDOUT, chosen.holdout), (VALIDATION, chosen.validation)):
        top1, cost = judged.top1_interval, judged.cost_interval
        cheap, dear = readable(cost.low, chosen.unit), readable(cost.high, chosen.unit)
        lines.append(
            f'{judged.images} {name} images: top-1 {judged.top1:.2f} [{top1.low:.2f}, '
            f'{top1.high:.2f}], {chosen.unit} {readable(judged.cost, chosen.unit)} '
            f'[{cheap}, {dear}]'
        )
    held = chosen.holdout
    gain = held.gain_interval
    if gain.low <= 0 <= gain.high and len(chosen.points) > 1:
        lines.append(
            f'the hold-out is too small to tell it from {chosen.instead} alone: gain '
            f'{held.gain:+.2f} points [{gain.low:+.2f}, {gain.high:+.2f}] on {held.images} images'
        )
    for name, one in chosen.calibration.items():
        lines.append(
            f'{name}: temperature {one.temperature:.3f}, calibration error {100 * one.error:.2f} '
            f'-> {100 * one.calibrated_error:.2f} % (validation)'
        )
    return lines
