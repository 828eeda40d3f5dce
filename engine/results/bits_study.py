"""The tables and the figure of a study of bits, made of its records alone."""

import collections
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import UsageError
from engine.figures import legend_below, new_figure
from engine.results import study_records
from engine.results.formats import Column, Table
from engine.results.study_records import NOTHING, Result, Study
from nets.points import Point

# Of weights and of activations; each is the name of a precision.
BITS = 4, 3, 2

# How networks were trained, as records name it, and what a table calls them.
INDIVIDUAL, LONGER, TAUGHT = 'individual', 'individual-3x', 'individual-taught'
NESTED, OWN, CUT = 'nested', 'own', 'cut'
ADABITS, ANY_PRECISION, UNTRAINED = 'adabits', 'anyprecision', 'untrained'
LABELS = {
    INDIVIDUAL: 'three networks',
    LONGER: 'three networks, 3 x the steps',
    TAUGHT: 'three networks, taught by the float one',
    OWN: 'one network, `lq`',
    ANY_PRECISION: 'one network, `anyprecision`',
    NESTED: 'one network, `lq(nested=True)`',
    CUT: "one network, `lq(nested='cut')`",
    ADABITS: 'one network, `adabits`',
    UNTRAINED: 'the network of 4 bits, cut without training',
}

# Those that the figure shows, and how.
LINES = {INDIVIDUAL: 'C7s--', OWN: 'C1^--', NESTED: 'C0o-', CUT: 'C2v-', ADABITS: 'C4D-'}


class Row(NamedTuple):
    """Networks of one kind in numbers.

    Attributes:
        means: Top-1 by bits and seed, mean over the sizes.
        code_bytes: Of the codes of all precisions.
        weight_bytes: Of all packed weights, with bases and biases.
        cpu_seconds: Of the training steps of a seed.
    """

    means: Mapping[int, Mapping[int, float]]
    code_bytes: int
    weight_bytes: int
    cpu_seconds: float

    def top1(self, bits: Sequence[int]) -> dict[int, float]:
        """Top-1 by seed, mean over precisions."""
        found = {}
        for seed in self.means[bits[0]]:
            found[seed] = statistics.fmean(self.means[one][seed] for one in bits)
        return found

    def minus(self, other: 'Row', bits: Sequence[int]) -> list[float]:
        """Differences of that to another row, for seeds that both have."""
        theirs = other.top1(bits)
        own = self.top1(bits)
        return [own[seed] - theirs[seed] for seed in own if seed in theirs]

    def kept_bytes(self, bits: int, alone: 'Row') -> float:
        """Bytes of the codes that a device keeps to run at a precision and all of fewer bits.

        Args:
            bits: Of the precision.
            alone: The networks of one precision each, which share no codes.
        """
        if self.code_bytes < alone.code_bytes:
            return self.code_bytes * bits / max(BITS)
        return self.code_bytes * sum(one for one in BITS if one <= bits) / sum(BITS)


def methods(results: Iterable[Result]) -> list[Result]:
    """The networks that are compared; the others but the float ones are to choose by."""
    return [result for result in results if result.recipe in LABELS]


def ways(results: Iterable[Result]) -> list[Result]:
    """The networks by which it is chosen how precisions of one network learn together."""
    return [result for result in results if result.recipe and result.recipe not in LABELS]


def rows(results: Sequence[Result]) -> dict[str, Row]:
    """Networks by how they were trained.

    Seeds of which less is done than of others are left out, so that all rows have the same.

    Args:
        results: Of ``methods`` or ``ways``.
    """
    of_seed = collections.Counter(result.seed for result in results)
    most = max(of_seed.values(), default=0)
    of_recipe: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: (result.recipe, result.seed)):
        if of_seed[result.seed] == most and result.top1:
            of_recipe.setdefault(result.recipe, []).append(result)
    found = {recipe: _row(same) for recipe, same in of_recipe.items()}
    return {recipe: row for recipe, row in found.items() if row is not None}


def _row(results: Sequence[Result]) -> Row | None:
    """All networks of one kind; None where no seed has all precisions.

    Of several networks of a seed, bytes and times are added up.
    """
    of_seed: dict[int, list[Result]] = {}
    for result in results:
        of_seed.setdefault(result.seed, []).append(result)
    means: dict[int, dict[int, float]] = {bits: {} for bits in BITS}
    seconds = []
    for seed, same in of_seed.items():
        values: dict[int, list[float]] = {}
        for result in same:
            for point, top1 in result.top1.items():
                values.setdefault(Point.parse(point).bits or result.bits, []).append(top1)
        if values.keys() == set(BITS):
            complete = same
            seconds.append(sum((result.step_ms or 0) * result.steps / 1e3 for result in same))
            for bits in BITS:
                means[bits][seed] = statistics.fmean(values[bits])
    if not seconds:
        return None
    return Row(
        means,
        sum(result.code_bytes or 0 for result in complete),
        sum(result.weight_bytes or 0 for result in complete),
        statistics.median(seconds),
    )


