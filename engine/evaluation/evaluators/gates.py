"""Evaluator of gates: rates per block and class, expected multiply-adds, speed, a picture."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.datasets import Dataset
from engine.evaluation import throughput
from engine.evaluation.evaluators.evaluator import Evaluation, Scored
from engine.evaluation.figures import draw_shares
from engine.files import write_json
from engine.runs import history
from engine.runs.checkpoint import Checkpoint
from nets import cost


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
        executed = f'{100 * self.activation:.1f} % of the blocks executed'
        expected = f'{self.madds / 1e6:.1f} M multiply-adds expected'
        closed = f'{self.always / 1e6:.1f} with all gates closed'
        opened = f'{self.everything / 1e6:.1f} open'
        return f'{self.point}: {executed}, {expected} ({closed}, {opened})'


class Gates:
    """Evaluator of networks that skip residual blocks image by image."""

    def report(self, evaluation: Evaluation) -> str:
        """Writes ``gates/<point>.json``, pictures and ``gates/speed.json``."""
        if evaluation.sampled:
            return 'gates were sampled: their rates are not recorded'
        found = activities(evaluation)
        paths = write(evaluation.folder, found)
        speed = images_per_second(evaluation.source, evaluation.dataset)
        write_json(evaluation.folder / 'gates' / 'speed.json', speed)
        lines = [activity.text() for activity in found]
        lines += [f'{name}: {rate:.1f} images/s' for name, rate in speed.items()]
        lines += map(str, paths)
        return '\n'.join(lines)

    def monitor(self, scored: Scored) -> dict[str, float]:
        """Writes ``gates/<point>.json`` and pictures; returns the mean rate of every point."""
        found = activities(scored)
        write(scored.folder, found)
        metrics = {}
        for activity in found:
            metrics[history.metric('activation', activity.point)] = activity.activation
        return metrics


def activities(scored: Scored) -> list[Activity]:
    """Use of the gates of every operating point."""
    net = scored.model.net
    sums = scored.score.accumulators
    found = []
    for point in map(str, net.points):
        executed = sums[f'executed_{point}']  # [classes, blocks]
        found.append(activity(net, point, scored.layers[point], executed, sums['images']))
    return found


def activity(
    net: Any,
    point: str,
    layers: Sequence[cost.LayerRecord],
    executed: np.ndarray,
    images: np.ndarray,
) -> Activity:
    """Use of the gates of one operating point.

    Args:
        net: network with ``blocks`` and ``targets``.
        point: spelling of the operating point.
        layers: its layer records.
        executed: how many images executed each block, by class [classes, blocks].
        images: number of images by class [classes].
    """
    rates = executed.sum(axis=0) / images.sum()  # [blocks]
    by_class = executed / np.maximum(images, 1)[:, None]

    def madds(open_share: np.ndarray) -> float:
        return cost.expected_madds(layers, dict(zip(net.blocks, open_share.tolist())))

    expected = madds(rates)
    closed = madds(np.zeros_like(rates))
    opened = madds(np.ones_like(rates))
    return Activity(
        point,
        list(net.blocks),
        list(net.targets),
        rates.tolist(),
        by_class.tolist(),
        madds=expected,
        always=closed,
        everything=opened,
    )


def images_per_second(source: Checkpoint, dataset: Dataset) -> dict[str, float]:
    """Median images/s of all points together: bodies skipped, and all bodies computed.

    Args:
        source: the network.
        dataset: its first validation images are run.
    """
    assert source.config is not None
    network = source.config.network()
    points = [str(point) for point in network.points]
    ways = {'skipping': list(network.choosing), 'all bodies': points}
    return throughput.measure(source, dataset, ways)


def write(folder: Path, found: Sequence[Activity]) -> list[Path]:
    """Writes ``gates/<point>.json`` and the pictures beside it; returns all files."""
    paths = []
    for one in found:
        path = folder / 'gates' / f'{one.point}.json'
        write_json(path, dataclasses.asdict(one) | {'activation': one.activation})
        paths += [path, *draw(one, path.with_suffix('.png'))]
    return paths


def draw(found: Activity, path: Path) -> list[Path]:
    """Draws rates within each class over the rates of all images, see ``draw_shares``."""
    by_class = np.array(found.by_class)
    return draw_shares(
        path,
        by_class,
        label='share of images that execute the block',
        title=found.text().replace(' executed, ', ' executed,\n'),
        bars=functools.partial(_draw_blocks, found, by_class.std(axis=0)),
    )


def _draw_blocks(found: Activity, spread: np.ndarray, axes: Any) -> None:
    """Rate of every block with its spread over the classes, beside its target."""
    x = np.arange(len(found.blocks))
    names = [block.replace('group', 'g').replace('/block', 'b') for block in found.blocks]
    axes.bar(x, found.rates, yerr=spread, color='tab:blue', label='rate, spread over classes')
    axes.plot(x, found.targets, 'k_', markersize=12, label='target')
    axes.set(ylim=(0, 1.05), ylabel='rate')
    axes.set_xticks(x, names, rotation=90, fontsize='x-small')
    axes.legend(fontsize='x-small', loc='lower left', bbox_to_anchor=(0, 1), ncols=2, frameon=False)
