"""Figure of trainings: loss, top-1 of operating points and dead quantizer levels over epochs."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.figures import escaped, new_figure
from engine.results import records
from engine.results.conditions import labels, measured_on
from engine.runs import history

PANELS = ('training loss', 'top-1 (%)', 'dead levels (%)')
LINES = ('-', '--', ':', '-.')


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


def dead_levels(metrics: history.Row) -> float:
    """Mean share of levels that no value takes, in percent; nan without quantizers."""
    shares = [value for name, value in metrics.items() if name.endswith('/dead_levels')]
    return 100 * statistics.fmean(shares) if shares else math.nan


def _conditions(folder: Path) -> str:
    """Conditions that a run measures accuracies in; empty where it has not recorded them."""
    if not (folder / 'config.json').exists():
        return ''
    return measured_on(folder, records.read_config(folder))


def draw(runs: Sequence[str]) -> Any:
    """The figure: a panel per metric, a colour per run.

    Raises:
        UsageError: A folder has no metrics, or matplotlib is not installed.
    """
    histories = {run: read(run) for run in runs}
    figure = new_figure(5.0 * len(PANELS), 5.2, layout='tight')
    panels = figure.subplots(1, len(PANELS))
    conditions = {run: _conditions(Path(run)) for run in runs}
    named = labels(conditions.values())
    for number, (run, rows) in enumerate(histories.items()):
        where = named[conditions[run]]
        name = f'{Path(run).name}, {where}' if where else Path(run).name
        _draw_run(panels, name, rows, f'C{number}')
    for panel, title in zip(panels, PANELS):
        panel.set(xlabel='epoch', title=title)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(color='0.9')
        if panel.lines:
            panel.legend(fontsize='small')
    _label_logarithms(panels[0])
    return figure


def _draw_run(panels: Sequence[Any], name: str, rows: Sequence[history.Row], colour: str) -> None:
    loss, top1, dead = panels
    name = escaped(name)
    epochs = [metrics['epoch_num'] for metrics in rows]

    def values(metric: str) -> tuple[list[float], list[float]]:
        """Epochs that have a metric, and its values."""
        found = [(row['epoch_num'], row[metric]) for row in rows if metric in row]
        return [epoch for epoch, _ in found], [value for _, value in found]

    loss.semilogy(*values(history.LOSS), color=colour, label=name)
    points = scored_points(rows)
    for point, line in zip(points, LINES):
        label = f'{name} {point}'
        top1.plot(*values(history.metric('top1', point)), line, color=colour, label=label)
    of_validation = values(history.metric('loss', points[0])) if points else ([], [])
    if of_validation[0]:
        label = f'{name} {points[0]}, validation'
        loss.semilogy(*of_validation, ':', color=colour, label=label)
    shares = list(map(dead_levels, rows))
    if not all(map(math.isnan, shares)):
        dead.plot(epochs, shares, color=colour, label=name)


def _label_logarithms(axes: Any) -> None:
    from matplotlib.ticker import LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.minorticks_off()
