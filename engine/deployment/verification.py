"""Compares what an exported network answers with what evaluation answers."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from engine.config.config import Config
from engine.data import classes
from engine.data.datasets import open_dataset
from engine.data.spec import Dataset
from engine.deployment.forms import Exporter
from engine.errors import UsageError
from engine.graph import freeze
from engine.runs.checkpoint import Checkpoint

# Images of a batch.
BATCH = 250

# A larger difference of logits is more than another order of sums.
DIFFERENCE = 1e-3


class Comparison(NamedTuple):
    """Answers of a runtime at a point beside those of evaluation.

    Attributes:
        runtime: name and version.
        point: spelling.
        images: how many were compared.
        differing: answers that differ.
        apart: share of images with a logit that differs by more than ``DIFFERENCE``.
        top1: percent that the runtime has right.
        expected_top1: percent that evaluation has right.
        ms: milliseconds of an image, in a batch.
    """

    runtime: str
    point: str
    images: int
    differing: int
    apart: float
    top1: float
    expected_top1: float
    ms: float

    def facts(self) -> dict[str, Any]:
        """The comparison without what differs from one measurement to the next."""
        return {
            'runtime': self.runtime,
            'point': self.point,
            'images': self.images,
            'answers that differ': self.differing,
            'top-1': round(self.top1, 2),
        }


class Images(NamedTuple):
    """Images that an export is checked with.

    Attributes:
        views: uint8 [N, side, side, 3] by view size.
        labels: [N]; -1 of images that show nothing.
        what: where they are from.
    """

    views: list[np.ndarray]
    labels: np.ndarray
    what: str


def images(source: Checkpoint, data: str | None, count: int) -> Images:
    """The first evaluation images of what the run recorded, or noise where it knows of no data.

    Args:
        source: what is exported.
        data: as of ``--data``; None for what the run recorded.
        count: how many.

    Raises:
        UsageError: they are not there.
    """
    assert source.config is not None
    config = source.config
    place = data or config.data
    if not place:
        return _noise(config, min(count, BATCH))
    try:
        dataset = open_dataset(place, size=config.image_size)
        if source.class_names:
            dataset, _ = classes.mapped(dataset, source.class_names, source.prefix)
    except UsageError as error:
        raise UsageError(
            f'{error}. An exported file is checked with evaluation images; --data says where '
            'they are'
        ) from error
    return _first(config, dataset, count)


def _noise(config: Config, count: int) -> Images:
    """Images without meaning.

    Args:
        config: of the network that takes them.
        count: how many.
    """
    rng = np.random.default_rng(0)
    views = []
    for side in config.preprocessing.view_sizes:
        views.append(rng.integers(256, size=(count, side, side, 3), dtype=np.uint8))
    return Images(views, np.full(count, -1), 'noise: the run knows of no data; --data names some')


def _first(config: Config, dataset: Dataset, count: int) -> Images:
    """The first evaluation images of a data set.

    Args:
        config: of the network that takes them.
        dataset: data set.
        count: how many.
    """
    views: list[list[np.ndarray]] = [[] for _ in config.preprocessing.view_sizes]
    count = min(count, len(dataset.val))
    for number in range(count):
        image = dataset.val.read(number)
        for kept, view in zip(views, config.preprocessing.eval_views(image)):
            kept.append(view)
    stacked = [np.stack(kept) for kept in views]
    labels = np.asarray(dataset.val.labels)[:count]
    return Images(stacked, labels, 'evaluation images')


def compare(
    exporter: Exporter, path: Path, source: Checkpoint, points: Sequence[str], given: Images
) -> list[Comparison]:
    """Runs an exported network in every runtime that there is.

    Args:
        exporter: its format.
        path: what was written.
        source: what it was made of.
        points: that it holds, in its order.
        given: images.
    """
    assert source.config is not None
    sides = source.config.preprocessing.view_sizes
    runtimes = exporter.runtimes(path)
    found = []
    for number, point in enumerate(points):
        frozen = freeze.folded(freeze.named(source, point, static=exporter.static))
        (read,) = frozen.signatures[0].feeds
        (evaluated,) = frozen.runs()
        side = int(read.partition(':')[0].rpartition('_')[2])
        batches = _batches(given.views[sides.index(side)])
        expected = [evaluated(batch)[0] for batch in batches]
        for name, run in runtimes.items():
            started = time.perf_counter()
            answers = [run(batch, number) for batch in batches]
            seconds = time.perf_counter() - started
            # A slow one takes the first images of a batch.
            kept = [rows[: len(one)] for rows, one in zip(expected, answers)]
            labels = [rows[: len(one)] for rows, one in zip(_batches(given.labels), answers)]
            found.append(
                _compared(
                    name,
                    point,
                    np.concatenate(answers),
                    np.concatenate(kept),
                    np.concatenate(labels),
                    seconds,
                )
            )
    return found


def _compared(
    runtime: str,
    point: str,
    logits: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray,
    seconds: float,
) -> Comparison:
    """One comparison.

    Args:
        runtime: name.
        point: spelling.
        logits: of the runtime, [N, classes].
        expected: of evaluation.
        labels: [N].
        seconds: that the runtime took.
    """
    answers = logits.argmax(axis=1)
    right = expected.argmax(axis=1)
    furthest = np.abs(logits - expected).max(axis=1)  # [N]
    return Comparison(
        runtime,
        point,
        len(labels),
        int((answers != right).sum()),
        float((furthest > DIFFERENCE).mean()),
        100 * float((answers == labels).mean()),
        100 * float((right == labels).mean()),
        1e3 * seconds / len(labels),
    )


def table(found: Sequence[Comparison]) -> str:
    """The comparisons for the console."""
    apart = f'logits apart > {DIFFERENCE:g}, %'
    headers = ['runtime', 'point', 'images', 'answers that differ', apart]
    headers += ['top-1, %', 'evaluated, %', 'ms']
    rows = []
    for one in found:
        rows.append((*one[:4], 100 * one.apart, one.top1, one.expected_top1, one.ms))
    return tabulate(rows, headers, floatfmt=('', '', '', '', '.2f', '.2f', '.2f', '.3f'))


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
