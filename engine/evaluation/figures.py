"""Pictures of the evaluators; without matplotlib there are none, and all else is the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import figures

DPI = 120


def draw_shares(
    path: Path, by_class: np.ndarray, *, label: str, title: str, bars: Callable[[Any], None]
) -> list[Path]:
    """Draws a heat map of shares within each class over bars of the shares of all images.

    Args:
        path: of the picture.
        by_class: shares [classes, columns] in 0 to 1.
        label: of the colours.
        title: of the picture.
        bars: draws the lower part on its axes.

    Returns:
        The files written: none without matplotlib.
    """
    if not figures.available():
        return []
    picture = figures.new_figure(max(6.0, 0.28 * by_class.shape[1]), 6.5)
    top, bottom = picture.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    image = top.imshow(
        by_class, aspect='auto', vmin=0, vmax=1, cmap='viridis', interpolation='nearest'
    )
    picture.colorbar(image, ax=top, label=label)
    top.set(ylabel='class')
    picture.suptitle(title, fontsize='small')
    bars(bottom)
    picture.savefig(path, dpi=DPI)
    return [path]
