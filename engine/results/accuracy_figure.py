"""Figure of accuracy over cost: a line per curve, published numbers dashed, Pareto front grey."""

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.errors import UsageError
from engine.figures import escaped, new_figure
from engine.results import pareto, point_labels
from engine.results.conditions import comparable
from engine.results.point_labels import Label
from engine.results.published import Published
from engine.results.tables import Curve, Row, rows_of

# Letters of a line of the name of a curve that says on what was measured.
NAME_WIDTH = 28

# Beside matplotlib's own ten colours, where these are too few.
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


class CostAxis(NamedTuple):
    """A horizontal axis.

    Attributes:
        title: With its unit.
        field: Of a row.
        unit: By which the field is divided.
    """

    title: str
    field: str
    unit: float

    def of(self, row: Row) -> float:
        """Cost of a row in the unit of the axis."""
        return getattr(row, self.field) / self.unit

    def is_known(self, row: Row) -> bool:
        """Whether a row has this cost."""
        return getattr(row, self.field) is not None


COSTS = {
    'madds': CostAxis('MAdds of one image (millions)', 'madds', 1e6),
    'bitops': CostAxis('BitOps of one image (billions)', 'bit_ops', 1e9),
    'ms': CostAxis('milliseconds of one image', 'ms', 1.0),
    'memory': CostAxis('packed weights (kB)', 'weight_bytes', 1e3),
}


# Inches of a line of a name.
LINE = 0.185


def _is_compared(row: Row) -> bool:
    return row.published is not None


class Name(NamedTuple):
    """Text at the right end of a line, in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def is_alone(row: Row) -> bool:
    """Whether a point is no part of its run's line."""
    return row.bn != row.point or row.is_dynamic


def line_of(rows: Iterable[Row]) -> list[Row]:
    """The points of a run that a line connects."""
    return [row for row in rows if not is_alone(row)]


def operating_points(curves: Sequence[Curve], axis: CostAxis) -> list[Curve]:
    """The curves without ensembles and points of unknown cost.

    Raises:
        UsageError: Nothing is left.
    """
    found = []
    for label, rows in curves:
        kept = [row for row in rows if not row.is_ensemble and axis.is_known(row)]
        if kept:
            found.append((label, kept))
    if not found:
        raise UsageError(
            'no size of the given runs has this cost; evaluate a size that layers.json lists, and '
            'for ms run scripts.profile'
        )
    return found


@dataclasses.dataclass
class Drawing:
    """Axes on which curves are drawn one after the other.

    Attributes:
        axes: Of matplotlib.
        cost: The horizontal axis.
        names: To be written at the ends of the lines, when all are drawn.
        labels: To be written beside lone points, when all are drawn.
    """

    axes: Any
    cost: CostAxis
    names: list[Name] = dataclasses.field(default_factory=list)
    labels: list[Label] = dataclasses.field(default_factory=list)
    _published: set[Any] = dataclasses.field(default_factory=set)
    _lines: list[np.ndarray] = dataclasses.field(default_factory=list)

    def draw_front(self, curves: Sequence[Curve]) -> None:
        """Draws the points that no other beats in cost and accuracy as a grey line behind all."""
        front = pareto.front(
            rows_of(curves),
            costs=lambda row: (self.cost.of(row),),
            accuracy=lambda row: row.top1,
        )
        self._plot(front, '-', color='0.8', linewidth=6, zorder=0)

    def draw_curve(self, label: str, rows: Sequence[Row], colour: str) -> None:
        """Draws the line of a run, and its lone points with their labels.

        Args:
            label: Of the run.
            rows: Its operating points, strongest first.
            colour: Of the line.
        """
        line = line_of(rows)
        for row in rows:
            if is_alone(row):
                text = row.label if line else f'{label}: {row.label}'
                self._draw_alone(row, text, colour)
        if line:
            self._plot(line, 'o-', color=colour, markersize=5)
            self.names.append(Name(self.cost.of(line[0]), line[0].top1, label, colour))

    def _draw_alone(self, row: Row, text: str, colour: str) -> None:
        x, y = self.cost.of(row), row.top1
        self._lines.append(np.array([[x, y]]))
        self.axes.plot([x], [y], 'x', color=colour, markersize=7)
        self.labels.append(Label(x, y, text, colour, 9, needed=True))

    def draw_published(self, rows: Sequence[Row], colour: str) -> None:
        """Draws the published curve beside a run, unless an earlier run had the same.

        Args:
            rows: Operating points of the run, whose costs it takes: most sources print none.
            colour: Of the run.
        """
        known: list[tuple[float, Published]] = []
        for row in rows:
            if row.published is not None:
                known.append((self.cost.of(row), row.published))
        key = tuple(known)
        if not known or key in self._published:
            return
        self._published.add(key)
        costs, numbers = zip(*known)
        top1 = [number.top1 for number in numbers]
        self._lines.append(np.column_stack([costs, top1]))
        self.axes.plot(costs, top1, '--', marker='.', color=colour, linewidth=1.2, alpha=0.75)
        first = numbers[0]
        text = f'{first.system} published ({first.qw}/{first.qa})'
        self.names.append(Name(costs[0], top1[0], text, colour))

    def _plot(self, rows: Sequence[Row], style: str, **options: Any) -> None:
        costs = list(map(self.cost.of, rows))
        top1 = [row.top1 for row in rows]
        self._lines.append(np.column_stack([costs, top1]))
        self.axes.plot(costs, top1, style, **options)

    def label_points(self, curves: Sequence[Curve]) -> None:
        """Writes each size once, at the lowest point of all lines that have it at that cost.

        Labels without room, and those of cascades, are left out; lone points and the ends of lines
        come first.
        """
        labels = list(self.labels)
        for (text, x), y in self._lowest(curves).items():
            labels.append(Label(x, y, text, '0.35', 8))
        point_labels.write(self.axes, labels, self._lines)

    def _lowest(self, curves: Sequence[Curve]) -> dict[tuple[str, float], float]:
        """Least accuracy, own or published, by label and cost; the ends of lines come first."""
        ends: list[Row] = []
        all_points: list[Row] = []
        for _, rows in curves:
            line = line_of(rows)
            if line:
                ends += [line[0], line[-1]]
            all_points += line
        lowest: dict[tuple[str, float], float] = {}
        for row in ends + all_points:
            if row.is_cascade:
                continue
            key = row.label, self.cost.of(row)
            y = row.top1 if row.published is None else min(row.top1, row.published.top1)
            lowest[key] = min(y, lowest.get(key, 100.0))
        return lowest

    def label_ends(self) -> None:
        """Writes the names of the lines in a column right of the axes, moved apart."""
        right = self.axes.get_xlim()[1]
        bottom, top = self.axes.get_ylim()
        names = sorted(self.names, key=lambda name: name.y)
        wanted = [name.y for name in names]
        # Settles how high the axes are.
        self.axes.figure.draw_without_rendering()
        lines = max([1, *(1 + name.text.count('\n') for name in names)])
        share = lines * LINE * self.axes.figure.dpi / self.axes.bbox.height
        gap = share * (top - bottom)
        for name, height in zip(names, apart(wanted, gap, top)):
            self._label_end(name, (1.01 * right, height))

    def _label_end(self, name: Name, place: tuple[float, float]) -> None:
        leader = {
            'arrowstyle': '-',
            'color': name.colour,
            'linewidth': 0.6,
            'alpha': 0.5,
            'relpos': (0, 0.5),
            'shrinkA': 1,
        }
        self.axes.annotate(
            name.text,
            (name.x, name.y),
            xytext=place,
            textcoords='data',
            va='center',
            fontsize=9,
            color=name.colour,
            annotation_clip=False,
            arrowprops=leader,
        )


