"""A page about run folders that holds everything itself: tables, pictures, commands."""

import contextlib
import dataclasses
import html
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import nets
from engine import figures
from engine.config import cli, groups
from engine.config.config import read_config
from engine.errors import UsageError
from engine.files import Damaged, in_shell, read_json
from engine.optimization import optimizers
from engine.optimization.optimizers import OptimizerOptions
from engine.results import (
    accuracy_figure,
    cascade_records,
    cascades,
    choice_table,
    environment_table,
    history_figure,
    layer_table,
    profiles,
    records,
    selection,
    tables,
    web_page,
)
from engine.results.accuracy_figure import COSTS
from engine.results.choice import Choice
from engine.results.exit_records import EARLY, WHOLE, Measured
from engine.results.formats import Column, Table
from engine.results.tables import Curve, Row, Run, rows_of
from engine.runs import history

# Folders of a run in which evaluation leaves pictures.
PICTURES = ('exits', 'routes', 'gates', 'cascades')

# Inches of a picture whose letters are legible on a narrow page.
SIZE = (6.6, 4.6)

CASCADE = (
    Column('', 'way'),
    Column('', 'top-1', 2),
    Column('', 'top-5', 2),
    Column('', 'MAdds, M', 2, 1e6),
    Column('', 'images/s', 2),
    Column('', '% by stage'),
)
MEASURED = (
    Column('', 'thresholds'),
    Column('', 'way'),
    Column('', 'top-1', 2),
    Column('', 'MAdds, M', 2, 1e6),
    Column('', 'images/s', 2),
    Column('', '% by exit'),
)
POINTS = (
    Column('', 'point'),
    Column('', 'top-1', 2),
    Column('', 'top-5', 2),
    Column('', 'published', 2),
    Column('', 'MAdds, M', 2, 1e6),
    Column('', 'BitOps, G', 2, 1e9),
    Column('', 'weights, kB', 1, 1e3),
    Column('', 'ms', 2),
)
OPTIONS = (Column('', 'option'), Column('', 'value'))


def accuracy_over(curves: Sequence[Curve], kind: str) -> str:
    """Picture of accuracy over one of ``COSTS``; nothing where no run has it."""
    cost = COSTS[kind]
    if not any(map(cost.is_known, rows_of(curves))):
        return ''
    figure = accuracy_figure.draw(curves, kind, SIZE)
    return web_page.figure(figures.to_png(figure), f'top-1 over {cost.title}')


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
    figure = figures.new_figure(*SIZE, layout='tight')
    axes = figure.subplots()
    below = np.zeros(len(budgets))
    for exit, share in enumerate(by_exit):
        axes.bar(budgets, share, bottom=below, color=f'C{exit}', label=f'exit {exit}')
        below += share
    axes.tick_params(axis='x', labelrotation=90)
    axes.set_xlabel('budget: mean MAdds of an image (millions)')
    axes.set_ylabel('images that leave at each exit (%)')
    axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=len(by_exit), frameon=False)
    title = f'{found[0].point}: where the validation images leave, by budget'
    return web_page.figure(figures.to_png(figure), title)


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
            shares = ' / '.join(f'{100 * share:.1f}' for share in found.shares)
            rows.append((name, way, found.top1, found.madds, found.images_per_second, shares))
    return web_page.table(Table('measured', MEASURED, rows))


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
            costs = (found.madds, found.images_per_second)
            rows.append((way, found.top1, found.top5, *costs, shares))
        name = f'Cascade {path.stem.removesuffix(cascades.MEASURED)}'
        parts.append(web_page.table(Table('cascade', CASCADE, rows, name)))
    return ''.join(parts)


def points(rows: Iterable[Row]) -> str:
    """Table of operating points."""
    body = []
    devices = {}
    for row in rows:
        name = row.point
        if row.bn != row.point:
            name = f'{row.point} (BN {row.bn})'
        published = row.published and row.published.top1
        costs = (row.madds, row.bit_ops, row.weight_bytes, row.ms)
        body.append((name, row.top1, row.top5, published, *costs))
        if row.ms is not None:
            devices[row.device] = f'ms: of one image alone on {row.device}'
    return web_page.table(Table('points', POINTS, body, notes=list(devices.values())))


