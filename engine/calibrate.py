"""Calibration of batch normalisation after training: statistics of any input size from training images.

Images go through the network in training mode, each normalisation with the statistics of its own batch; the averages of
these become the stored statistics. Nothing else of the network changes.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tensorpack.utils.utils import get_tqdm

from engine.checkpoint import Checkpoint, Restore
from engine.config import Config
from engine.datasets import Dataset
from engine.model import Model
from engine.statistics import lend, nearest
from engine.train import train_flow
from nets.blocks import Statistics
from quant.backend import tf


class Batch(NamedTuple):
    """What the normalisations saw of one batch.

    Attributes:
        images: number of images.
        statistics: arrays of ``Statistics`` by scope and point of the normalisation.
    """

    images: int
    statistics: dict[str, Statistics]


def pooled(batches: Sequence[Batch], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance [C] of all values of all batches together."""
    rows = [batch.statistics[name] for batch in batches]
    counts = np.array([row.count for row in rows], 'float64')[:, None]
    means, variances = (np.stack(arrays).astype('float64') for arrays in list(zip(*rows))[:2])
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    spread = ((counts - 1) * variances + counts * (means - mean) ** 2).sum(0)
    return mean, spread / max(total - 1, 1)


def image_weighted(batches: Sequence[Batch], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the batches, weighted by their images, of mean and of unbiased variance [C], as SAN's code does."""
    weights = np.array([batch.images for batch in batches], 'float64')[:, None]
    means, variances = (np.stack([batch.statistics[name][part] for batch in batches]) for part in (0, 1))
    return (weights * means).sum(0) / weights.sum(), (weights * variances).sum(0) / weights.sum()


AVERAGES: dict[str, Callable[[Sequence[Batch], str], tuple[np.ndarray, np.ndarray]]] = {
    'pooled': pooled, 'images': image_weighted}


def observe(model: Model, values: Mapping[str, np.ndarray], batches: Iterable[Sequence[np.ndarray]]) -> list[Batch]:
    """Runs batches of images and labels through ``model`` in training mode; no variable changes."""
    seen = []
    with tf.Graph().as_default(), tf.Session() as session:
        blocks = model.blocks(training=True)
        images = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        model.net.outputs(model.views(images), blocks)
        session.run(tf.global_variables_initializer())
        Restore(values).init(session)
        for *arrays, labels in batches:
            seen.append(Batch(len(labels), session.run(blocks.statistics, dict(zip(images, arrays)))))
    return seen


def training_batches(config: Config, dataset: Dataset, images: int, workers: int) -> Iterable[Sequence[np.ndarray]]:
    """Augmented training batches of ``images`` images in all, with a progress bar."""
    with get_tqdm(total=images, unit='image', desc='calibrating') as bar:
        for batch in train_flow(config, dataset, start_step=0, workers=workers):
            part = [array[:images - bar.n] for array in batch]
            yield part
            bar.update(len(part[-1]))
            if bar.n >= images:
                return


def calibrate(config: Config, source: Checkpoint, dataset: Dataset, *, images: int, average: str,
              workers: int) -> dict[str, np.ndarray]:
    """Variables of the sizes of ``config``, with statistics from the first ``images`` images of a training pass.

    A size that was never trained takes affine parameters and private quantizers of the nearest one.

    Args:
        config: configuration of the run, narrowed to the sizes to calibrate.
        source: checkpoint.
        dataset: its training images are used.
        images: how many.
        average: ``pooled`` or ``images``, see ``AVERAGES``.
        workers: decoding threads.
    """
    config = dataclasses.replace(config, kd=False, image_size=max(config.image_size, *config.sizes),
                                 batch_size=min(config.batch_size, images))
    lent: dict[str, np.ndarray] = {}
    for size in config.sizes:
        if size not in source.sizes:
            lent |= lend(source.values, size, (nearest(size, source.trained),))
    model = Model(config, data_format='NHWC')
    batches = observe(model, source.values | lent, training_batches(config, dataset, images, workers))
    found: dict[str, np.ndarray] = {}
    for name in batches[0].statistics:
        mean, variance = AVERAGES[average](batches, name)
        found |= {f'{name}/mean/EMA': mean.astype('float32'), f'{name}/variance/EMA': variance.astype('float32')}
    own = {name: value for name, value in lent.items() if not re.search(r'/basis/\w+$|/Momentum$', name)}
    return own | found
