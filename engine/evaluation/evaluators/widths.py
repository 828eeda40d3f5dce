"""Widths that a gate chose on a data set: shares by class, multiply-adds, speed, a picture."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.datasets import Dataset
from engine.evaluation.throughput import measure
from engine.figures import available, new_figure
from engine.graph.tower import Model
from engine.runs.folder import write_json
from nets import cost
from quant.backend import tf


@dataclasses.dataclass(frozen=True)
class Routes:
    """Choices of the gate at one input size.

    Attributes:
        name: start of its files, such as ``s28``.
        points: operating points to choose from, narrowest first.
        shares: of the images, by point.
        by_class: the same within each class [classes, points]; a class without images has zeros.
        madds: mean multiply-adds of an image.
        of_points: multiply-adds of each point.
        images_per_second: chosen widths computed group by group, and each point for all images.
    """

    name: str
    points: list[str]
    shares: list[float]
    by_class: list[list[float]]
    madds: float
    of_points: list[int]
    images_per_second: dict[str, float]

    def text(self) -> str:
        """Lines for the console."""
        shares = ', '.join(
            f'{point} {100 * share:.1f} %' for point, share in zip(self.points, self.shares)
        )
        speeds = ', '.join(f'{name} {rate:.1f}' for name, rate in self.images_per_second.items())
        cost = f'{self.madds / 1e6:.2f} M multiply-adds per image'
        return f'{self.name}: {shares}; {cost}\nimages/s: {speeds}'


def report(
    model: Model,
    layers: Mapping[str, Sequence[cost.LayerRecord]],
    tallies: Sequence[np.ndarray],
    values: Mapping[str, np.ndarray],
    dataset: Dataset,
    folder: Path,
) -> str:
    """Writes ``routes/<size>.json`` and the picture beside it; returns them as text."""
    lines = []
    for size, chosen in zip(model.net.sizes, tallies):
        points = [str(model.net.point(size, route)) for route in model.net.routes]
        madds = [cost.madds(layers[point]) for point in points]
        share = chosen.sum(axis=0) / chosen.sum()
        by_class = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
        found = Routes(
            f's{size}',
            points,
            share.tolist(),
            by_class.tolist(),
            float(share @ madds) + model.net.head_madds,
            madds,
            throughput(model, values, dataset, size),
        )
        path = folder / 'routes' / f'{found.name}.json'
        write_json(path, dataclasses.asdict(found))
        lines += [found.text(), str(path)]
        if draw(found, path.with_suffix('.png')):
            lines.append(str(path.with_suffix('.png')))
    return '\n'.join(lines)


def throughput(
    model: Model, values: Mapping[str, np.ndarray], dataset: Dataset, size: int
) -> dict[str, float]:
    """Median images/s of the gate's choices at a size, and of every route for all images."""
    net = model.net

    def build(views: Any) -> dict[str, list[tf.Tensor]]:
        outputs = net.outputs(views, model.blocks(training=False))
        found = {'dynamic': [outputs.extras[f'{net.key(size)}dynamic']]}
        for route in net.routes:
            point = net.point(size, route)
            found[str(point)] = [outputs.logits[point]]
        return found

    return measure(model, values, dataset, build)


def draw(found: Routes, path: Path) -> bool:
    """Heat map of classes x points over the shares of all images; False without matplotlib."""
    if not available():
        return False
    figure = new_figure(max(5.0, 0.9 * len(found.points)), 6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    image = top.imshow(
        np.array(found.by_class),
        aspect='auto',
        vmin=0,
        vmax=1,
        cmap='viridis',
        interpolation='nearest',
    )
    figure.colorbar(image, ax=top, label='share of the images of a class')
    top.set(
        ylabel='class', title=f'{found.name}: {found.madds / 1e6:.1f} M multiply-adds per image'
    )
    x = np.arange(len(found.points))
    bottom.bar(x, found.shares)
    bottom.set(ylim=(0, 1), ylabel='share of all images')
    labels = [
        f'{point}\n{madds / 1e6:.1f} M' for point, madds in zip(found.points, found.of_points)
    ]
    bottom.set_xticks(x, labels)
    figure.savefig(path, dpi=120)
    return True
