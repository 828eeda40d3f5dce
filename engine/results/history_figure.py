"""Figure of trainings: losses, top-1 of operating points and dead quantizer levels by epoch."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.figures import escaped, legend_below, new_figure
from engine.results import records
from engine.results.conditions import labels, measured_on
from engine.runs import history

# The loss that is trained has terms of all points, and is of another size than that of a point.
LOSS, STRONGEST = 'training loss', 'loss of the strongest point'
TOP1, DEAD = 'top-1 (%)', 'dead levels (%)'
LINES = ('-', '--', ':', '-.')

# The highest loss over the lowest, above which the axis of a panel is logarithmic.
SPAN = 10

# Epochs that are marked one by one.
FEW = 12


def read(run: str) -> list[history.Row]:
    """The metrics of every epoch of a run.

    Raises:
        UsageError: The folder has none.
    """
    rows = history.read(Path(run), 'curves need a run folder')
    if not rows:
        raise UsageError(f'RUN {run}: no epoch is finished yet')
    return rows


def scored_points(rows: Sequence[history.Row]) -> list[str]:
    """The strongest and the weakest operating point that was scored, by their spelling."""
    # An epoch may be left out by --val-interval.
    scored = [row for row in rows if history.MEAN_TOP1 in row] or rows
    found = list(history.scores(scored[-1]))
    return list(dict.fromkeys((found[0], found[-1]))) if found else []


def validation_losses(rows: Sequence[history.Row]) -> list[str]:
    """Names of the metrics that are the strongest point's losses, if validation measured one."""
    points = scored_points(rows)
    if not points:
        return []
    name = history.metric('loss', points[0])
    if not any(name in row for row in rows):
        return []
    return [history.tag(f'loss/{points[0]}'), name]


def dead_levels(metrics: history.Row) -> float:
    """Mean share of levels that no value takes, in percent; nan without quantizers."""
    shares = [value for name, value in metrics.items() if name.endswith('/dead_levels')]
    return 100 * statistics.fmean(shares) if shares else math.nan


def _conditions(folder: Path) -> str:
    """Conditions that a run measures accuracies in; empty where it has not recorded them."""
    if not (folder / 'config.json').exists():
        return ''
    return measured_on(folder, records.read_config(folder))


def titles(runs: Sequence[str], least: int = 1) -> list[str]:
    """The panels that runs have something for.

    Args:
        runs: Their folders.
        least: Number of epochs below which there is none.

    Raises:
        UsageError: A folder has no metrics.
    """
    histories = [rows for rows in map(read, runs) if len(rows) >= least]
    wanted = {
        LOSS: bool(histories),
        STRONGEST: any(map(validation_losses, histories)),
        TOP1: any(map(scored_points, histories)),
        DEAD: any(not math.isnan(dead_levels(rows[-1])) for rows in histories),
    }
    return [title for title, is_there in wanted.items() if is_there]


def draw(runs: Sequence[str], shown: Sequence[str] | None = None) -> Any:
    """The figure: a panel for every metric that a run has, a colour per run.

    Args:
        runs: Their folders.
        shown: Some of ``titles``; None for all.

    Raises:
        UsageError: A folder has no metrics, or matplotlib is not installed.
    """
    histories = {run: read(run) for run in runs}
    shown = titles(runs) if shown is None else shown
    figure = new_figure(5.0 * len(shown), 5.2)
    panels = dict(zip(shown, figure.subplots(1, len(shown), squeeze=False)[0]))
    conditions = {run: _conditions(Path(run)) for run in runs}
    named = labels(conditions.values())
    for number, (run, rows) in enumerate(histories.items()):
        where = named[conditions[run]]
        name = f'{Path(run).name}, {where}' if where else Path(run).name
        _draw_run(panels, name, rows, f'C{number}')
    for title, panel in panels.items():
        panel.set(xlabel='epoch', title=title)
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        panel.grid(color='0.9')
        legend_below(panel)
    for title in {LOSS, STRONGEST} & panels.keys():
        _scale(panels[title])
    return figure


def _draw_run(
    panels: Mapping[str, Any], name: str, rows: Sequence[history.Row], colour: str
) -> None:
    """Draws a run into those panels that it has something for.

    Args:
        panels: axes by title.
        name: of the run.
        rows: its history.
        colour: of its lines.
    """
    name = escaped(name)
    epochs = [metrics['epoch_num'] for metrics in rows]

    def values(metric: str) -> tuple[list[float], list[float]]:
        """Epochs that have a metric, and its values."""
        found = [(row['epoch_num'], row[metric]) for row in rows if metric in row]
        return [epoch for epoch, _ in found], [value for _, value in found]

    # A line of one epoch would not be seen.
    marker = '.' if len(rows) <= FEW else None
    points = scored_points(rows)
    if LOSS in panels:
        panels[LOSS].plot(*values(history.LOSS), marker=marker, color=colour, label=name)
    if STRONGEST in panels:
        parts = zip(validation_losses(rows), ('training', 'validation'), LINES)
        for metric, part, line in parts:
            drawn = values(metric)
            if drawn[0]:
                label = f'{name} {points[0]}, {part}'
                panels[STRONGEST].plot(*drawn, line, marker=marker, color=colour, label=label)
    if TOP1 in panels:
        for point, line in zip(points, LINES):
            label = f'{name} {point}'
            epochs_of, top1 = values(history.metric('top1', point))
            panels[TOP1].plot(epochs_of, top1, line, marker=marker, color=colour, label=label)
    shares = list(map(dead_levels, rows))
    if DEAD in panels and not all(map(math.isnan, shares)):
        panels[DEAD].plot(epochs, shares, marker=marker, color=colour, label=name)


def _scale(axes: Any) -> None:
    """Gives losses a logarithmic axis where they span enough of it to have several labels."""
    from matplotlib.ticker import LogLocator

    lowest, highest = axes.dataLim.intervaly
    if not 0 < SPAN * lowest < highest:
        return
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.minorticks_off()
