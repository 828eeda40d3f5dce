"""Picture of accuracy against cost: one line per run, the published curve dashed in its colour, the Pareto front grey.

    python -m scripts.plot RUN... -o accuracy.png
    python -m scripts.plot RUN... --cost bitops -o bitops.svg      # or ms, memory
    python -m scripts.plot RUN... --curves -o curves.png           # how the training went
    python -m scripts.plot docs/measured.json -o docs/accuracy.svg # rows that accuracy_table --format json has written

Individual models of one network are one line. A published curve that several runs share is drawn once. Points that ran
with another point's BN statistics stand alone. The ensemble is left out: it runs every size, so that it is no operating
point, and its cost would stretch the axis. Published points sit at the cost of the run's own points, since most
sources print none. Milliseconds need scripts.profile before.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.results import tables as records
from scripts import status

Curve = tuple[str, list[records.Row]]
# Of a row, in the unit of an axis.
Cost = Callable[[records.Row], float]

COSTS: dict[str, tuple[str, str, float]] = {
    'madds': ('MAdds of one image (millions)', 'madds', 1e6),
    'bitops': ('BitOps of one image (billions)', 'bit_ops', 1e9),
    'ms': ('milliseconds of one image', 'ms', 1.0),
    'memory': ('packed weights (kB)', 'weight_bytes', 1e3),
}
# Beside matplotlib's own ten, where these are too few.
COLOURS = (
    'navy',
    'saddlebrown',
    'darkgreen',
    'maroon',
    'indigo',
    'black',
    'deeppink',
    'dimgray',
    'olive',
    'teal',
)
Name = tuple[float, float, str, str]  # x, y, text, colour


def new_axes(panels: int = 1) -> tuple[Any, Any]:
    """Figure on the Agg canvas, with its axes; an array of them if there are several panels side by side.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError('matplotlib is not installed; `pip install .[plots]` brings it') from None
    figure = Figure(figsize=(8.5 if panels == 1 else 5.0 * panels, 5.2), layout='tight')
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels)


def is_alone(row: records.Row) -> bool:
    """Whether a point is no part of its run's line."""
    return row.bn != row.point or row.point.endswith(records.DYNAMIC)


def operating_points(curves: Sequence[Curve], field: str) -> list[Curve]:
    """The curves without ensembles and points of unknown cost."""
    kept = [
        (
            label,
            [
                row
                for row in rows
                if not row.point.startswith(records.ENSEMBLE) and getattr(row, field) is not None
            ],
        )
        for label, rows in curves
    ]
    if not any(rows for _, rows in kept):
        raise UsageError(
            'no size of the given runs has this cost; evaluate a size that layers.json lists, and for ms '
            'run scripts.profile'
        )
    return [(label, rows) for label, rows in kept if rows]


def draw_front(axes: Any, curves: Sequence[Curve], cost: Cost) -> None:
    """Draws the points that no other beats in both cost and accuracy, as one grey line behind all."""
    front: list[records.Row] = []
    for row in sorted(
        (row for _, rows in curves for row in rows), key=lambda row: (cost(row), -row.top1)
    ):
        if not front or row.top1 > front[-1].top1:
            front.append(row)
    axes.plot(
        [cost(row) for row in front],
        [row.top1 for row in front],
        '-',
        color='0.8',
        linewidth=6,
        zorder=0,
    )


def draw_curve(
    axes: Any, label: str, rows: Sequence[records.Row], colour: str, cost: Cost
) -> list[Name]:
    """Draws the line of a run and its lone points, which are labelled at once; returns the name at the line's end."""
    line = [row for row in rows if not is_alone(row)]
    for row in rows:
        if is_alone(row):
            axes.plot([cost(row)], [row.top1], 'x', color=colour, markersize=7)
            text = row.label if line else f'{label}: {row.label}'
            axes.annotate(
                text,
                (cost(row), row.top1),
                xytext=(8, 0),
                textcoords='offset points',
                va='center',
                fontsize=9,
                color=colour,
            )
    if not line:
        return []
    axes.plot(
        [cost(row) for row in line], [row.top1 for row in line], 'o-', color=colour, markersize=5
    )
    return [(cost(line[0]), line[0].top1, label, colour)]


def draw_published(
    axes: Any, rows: Sequence[records.Row], colour: str, drawn: set[Any], cost: Cost
) -> list[Name]:
    """Draws the published curve of a run unless an earlier run had the same; returns the name at its end."""
    known = [(cost(row), row.published) for row in rows if row.published]
    key = tuple(known)
    if not known or key in drawn:
        return []
    drawn.add(key)
    axes.plot(
        [x for x, _ in known],
        [row.top1 for _, row in known],
        '--',
        marker='.',
        color=colour,
        linewidth=1.2,
        alpha=0.75,
    )
    x, first = known[0]
    return [(x, first.top1, f'{first.system} published ({first.qw}/{first.qa})', colour)]


