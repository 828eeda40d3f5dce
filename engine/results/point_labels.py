"""Labels of points in a figure that lie on no other label, on no point and within the axes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

BESIDE = (8, 0, 'left', 'center')

# Where a label may stand: points to the right and upwards, and its sides that are nearest.
NEAR = (
    (3, -6, 'left', 'top'),
    (4, 5, 'left', 'bottom'),
    (-4, 5, 'right', 'bottom'),
    (-4, -6, 'right', 'top'),
    BESIDE,
    (-8, 0, 'right', 'center'),
)

# Where one that is needed may stand besides.
FAR = (
    (0, 16, 'center', 'bottom'),
    (0, -17, 'center', 'top'),
    (18, 12, 'left', 'bottom'),
    (18, -12, 'left', 'top'),
    (-18, 12, 'right', 'bottom'),
    (-18, -12, 'right', 'top'),
)

# Share of a text that lies left of its place, or below it.
_SHARES = {'left': 0.0, 'center': 0.5, 'right': 1.0, 'bottom': 0.0, 'top': 1.0}

# Faults that another label counts for, or a part outside; a point of a line is one.
WORST = 1000

# Pixels around a label that are its own, and between points of a line.
MARGIN, SPACING = 1.0, 3.0


class Label(NamedTuple):
    """A text about a point.

    Attributes:
        x: of the point, in data coordinates.
        y: of the point, in data coordinates.
        text: to be written.
        colour: of the text.
        size: of the letters.
        needed: whether it is written where it lies on something, if there is no better place.
    """

    x: float
    y: float
    text: str
    colour: str
    size: float
    needed: bool = False


class Placing:
    """Axes whose limits are settled, and what lies in them.

    Args:
        axes: of matplotlib.
        lines: [N, 2] each, in data coordinates: points that a line connects, and labels keep off.
    """

    def __init__(self, axes: Any, lines: Sequence[np.ndarray]):
        self._axes = axes
        # Settles where the axes lie.
        axes.figure.draw_without_rendering()
        found = [np.zeros([0, 2])]
        for line in lines:
            found.append(_sampled(axes.transData.transform(line)))
        self._points = np.concatenate(found)  # [P, 2] pixels
        self._boxes: list[Any] = []

    def write(self, label: Label) -> bool:
        """Writes a label where there is room; returns whether there was."""
        written = self._written(label)
        size = written.get_window_extent()
        at = self._axes.transData.transform((label.x, label.y))
        faults = []
        boxes = []
        # One that stands alone has its text beside it.
        spots = (BESIDE, *NEAR, *FAR) if label.needed else NEAR
        for spot in spots:
            box = self._box(at, size, spot)
            boxes.append(box)
            faults.append(self._faults(box))
            if not faults[-1]:
                break
        best = int(np.argmin(faults))
        if faults[best] and not label.needed:
            written.remove()
            return False
        right, up, across, upright = spots[best]
        written.set(position=(right, up), ha=across, va=upright)
        self._boxes.append(boxes[best])
        return True

    def _written(self, label: Label) -> Any:
        written = self._axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0, 0),
            textcoords='offset points',
            fontsize=label.size,
            color=label.colour,
        )
        written.set_in_layout(False)
        return written

    def _box(self, at: np.ndarray, size: Any, spot: tuple[float, float, str, str]) -> np.ndarray:
        """[4] left, bottom, right and top of a label at a spot, in pixels.

        Args:
            at: [2] its point, in pixels.
            size: of its text.
            spot: one of ``NEAR`` or ``FAR``.
        """
        right, up, across, upright = spot
        scale = self._axes.figure.dpi / 72
        left = at[0] + scale * right - _SHARES[across] * size.width
        bottom = at[1] + scale * up - _SHARES[upright] * size.height
        box = [left, bottom, left + size.width, bottom + size.height]
        return np.array(box) + MARGIN * np.array([-1, -1, 1, 1])

    def _faults(self, box: np.ndarray) -> int:
        """How much a label lies on: other labels, points, and what is outside."""
        left, bottom, right, top = box
        faults = 0
        for other in self._boxes:
            apart = left >= other[2] or right <= other[0] or bottom >= other[3] or top <= other[1]
            faults += 0 if apart else WORST
        x, y = self._points.T
        inside = (x > left) & (x < right) & (y > bottom) & (y < top)  # [P]
        frame = self._axes.bbox
        outside = left < frame.x0 or right > frame.x1 or bottom < frame.y0 or top > frame.y1
        return faults + int(inside.sum()) + WORST * int(outside)


def _sampled(line: np.ndarray) -> np.ndarray:
    """[P, 2] points of a line through [N, 2] points, in pixels."""
    found = [line]
    for start, end in zip(line, line[1:]):
        steps = 2 + int(np.abs(end - start).max() / SPACING)
        found.append(np.linspace(start, end, steps))
    return np.concatenate(found)


def write(axes: Any, labels: Sequence[Label], lines: Sequence[np.ndarray]) -> None:
    """Writes labels, the needed ones first.

    Args:
        axes: whose limits are settled.
        labels: in the order in which they get room.
        lines: as of ``Placing``.
    """
    placing = Placing(axes, lines)
    for label in sorted(labels, key=lambda label: not label.needed):
        placing.write(label)
