"""Calibration of batch normalisation after training, for operating points of any size or width.

Images go through the network in training mode, each normalisation with the statistics of its own
batch; the averages of these become the stored statistics. Nothing else of the network changes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from engine import families
from engine.config.config import Config
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.evaluation import fitting
from engine.evaluation.training_images import number_of, training_batches, training_data
from engine.files import check_writable
from engine.graph.inference import InferenceModel
from engine.runs import checkpoint
from engine.runs.checkpoint import POINTS, Checkpoint, Restore
from engine.runs.untrained_sizes import lend, lend_bits, nearest
from nets.layers.norm import Averages, Statistics
from quant import backend, specs
from quant.backend import new_graph, tf

# Training images that are taken where their number is not given.
IMAGES = 2000


class Batch(NamedTuple):
    """Statistics of the normalisations for one batch.

    Attributes:
        images: number of images.
        statistics: arrays by scope and point of the normalisation.
    """

    images: int
    statistics: dict[str, Statistics]


class Collected(NamedTuple):
    """Statistics of several batches.

    Attributes:
        batches: one by one.
        averages: the variables that averages are stored in, by scope and point.
    """

    batches: list[Batch]
    averages: dict[str, Averages]


class Stacked(NamedTuple):
    """Statistics of one normalisation for B batches.

    Attributes:
        means, variances: float64 [B, C], of the values of each batch; variances are unbiased.
        counts: float64 [B, 1], number of values per channel.
        images: float64 [B, 1], number of images.
    """

    means: np.ndarray
    variances: np.ndarray
    counts: np.ndarray
    images: np.ndarray


def stacked(batches: Sequence[Batch], name: str) -> Stacked:
    """The statistics of the normalisation ``name`` in all batches."""
    rows = [batch.statistics[name] for batch in batches]
    means, variances, counts = map(np.array, zip(*rows))
    images = np.array([batch.images for batch in batches])
    columns = [column.astype('float64') for column in (means, variances, counts, images)]
    return Stacked(columns[0], columns[1], columns[2][:, None], columns[3][:, None])


def pooled(found: Stacked) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance [C] of all values of all batches together."""
    total = found.counts.sum()
    mean = (found.counts * found.means).sum(axis=0) / total
    within = (found.counts - 1) * found.variances  # [B, C]
    between = found.counts * (found.means - mean) ** 2
    squares = (within + between).sum(axis=0)
    return mean, squares / max(total - 1, 1)


def image_weighted(found: Stacked) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the batches of mean and of unbiased variance [C], weighted by images, as SAN."""
    weights = found.images / found.images.sum()  # [B, 1]
    mean = (weights * found.means).sum(axis=0)
    return mean, (weights * found.variances).sum(axis=0)


Average: TypeAlias = Callable[[Stacked], tuple[np.ndarray, np.ndarray]]

AVERAGES: dict[str, Average] = {'pooled': pooled, 'images': image_weighted}


def collect(
    model: InferenceModel,
    values: Mapping[str, np.ndarray],
    batches: Iterable[Sequence[np.ndarray]],
) -> Collected:
    """Runs batches through a network in training mode; no variable changes.

    Args:
        model: the network.
        values: its variables by name.
        batches: images by view size, and labels.
    """
    found = []
    with new_graph(), backend.session() as session:
        blocks = model.blocks(training=True)
        images = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        model.net.outputs(model.views(images), blocks, **model.net.calibration_options)
        session.run(tf.global_variables_initializer())
        Restore(values).init(session)
        for *arrays, labels in batches:
            statistics = session.run(blocks.statistics, dict(zip(images, arrays)))
            found.append(Batch(len(labels), statistics))
    return Collected(found, blocks.averages)


def calibrate(
    config: Config, source: Checkpoint, dataset: Dataset, *, images: int, average: str, threads: int
) -> dict[str, np.ndarray]:
    """Variables of the operating points of ``config``, with statistics of training images.

    A size that was never trained takes affine parameters and private quantizers of the nearest
    one; a precision that never was takes affine parameters, and quantizers fitted to its weights
    and activations.

    Args:
        config: configuration of the run, narrowed to what is calibrated.
        source: checkpoint.
        dataset: the first images of a pass over its training images are used.
        images: how many.
        average: ``pooled`` or ``images``, see ``AVERAGES``.
        threads: decoding threads.
    """
    side = max(config.image_size, *config.sizes)
    batch_size = min(config.batch_size, images)
    config = config.adjusted(kd=False, image_size=side, batch_size=batch_size)
    model = InferenceModel(config, data_format='NHWC')
    variables, _ = model.inspect()
    lenders = {}
    for size in config.sizes:
        if size not in source.sizes:
            lenders[size] = (nearest(size, source.trained),)
    lent = lend(source.values, variables, lenders)
    if source.config is not None:
        trained = source.config.quantization.point_bits
        lent |= lend_bits(source.values | lent, variables, trained)
    batches = training_batches(config, dataset, images, threads)
    if config.bits and fitting.lacks(variables, source.values | lent):
        batches = list(batches)
        lent |= fitting.fitted(model, variables, source.values | lent, batches)
    collected = collect(model, source.values | lent, batches)
    found = averaged(collected, AVERAGES[average], source.values)
    points = {*source.calibrated, *map(str, model.net.points)}
    return lent | found | {POINTS: np.array(sorted(points))}


def averaged(
    collected: Collected, average: Average, values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Variables that hold the averages of statistics over all batches.

    Args:
        collected: statistics by batch.
        average: one of ``AVERAGES``.
        values: tables that only some rows of are replaced, by name of the variable.
    """
    found: dict[str, np.ndarray] = {}
    for name, averages in collected.averages.items():
        mean, variance = average(stacked(collected.batches, name))
        for variable, value in ((averages.mean, mean), (averages.variance, variance)):
            known = found.get(variable, values.get(variable))
            found[variable] = _stored(value.astype('float32'), known, averages.row)
    return found