def chosen(results: Iterable[Result], wanted: int) -> str:
    """How precisions of one network learn together: the best on images that were set aside.

    Empty while fewer than ``wanted`` networks are scored.

    Args:
        results: Of a study.
        wanted: Number of networks to choose by.
    """
    tried = ways(results)
    if len(tried) < wanted:
        return ''
    found: dict[str, list[float]] = {}
    for result in tried:
        found.setdefault(result.recipe, []).append(result.mean)
    means = {way: statistics.fmean(values) for way, values in sorted(found.items())}
    return max(means, key=means.__getitem__)


def tables(study: Study) -> list[Table]:
    """The networks, and the ways to learn together that were chosen from."""
    found = rows(methods(study.results))
    known = {recipe: found[recipe] for recipe in LABELS if recipe in found}
    tried = rows(ways(study.results))
    return [
        _table('methods', known, found.get(INDIVIDUAL), 'minus three networks'),
        _table('ways', tried, next(iter(tried.values()), None), 'minus the first'),
    ]


def _table(name: str, found: Mapping[str, Row], reference: Row | None, compared: str) -> Table:
    """One row for each kind of networks.

    Args:
        name: Of the table.
        found: By how they were trained.
        reference: What all are compared with.
        compared: Title of the column of differences.
    """
    precisions = [f'W{bits}A{bits}' for bits in BITS]
    columns = [
        Column('', 'trained'),
        *[Column('', precision) for precision in precisions],
        Column('', f'{compared} at {" / ".join(map(str, BITS))} bits (sd of pairs)'),
        Column('', 'mean'),
        Column('recipe'),
        Column('seeds'),
    ]
    for part in (*[f'b{bits}' for bits in BITS], 'mean'):
        columns += map(Column, (f'top1_{part}', f'sd_{part}', f'minus_{part}', f'minus_sd_{part}'))
    columns += [
        Column('code_bytes', 'codes kB', 1, 1e3),
        Column('weight_bytes', 'weights kB', 1, 1e3),
        Column('cpu_seconds', 'CPU s', 0),
    ]
    cells = [_cells(recipe, row, reference) for recipe, row in found.items()]
    return Table(name, columns, cells)


def _cells(recipe: str, row: Row, reference: Row | None) -> list[Any]:
    """Networks of one kind in the columns of ``_table``."""
    spreads, differences = [], []
    numbers: list[float | None] = []
    for bits in (*[(one,) for one in BITS], BITS):
        values = list(row.top1(bits).values())
        pairs: list[float] = []
        mean = None
        if reference is not None and row is not reference:
            pairs = row.minus(reference, bits)
        if pairs:
            mean = statistics.fmean(pairs)
        spreads.append(study_records.spread(values))
        differences.append(study_records.difference(pairs))
        numbers += [statistics.fmean(values), study_records.deviation(values)]
        numbers += [mean, study_records.deviation(pairs)]
    compared = ' / '.join(filter(None, differences[: len(BITS)]))
    return [
        LABELS.get(recipe, recipe.replace('-', ', ')),
        *spreads[: len(BITS)],
        compared,
        spreads[-1],
        recipe,
        len(row.means[BITS[0]]),
        *numbers,
        row.code_bytes,
        row.weight_bytes,
        row.cpu_seconds,
    ]


def draw(study: Study) -> Any:
    """The figure: top-1 over the codes that a device keeps to run at a precision and at fewer bits.

    Args:
        study: The records.

    Raises:
        UsageError: Nothing is scored yet, or matplotlib is not installed.
    """
    found = rows(methods(study.results))
    if INDIVIDUAL not in found:
        raise UsageError(NOTHING)
    figure = new_figure(8.0, 5.2)
    axes = figure.subplots()
    for recipe, style in LINES.items():
        if recipe in found:
            _draw_line(axes, found[recipe], found[INDIVIDUAL], style, LABELS[recipe])
    axes.set_xlabel('kB of codes that a device keeps, to run at this precision and at fewer bits')
    axes.set_ylabel('top-1 (%), mean over the sizes')
    axes.grid(color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_xlim(left=0)
    legend_below(axes, columns=2)
    return figure


def _draw_line(axes: Any, row: Row, alone: Row, style: str, label: str) -> None:
    """One line, a point for each precision with the deviation over the seeds."""
    bits = sorted(BITS)
    kilobytes = [row.kept_bytes(one, alone) / 1e3 for one in bits]
    values = [list(row.means[one].values()) for one in bits]
    heights = [statistics.fmean(one) for one in values]
    errors = [study_records.deviation(one) or 0.0 for one in values]
    axes.errorbar(
        kilobytes,
        heights,
        errors,
        fmt=style,
        elinewidth=0.8,
        markersize=5,
        label=label.replace('`', ''),
    )
    if row is alone:
        for one, x, y in zip(bits, kilobytes, heights):
            place = {'xytext': (-7, 5), 'textcoords': 'offset points', 'ha': 'right'}
            axes.annotate(f'{one} bits', (x, y), **place)