def apart(wanted: Sequence[float], gap: float, top: float) -> list[float]:
    """Heights that are moved apart: up, and down again from the top.

    Args:
        wanted: Heights, ascending.
        gap: Least distance of two.
        top: Largest height.
    """
    heights: list[float] = []
    for y in wanted:
        heights.append(max(y, heights[-1] + gap) if heights else y)
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - gap
    return heights


def name_of(label: str) -> str:
    """The name of a line; what says on what was measured has lines of its own below it."""
    name, *conditions = label.split(', ', 1)
    lines = [name]
    for text in conditions:
        lines += textwrap.wrap(text, NAME_WIDTH)
    return '\n'.join(map(escaped, lines))


def colour_of(index: int, curves: int) -> str:
    """Colour of a curve: of matplotlib's ten, or by turns of these and of ``COLOURS``."""
    if curves <= len(COLOURS):
        return f'C{index}'
    pair = index // 2
    return COLOURS[pair % len(COLOURS)] if index % 2 else f'C{pair}'


def draw(
    curves: Sequence[Curve], kind: str = 'madds', size: tuple[float, float] = (8.5, 5.2)
) -> Any:
    """The figure of the curves over one of ``COSTS``.

    Args:
        curves: To draw.
        kind: Name of the cost.
        size: Inches; letters have the same size in each.

    Raises:
        UsageError: No point has this cost, or matplotlib is not installed.
    """
    cost = COSTS[kind]
    shown = operating_points(curves, cost)
    names = 2 * len(shown) if any(map(_is_compared, rows_of(shown))) else len(shown)
    texts = [name_of(label) for label, _ in shown]
    lines = max([1, *(1 + text.count('\n') for text in texts)])
    height = max(size[1], 1.0 + names * lines * LINE)
    figure = new_figure(size[0], height, layout='tight')
    axes = figure.subplots()
    drawing = Drawing(axes, cost)
    for group in comparable(shown, lambda curve: curve[1][0].conditions).values():
        if len(group) > 1:
            drawing.draw_front(group)
    for i, (text, (_, rows)) in enumerate(zip(texts, shown)):
        colour = colour_of(i, len(shown))
        drawing.draw_curve(text, rows, colour)
        drawing.draw_published(rows, colour)
    axes.set_xlabel(cost.title)
    axes.set_ylabel('top-1 accuracy (%)')
    axes.grid(color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.margins(x=0.05, y=0.1)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.06)
    drawing.label_ends()
    drawing.label_points(shown)
    return figure
