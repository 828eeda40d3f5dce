"""Accuracy of runs beside the published numbers.

    python -m scripts.accuracy_table RUN... [--format github|latex|csv|json] [--compare] [--output FILE]
    python -m scripts.accuracy_table --published              # all published tables, or those of RS-Nets, SAN ...

One row per run and point. github and latex put a side-by-side block (one column of top-1 per curve) first when
several runs are given or ``--compare`` is; individual models of one network share a column. csv holds one table: the
rows, or the side-by-side block with ``--compare``. csv and json hold plain numbers: MAdds and bytes, not M and MB.
"""

import argparse
import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from engine.errors import UsageError
from engine.results import tables
from scripts import status

FIELDS = (*tables.TABLE_FIELDS, 'published_top1', 'published_top5', 'difference', 'source')
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
TABULATE = {'github': 'github', 'latex': 'latex_booktabs'}
VALIDATION_IMAGES = 50000


def format_madds(madds: int | None) -> str:
    """Millions: one decimal below 10 M, else an integer."""
    if madds is None:
        return '-'
    return f'{madds / 1e6:.1f}' if madds < 10e6 else f'{madds / 1e6:.0f}'


def format_bytes(size: int | None) -> str:
    if size is None:
        return '-'
    return f'{size / 1e3:.1f} kB' if size < 1e6 else f'{size / 1e6:.1f} MB'


def format_percent(value: float | None, sign: str = '') -> str:
    return '-' if value is None else f'{round(value, 2) + 0.0:{sign}.2f}'


def plain(row: tables.Row) -> dict[str, Any]:
    """A row as plain data, in the order of ``FIELDS``."""
    found = row.published
    values = (found and found.top1, found and found.top5, row.difference, found and found.table)
    return dict(
        zip(FIELDS, (*(getattr(row, name) for name in tables.TABLE_FIELDS), *values), strict=True)
    )


def pretty(row: tables.Row) -> list[str]:
    """A row as text, in the order of ``HEADERS``."""
    found = row.published
    top1, top5 = (found.top1, found.top5) if found else (None, None)
    return [
        row.run,
        f'{row.qw}/{row.qa}',
        row.label,
        format_madds(row.madds),
        format_bytes(row.weight_bytes),
        format_percent(row.top1),
        format_percent(row.top5),
        format_percent(top1),
        format_percent(top5),
        format_percent(row.difference, '+'),
        found.table if found else '-',
    ]


def pretty_published(row: tables.Published) -> list[str]:
    return [
        row.arch,
        f'{row.qw}/{row.qa}',
        tables.size_label(row.point),
        format_madds(row.madds),
        format_percent(row.top1),
        format_percent(row.top5),
        row.table,
    ]