def configuration(run: Run) -> str:
    """Table of the options that the family has, without those that say nothing."""
    config = run.config
    names = set(config)
    if config['net'] in nets.names():
        names &= set(groups.option_names(config['net']))
    used = (
        str(config.get('optimizer') or OptimizerOptions.optimizer),
        str(config.get('quantizer_optimizer')),
    )
    names -= set(optimizers.foreign(used, names))
    kept = []
    for name in sorted(names):
        value = config[name]
        if isinstance(value, list | tuple):
            value = ' '.join(map(str, value))
        if value not in (None, '', False):
            kept.append((name, str(value)))
    return web_page.table(Table('options', OPTIONS, kept))


def section(run: Run, folder: Path, found: Sequence[Choice]) -> Iterator[str]:
    """The parts of the page about one run.

    Args:
        run: The run.
        folder: Of it.
        found: Its choices.
    """
    network = records.network_of(run.config)
    yield f'<h2 id="{_anchor(run)}">{html.escape(run.name)}</h2>'
    yield f'<p>{html.escape(network)}, W/A bits {run.bits}, {html.escape(str(folder))}</p>'
    yield points(run.rows)
    yield web_page.pictures(left_pictures(folder, found))
    yield measured_exits(folder)
    yield measured_cascades(folder)
    layers = layer_table.every(records.read_layers(folder))
    yield web_page.folded('Bits and cost of every layer', web_page.table(layers))
    yield web_page.folded('Configuration', configuration(run))
    computed = environment_table.table(folder)
    if computed is not None:
        yield web_page.folded('Computed with', web_page.table(computed))
    lines = '\n'.join(commands(folder, found))
    yield f'<h3>Commands</h3><pre>{html.escape(lines)}</pre>'


def _anchor(run: Run) -> str:
    return html.escape(f'run {run.name}'.replace(' ', '-'))


def left_pictures(folder: Path, found: Sequence[Choice]) -> Iterator[str]:
    """Pictures of the training, those that evaluation left, and where images leave.

    Args:
        folder: Of the run.
        found: Its choices.
    """
    if (folder / history.FILE).exists():
        with contextlib.suppress(UsageError):
            for title in history_figure.titles([str(folder)], least=2):
                drawn = history_figure.draw([str(folder)], [title])
                yield web_page.figure(figures.to_png(drawn), f'{title} by epoch')
    for kind in PICTURES:
        for path in sorted((folder / kind).glob('*.png')):
            yield web_page.figure(path.read_bytes(), f'{kind}: {path.stem}')
    sizes = dict.fromkeys(choice.point for choice in found if choice.policy is not None)
    for size in sizes:
        yield leaving([choice for choice in found if choice.point == size])


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
    places = tables.distinct(folders)
    # One for all, as ``read_runs`` takes it.
    device = profiles.device_of(places)
    found: list[Choice] = []
    sections: list[str] = []
    for run, place in zip(runs, places, strict=True):
        own = selection.choices(place, device)
        sections += section(run, place, own)
        if selection.has_checkpoint(place):
            for choice in own:
                found.append(dataclasses.replace(choice, run=run.name))
    title = 'Networks whose cost is chosen at run time'
    parts = [f'<h1>{title}</h1>']
    if len(runs) > 1:
        links = [f'<a href="#{_anchor(run)}">{html.escape(run.name)}</a>' for run in runs]
        parts.append(f'<nav>{" ".join(links)}</nav>')
    parts.append(web_page.pictures(accuracy_over(curves, kind) for kind in COSTS))
    groups_of_choices = selection.comparable(found)
    if groups_of_choices:
        parts.append('<h2>What no other choice beats</h2>')
        parts.append('<p>In top-1, and in every cost: multiply-adds, weights, milliseconds.</p>')
    for conditions, group in groups_of_choices.items():
        if len(groups_of_choices) > 1:
            parts.append(f'<h3>{html.escape(conditions)}</h3>')
        parts.append(web_page.table(choice_table.table(selection.front(group))))
    parts += sections
    names = ', '.join(run.name for run in runs)
    return web_page.document(f'Report: {names}', ''.join(parts))
