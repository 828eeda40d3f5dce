"""Quantization after training: a copy of a float run whose quantizers start from training images.

Layer after layer, in the order of the network, the range of an activation is observed over all
images and operating points; what follows sees what the started ones before it give. Nothing is
trained, and normalisation is that of inference.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorpack.utils.utils import get_tqdm

from engine.config.config import Config
from engine.errors import UsageError
from engine.evaluation.calibrate import training_batches, training_data
from engine.graph.inference import InferenceModel
from engine.importers import copying
from engine.runs import checkpoint
from engine.runs.checkpoint import POINTS, Checkpoint, Restore
from nets.points import Point, split_name
from quant import quantizer
from quant.backend import new_graph, tf
from quant.policy import FLOAT_BITS


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a float run is quantized with.

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
    for rule in policy.rules:
        if {rule.weight, rule.activation} - {None, quantizer.FLOAT}:
            raise UsageError(
                f'{path}: is quantized already, to W{config.qw}A{config.qa} or by its policy; '
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


def observe(
    config: Config, values: Mapping[str, np.ndarray], batches: Sequence[Sequence[np.ndarray]]
) -> dict[str, np.ndarray]:
    """Variables of quantizers of activations, started from images; empty if there are none.

    Args:
        config: of the quantized network.
        values: of the float network, by name.
        batches: images by view size, and labels.
    """
    model = InferenceModel(config, data_format='NHWC')
    with new_graph(), tf.Session() as session:
        blocks = model.blocks(training=False, observing=True)
        images = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        model.outputs(model.views(images), blocks)
        starts = {}
        for start in blocks.quantization.starts.values():
            table = tf.add_n(start.tables)
            whole = tf.placeholder(table.dtype, table.shape)
            assign = start.variable.assign(start.value(whole)).op
            starts[start.variable.op.name] = table, whole, assign
        session.run(tf.global_variables_initializer())
        Restore(values).init(session)
        with get_tqdm(total=len(starts) * len(batches), unit='batch', desc='observing') as bar:
            for table, whole, assign in starts.values():
                total: Any = 0.0
                for *arrays, _ in batches:
                    total = total + session.run(table, dict(zip(images, arrays)))
                    bar.update()
                session.run(assign, {whole: total})
        variables = {v.op.name: v for v in tf.global_variables() if v.op.name in starts}
        return session.run(variables)


def of_sizes(values: Mapping[str, np.ndarray], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Values without those of sizes that were calibrated later, whose ranges nobody observes.

    Args:
        values: of a checkpoint.
        sizes: that the run was trained at.
    """
    known = {None, *sizes}
    found = {name: value for name, value in values.items() if split_name(name)[0].size in known}
    if POINTS in found:
        points = [name for name in found[POINTS] if Point.parse(str(name)).size in known]
        found[POINTS] = np.array(points)
    return found


def quantize_run(
    path: str,
    folder: Path,
    asked: Asked,
    *,
    images: int,
    epoch: int | None = None,
    data: str | None = None,
    threads: int,
) -> str:
    """Makes a run folder of a float run that is quantized without training.

    Args:
        path: run folder, or checkpoint prefix in one.
        folder: to make.
        asked: what for.
        images: number of training images to observe.
        epoch: of the checkpoint, by default the last.
        data: what ``--data`` says; by default that of the run.
        threads: decoding threads.

    Returns:
        The prefix of its checkpoint.

    Raises:
        UsageError: there is no such run or data, or it cannot be quantized.
    """
    source = checkpoint.read(checkpoint.find(path, epoch, 'RUN'), flag='RUN')
    if source.config is None:
        raise UsageError(
            f'{path}: no config.json there; import it first with scripts/import_checkpoint.py'
        )
    config = quantized(source.config, asked, path)
    config, dataset = training_data(path, source, config, images=images, data=data, batch_size=None)
    narrow = config.adjusted(kd=False, batch_size=min(config.batch_size, images))
    values = of_sizes(source.values, config.sizes)
    batches = list(training_batches(narrow, dataset, images, threads))
    ranges = observe(narrow, values, batches)
    copy = Checkpoint(source.prefix, {**values, **ranges}, config)
    return copying.write(copy, folder)
