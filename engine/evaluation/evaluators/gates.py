"""Use of the gates on a data set: rates per block and class, expected multiply-adds, a picture."""

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
class Activity:
    """Gates of one operating point on a data set.

    Attributes:
        point: its spelling.
        blocks: scopes of the residual blocks.
        targets: target execution rates.
        rates: share of the images that executed each block.
        by_class: the same within each class [classes, blocks]; a class without images has zeros.
        madds: expected multiply-adds of one image at these rates.
        always, everything: the same with all gates closed, and with all of them open.
    """

    point: str
    blocks: list[str]
    targets: list[float]
    rates: list[float]
    by_class: list[list[float]]
    madds: float
    always: float
    everything: float

    @property
    def activation(self) -> float:
        """Mean rate over the blocks."""
        return float(np.mean(self.rates))

    def text(self) -> str:
        """One line for the console."""
        millions = (f'{value / 1e6:.1f}' for value in (self.madds, self.always, self.everything))
        return (
            f'{self.point}: {100 * self.activation:.1f} % of the blocks executed, '
            '{} M multiply-adds expected ({} with all gates closed, {} open)'.format(*millions)
        )


def activities(
    model: Model, layers: Mapping[str, Sequence[cost.LayerRecord]], tallies: Sequence[np.ndarray]
) -> list[Activity]:
    """From what evaluation added up; nothing for a network without gates."""
    sums = dict(zip(model.net.tally_names, tallies))
    return [
        _activity(
            model.net, str(point), layers[str(point)], sums[f'executed_{point}'], sums['images']
        )
        for point in model.net.points
        if f'executed_{point}' in sums
    ]


def report(
    model: Model,
    layers: Mapping[str, Sequence[cost.LayerRecord]],
    tallies: Sequence[np.ndarray],
    values: Mapping[str, np.ndarray],
    dataset: Dataset,
    folder: Path,
) -> str:
    """Writes what the gates did and how fast skipping is; returns it as text."""
    found = activities(model, layers, tallies)
    paths = write(folder, found)
    speed = throughput(model, values, dataset)
    write_json(folder / 'gates' / 'speed.json', speed)
    lines = [activity.text() for activity in found]
    lines += [f'{name}: {rate:.1f} images/s' for name, rate in speed.items()]
    return '\n'.join([*lines, *map(str, paths)])


def throughput(
    model: Model, values: Mapping[str, np.ndarray], dataset: Dataset
) -> dict[str, float]:
    """Median images/s of all points together: closed bodies skipped, and all bodies computed."""

    def build(views: Any) -> dict[str, list[tf.Tensor]]:
        found = {}
        for name, execution in (('skipping', 'skip'), ('all bodies', 'all')):
            blocks = model.blocks(training=False)
            with tf.variable_scope('', reuse=tf.AUTO_REUSE):
                outputs = model.net.outputs(views, blocks, execution=execution)
            found[name] = list(outputs.logits.values())
        return found

    return measure(model, values, dataset, build)


def write(folder: Path, found: Sequence[Activity]) -> list[Path]:
    """``gates/<point>.json`` and, where matplotlib is installed, the picture beside it."""
    paths = []
    for activity in found:
        paths.append(folder / 'gates' / f'{activity.point}.json')
        write_json(paths[-1], dataclasses.asdict(activity) | {'activation': activity.activation})
        picture = paths[-1].with_suffix('.png')
        if draw(activity, picture):
            paths.append(picture)
    return paths


def draw(activity: Activity, path: Path) -> bool:
    """Heat map of classes x blocks over mean and spread per block; False without matplotlib."""
    if not available():
        return False
    by_class = np.array(activity.by_class)
    figure = new_figure(max(6.0, 0.28 * len(activity.blocks)), 6.5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    image = top.imshow(
        by_class, aspect='auto', vmin=0, vmax=1, cmap='viridis', interpolation='nearest'
    )
    figure.colorbar(image, ax=top, label='share of images that execute the block')
    top.set(ylabel='class')
    figure.suptitle(activity.text().replace(' executed, ', ' executed,\n'), fontsize='small')
    _draw_blocks(bottom, activity, by_class)
    figure.savefig(path, dpi=120)
    return True


def _draw_blocks(axes: Any, activity: Activity, by_class: np.ndarray) -> None:
    """Rate of every block with its spread over the classes, beside its target."""
    x = np.arange(len(activity.blocks))
    axes.bar(
        x,
        activity.rates,
        yerr=by_class.std(axis=0),
        color='tab:blue',
        label='rate, spread over classes',
    )
    axes.plot(x, activity.targets, 'k_', markersize=12, label='target')
    axes.set(ylim=(0, 1.05), ylabel='rate')
    axes.set_xticks(
        x,
        [block.replace('group', 'g').replace('/block', 'b') for block in activity.blocks],
        rotation=90,
        fontsize='x-small',
    )
    axes.legend(fontsize='x-small', loc='lower left')


def _activity(
    net: Any,
    point: str,
    layers: Sequence[cost.LayerRecord],
    executed: np.ndarray,
    images: np.ndarray,
) -> Activity:
    rates = executed.sum(axis=0) / images.sum()

    def madds(values: Sequence[float]) -> float:
        return cost.expected_madds(layers, dict(zip(net.blocks, values)))

    everywhere = np.ones(len(net.blocks))
    return Activity(
        point,
        list(net.blocks),
        list(net.targets),
        rates.tolist(),
        (executed / np.maximum(images, 1)[:, None]).tolist(),
        madds(rates.tolist()),
        madds((0 * everywhere).tolist()),
        madds(everywhere.tolist()),
    )
