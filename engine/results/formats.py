"""Tables as text that fits 100 columns, as markdown or LaTeX, and as data: csv or json."""

import csv
import dataclasses
import html
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from engine.files import to_json

FORMATS = ('text', 'markdown', 'csv', 'json', 'latex')

# Those whose numbers have no units, and which are not made to be read.
DATA = ('csv', 'json')

# Columns of a text, and the least that a cell gets which has to be broken.
WIDTH, LEAST = 100, 10

# What a cell without a value says.
MISSING = '-'

_TABULATE = {
    'text': 'simple',
    'markdown': 'github',
    'latex': 'latex_booktabs',
    'html': 'html',
}

# Spaces between two columns of a text, and those that tabulate leaves beside a header.
_GAP, _PADDING = 2, 2

# Of a cell, the parts that lines are made of; the dashes of a flag stay with it.
_PIECES = re.compile(r'-*[^\s/_-]+(?:\s+|[/_-]+)?|[\s/_-]+')


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        field: Its name in csv and json; empty: it is for readers only.
        title: Its header with the unit; empty: it is for csv and json only.
        decimals: Of a number as readers see it; None: as it is.
        unit: By which readers see a number divided; csv and json have it whole.
    """

    field: str
    title: str = ''
    decimals: int | None = None
    unit: float = 1.0

    def text(self, value: Any) -> str:
        """A cell for readers."""
        if value is None or value == '':
            return MISSING
        if isinstance(value, float | int) and self.decimals is not None:
            rounded = round(value / self.unit, self.decimals) + 0.0  # never -0.0
            return f'{rounded:.{self.decimals}f}'
        return str(value)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that a script prints.

    Attributes:
        name: Of its rows in json.
        columns: In order.
        rows: A value by column, each; None is unknown.
        title: Above it, for readers; empty for none.
        notes: Lines below it, for readers.
    """

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    title: str = ''
    notes: Sequence[str] = ()

    @property
    def fields(self) -> list[str]:
        """Names of the columns that csv and json have."""
        return [column.field for column in self.columns if column.field]

    def data(self) -> list[dict[str, Any]]:
        """Rows as csv and json have them."""
        found = []
        for row in self.rows:
            cells = zip(self.columns, row)
            found.append({column.field: value for column, value in cells if column.field})
        return found

    def shown(self, style: str) -> str:
        """The table as readers see it, with its title and notes; ``html`` is one more style."""
        places = [place for place, column in enumerate(self.columns) if column.title]
        columns = [self.columns[place] for place in places]
        body = []
        for row in self.rows:
            body.append([self.columns[place].text(row[place]) for place in places])
        align = [_alignment(row[place] for row in self.rows) for place in places]
        headers = [column.title for column in columns]
        parts = [aligned(body, headers, style, align), footnotes(self.notes, style)]
        shown = '\n\n'.join(filter(None, parts))
        return f'{title(self.title, style)}\n\n{shown}' if self.title else shown


def _alignment(values: Iterable[Any]) -> str:
    texts = [isinstance(value, str) for value in values if value is not None]
    return 'left' if any(texts) else 'right'


def render(tables: Sequence[Table], style: str) -> str:
    """Tables one below the other.

    In csv, which holds one table, that are the rows of all that have the columns of the last one.

    Args:
        tables: At least one.
        style: One of ``FORMATS``.
    """
    if style == 'json':
        found: dict[str, list[Any]] = {}
        for table in tables:
            found.setdefault(table.name, []).extend(table.data())
        return to_json(found).rstrip('\n')
    if style == 'csv':
        fields = tables[-1].fields
        rows: list[Mapping[str, Any]] = []
        for table in tables:
            if table.fields == fields:
                rows += table.data()
        return render_csv(fields, (row.values() for row in rows))
    return '\n\n'.join(table.shown(style) for table in tables)


def render_csv(headers: Sequence[str], body: Iterable[Iterable[Any]]) -> str:
    """Comma-separated values with a header line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(headers)
    writer.writerows(body)
    return buffer.getvalue().rstrip('\n')


def aligned(
    body: Sequence[Sequence[str]], headers: Sequence[str], style: str, align: Sequence[str]
) -> str:
    """A table of texts for readers, without the columns that no row has a value in.

    Args:
        body: Rows of cells.
        headers: Of the columns.
        style: One of ``FORMATS`` but for those of ``DATA``, or ``html``.
        align: ``left`` or ``right`` by column.
    """
    kept = []
    for place in range(len(headers)):
        if not body or any(row[place] not in ('', MISSING) for row in body):
            kept.append(place)
    headers = [headers[place] for place in kept]
    align = [align[place] for place in kept]
    cells = [[row[place] for place in kept] for row in body]
    if style == 'text':
        headers, cells = _fitted(headers, cells, align)
    if not cells:
        align = []
    return tabulate(
        cells, headers=headers, tablefmt=_TABULATE[style], colalign=align, disable_numparse=True
    )


def _fitted(
    headers: Sequence[str], body: Sequence[Sequence[str]], align: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows whose lines are broken until they fit: first headers, then texts.

    Args:
        headers: Of the columns.
        body: Rows of cells.
        align: By column; what is right-aligned, numbers, is not broken.
    """
    needed = [max([0, *map(len, cells)]) for cells in zip(*body)] or [0] * len(headers)
    whole = [max(width, len(header) + _PADDING) for width, header in zip(needed, headers)]
    if _width(whole) <= WIDTH:
        return list(headers), [list(row) for row in body]
    widths = []
    for width, header in zip(needed, headers):
        widths.append(max(width, _PADDING + max(map(len, header.split()), default=0)))
    while _width(widths) > WIDTH:
        texts = [place for place, side in enumerate(align) if side == 'left']
        widest = max(texts, key=lambda place: widths[place], default=0)
        if not texts or widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    shown = []
    for header, width in zip(headers, widths):
        shown.append(_broken(header, max(width - _PADDING, 1)))
    rows = []
    for row in body:
        rows.append([_broken(cell, width) for cell, width in zip(row, widths)])
    return shown, rows


def _broken(cell: str, width: int) -> str:
    """A cell in lines that end behind a space, a slash, a dash or an underscore where they can."""
    lines = ['']
    for piece in _PIECES.findall(cell):
        if len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append('')
        while len(piece.rstrip()) > width:
            lines[-1:] = [piece[:width], '']
            piece = piece[width:]
        lines[-1] += piece
    return '\n'.join(line.rstrip() for line in lines if line)


def _width(widths: Sequence[int]) -> int:
    """Columns of a text whose table has columns so wide."""
    return sum(widths) + _GAP * (len(widths) - 1)


def footnotes(lines: Iterable[str], style: str) -> str:
    """Lines below a table."""
    if style == 'html':
        return ''.join(f'<p><small>{html.escape(line)}</small></p>' for line in lines)
    if style == 'text':
        return '\n'.join(_wrapped(line, '  ') for line in lines)
    start = '% ' if style == 'latex' else '- '
    return '\n'.join(start + line for line in lines)


def _wrapped(line: str, indent: str = '') -> str:
    """A line of a text, broken between words."""
    return textwrap.fill(
        line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def title(line: str, style: str) -> str:
    """One line above a table."""
    if style == 'text':
        return _wrapped(line)
    if style == 'html':
        return f'<h3>{html.escape(line)}</h3>'
    return f'% {line}' if style == 'latex' else f'**{line}**'
