"""Figure of the quantizers of a run: their levels over the histogram of what they quantize."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.figures import escaped, new_figure

# Panels beside each other, of a page, and of a picture that has no pages.
COLUMNS, PAGE, PICTURE = 3, 12, 24

# More levels than these are not written beside the axis.
NAMED = 5

# More thresholds than these are marked at the edge alone.
LINES = 16

# Channels whose grids are drawn, of those that have their own.
GRIDS = 16

# Percent of the values at each end that need not be shown.
TAIL = 0.1

BINS = 80

# A bar is cut that is so many times as high as the next.
DWARFS = 3
COLOUR = '#1f5fa8'


class Layer(NamedTuple):
    """A quantizer of a run, with what it quantizes.

    Attributes:
        scope: variable scope of the quantizer.
        spec: of the quantizer.
        what: ``weights`` or ``activations``.
        values: [N, C] some of them, channels last.
        levels: [L, C] ascending, or [L, 1].
        thresholds: [L - 1, C], or [L - 1, 1].
        changed: whether the quantizer changes values before, so that these are no longer those of
            the network.
    """

    scope: str
    spec: str
    what: str
    values: np.ndarray
    levels: np.ndarray
    thresholds: np.ndarray
    changed: bool = False

    def shares(self) -> np.ndarray:
        """[L] share of the values at each level, of all channels together."""
        number = np.zeros(self.values.shape, int)
        for row in self.thresholds:
            number += self.values > row
        counts = np.bincount(number.ravel(), minlength=len(self.levels))
        return counts / self.values.size


def choose(layers: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, at equal distances."""
    if len(layers) <= most:
        return list(layers)
    places = np.linspace(0, len(layers) - 1, most).round().astype(int)
    return [layers[place] for place in places]


def pages(layers: Sequence[Layer], title: str) -> Iterator[Any]:
    """Figures of a page each.

    Args:
        layers: in the order of the network.
        title: of every page.
    """
    total = math.ceil(len(layers) / PAGE)
    for page in range(total):
        part = layers[page * PAGE : (page + 1) * PAGE]
        yield draw(part, f'{title}, page {page + 1} of {total}')


def draw(layers: Sequence[Layer], title: str) -> Any:
    """The figure: a panel per quantizer.

    Args:
        layers: to draw.
        title: above all.

    Raises:
        UsageError: matplotlib is not installed.
    """
    columns = min(COLUMNS, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure = new_figure(4.2 * columns, 2.7 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, layer in zip(panels, layers):
        _draw_layer(panel, layer)
    for panel in panels[len(layers) :]:
        panel.set_axis_off()
    wrapped = textwrap.fill(title, 30 * columns)
    figure.suptitle('\n'.join(map(escaped, wrapped.splitlines())), fontsize='medium')
    return figure


def _draw_layer(axes: Any, layer: Layer) -> None:
    ends = _ends(layer)
    values = layer.values.ravel().clip(*ends)
    counts, edges = np.histogram(values, BINS, ends)
    _draw_histogram(axes, 100 * counts / values.size, edges)
    axes.set_xlim(*ends)
    axes.set_ylabel('values (%)', fontsize='x-small', color='0.5')
    axes.tick_params(labelsize='x-small')
    axes.tick_params(axis='y', labelcolor='0.5')
    steps = axes.twinx()
    _draw_steps(steps, layer, ends)
    steps.set_ylabel('level', fontsize='x-small', color=COLOUR)
    steps.tick_params(labelsize='x-small')
    steps.tick_params(axis='y', labelcolor=COLOUR)
    axes.set_title(_title(layer), fontsize='x-small')


def _draw_histogram(axes: Any, percent: np.ndarray, edges: np.ndarray) -> None:
    """Draws bars, of which one that dwarfs the others, as zeros do, is cut and gets its number.

    Args:
        axes: of the histogram.
        percent: [BINS] of the values.
        edges: [BINS + 1] of the bins.
    """
    axes.stairs(percent, edges, fill=True, color='0.8')
    highest = int(percent.argmax())
    others = np.delete(percent, highest)
    if percent[highest] <= DWARFS * others.max():
        return
    top = DWARFS * max(float(others.max()), 0.1)
    axes.set_ylim(0, top)
    text = f'{percent[highest]:.0f} %'
    axes.annotate(text, (edges[highest + 1], 0.93 * top), fontsize='x-small', color='0.4')


def _ends(layer: Layer) -> tuple[float, float]:
    """Ends of the axis: of nearly all values, and of the thresholds."""
    low, high = np.percentile(layer.values, (TAIL, 100 - TAIL))
    known = layer.thresholds[np.isfinite(layer.thresholds)]
    if known.size:
        low = min(low, known.min())
        high = max(high, known.max())
    margin = 0.06 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _draw_steps(axes: Any, layer: Layer, ends: tuple[float, float]) -> None:
    """Draws the step function of every grid, or of some of them.

    Args:
        axes: of the levels.
        layer: whose they are.
        ends: of the values.
    """
    grids = max(layer.levels.shape[1], layer.thresholds.shape[1])
    numbers = choose(range(grids), GRIDS)
    alone = len(numbers) == 1
    for number in numbers:
        levels = layer.levels[:, min(number, layer.levels.shape[1] - 1)]
        thresholds = layer.thresholds[:, min(number, layer.thresholds.shape[1] - 1)]
        edges = np.array([ends[0], *thresholds.clip(*ends), ends[1]])
        opacity = 1.0 if alone else 0.35
        axes.stairs(levels, edges, baseline=None, color=COLOUR, linewidth=1.2, alpha=opacity)
        if not alone or len(thresholds) > LINES:
            place = np.zeros_like(thresholds)
            transform = axes.get_xaxis_transform()
            axes.plot(thresholds, place, '|', color=COLOUR, markersize=4, transform=transform)
        else:
            for threshold in thresholds[np.isfinite(thresholds)]:
                axes.axvline(threshold, color=COLOUR, linewidth=0.6, linestyle=':')
    axes.margins(y=0.08)
    if alone and len(layer.levels) <= NAMED:
        axes.set_yticks(layer.levels[:, 0])
        axes.yaxis.set_major_formatter('{x:.3g}')


def _title(layer: Layer) -> str:
    """Scope, quantizer and use of the levels."""
    shares = layer.shares()
    if len(shares) <= NAMED:
        used = 'at the levels ' + ' / '.join(f'{100 * share:.0f}' for share in shares) + ' %'
    else:
        used = f'{np.count_nonzero(shares)} of {len(shares)} levels used'
    what = layer.what
    if layer.changed:
        what += ' as the quantizer changes them'
    lines = [layer.scope, f'{layer.spec}, {what}', used]
    channels = layer.levels.shape[1]
    if channels > GRIDS:
        lines[-1] += f'; grids of {GRIDS} of {channels} channels'
    return '\n'.join(map(escaped, lines))
