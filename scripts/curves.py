"""How trainings went: loss, top-1 of the operating points and dead levels of the quantizers over the epochs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UsageError
from scripts import plot

Row = dict[str, float]

PANELS = ('training loss', 'top-1 (%)', 'dead levels (%)')
LINES = ('-', '--', ':', '-.')


def read(run: str) -> list[Row]:
    """The metrics of every epoch.

    Raises:
        UsageError: the folder has none.
    """
    path = Path(run) / 'stats.json'
    try:
        rows = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f'RUN {run}: {path} cannot be read ({error}); curves need a run folder'
        ) from error
    if not rows:
        raise UsageError(f'RUN {run}: no epoch is finished yet')
    return rows


def points(rows: Sequence[Row]) -> list[str]:
    """The strongest and the weakest operating point that was scored, by their spelling."""
    found = [
        name.split('/')[1]
        for name in rows[-1]
        if name.startswith('val/') and name.endswith('/top1')
    ]
    single = [name for name in found if name != 'mean' and not name.startswith('ensemble')]
    return list(dict.fromkeys((single[0], single[-1]))) if single else []


def dead_levels(row: Row) -> float:
    """Mean share of levels that no value takes, in percent; nan without quantizers."""
    shares = [value for name, value in row.items() if name.endswith('/dead_levels')]
    return 100 * float(np.mean(shares)) if shares else float('nan')


def draw(runs: Sequence[str]) -> Any:
    """The figure: a panel per metric, a colour per run."""
    history = {run: read(run) for run in runs}
    figure, axes = plot.new_axes(len(PANELS))
    from matplotlib.ticker import LogLocator

    for number, (run, rows) in enumerate(history.items()):
        epochs, colour, name = [row['epoch_num'] for row in rows], f'C{number}', Path(run).name
        axes[0].semilogy(
            epochs, [row.get('loss', float('nan')) for row in rows], color=colour, label=name
        )
        for point, line in zip(points(rows), LINES):
            axes[1].plot(
                epochs,
                [row.get(f'val/{point}/top1', float('nan')) for row in rows],
                line,
                color=colour,
                label=f'{name} {point}',
            )
        dead = [dead_levels(row) for row in rows]
        if not np.all(np.isnan(dead)):
            axes[2].plot(epochs, dead, color=colour, label=name)
    for panel, title in zip(axes, PANELS):
        panel.set(xlabel='epoch', title=title)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(color='0.9')
        if panel.lines:
            panel.legend(fontsize='small')
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes[0].yaxis.set_major_formatter('{x:g}')
    axes[0].minorticks_off()
    return figure
