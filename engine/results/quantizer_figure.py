"""Figure of quantizers as functions: what comes out, and the gradient that goes back."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.figures import escaped, new_figure

# Panels beside each other.
COLUMNS = 4

# More levels than these are marked at the edges alone.
LINES = 17

# A level is written beside its line where there are no more.
NAMED = 5

# Letters of a line of a title.
WRAPPED = 38

# Shades of the grids of channels; one that all share has the first.
COLOURS = ('#1f5fa8', '#e07b00', '#3a8f3a')


class StepFunction(NamedTuple):
    """A quantizer as it acts on values that share one grid.

    Attributes:
        x: [N] ascending.
        y: [N] what comes out.
        levels: [L] ascending.
        thresholds: [L - 1].
        probed: [M] ascending, the values of which the gradient was taken.
        rising: [M] gradient that reaches them where the upstream one is 1.
        falling: [M] the same where it is -1, times -1.
        name: of the channel; empty where all share the grid.
    """

    x: np.ndarray
    y: np.ndarray
    levels: np.ndarray
    thresholds: np.ndarray
    probed: np.ndarray
    rising: np.ndarray
    falling: np.ndarray
    name: str = ''


class Curve(NamedTuple):
    """A quantizer on typical values.

    Attributes:
        spec: of the quantizer.
        what: ``weights`` or ``activations``.
        channels: a function per grid: one, or one for each channel that has its own.
        limits: of the values to show.
    """

    spec: str
    what: str
    channels: tuple[StepFunction, ...]
    limits: tuple[float, float]


def draw(curves: Sequence[Curve]) -> Any:
    """The figure: a panel per curve, its pseudo-gradient below.

    Raises:
        UsageError: matplotlib is not installed.
    """
    rows = math.ceil(len(curves) / COLUMNS)
    # So that the last row is nearly full.
    columns = math.ceil(len(curves) / rows)
    figure = new_figure(3.3 * columns, 3.6 * rows)
    grids = figure.add_gridspec(rows, columns)
    for number, curve in enumerate(curves):
        place = grids[number // columns, number % columns]
        heights = place.subgridspec(2, 1, height_ratios=(3, 1.2), hspace=0.05)
        values = figure.add_subplot(heights[0])
        slopes = figure.add_subplot(heights[1], sharex=values)
        _draw_values(values, curve)
        _draw_slopes(slopes, curve)
    return figure


def _draw_values(axes: Any, curve: Curve) -> None:
    axes.axline((0, 0), slope=1, color='0.8', linewidth=0.8, zorder=0)
    for channel, colour in zip(curve.channels, _colours(curve)):
        (line,) = axes.plot(channel.x, channel.y, color=colour, drawstyle='steps-mid')
        line.set(gid=f'{curve.what} values', label=channel.name)
    axes.set_xlim(*curve.limits)
    axes.set_ylim(*_heights(curve))
    for channel, colour in zip(curve.channels, _colours(curve)):
        _mark(axes, channel, colour, alone=len(curve.channels) == 1)
    spec = textwrap.fill(curve.spec, WRAPPED)
    title = '\n'.join(map(escaped, [*spec.splitlines(), curve.what]))
    axes.set_title(title, fontsize='small')
    axes.set_ylabel('quantized', fontsize='small')
    axes.tick_params(labelsize='x-small', labelbottom=False, bottom=False)
    axes.locator_params(nbins=5)


def _heights(curve: Curve) -> tuple[float, float]:
    """Ends of what comes out of the values that are shown, with a margin."""
    shown = []
    for channel in curve.channels:
        inside = (channel.x >= curve.limits[0]) & (channel.x <= curve.limits[1])
        shown.append(channel.y[inside])
    found = np.concatenate(shown)
    lowest, highest = float(found.min()), float(found.max())
    margin = 0.12 * max(highest - lowest, 1e-6)
    return lowest - margin, highest + margin


def _mark(axes: Any, channel: StepFunction, colour: str, *, alone: bool) -> None:
    """Marks levels and thresholds, at the edges or across.

    Args:
        axes: of the values.
        channel: whose they are.
        colour: of the marks.
        alone: whether no other channel has its own.
    """
    edges = channel.thresholds[np.isfinite(channel.thresholds)]
    below = np.zeros_like(edges)
    left = np.zeros_like(channel.levels)
    at_bottom = axes.get_xaxis_transform()
    at_left = axes.get_yaxis_transform()
    size = 8 if len(channel.levels) <= LINES else 3
    axes.plot(edges, below, '|', color=colour, markersize=size, transform=at_bottom)
    axes.plot(left, channel.levels, '_', color=colour, markersize=size, transform=at_left)
    if not alone or len(channel.levels) > LINES:
        return
    for edge in edges:
        axes.axvline(edge, color='0.75', linewidth=0.7, linestyle=':', zorder=0)
    for level in channel.levels:
        axes.axhline(level, color='0.85', linewidth=0.7, zorder=0)
    if len(channel.levels) <= NAMED:
        bottom, top = axes.get_ylim()
        for level in channel.levels[(bottom < channel.levels) & (channel.levels < top)]:
            text = f'{level + 0.0:.3g}'
            axes.annotate(
                text,
                (1, level),
                xycoords=at_left,
                xytext=(-2, 1),
                textcoords='offset points',
                fontsize='xx-small',
                color='0.3',
                ha='right',
                va='bottom',
            )


def _draw_slopes(axes: Any, curve: Curve) -> None:
    peaks = [1.0]
    for channel, colour in zip(curve.channels, _colours(curve)):
        axes.plot(channel.probed, channel.rising, color=colour, gid=f'{curve.what} gradient')
    for channel, colour in zip(curve.channels, _colours(curve)):
        if not np.allclose(channel.rising, channel.falling, atol=0.01):
            axes.plot(channel.probed, channel.falling, '--', color=colour, linewidth=0.8)
        for slope in (channel.rising, channel.falling):
            peaks.append(float(np.abs(slope).max()))
    axes.set_ylim(-0.1 * max(peaks), 1.15 * max(peaks))
    axes.axhline(0, color='0.8', linewidth=0.8, zorder=0)
    axes.set_ylabel('gradient', fontsize='small')
    axes.tick_params(labelsize='x-small')
    axes.locator_params('y', nbins=3)
    if len(curve.channels) > 1:
        axes.legend(
            [channel.name for channel in curve.channels],
            fontsize='xx-small',
            loc='upper center',
            bbox_to_anchor=(0.5, -0.3),
            ncols=len(curve.channels),
            frameon=False,
            columnspacing=1.0,
            handlelength=1.2,
        )


def _colours(curve: Curve) -> list[str]:
    """A colour for every channel."""
    count = len(curve.channels)
    return [COLOURS[number % len(COLOURS)] for number in range(count)]
