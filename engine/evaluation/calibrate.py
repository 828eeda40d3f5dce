"""Calibration of batch normalisation after training.

Statistics of any input size from training images.

Images go through the network in training mode, each normalisation with the statistics of its own
batch; the averages of these become the stored statistics. Nothing else of the network changes.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tensorpack.utils.utils import get_tqdm

from engine import families
from engine.config.config import Config
from engine.data.datasets import Dataset, open_dataset
from engine.errors import UsageError
from engine.graph.tower import Model
from engine.runs import checkpoint, holdout
from engine.runs.checkpoint import POINTS, Checkpoint, Restore
from engine.runs.untrained_sizes import lend, nearest
from engine.training.train import train_flow
from nets.layers.norm import Statistics
from quant.backend import new_graph, tf


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
    """Mean over the batches, weighted by their images, of mean and of unbiased variance [C].

    As SAN's code does.
    """
    weights = np.array([batch.images for batch in batches], 'float64')[:, None]
    means, variances = (
        np.stack([batch.statistics[name][part] for batch in batches]) for part in (0, 1)
    )
    return (weights * means).sum(0) / weights.sum(), (weights * variances).sum(0) / weights.sum()


AVERAGES: dict[str, Callable[[Sequence[Batch], str], tuple[np.ndarray, np.ndarray]]] = {
    'pooled': pooled,
    'images': image_weighted,
}


def observe(
    model: Model, values: Mapping[str, np.ndarray], batches: Iterable[Sequence[np.ndarray]]
) -> list[Batch]:
    """Runs batches of images and labels through ``model`` in training mode; no variable changes."""
    seen = []
    with new_graph(), tf.Session() as session:
        blocks = model.blocks(training=True)
        images = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        model.net.outputs(model.views(images), blocks, **model.options)
        session.run(tf.global_variables_initializer())
        Restore(values).init(session)
        for *arrays, labels in batches:
            seen.append(
                Batch(len(labels), session.run(blocks.statistics, dict(zip(images, arrays))))
            )
    return seen


def training_batches(
    config: Config, dataset: Dataset, images: int, threads: int
) -> Iterable[Sequence[np.ndarray]]:
    """Augmented training batches of ``images`` images in all, with a progress bar."""
    with get_tqdm(total=images, unit='image', desc='calibrating') as bar:
        for batch in train_flow(config, dataset, start_step=0, threads=threads):
            part = [array[: images - bar.n] for array in batch]
            yield part
            bar.update(len(part[-1]))
            if bar.n >= images:
                return


def calibrate(
    config: Config, source: Checkpoint, dataset: Dataset, *, images: int, average: str, threads: int
) -> dict[str, np.ndarray]:
    """Variables of the sizes of ``config``.

    With statistics from the first ``images`` images of a training pass.

    A size that was never trained takes affine parameters and private quantizers of the nearest one.

    Args:
        config: configuration of the run, narrowed to the sizes to calibrate.
        source: checkpoint.
        dataset: its training images are used.
        images: how many.
        average: ``pooled`` or ``images``, see ``AVERAGES``.
        threads: decoding threads.
    """
    config = dataclasses.replace(
        config,
        kd=False,
        image_size=max(config.image_size, *config.sizes),
        batch_size=min(config.batch_size, images),
    )
    lent: dict[str, np.ndarray] = {}
    for size in config.sizes:
        if size not in source.sizes:
            lent |= lend(source.values, size, (nearest(size, source.trained),))
    net = config.network()
    model = Model(config, data_format='NHWC', options=net.calibration_options)
    batches = observe(
        model, source.values | lent, training_batches(config, dataset, images, threads)
    )
    found: dict[str, np.ndarray] = {}
    for name in batches[0].statistics:
        for part, value in zip(('mean', 'variance'), AVERAGES[average](batches, name)):
            found |= _stored(name, part, value.astype('float32'), source.values | found)
    if config.net == 'dsnet':
        found[POINTS] = np.array(sorted({*source.calibrated, *map(str, net.points)}))
    variables, _ = model.inspect()
    own = {name: value for name, value in lent.items() if name in variables}
    return own | found


def is_calibrated(path: str) -> bool:
    """Whether the last checkpoint of a run has statistics of all its operating points."""
    source = checkpoint.read(checkpoint.find(path, None, 'RUN'), flag='RUN')
    known = checkpoint.available(source)
    return source.config is not None and all(
        str(point) in known for point in source.config.network().points
    )


def calibrate_run(
    path: str,
    *,
    sizes: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    images: int = 2000,
    average: str = 'pooled',
    epoch: int | None = None,
    data: str | None = None,
    batch_size: int | None = None,
    threads: int,
) -> tuple[Path, list[str]]:
    """Calibrates a checkpoint of a run folder and stores the statistics beside it.

    Args:
        path: run folder, or checkpoint prefix in one.
        sizes: input sizes; by default those of the run.
        widths: of a slimmable network; by default all.
        images, average, threads: see ``calibrate``.
        epoch: of the checkpoint, by default the last.
        data, batch_size: by default those of the run.

    Returns:
        The file, and the spellings of the operating points.

    Raises:
        UsageError: there is no such run or data, or a number is out of range.
    """
    source = checkpoint.read(checkpoint.find(path, epoch, 'RUN'), flag='RUN')
    if source.config is None:
        raise UsageError(
            f'{path}: no config.json there; import it first with scripts/import_checkpoint.py'
        )
    config = families.get(source.config.net).calibrated(source.config, sizes, widths)
    changes = {'data': data, 'batch_size': batch_size}
    given = {key: value for key, value in changes.items() if value is not None}
    config = dataclasses.replace(config, **given)
    if not config.data:
        raise UsageError(f'{path}: was imported without a data set; give --data')
    config.check()
    dataset = open_dataset(config.data, size=config.image_size, skip=config.skip_list)
    dataset = holdout.apply(dataset, config, Path(source.prefix).parent)
    for flag, value in (('--images', images), ('--batch-size', config.batch_size)):
        if not 2 <= value <= len(dataset.train):
            raise UsageError(
                f'{flag} {value}: must lie between 2 and the {len(dataset.train)} training images'
            )
    values = calibrate(config, source, dataset, images=images, average=average, threads=threads)
    return checkpoint.write_calibrated(source.prefix, values), [
        str(point) for point in config.network().points
    ]


def _stored(
    name: str, part: str, value: np.ndarray, values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The variable that holds this statistic: its own, or a row of the table of all widths."""
    row = re.fullmatch(r'(.*)/w(\d+)', name)
    if row is None:
        return {f'{name}/{part}/EMA': value}
    table = values[f'{row[1]}/{part}/EMA'].copy()
    table[int(row[2]), : len(value)] = value
    return {f'{row[1]}/{part}/EMA': table}
