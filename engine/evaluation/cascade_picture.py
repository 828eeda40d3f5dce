"""Picture of images that left a cascade at each of its stages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine import figures
from engine.data.spec import Dataset
from engine.evaluation.figures import DPI

# Images of each stage.
SHOWN = 8


def draw(
    path: Path, points: Sequence[str], dataset: Dataset, ran: np.ndarray, answers: np.ndarray
) -> list[Path]:
    """Draws a row of images for each stage, with the answers that they left with.

    Args:
        path: of the picture.
        points: of the stages.
        dataset: whose validation images were run.
        ran: [N] number of the stage where each left.
        answers: [N] its class.

    Returns:
        The files: none without matplotlib.
    """
    if not figures.available():
        return []
    picture = figures.new_figure(1.3 * SHOWN, 1.7 * len(points), layout='tight')
    grid = picture.subplots(len(points), SHOWN, squeeze=False)
    for stage, row in enumerate(grid):
        own = np.flatnonzero(ran == stage)
        # From all over the data, which may be sorted by class.
        places = np.linspace(0, len(own) - 1, min(SHOWN, len(own))).round().astype(int)
        row[0].set_ylabel(points[stage])
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, number in zip(row, own[places]):
            label = dataset.val.labels[number]
            name = figures.escaped(dataset.classes[answers[number]][:14])
            colour = 'black' if answers[number] == label else 'red'
            axes.imshow(dataset.val.read(int(number))[..., ::-1], interpolation='nearest')
            axes.set_title(name, fontsize='small', color=colour)
    picture.suptitle('images that leave at each stage; wrong answers in red', fontsize='small')
    picture.savefig(path, dpi=DPI)
    return [path]
