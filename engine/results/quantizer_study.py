"""The table and the figure of a study of quantizers, made of its records alone."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.errors import UsageError
from engine.figures import new_figure
from engine.results import study_records
from engine.results.formats import Column, Table
from engine.results.study_records import NOTHING, TEST, Result, Study
from quant.pairs import Pair
from quant.quantizer import FLOAT_BITS

# Points of top-1 below the best that a figure shows; what is worse stands at its edge as a number.
SHOWN = 12.0


class Row(NamedTuple):
    """A method in numbers.

    Attributes:
        results: Of the test set, one per seed.
        reference: Those of the default quantizer at the same bits.
        step_ms: Median over all its trainings.
        file_bytes: Of the exported file; None where there is none.
        failed: Why there is no number; empty where there is one.
    """

    results: list[Result]
    reference: list[Result]
    step_ms: float | None
    file_bytes: int | None
    failed: str = ''

    @property
    def mean(self) -> float:
        """Mean over the seeds of the mean over the operating points."""
        return statistics.fmean(result.mean for result in self.results)

    @property
    def differences(self) -> list[float]:
        """To the default quantizer, seed by seed."""
        of_seed = {result.seed: result.mean for result in self.reference}
        found = []
        for result in self.results:
            if result.seed in of_seed:
                found.append(result.mean - of_seed[result.seed])
        return found


def rows(study: Study, default: str) -> list[Row]:
    """Methods with a number of the test set; of each number of bits the best first.

    Args:
        study: The records.
        default: Spec of the quantizer that others are compared with.
    """
    of_method: dict[Pair, list[Result]] = {}
    for result in study.results:
        of_method.setdefault(result.method, []).append(result)
    found = []
    for method, results in of_method.items():
        tested = [result for result in results if result.scored == TEST and result.top1]
        if not tested:
            continue
        reference = of_method.get(Pair(default, default, method.bits), [])
        times = [result.step_ms for result in results if result.step_ms is not None]
        files = [result.file_bytes for result in results if result.file_bytes is not None]
        tested.sort(key=lambda result: result.seed)
        compared = [result for result in reference if result.scored == TEST and result.top1]
        step_ms = statistics.median(times) if times else None
        file_bytes = files[0] if files else None
        found.append(Row(tested, compared, step_ms, file_bytes))
    return sorted(found, key=lambda row: (-row.results[0].bits, -row.mean))


def table(study: Study, default: str) -> Table:
    """The table of a study, one row a method.

    Args:
        study: The records.
        default: Spec of the quantizer that others are compared with.
    """
    found = rows(study, default)
    points: dict[str, None] = {}
    for row in found:
        points.update(dict.fromkeys(row.results[0].top1))
    # Beside its sign, a difference of fewer deviations of its pairs says nothing.
    columns = [
        Column('', 'bits'),
        Column('', 'weights + activations'),
        Column('', 'top-1'),
        Column('', 'minus default (sd of pairs)'),
        Column('', 'by size'),
        *map(Column, ('bits', 'weights', 'activations')),
        *map(Column, ('top1', 'top1_sd', 'difference', 'difference_sd')),
        *[Column(f'top1_{point}') for point in points],
        Column('rates'),
        Column('seeds'),
        Column('step_ms', 'CPU ms / step', 0),
        Column('weight_bytes', 'weights kB', 1, 1e3),
        Column('file_bytes', 'file kB', 1, 1e3),
    ]
    cells = [_cells(row, list(points)) for row in found]
    return Table('methods', columns, cells)


def _cells(row: Row, points: Sequence[str]) -> list[Any]:
    """A method in the columns of ``table``."""
    first = row.results[0]
    means = [result.mean for result in row.results]
    differences = row.differences
    if row.results == row.reference:
        differences = []
    bits, label = f'W{first.bits}A{first.bits}', first.method.label
    if first.bits == FLOAT_BITS:
        bits, label = 'float', ''
    difference = statistics.fmean(differences) if differences else None
    rates = dict.fromkeys(f'{result.rate:g}' for result in row.results)
    by_size = study_records.by_point(row.results)
    texts = [f'{by_size[point]:.1f}' for point in points if point in by_size]
    return [
        bits,
        label,
        study_records.spread(means),
        study_records.difference(differences),
        ' / '.join(texts),
        first.bits,
        first.weight,
        first.activation,
        statistics.fmean(means),
        study_records.deviation(means),
        difference,
        study_records.deviation(differences),
        *[by_size.get(point) for point in points],
        ', '.join(rates),
        len(row.results),
        row.step_ms,
        first.weight_bytes,
        row.file_bytes,
    ]


def draw(study: Study, default: str) -> Any:
    """The figure: for every number of bits the methods, a dot per seed, and a line at the default.

    Args:
        study: The records.
        default: Spec of the quantizer that others are compared with.

    Raises:
        UsageError: Nothing is scored yet, or matplotlib is not installed.
    """
    of_bits: dict[int, list[Row]] = {}
    for row in rows(study, default):
        if row.results[0].bits < FLOAT_BITS:
            of_bits.setdefault(row.results[0].bits, []).append(row)
    if not of_bits:
        raise UsageError(NOTHING)
    heights = [len(found) for found in of_bits.values()]
    figure = new_figure(8.0, 1.2 + 0.27 * sum(heights) + 0.5 * len(heights))
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    for panel, (bits, found) in zip(panels[:, 0], of_bits.items()):
        _draw_bits(panel, bits, found, default)
    panels[-1, 0].set_xlabel('top-1 (%), mean over the sizes; a dot per seed, a bar at their mean')
    return figure


def _draw_bits(panel: Any, bits: int, found: Sequence[Row], default: str) -> None:
    """Draws the methods of one number of bits, the best at the top."""
    places = range(len(found), 0, -1)
    lowest = found[0].mean - SHOWN
    for place, row in zip(places, found):
        first = row.results[0]
        colour = 'C0'
        if first.method == Pair(default, default, bits):
            colour = 'C3'
            panel.axvline(row.mean, color='C3', linewidth=0.8, linestyle=':')
        values = [result.mean for result in row.results]
        if min(values) < lowest:
            panel.text(
                lowest,
                place,
                f'\N{BLACK LEFT-POINTING SMALL TRIANGLE} {row.mean:.1f}',
                va='center',
                fontsize=8,
            )
            continue
        panel.plot(values, [place] * len(values), 'o', color=colour, markersize=4, alpha=0.6)
        panel.plot([row.mean], [place], '|', color=colour, markersize=13, markeredgewidth=2)
    panel.set_yticks(list(places), [row.results[0].method.label for row in found], fontsize=8)
    panel.set_xlim(left=lowest - 0.3)
    panel.set_ylim(0.3, len(found) + 0.7)
    panel.set_title(f'W{bits}A{bits}', fontsize=10, loc='left')
    panel.grid(axis='x', color='0.9')
