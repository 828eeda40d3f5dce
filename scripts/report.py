"""One page about run folders that opens from disk: tables, pictures, bits of every layer, gates, exits, commands.

    python -m scripts.report RUN... -o report.html

The page holds everything itself and asks no network for anything. Pictures need matplotlib.
"""

import argparse
import base64
import html
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from engine.config import cli
from engine.config.config import read_config
from engine.errors import UsageError
from engine.results import selection, tables
from scripts import plot, status

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.8em 0}th,td{padding:.15em .7em;border-bottom:1px solid #ddd;text-align:left}
th{border-bottom:2px solid #999}img{max-width:100%}
figure{display:inline-block;width:48%;margin:0 1% 0 0}pre{background:#f4f4f4;padding:.6em;white-space:pre-wrap}
summary{cursor:pointer;font-weight:600}h2{border-top:1px solid #bbb;padding-top:.6em}"""


def table(rows: Iterable[Sequence[Any]], headers: Sequence[str]) -> str:
    """A table without the columns that are empty."""
    columns = [
        column
        for column in zip(headers, *rows)
        if any(cell not in (None, '') for cell in column[1:])
    ]
    names, *body = zip(*columns)
    return tabulate(body, headers=names, tablefmt='html', floatfmt='.2f')


def picture(data: bytes, title: str) -> str:
    """An image that is part of the page."""
    return (
        f'<figure><img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f'<figcaption>{html.escape(title)}</figcaption></figure>'
    )


def figure_of(figure: Any, title: str) -> str:
    """A drawn figure as part of the page."""
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=110)
    return picture(stream.getvalue(), title)


def folded(title: str, content: str) -> str:
    return f'<details><summary>{html.escape(title)}</summary>{content}</details>'


def drawn(curves: Sequence[plot.Curve], kind: str) -> str:
    """Accuracy over a cost; nothing where no run has it."""
    if not any(getattr(row, plot.COSTS[kind][1]) is not None for _, rows in curves for row in rows):
        return ''
    return figure_of(plot.draw(curves, kind), f'top-1 over {plot.COSTS[kind][0]}')


def leaving(found: Sequence[selection.Choice]) -> str:
    """Where images leave a network with exits: one bar per budget; nothing without thresholds."""
    found = [one for one in found if one.policy is not None]
    if not found:
        return ''
    figure, axes = plot.new_axes()
    budgets = [f'{one.policy.budget / 1e6:.3g}' for one in found if one.policy is not None]
    below = np.zeros(len(found))
    for exit, share in enumerate(100 * np.array([one.shares for one in found]).T):
        axes.bar(budgets, share, bottom=below, color=f'C{exit}', label=f'exit {exit}')
        below += share
    axes.set_xlabel('budget: mean MAdds of an image (millions)')
    axes.set_ylabel('images that leave at each exit (%)')
    axes.legend(
        loc='lower center', bbox_to_anchor=(0.5, 1), ncols=len(found[0].shares), frameon=False
    )
    return figure_of(figure, f'{found[0].point}: where the validation images leave, by budget')


def measured(folder: Path) -> str:
    """Table of the thresholds that evaluation has run with real early exit."""
    rows = []
    for path in sorted((folder / 'exits').glob('*-measured.json')):
        data = tables.read_json(
            path, f'run `imagenet_tf.py --eval -ec {folder} --thresholds` again'
        )
        rows += [
            (
                path.stem.removesuffix('-measured'),
                way,
                data[way]['top1'],
                data[way]['madds'] / 1e6,
                data[way]['images_per_second'],
                ' / '.join(f'{100 * part:.1f}' for part in data[way]['shares']),
            )
            for way in ('early exit', 'all exits')
        ]
    return (
        table(rows, ('thresholds', '', 'top-1', 'MAdds, M', 'images/s', '% by exit'))
        if rows
        else ''
    )


def points(rows: Iterable[tables.Row]) -> str:
    """Table of operating points."""

    def scaled(value: float | None, unit: float) -> float | None:
        return None if value is None else value / unit

    return table(
        (
            (
                row.point if row.bn == row.point else f'{row.point} (BN {row.bn})',
                row.top1,
                row.top5,
                row.published and row.published.top1,
                scaled(row.madds, 1e6),
                scaled(row.bit_ops, 1e9),
                scaled(row.weight_bytes, 1e3),
                row.ms,
            )
            for row in rows
        ),
        ('point', 'top-1', 'top-5', 'published', 'MAdds, M', 'BitOps, G', 'weights, kB', 'ms'),
    )


def layers(folder: Path) -> str:
    """Table of layers, as the strongest operating point that has each runs it."""
    found = tables.read_layers(folder)
    seen = {layer.name: layer for point in reversed(list(found)) for layer in found[point]}
    return table(
        (
            (
                layer.name,
                layer.role,
                'x'.join(map(str, layer.kernel)),
                layer.weight_bits,
                layer.activation_bits,
                layer.madds / 1e6,
                layer.memory_bits / 8e3,
            )
            for layer in seen.values()
        ),
        ('layer', 'role', 'kernel', 'W bits', 'A bits', 'MAdds, M', 'weights, kB'),
    )


def section(run: tables.Run, folder: Path) -> Iterator[str]:
    """What the page says about one run."""
    config = run.config
    kept = {key: value for key, value in config.items() if value not in (None, '', [], False)}
    yield f'<h2>{html.escape(run.name)}</h2>'
    names = ' '.join(dict.fromkeys((str(config['net']), str(config.get('arch')))))
    yield f'<p>{html.escape(names)}, W/A bits {run.bits}</p>'
    yield points(run.rows)
    for kind in ('exits', 'routes', 'gates'):
        for path in sorted((folder / kind).glob('*.png')):
            yield picture(path.read_bytes(), f'{kind}: {path.stem}')
    found = selection.choices(folder)
    sizes = dict.fromkeys(one.point for one in found if one.policy is not None)
    yield from (leaving([one for one in found if one.point == size]) for size in sizes)
    yield measured(folder)
    yield folded('Bits and cost of every layer', layers(folder))
    yield folded('Configuration', table(sorted(kept.items()), ('field', 'value')))
    yield f'<h3>Commands</h3><pre>{html.escape(chr(10).join(commands(folder, found)))}</pre>'


def commands(folder: Path, found: Sequence[selection.Choice]) -> list[str]:
    """What trains the run again, and what evaluates its operating points and its best thresholds."""
    try:
        training = f'{cli.command(read_config(folder / "config.json"))} --logdir NEW'
    except UsageError as error:
        training = f'# {error}'
    best = selection.pareto(found)
    return list(
        dict.fromkeys(
            [
                training,
                *(
                    command
                    for one in found
                    if one.policy is None or one in best
                    for command in one.commands
                ),
            ]
        )
    )


def page(folders: Sequence[str]) -> str:
    """The whole page.

    Raises:
        UsageError: a folder is no run, or has not been evaluated.
    """
    runs = tables.read_runs(folders)
    curves = tables.curves(runs)
    front = selection.pareto(one for folder in folders for one in selection.choices(Path(folder)))
    parts = [
        '<h1>Networks whose cost is chosen at run time</h1>',
        *(drawn(curves, kind) for kind in plot.COSTS),
        '<h2>What no other choice beats</h2>',
        table(
            (
                (
                    one.run,
                    one.point,
                    'exit thresholds' if one.policy else '',
                    one.top1,
                    one.madds / 1e6,
                    one.ms,
                )
                for one in front
            ),
            ('run', 'point', '', 'top-1', 'MAdds, M', 'ms'),
        ),
    ]
    for run, folder in zip(runs, folders):
        parts += section(run, Path(folder))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Report</title><style>{STYLE}</style>'
        f'</head><body>{"".join(parts)}</body></html>\n'
    )


def run(args: argparse.Namespace) -> str:
    """Writes the page."""
    text = page(args.runs)
    with tables.replacing(args.output) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return f'{args.output}: {len(text) / 1e3:.0f} kB'


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    parser = argparse.ArgumentParser(
        prog='python -m scripts.report',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('runs', nargs='+', metavar='RUN', help='run folder with evaluation records')
    parser.add_argument(
        '-o', '--output', default='report.html', metavar='FILE', help='page (default %(default)s)'
    )
    return status('report', run, parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
