"""A page about run folders that holds everything itself: tables, pictures, commands."""

import base64
import html
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from engine import figures
from engine.config import cli
from engine.config.config import read_config
from engine.errors import UsageError
from engine.files import Damaged, in_shell, read_json
from engine.results import accuracy_figure, cascade_records, cascades, records, selection, tables
from engine.results.accuracy_figure import COSTS
from engine.results.exit_records import EARLY, WHOLE, Measured
from engine.results.selection import Choice
from engine.results.tables import Curve, Row, Run, rows_of
from nets.cost import LayerRecord

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em}
body{color:#222}table{border-collapse:collapse;margin:.8em 0}
th,td{padding:.15em .7em;border-bottom:1px solid #ddd;text-align:left}
th{border-bottom:2px solid #999}img{max-width:100%}
figure{display:inline-block;width:48%;margin:0 1% 0 0}
pre{background:#f4f4f4;padding:.6em;white-space:pre-wrap}
summary{cursor:pointer;font-weight:600}h2{border-top:1px solid #bbb;padding-top:.6em}"""

# Folders of a run in which evaluation leaves pictures.
PICTURES = ('exits', 'routes', 'gates', 'cascades')

FRONT_HEADERS = ('run', 'point', '', 'top-1', 'MAdds, M', 'ms')
CASCADE_HEADERS = ('', 'top-1', 'top-5', 'MAdds, M', 'images/s', '% by stage')
MEASURED_HEADERS = ('thresholds', '', 'top-1', 'MAdds, M', 'images/s', '% by exit')
POINT_HEADERS = (
    'point',
    'top-1',
    'top-5',
    'published',
    'MAdds, M',
    'BitOps, G',
    'weights, kB',
    'ms',
)
LAYER_HEADERS = ('layer', 'role', 'kernel', 'W bits', 'A bits', 'MAdds, M', 'weights, kB')


def table(rows: Iterable[Sequence[Any]], headers: Sequence[str]) -> str:
    """An HTML table without the columns that are empty."""
    columns = []
    for header, *cells in zip(headers, *rows):
        if any(cell not in (None, '') for cell in cells):
            columns.append([header, *cells])
    names, *body = zip(*columns)
    return tabulate(body, headers=names, tablefmt='html', floatfmt='.2f')


def picture(png: bytes, title: str) -> str:
    """An image that is part of the page.

    Args:
        png: Bytes of a PNG file.
        title: Stands below.
    """
    encoded = base64.b64encode(png).decode()
    text = html.escape(title)
    image = f'<img alt="{text}" src="data:image/png;base64,{encoded}">'
    return f'<figure>{image}<figcaption>{text}</figcaption></figure>'


def folded(title: str, content: str) -> str:
    """HTML that a click on its title opens."""
    return f'<details><summary>{html.escape(title)}</summary>{content}</details>'


def accuracy_over(curves: Sequence[Curve], kind: str) -> str:
    """Picture of accuracy over one of ``COSTS``; nothing where no run has it."""
    cost = COSTS[kind]
    if not any(map(cost.is_known, rows_of(curves))):
        return ''
    figure = accuracy_figure.draw(curves, kind)
    return picture(figures.to_png(figure), f'top-1 over {cost.title}')


def front(found: Iterable[Choice]) -> str:
    """Table of the choices that no other beats."""
    rows = []
    for choice in selection.front(found):
        millions = choice.madds / 1e6
        rows.append((choice.run, choice.point, choice.kind, choice.top1, millions, choice.ms))
    return table(rows, FRONT_HEADERS)


def leaving(found: Sequence[Choice]) -> str:
    """Picture of where images leave a network with exits: one bar per budget.

    Args:
        found: Choices of one input size; those without thresholds are left out.
    """
    budgets, shares = [], []
    for choice in found:
        if choice.policy is not None:
            budgets.append(f'{choice.policy.budget / 1e6:.3g}')
            shares.append(choice.shares)
    by_exit = 100 * np.array(shares).T  # [exits, budgets]
    figure = figures.new_figure(8.5, 5.2, layout='tight')
    axes = figure.subplots()
    below = np.zeros(len(budgets))
    for exit, share in enumerate(by_exit):
        axes.bar(budgets, share, bottom=below, color=f'C{exit}', label=f'exit {exit}')
        below += share
    axes.set_xlabel('budget: mean MAdds of an image (millions)')
    axes.set_ylabel('images that leave at each exit (%)')
    axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=len(by_exit), frameon=False)
    title = f'{found[0].point}: where the validation images leave, by budget'
    return picture(figures.to_png(figure), title)


def measured_exits(folder: Path) -> str:
    """Table of the thresholds that evaluation has run with real early exit; nothing without.

    Raises:
        Damaged: A record of them is.
    """
    remedy = f'run `imagenet_tf.py --eval -ec {in_shell(folder)} --thresholds` again'
    rows = []
    for path in sorted((folder / 'exits').glob('*-measured.json')):
        name = path.stem.removesuffix('-measured')
        record = read_json(path, dict[str, Measured | Any], remedy)
        for way in (EARLY, WHOLE):
            found = record.get(way)
            if not isinstance(found, Measured):
                raise Damaged(f'{path}: damaged (no measured "{way}"); {remedy}')
            millions = found.madds / 1e6
            shares = ' / '.join(f'{100 * share:.1f}' for share in found.shares)
            rows.append((name, way, found.top1, millions, found.images_per_second, shares))
    return table(rows, MEASURED_HEADERS) if rows else ''


def measured_cascades(folder: Path) -> str:
    """Tables of the cascades that evaluation has run, in turns with fixed points; nothing without.

    Raises:
        Damaged: A record of them is.
    """
    parts = []
    for path in sorted((folder / cascades.FOLDER).glob(f'*{cascades.MEASURED}.json')):
        remedy = f'run `imagenet_tf.py --eval -ec {in_shell(folder)} --cascade` again'
        record = read_json(path, cascades.Measurement, remedy)
        rows = []
        for way, found in record.measured.items():
            shares = ' / '.join(f'{100 * share:.1f}' for share in found.shares)
            millions = found.madds / 1e6
            rows.append((way, found.top1, found.top5, millions, found.images_per_second, shares))
        name = html.escape(path.stem.removesuffix(cascades.MEASURED))
        parts.append(f'<h3>Cascade {name}</h3>{table(rows, CASCADE_HEADERS)}')
    return ''.join(parts)


def points(rows: Iterable[Row]) -> str:
    """Table of operating points."""
    body = []
    for row in rows:
        name = row.point
        if row.bn != row.point:
            name = f'{row.point} (BN {row.bn})'
        published = row.published and row.published.top1
        madds = _scaled(row.madds, 1e6)
        bit_ops = _scaled(row.bit_ops, 1e9)
        kilobytes = _scaled(row.weight_bytes, 1e3)
        body.append((name, row.top1, row.top5, published, madds, bit_ops, kilobytes, row.ms))
    return table(body, POINT_HEADERS)


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def layers(folder: Path) -> str:
    """Table of layers, as the strongest operating point that has each runs it."""
    found = records.read_layers(folder)
    seen: dict[str, LayerRecord] = {}
    for point in reversed(list(found)):
        seen.update((layer.name, layer) for layer in found[point])
    rows = []
    for layer in seen.values():
        kernel = 'x'.join(map(str, layer.kernel))
        bits = (layer.weight_bits, layer.activation_bits)
        rows.append(
            (layer.name, layer.role, kernel, *bits, layer.madds / 1e6, layer.memory_bits / 8e3)
        )
    return table(rows, LAYER_HEADERS)


def configuration(run: Run) -> str:
    """Table of the fields of the configuration that say something."""
    kept = []
    for name, value in sorted(run.config.items()):
        if value not in (None, '', [], False):
            kept.append((name, value))
    return table(kept, ('field', 'value'))


def section(run: Run, folder: Path) -> Iterator[str]:
    """The parts of the page about one run."""
    net, arch = str(run.config['net']), str(run.config.get('arch'))
    network = net if net == arch else f'{net} {arch}'
    yield f'<h2>{html.escape(run.name)}</h2>'
    yield f'<p>{html.escape(network)}, W/A bits {run.bits}</p>'
    yield points(run.rows)
    for kind in PICTURES:
        for path in sorted((folder / kind).glob('*.png')):
            yield picture(path.read_bytes(), f'{kind}: {path.stem}')
    found = selection.choices(folder)
    sizes = dict.fromkeys(choice.point for choice in found if choice.policy is not None)
    for size in sizes:
        yield leaving([choice for choice in found if choice.point == size])
    yield measured_exits(folder)
    yield measured_cascades(folder)
    yield folded('Bits and cost of every layer', layers(folder))
    yield folded('Configuration', configuration(run))
    lines = '\n'.join(commands(folder, found))
    yield f'<h3>Commands</h3><pre>{html.escape(lines)}</pre>'


def commands(folder: Path, found: Sequence[Choice]) -> list[str]:
    """Command lines that train the run again, and evaluate its points and its best thresholds.

    The records of a checkpoint that lies elsewhere have none: nothing here could run.
    """
    if not selection.has_checkpoint(folder):
        return ['# this folder holds records and no checkpoint']
    try:
        training = f'{cli.command(read_config(folder / "config.json"))} --logdir NEW'
    except UsageError as error:
        training = f'# {error}'
    lines = [training]
    best = selection.front(found)
    for choice in found:
        if not choice.kind or choice in best:
            lines += choice.commands
    return list(dict.fromkeys(lines))


def page(folders: Sequence[str]) -> str:
    """The whole page as HTML.

    Raises:
        UsageError: A folder is no run, or has not been evaluated; or matplotlib is not installed.
    """
    runs = tables.read_runs(folders)
    curves = tables.curves([*runs, *cascade_records.of_runs(runs, folders)])
    found: list[Choice] = []
    for place in map(Path, folders):
        if selection.has_checkpoint(place):
            found += selection.choices(place)
    parts = ['<h1>Networks whose cost is chosen at run time</h1>']
    for kind in COSTS:
        parts.append(accuracy_over(curves, kind))
    parts.append('<h2>What no other choice beats</h2>')
    groups = selection.comparable(found)
    for conditions, group in groups.items():
        if len(groups) > 1:
            parts.append(f'<h3>{html.escape(conditions)}</h3>')
        parts.append(front(group))
    for run, folder in zip(runs, folders):
        parts += section(run, Path(folder))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Report</title>'
        f'<style>{STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
    )
