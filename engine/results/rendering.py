"""Tables of runs and of published numbers as text, csv or json."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from engine.errors import UsageError
from engine.files import to_json
from engine.results import formats, published, tables
from engine.results.conditions import labels
from engine.results.formats import MISSING
from engine.results.published import Published
from engine.results.tables import Row, Run, size_label
from nets.points import ENSEMBLE

FIELDS = (*tables.TABLE_FIELDS, 'published_top1', 'published_top5', 'difference', 'source')
# A field of json, and of csv where rows differ in it.
CONDITIONS = 'conditions'
HEADERS = (
    'Run',
    'W/A',
    'Size',
    'MAdds (M)',
    'Weights',
    'top-1',
    'top-5',
    'published top-1',
    'published top-5',
    'difference',
    'source',
)
PUBLISHED_HEADERS = ('Network', 'W/A', 'Size', 'MAdds (M)', 'top-1', 'top-5', 'source')
VALIDATION_IMAGES = 50000

# Fields of a published row that csv and json leave out: sentences, which stand below the tables.
_SENTENCES = ('title', 'source')


def format_madds(madds: float | None) -> str:
    """Millions: one decimal below 10 M, else an integer."""
    if madds is None:
        return MISSING
    decimals = 1 if madds < 10e6 else 0
    return f'{madds / 1e6:.{decimals}f}'


def format_bytes(size: int | None) -> str:
    """Kilobytes, or megabytes from one on."""
    if size is None:
        return MISSING
    return f'{size / 1e3:.1f} kB' if size < 1e6 else f'{size / 1e6:.1f} MB'


def format_percent(value: float | None, sign: str = '') -> str:
    """Two decimals; ``sign`` as in a format."""
    if value is None:
        return MISSING
    rounded = round(value, 2) + 0.0  # never -0.0
    return f'{rounded:{sign}.2f}'


def plain(row: Row, *more: str) -> dict[str, Any]:
    """A row as plain data, in the order of ``FIELDS``, then ``more`` fields of it."""
    values = dict.fromkeys(FIELDS)
    values |= {name: getattr(row, name) for name in more}
    for name in tables.TABLE_FIELDS:
        values[name] = getattr(row, name)
    found = row.published
    if found is not None:
        values['published_top1'] = found.top1
        values['published_top5'] = found.top5
        values['difference'] = row.difference
        values['source'] = found.table
    return values


def pretty(row: Row) -> list[str]:
    """A row as text, in the order of ``HEADERS``."""
    values = plain(row)
    return [
        row.run,
        f'{row.qw}/{row.qa}',
        row.label,
        format_madds(row.madds),
        format_bytes(row.weight_bytes),
        format_percent(row.top1),
        format_percent(row.top5),
        format_percent(values['published_top1']),
        format_percent(values['published_top5']),
        format_percent(row.difference, '+'),
        values['source'] or MISSING,
    ]


def pretty_published(row: Published) -> list[str]:
    """A published row as text, in the order of ``PUBLISHED_HEADERS``."""
    return [
        row.arch,
        f'{row.qw}/{row.qa}',
        size_label(row.point),
        format_madds(row.madds),
        format_percent(row.top1),
        format_percent(row.top5),
        row.table,
    ]


def side_by_side(runs: Sequence[Run]) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of top-1: a row per operating point, a column per curve."""
    curves = tables.curves(runs)
    headers = ['Size']
    top1: dict[str, list[float | None]] = {}
    for row in sorted(tables.rows_of(curves), key=tables.sort_key):
        top1[row.label] = [None] * len(curves)
    for column, (label, rows) in enumerate(curves):
        headers.append(label)
        for row in rows:
            top1[row.label][column] = row.top1
    return headers, [[point, *values] for point, values in top1.items()]


def text_table(headers: Sequence[str], body: Sequence[Sequence[str]], style: str, left: int) -> str:
    """A table for readers.

    Args:
        headers: Of the columns; one is ``Size``, which becomes ``Point`` where not all are sizes.
        body: Rows of cells.
        style: ``text``, ``markdown`` or ``latex``.
        left: Number of left-aligned columns at the start; the others but ``source`` are
            right-aligned.
    """
    column = headers.index('Size')
    points = [row[column].split(' ')[0] for row in body]
    shown = list(headers)
    if not all(point.isdigit() or point == ENSEMBLE for point in points):
        shown[column] = 'Point'
    align = ['right'] * len(headers)
    for i, name in enumerate(headers):
        if i < left or name == 'source':
            align[i] = 'left'
    return formats.aligned(body, shown, style, align)