def _stored(value: np.ndarray, known: np.ndarray | None, row: int | None) -> np.ndarray:
    """The value of the variable that holds statistics: these [C], or a table with them in a row."""
    if row is None or known is None:
        return value
    table = known.copy()  # [choices, channels of the widest]
    table[row, : len(value)] = value
    return table


def is_calibrated(path: str) -> bool:
    """Whether the last checkpoint of a run has statistics of all its operating points."""
    source = checkpoint.read(checkpoint.find(path, None, 'RUN'), flag='RUN')
    if source.config is None:
        return False
    points = {str(point) for point in source.config.network().points}
    return points <= set(checkpoint.available(source))


def calibrate_run(
    path: str,
    *,
    sizes: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    bits: Sequence[int] | None = None,
    images: int | None = None,
    average: str = 'pooled',
    epoch: int | None = None,
    data: str | None = None,
    batch_size: int | None = None,
    threads: int,
) -> tuple[Path, list[str], int]:
    """Calibrates a checkpoint of a run folder and stores the statistics beside it.

    Args:
        path: run folder, or checkpoint prefix in one.
        sizes: input sizes; by default those of the run.
        widths: of a slimmable network; by default all.
        bits: of weights, that name precisions; by default those of the run.
        images: number of training images; by default ``IMAGES``, or all where there are fewer.
        average: see ``calibrate``.
        epoch: of the checkpoint, by default the last.
        data: what ``--data`` says; by default that of the run.
        batch_size: by default that of the run.
        threads: decoding threads.

    Returns:
        The file, the spellings of the operating points, and the number of images.

    Raises:
        UsageError: there is no such run or data, or a number is out of range.
    """
    prefix = checkpoint.find(path, epoch, 'RUN')
    recorded = checkpoint.recorded(prefix)
    config = recorded.config
    assert config is not None
    check_writable(Path(prefix).parent, f'{path}: statistics lie beside the checkpoint')
    if bits:
        config = _at_bits(config, bits, path)
        sizes = sizes or config.sizes
    config = families.get(config.net).calibrated(config, sizes, widths)
    config, dataset = training_data(path, recorded, config, data=data, batch_size=batch_size)
    count = number_of(images, IMAGES, dataset)
    # TensorFlow is loaded from here on.
    source = checkpoint.read(prefix, flag='RUN')
    values = calibrate(config, source, dataset, images=count, average=average, threads=threads)
    points = [str(point) for point in config.network().points]
    return checkpoint.write_calibrated(prefix, values), points, count


def _at_bits(config: Config, bits: Sequence[int], path: str) -> Config:
    """A configuration at the precisions that are calibrated.

    Args:
        config: of the run.
        bits: of weights.
        path: of the run, for messages.

    Raises:
        UsageError: the run has no precisions to choose from, or one is none.
    """
    asked = ' '.join(map(str, bits))
    if not config.bits:
        raise UsageError(
            f'--bits {asked}: {path} was trained without --bits; python -m scripts.quantize makes '
            'another network of it'
        )
    known = [precision.weights for precision in config.quantization.precisions]
    shares = specs.shares_codes(config.quantization.to_policy().rules[0].weight)
    for one in bits:
        if shares and not min(known) <= one <= max(known):
            raise UsageError(
                f'--bits {one}: codes of {path} are nested and have {min(known)} to {max(known)} '
                'bits; others would change them'
            )
    return config.at_bits(bits)
