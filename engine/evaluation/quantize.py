"""Quantization after training: a copy of a float run whose quantizers start from training images.

Layer after layer, in the order of the network, the range of an activation is observed over all
images and operating points; what follows sees what the started ones before it give. Nothing is
trained, and normalisation is that of inference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.config.config import Config
from engine.console import Progress
from engine.errors import UsageError
from engine.evaluation.training_images import number_of, training_batches, training_data
from engine.graph.inference import InferenceModel
from engine.importers import copying
from engine.runs import checkpoint
from engine.runs.checkpoint import POINTS, Checkpoint, Restore
from nets.points import Point, split_name
from quant import backend
from quant.backend import new_graph, tf
from quant.quantizer import FLOAT_BITS
from quant.scope import Start

# Training images that are observed where their number is not given.
IMAGES = 512


@dataclasses.dataclass(frozen=True)
class Asked:
    """Bits and method that a float run is quantized with.

    Attributes:
        qw, qa: bits of weights and of activations; 32 leaves them.
        spec: quantizer of both, whose state does not need training.
    """

    qw: int
    qa: int
    spec: str


def quantized(config: Config, asked: Asked, path: str) -> Config:
    """The configuration of a float run with quantizers.

    Args:
        config: of the run.
        asked: what for.
        path: of the run, for messages.

    Raises:
        UsageError: the run is quantized, or cannot be with these.
    """
    policy = config.quantization.to_policy()
    if policy.quantizers('weight') or policy.quantizers('activation'):
        raise UsageError(
            f'RUN {path}: is quantized already, to W{config.qw}A{config.qa} or by its policy; '
            'give a run in float'
        )
    if asked.qw == asked.qa == FLOAT_BITS:
        raise UsageError('--qw 32 --qa 32: is float; give the bits of weights or of activations')
    found = config.replacing(
        qw=asked.qw,
        qa=asked.qa,
        quantizer=asked.spec,
        weight_quantizer='',
        activation_quantizer='',
        fixed_qa=False,
    )
    found.check()
    return found


class Started(NamedTuple):
    """How a variable starts from batches.

    Attributes:
        table: float64, what one batch adds.
        whole: placeholder for the sum of all.
        assign: gives the variable its start of that.
    """

    table: tf.Tensor
    whole: tf.Tensor
    assign: tf.Operation


def observe(
    config: Config, values: Mapping[str, np.ndarray], batches: Sequence[Sequence[np.ndarray]]
) -> dict[str, np.ndarray]:
    """Variables of quantizers of activations, started from images; empty if there are none.

    Args:
        config: of the quantized network.
        values: of the float network, by name.
        batches: images by view size, and labels.

    Raises:
        UsageError: an activation is NaN or infinite.
    """
    model = InferenceModel(config, data_format='NHWC')
    with new_graph(), backend.session() as session:
        blocks = model.blocks(training=False, observing=True)
        images = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        model.outputs(model.views(images), blocks)
        found = blocks.quantization.starts.values()
        variables = {start.variable.op.name: start.variable for start in found}
        starts = [_started(start) for start in found]
        session.run(tf.global_variables_initializer())
        Restore(values).init(session)
        feeds = [dict(zip(images, arrays)) for *arrays, _ in batches]
        try:
            _start(session, starts, feeds)
        except tf.errors.InvalidArgumentError as error:
            raise UsageError(f'the float network: {error.message}') from error
        return session.run(variables)


def _started(start: Start) -> Started:
    table = tf.add_n(start.tables)
    whole = tf.placeholder(table.dtype, table.shape)
    value = start.value(whole)
    return Started(table, whole, start.variable.assign(value).op)


def _start(
    session: tf.Session, starts: Sequence[Started], feeds: Sequence[Mapping[Any, np.ndarray]]
) -> None:
    """Starts one variable after the other, with a progress bar.

    Args:
        session: with the variables.
        starts: in the order of the layers.
        feeds: the images of every batch.
    """
    total = len(starts) * len(feeds)
    with Progress('observing', total, 'batches') as progress:
        for start in starts:
            whole: Any = 0.0
            for feed in feeds:
                whole = whole + session.run(start.table, feed)
                progress.update()
            session.run(start.assign, {start.whole: whole})


def of_sizes(values: Mapping[str, np.ndarray], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Values without those of sizes that were calibrated later, whose ranges nobody observes.

    Args:
        values: of a checkpoint.
        sizes: that the run was trained at.
    """
    known = {None, *sizes}
    found = {}
    for name, value in values.items():
        point, _ = split_name(name)
        if point.size in known:
            found[name] = value
    points = map(str, found.get(POINTS, ()))
    kept = [point for point in points if Point.parse(point).size in known]
    if POINTS in found:
        found[POINTS] = np.array(kept)
    return found


def quantize_run(
    path: str,
    folder: Path,
    asked: Asked,
    *,
    images: int | None = None,
    epoch: int | None = None,
    data: str | None = None,
    threads: int,
) -> str:
    """Makes a run folder of a float run that is quantized without training.

    Args:
        path: run folder, or checkpoint prefix in one.
        folder: to make.
        asked: what for.
        images: number of training images to observe; by default ``IMAGES``, or all where there are
            fewer.
        epoch: of the checkpoint, by default the last.
        data: what ``--data`` says; by default that of the run.
        threads: decoding threads.

    Returns:
        The prefix of its checkpoint.

    Raises:
        UsageError: there is no such run or data, or it cannot be quantized.
    """
    prefix = checkpoint.find(path, epoch, 'RUN')
    recorded = checkpoint.recorded(prefix)
    assert recorded.config is not None
    config = quantized(recorded.config, asked, path)
    config, dataset = training_data(path, recorded, config, data=data, batch_size=None)
    count = number_of(images, IMAGES, dataset)
    # TensorFlow is loaded from here on.
    source = checkpoint.read(prefix, flag='RUN')
    narrow = config.adjusted(kd=False, batch_size=min(config.batch_size, count))
    values = of_sizes(source.values, config.sizes)
    batches = list(training_batches(narrow, dataset, count, threads))
    ranges = observe(narrow, values, batches)
    copy = Checkpoint(source.prefix, {**values, **ranges}, config)
    return copying.write(copy, folder)