def side_by_side(runs: Sequence[tables.Run]) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of the block with one row per operating point and one top-1 column per curve."""
    curves = tables.curves(runs)
    points = {row.label: tables.point_key(row.point, row.bn) for _, rows in curves for row in rows}
    found = [{row.label: row.top1 for row in rows} for _, rows in curves]
    body = [
        [label, *(top1.get(label) for top1 in found)]
        for label in sorted(points, key=lambda name: points[name])
    ]
    return ['Size', *(label for label, _ in curves)], body


def text_table(headers: Sequence[str], body: Sequence[Sequence[str]], style: str, left: int) -> str:
    """A github or latex table; all but the first ``left`` columns are right-aligned."""
    align = ['left' if i < left or name == 'source' else 'right' for i, name in enumerate(headers)]
    points = [row[headers.index('Size')].split(' ')[0] for row in body]
    sizes = all(point.isdigit() or point == tables.ENSEMBLE for point in points)
    shown = [name if name != 'Size' or sizes else 'Point' for name in headers]
    return tabulate(
        body, headers=shown, tablefmt=TABULATE[style], colalign=align, disable_numparse=True
    )


def footnotes(
    published: Iterable[tables.Published], partial: Iterable[tables.Row], style: str
) -> str:
    """The full sources, and the rows that saw only a part of the validation images."""
    lines = [f'{table}: {source}' for table, source in sources(published).items()]
    lines += [
        f'{row.run}, {row.label}: measured on {row.images} of {VALIDATION_IMAGES} images'
        for row in partial
    ]
    return '\n'.join(item(line, style) for line in lines)


def item(line: str, style: str) -> str:
    return f'% {line}' if style == 'latex' else f'- {line}'


def comment(line: str, style: str) -> str:
    return f'% {line}' if style == 'latex' else f'**{line}**'


def sources(published: Iterable[tables.Published]) -> dict[str, str]:
    return {row.table: row.source for row in published}


def render_text(runs: Sequence[tables.Run], style: str, compare: bool) -> str:
    rows = [row for run in runs for row in run.rows]
    blocks = []
    if compare:
        headers, body = side_by_side(runs)
        cells = [[row[0], *map(format_percent, row[1:])] for row in body]
        blocks.append(text_table(headers, cells, style, 1))
    blocks.append(text_table(HEADERS, [pretty(row) for row in rows], style, 3))
    partial = [
        row for row in rows if row.published and row.images and row.images < VALIDATION_IMAGES
    ]
    blocks.append(footnotes([row.published for row in rows if row.published], partial, style))
    return '\n\n'.join(block for block in blocks if block)


def render_csv(headers: Sequence[str], body: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(headers)
    writer.writerows(body)
    return buffer.getvalue().rstrip('\n')


def render_json(runs: Sequence[tables.Run], compare: bool) -> str:
    rows = [row for run in runs for row in run.rows]
    data: dict[str, Any] = {
        'rows': [plain(row) for row in rows],
        'sources': sources(row.published for row in rows if row.published),
    }
    if compare:
        headers, body = side_by_side(runs)
        data['compare'] = {'curves': headers[1:], 'points': {row[0]: row[1:] for row in body}}
    return json.dumps(data, indent=2)


def render(runs: Sequence[tables.Run], style: str, compare: bool | None) -> str:
    """The tables of runs; ``compare`` None means: for more than one run, except in csv."""
    several = len(runs) > 1 if compare is None else compare
    if style == 'json':
        return render_json(runs, several)
    if style == 'csv':
        if compare:
            return render_csv(*side_by_side(runs))
        return render_csv(FIELDS, (list(plain(row).values()) for run in runs for row in run.rows))
    return render_text(runs, style, several)


def render_published(system: str, style: str) -> str:
    """The published tables of a system, or of all for an empty name, with what is to be known about them."""
    known = sorted({row.system for row in tables.published_rows()})
    rows = [
        row for row in tables.published_rows() if not system or row.system.lower() == system.lower()
    ]
    if not rows:
        raise UsageError(f'--published {system}: no published table; known are {", ".join(known)}')
    notes = [] if system else tables.published()['notes']
    left_out = ('source', 'title')
    fields: list[Mapping[str, Any]] = [
        {key: value for key, value in vars(row).items() if key not in left_out} for row in rows
    ]
    if style == 'json':
        return json.dumps({'rows': fields, 'sources': sources(rows), 'notes': notes}, indent=2)
    if style == 'csv':
        return render_csv(list(fields[0]), (list(row.values()) for row in fields))
    parts = []
    for _, group in itertools.groupby(rows, key=lambda row: row.table):
        table = list(group)
        parts.append(
            f'{comment(f"{table[0].system}: {table[0].title}", style)}\n\n'
            + text_table(PUBLISHED_HEADERS, [pretty_published(row) for row in table], style, 3)
        )
    return '\n\n'.join(
        [*parts, '\n'.join([footnotes(rows, (), style), *(item(note, style) for note in notes)])]
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m scripts.accuracy_table',
        description='Accuracy of runs beside the published numbers.',
    )
    parser.add_argument('runs', nargs='*', metavar='RUN', help='run folder with evaluation records')
    parser.add_argument('--format', default='github', choices=('github', 'latex', 'csv', 'json'))
    parser.add_argument(
        '--compare',
        action=argparse.BooleanOptionalAction,
        default=None,
        help='top-1 side by side (default: with more than one run)',
    )
    parser.add_argument(
        '--output', metavar='FILE', help='write here instead of to the standard output'
    )
    parser.add_argument(
        '--published',
        nargs='?',
        const='',
        metavar='SYSTEM',
        help='without runs: print the published tables, all or those of a system',
    )
    args = parser.parse_args(argv)
    if bool(args.runs) == (args.published is not None):
        parser.error('give run folders, or --published without any')
    return args


def run(args: argparse.Namespace) -> str | None:
    """The table, unless ``--output`` takes it."""
    if args.published is not None:
        text = render_published(args.published, args.format)
    else:
        text = render(tables.read_runs(args.runs), args.format, args.compare)
    if args.output is None:
        return text
    with tables.replacing(args.output) as temporary:
        temporary.write_text(text + '\n', encoding='utf-8')
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('accuracy_table', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