def sources(rows: Iterable[Published]) -> dict[str, str]:
    """Where the numbers of published tables stand, by short name of the table."""
    return {row.table: row.source for row in rows}


def compared_with(rows: Iterable[Row]) -> list[Published]:
    """The published rows beside those of runs."""
    return [row.published for row in rows if row.published is not None]


def source_lines(rows: Iterable[Published]) -> list[str]:
    """The sources as sentences."""
    return [f'{table}: {source}' for table, source in sources(rows).items()]


def render_text(runs: Sequence[Run], style: str, compare: bool) -> str:
    """Tables of runs with footnotes.

    Args:
        runs: To show.
        style: ``text``, ``markdown`` or ``latex``.
        compare: Whether the side-by-side block comes first.
    """
    rows = tables.all_rows(runs)
    blocks = []
    if compare:
        curves, body = side_by_side(runs)
        columns = [[point, *map(format_percent, values)] for point, *values in body]
        blocks.append(text_table(curves, columns, style, 1))
    named = labels(row.conditions for row in rows)
    cells = list(map(pretty, rows))
    headers = list(HEADERS)
    if len(named) > 1:
        headers.insert(1, 'Measured on')
        for row, texts in zip(rows, cells):
            texts.insert(1, named[row.conditions])
    blocks.append(text_table(headers, cells, style, len(headers) - len(HEADERS) + 3))
    lines = source_lines(compared_with(rows))
    for row in rows:
        if row.published and row.images and row.images < VALIDATION_IMAGES:
            lines.append(
                f'{row.run}, {row.label}: measured on {row.images} of {VALIDATION_IMAGES} images'
            )
    blocks.append(formats.footnotes(lines, style))
    return '\n\n'.join(filter(None, blocks))


def render_json(runs: Sequence[Run], compare: bool) -> str:
    """Rows, sources and, if wanted, the side-by-side block."""
    rows = tables.all_rows(runs)
    data: dict[str, Any] = {
        'rows': [plain(row, CONDITIONS) for row in rows],
        'sources': sources(compared_with(rows)),
    }
    if compare:
        headers, body = side_by_side(runs)
        points = {point: values for point, *values in body}
        data['compare'] = {'curves': headers[1:], 'points': points}
    return to_json(data)


def render(runs: Sequence[Run], style: str, compare: bool | None) -> str:
    """The tables of runs.

    Args:
        runs: To show.
        style: One of ``formats.FORMATS``.
        compare: Whether to put top-1 side by side; None: for more than one run, except in csv,
            which holds one table.
    """
    if style == 'csv':
        if compare:
            return formats.render_csv(*side_by_side(runs))
        rows = tables.all_rows(runs)
        more = [CONDITIONS] if len(labels(row.conditions for row in rows)) > 1 else []
        return formats.render_csv([*FIELDS, *more], (plain(row, *more).values() for row in rows))
    if compare is None:
        compare = len(runs) > 1
    if style == 'json':
        return render_json(runs, compare)
    return render_text(runs, style, compare)


def render_published(system: str, style: str) -> str:
    """Published tables, with what is to be known about them.

    Args:
        system: Whose; empty for all.
        style: One of ``formats.FORMATS``.

    Raises:
        UsageError: There is no table of such a system.
    """
    rows = published.rows()
    if system:
        rows = tuple(row for row in rows if row.system.lower() == system.lower())
    if not rows:
        known = sorted({row.system for row in published.rows()})
        raise UsageError(f'--published {system}: no published table; known are {", ".join(known)}')
    notes = [] if system else published.notes()
    if style in formats.DATA:
        fields = list(map(_without_sentences, rows))
        if style == 'csv':
            return formats.render_csv(list(fields[0]), (row.values() for row in fields))
        return to_json({'rows': fields, 'sources': sources(rows), 'notes': notes})
    parts = []
    for _, group in itertools.groupby(rows, key=lambda row: row.table):
        table = list(group)
        heading = formats.title(f'{table[0].system}: {table[0].title}', style)
        cells = list(map(pretty_published, table))
        parts.append(f'{heading}\n\n{text_table(PUBLISHED_HEADERS, cells, style, 3)}')
    lines = [*source_lines(rows), *notes]
    parts.append(formats.footnotes(lines, style))
    return '\n\n'.join(parts)


def _without_sentences(row: Published) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if name not in _SENTENCES}
