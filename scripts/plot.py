"""Picture of accuracy against cost: top-1 over MAdds, one line per run, the published curve dashed in its colour.

    python -m scripts.plot RUN... -o accuracy.png

Individual models of one network are one line. A published curve that several runs share is drawn once. Points that ran
with another point's BN statistics stand alone. The ensemble is left out: it runs every size, so that it is no operating
point, and its cost would stretch the axis. Published points sit at the MAdds of the run's own points, since most
sources print none.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from engine import records
from engine.errors import UsageError
from scripts import status

Curve = tuple[str, list[records.Row]]
Name = tuple[float, float, str, str]  # x, y, text, colour


def new_axes() -> tuple[Any, Any]:
    """Figure on the Agg canvas, with its axes.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError('matplotlib is not installed; `pip install .[plots]` brings it') from None
    figure = Figure(figsize=(8.5, 5.2), layout='tight')
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def is_alone(row: records.Row) -> bool:
    """Whether a point is no part of its run's line."""
    return row.bn != row.point


def operating_points(curves: Sequence[Curve]) -> list[Curve]:
    """The curves without the ensemble and points of unknown cost."""
    kept = [(label, [row for row in rows if row.point != records.ENSEMBLE and row.madds is not None])
            for label, rows in curves]
    if not any(rows for _, rows in kept):
        raise UsageError('no size of the given runs has MAdds; evaluate a size that layers.json lists')
    return [(label, rows) for label, rows in kept if rows]


def millions(row: records.Row) -> float:
    return (row.madds or 0) / 1e6


def draw_curve(axes: Any, label: str, rows: Sequence[records.Row], colour: str) -> list[Name]:
    """Draws the line of a run and its lone points, which are labelled at once; returns the name at the line's end."""
    line = [row for row in rows if not is_alone(row)]
    for row in rows:
        if is_alone(row):
            axes.plot([millions(row)], [row.top1], 'x', color=colour, markersize=7)
            text = row.label if line else f'{label}: {row.label}'
            axes.annotate(text, (millions(row), row.top1), xytext=(8, 0), textcoords='offset points', va='center',
                          fontsize=9, color=colour)
    if not line:
        return []
    axes.plot([millions(row) for row in line], [row.top1 for row in line], 'o-', color=colour, markersize=5)
    return [(millions(line[0]), line[0].top1, label, colour)]


def draw_published(axes: Any, rows: Sequence[records.Row], colour: str, drawn: set[Any]) -> list[Name]:
    """Draws the published curve of a run unless an earlier run had the same; returns the name at its end."""
    known = [(millions(row), row.published) for row in rows if row.published]
    key = tuple(known)
    if not known or key in drawn:
        return []
    drawn.add(key)
    axes.plot([x for x, _ in known], [row.top1 for _, row in known], '--', marker='.', color=colour, linewidth=1.2,
              alpha=.75)
    x, first = known[0]
    return [(x, first.top1, f'{first.system} published ({first.qw}/{first.qa})', colour)]


def label_points(axes: Any, curves: Sequence[Curve]) -> None:
    """Writes each size once, below the lowest point of all lines that have it at that cost."""
    lowest: dict[tuple[str, int], float] = {}
    for _, rows in curves:
        for row in rows:
            if not is_alone(row):
                key, values = (row.label, row.madds or 0), [row.top1]
                values += [row.published.top1] if row.published else []
                lowest[key] = min(*values, lowest.get(key, 100.))
    for (label, madds), y in lowest.items():
        axes.annotate(label, (madds / 1e6, y), xytext=(3, -6), textcoords='offset points', va='top', fontsize=8,
                      color='0.35')


def label_ends(axes: Any, names: Sequence[Name]) -> None:
    """Writes the names beside the right ends, moved apart; in one column at the right where the ends differ in x."""
    (_, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    ends = [x for x, *_ in names]
    column = bool(ends) and max(ends) - min(ends) > .02 * right
    height = bottom
    for x, y, text, colour in sorted(names, key=lambda name: name[1]):
        height = max(y, height + .045 * (top - bottom))
        leader = {'arrowstyle': '-', 'color': colour, 'linewidth': .6, 'alpha': .5} if column else None
        axes.annotate(text, (x, y), xytext=(right if column else x + .015 * right, height), textcoords='data',
                      va='center', fontsize=9, color=colour, annotation_clip=False, arrowprops=leader)


def draw(curves: Sequence[Curve]) -> Any:
    """The figure of the curves."""
    figure, axes = new_axes()
    shown, names, drawn = operating_points(curves), [], set[Any]()
    for i, (label, rows) in enumerate(shown):
        names += draw_curve(axes, label, rows, f'C{i % 10}')
        names += draw_published(axes, rows, f'C{i % 10}', drawn)
    axes.set_xlabel('MAdds of one image (millions)')
    axes.set_ylabel('top-1 accuracy (%)')
    axes.grid(color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.margins(x=.05, y=.1)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.2)
    label_points(axes, shown)
    label_ends(axes, names)
    return figure


def save(figure: Any, output: str) -> None:
    """Writes the picture in the format of the file's ending."""
    kind, kinds = output.rpartition('.')[2].lower(), figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        raise UsageError(f'--output {output}: unknown kind of picture; end it with one of {", ".join(sorted(kinds))}')
    with records.replacing(output) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def run(args: argparse.Namespace) -> None:
    """Draws the picture."""
    save(draw(records.curves(records.read_runs(args.runs))), args.output)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    parser = argparse.ArgumentParser(prog='python -m scripts.plot', description='Top-1 accuracy over MAdds.')
    parser.add_argument('runs', nargs='+', metavar='RUN', help='run folder with evaluation records')
    parser.add_argument('-o', '--output', default='accuracy.png', metavar='FILE', help='picture (default %(default)s)')
    return status('plot', run, parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