def label_points(axes: Any, curves: Sequence[Curve], cost: Cost) -> None:
    """Writes each size once, below the lowest point of all lines that have it at that cost, where there is room; ends
    of lines come first.
    """
    lowest: dict[tuple[str, float], float] = {}
    lines = [[row for row in rows if not is_alone(row)] for _, rows in curves]
    for row in [
        *(line[end] for line in lines if line for end in (0, -1)),
        *(row for line in lines for row in line),
    ]:
        key, values = (row.label, cost(row)), [row.top1]
        values += [row.published.top1] if row.published else []
        lowest[key] = min(*values, lowest.get(key, 100.0))
    width, height = (
        share * (high - low)
        for share, (low, high) in zip((0.05, 0.04), (axes.get_xlim(), axes.get_ylim()))
    )
    placed: list[tuple[float, float]] = []
    for (label, x), y in lowest.items():
        if all(abs(x - other) > width or abs(y - below) > height for other, below in placed):
            placed.append((x, y))
            axes.annotate(
                label,
                (x, y),
                xytext=(3, -6),
                textcoords='offset points',
                va='top',
                fontsize=8,
                color='0.35',
            )


def apart(wanted: Sequence[float], gap: float, top: float) -> list[float]:
    """Heights, ascending as those wanted are, at least ``gap`` apart: moved up, and down again from ``top``."""
    heights: list[float] = []
    for y in wanted:
        heights.append(max(y, heights[-1] + gap) if heights else y)
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - gap
    return heights


def label_ends(axes: Any, names: Sequence[Name]) -> None:
    """Writes the names beside the right ends, moved apart; in one column at the right where the ends differ in x."""
    (_, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    ends = [x for x, *_ in names]
    column = bool(ends) and max(ends) - min(ends) > 0.02 * right
    names = sorted(names, key=lambda name: name[1])
    gap = min(0.045, 1 / max(len(names), 1)) * (top - bottom)
    for (x, y, text, colour), height in zip(names, apart([y for _, y, *_ in names], gap, top)):
        leader = {
            'arrowstyle': '-',
            'color': colour,
            'linewidth': 0.6,
            'alpha': 0.5,
            'relpos': (0, 0.5),
            'shrinkA': 1,
        }
        axes.annotate(
            text,
            (x, y),
            xytext=(right if column else x + 0.015 * right, height),
            textcoords='data',
            va='center',
            fontsize=9,
            color=colour,
            annotation_clip=False,
            arrowprops=leader if column else None,
        )


def draw(curves: Sequence[Curve], kind: str = 'madds') -> Any:
    """The figure of the curves over one of ``COSTS``."""
    figure, axes = new_axes()
    title, field, unit = COSTS[kind]

    def cost(row: records.Row) -> float:
        return getattr(row, field) / unit

    shown, names, drawn = operating_points(curves, field), [], set[Any]()
    if len(shown) > 1:
        draw_front(axes, shown, cost)
    for i, (label, rows) in enumerate(shown):
        colour = (
            f'C{i}'
            if len(shown) <= len(COLOURS)
            else COLOURS[i // 2 % len(COLOURS)]
            if i % 2
            else f'C{i // 2}'
        )
        names += draw_curve(axes, label, rows, colour, cost)
        names += draw_published(axes, rows, colour, drawn, cost)
    axes.set_xlabel(title)
    axes.set_ylabel('top-1 accuracy (%)')
    axes.grid(color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.margins(x=0.05, y=0.1)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.2)
    label_points(axes, shown, cost)
    label_ends(axes, names)
    return figure


def save(figure: Any, output: str) -> None:
    """Writes the picture in the format of the file's ending."""
    kind, kinds = output.rpartition('.')[2].lower(), figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        raise UsageError(
            f'--output {output}: unknown kind of picture; end it with one of {", ".join(sorted(kinds))}'
        )
    with records.replacing(output) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def run(args: argparse.Namespace) -> None:
    """Draws the picture."""
    if args.curves:
        from scripts import curves

        save(curves.draw(args.runs), args.output or 'curves.png')
        return
    tables = [path for path in map(Path, args.runs) if path.is_file()]
    runs = records.read_runs([path for path in args.runs if not Path(path).is_file()])
    runs += [run for path in tables for run in records.read_table(path)]
    save(draw(records.curves(runs), args.cost), args.output or 'accuracy.png')


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    parser = argparse.ArgumentParser(
        prog='python -m scripts.plot', description='Top-1 accuracy over cost.'
    )
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='run folder with evaluation records, or a table of some',
    )
    parser.add_argument(
        '-o', '--output', metavar='FILE', help='picture (default accuracy.png or curves.png)'
    )
    parser.add_argument(
        '--cost',
        choices=tuple(COSTS),
        default='madds',
        help='horizontal axis (default %(default)s)',
    )
    parser.add_argument(
        '--curves', action='store_true', help='instead: loss, top-1 and dead levels over the epochs'
    )
    return status('plot', run, parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
