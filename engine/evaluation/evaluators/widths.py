"""Which widths a gate chose: shares by class, mean multiply-adds, measured speed, a picture."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.datasets import Dataset
from engine.evaluation import throughput
from engine.evaluation.evaluators.evaluator import Evaluation, Scored
from engine.evaluation.figures import draw_shares
from engine.files import write_json
from engine.runs.checkpoint import Checkpoint
from nets import cost
from nets.points import Point


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
        shares = [f'{name} {100 * share:.1f} %' for name, share in zip(self.points, self.shares)]
        speeds = [f'{name} {rate:.1f}' for name, rate in self.images_per_second.items()]
        return (
            f'{self.name}: {", ".join(shares)}; {self.madds / 1e6:.2f} M multiply-adds per image\n'
            f'images/s: {", ".join(speeds)}'
        )


class Widths:
    """Evaluator of slimmable networks with a gate."""

    def report(self, evaluation: Evaluation) -> str:
        """Writes ``routes/s<size>.json`` and the picture beside it, for each precision."""
        if evaluation.sampled:
            return 'the gate was sampled: its choices are not recorded'
        lines = []
        for part in evaluation.parts():
            lines += self._of_sizes(part)
        return '\n'.join(lines)

    def _of_sizes(self, evaluation: Evaluation) -> list[str]:
        """Lines about the gates of all sizes, at one precision."""
        net = evaluation.model.net
        lines = []
        for size, name in zip(net.sizes, net.accumulator_names):
            chosen = evaluation.score.accumulators[name]  # [classes, routes]
            speed = images_per_second(evaluation.source, evaluation.dataset, size)
            found = routes(net, evaluation.layers, size, chosen, speed)
            path = evaluation.folder / 'routes' / f'{found.name}.json'
            write_json(path, dataclasses.asdict(found))
            pictures = draw(found, path.with_suffix('.png'))
            lines += [found.text(), str(path), *map(str, pictures)]
        return lines

    def monitor(self, scored: Scored) -> dict[str, float]:
        """Nothing: choices are recorded when a training has ended."""
        return {}


def routes(
    net: Any,
    layers: Mapping[str, Sequence[cost.LayerRecord]],
    size: int,
    chosen: np.ndarray,
    speed: dict[str, float],
) -> Routes:
    """Choices of the gate at one size.

    Args:
        net: network with ``routes``.
        layers: layer records by spelling of the operating point.
        size: input size in pixels.
        chosen: how often each route was chosen, by class [classes, routes].
        speed: images/s by name.
    """
    points = _points(net, size)
    madds = [cost.madds(layers[point]) for point in points]
    shares = chosen.sum(axis=0) / chosen.sum()  # [routes]
    images = chosen.sum(axis=1, keepdims=True)  # [classes, 1]
    by_class = chosen / np.maximum(images, 1)
    mean = float(shares @ madds) + net.head_madds
    name = dataclasses.replace(Point.parse(points[0]), size=size, width=None)
    return Routes(str(name), points, shares.tolist(), by_class.tolist(), mean, madds, speed)


def _points(net: Any, size: int) -> list[str]:
    """Spellings of the operating points of the routes at a size, of a network of one precision."""
    found = []
    for route in net.routes:
        point = net.point(size, route)
        found.append(str(dataclasses.replace(point, bits=net.points[0].bits)))
    return found


def images_per_second(source: Checkpoint, dataset: Dataset, size: int) -> dict[str, float]:
    """Median images/s of the gate's choices, and of every route for all images.

    Args:
        source: the network.
        dataset: its first validation images are run.
        size: input size in pixels.
    """
    assert source.config is not None
    net: Any = source.config.network()
    (choice,) = [name for name, other in net.choosing.items() if other == size]
    points = _points(net, size)
    ways = {point: [point] for point in points}
    return throughput.measure(source, dataset, {'dynamic': [choice], **ways})


def draw(found: Routes, path: Path) -> list[Path]:
    """Draws shares within each class over the shares of all images, see ``draw_shares``."""
    return draw_shares(
        path,
        np.array(found.by_class),
        label='share of the images of a class',
        title=f'{found.name}: {found.madds / 1e6:.1f} M multiply-adds per image',
        bars=functools.partial(_draw_routes, found),
    )


def _draw_routes(found: Routes, axes: Any) -> None:
    x = np.arange(len(found.points))
    millions = [f'{madds / 1e6:.1f} M' for madds in found.of_points]
    labels = [f'{point}\n{cost}' for point, cost in zip(found.points, millions)]
    axes.bar(x, found.shares)
    axes.set(ylim=(0, 1), ylabel='share of all images')
    axes.set_xticks(x, labels)
