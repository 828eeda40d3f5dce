"""Levels of the quantizers of a run, and samples of what they quantize."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.config.config import Config
from engine.data.datasets import is_gone, located, open_dataset
from engine.deployment.views import views
from engine.errors import UsageError
from engine.graph import freeze
from engine.graph.inference import InferenceModel
from engine.results.levels_figure import Layer
from engine.runs.checkpoint import Checkpoint, Restore
from nets.points import Point
from quant import backend, specs
from quant.backend import new_graph, tf
from quant.scope import Quantization, Reading
from quant.state import variables

# Values of a layer that are looked at.
SAMPLE = 60_000

# A shift of a channel is one if it is the same for all of its values but for rounding.
ROUNDING = 1e-5


class Asked(NamedTuple):
    """Which quantizers of a run are looked at.

    Attributes:
        layer: regular expression that is searched in their variable scopes.
        what: ``weights``, ``activations``, or empty for both.
        point: spelling of an operating point; empty for the first one.
        images: number of evaluation images.
        data: as of ``--data``; None for what the run recorded.
    """

    layer: str = ''
    what: str = ''
    point: str = ''
    images: int = 64
    data: str | None = None


def check(source: Checkpoint, asked: Asked) -> None:
    """Checks what the record of a run says of an operating point and of quantizers.

    Args:
        source: the checkpoint, as ``checkpoint.recorded`` has it.
        asked: what is going to be looked at.

    Raises:
        UsageError: there is no such point, the run is in float, or its images are gone.
    """
    assert source.config is not None
    if asked.point:
        freeze.check_point(source, asked.point, '--point')
    policy = source.config.quantization.to_policy()
    activations = policy.quantizers('activation')
    if not activations and not policy.quantizers('weight'):
        raise UsageError(_in_float(source))
    # What a pattern matches, the graph says.
    if activations and asked.what != 'weights' and not asked.layer:
        _place(source.config, asked, source.prefix)


def layers(source: Checkpoint, asked: Asked) -> tuple[str, list[Layer]]:
    """An operating point, and the quantizers of its network, in the order of its layers.

    Args:
        source: the checkpoint.
        asked: which of them.

    Raises:
        UsageError: there is no such point, no such quantizer, or no data.
    """
    point = asked.point or freeze.points(source)[0]
    model, values = freeze.point_model(source, point)
    with new_graph(), backend.session() as session:
        *specs, _ = model.inputs()
        feeds = [tf.placeholder(spec.dtype, spec.shape) for spec in specs]
        blocks = model.blocks(training=False)
        outputs = model.net.outputs(model.views(feeds), blocks)
        assert Point.parse(point) in outputs.logits
        found = _chosen(blocks.quantization, source, asked)
        batch: list[np.ndarray] = []
        if not all(reading.weights for reading in found.values()):
            batch = _images(source, model, asked)
        known = values(variables()) if callable(values) else values
        Restore(known).init(session)
        samples = []
        for scope, reading in found.items():
            samples.append(_Sample(blocks.quantization, scope, reading))
        of_all = session.run([sample.tensors for sample in samples], dict(zip(feeds, batch)))
    return point, [sample.layer(*arrays) for sample, arrays in zip(samples, of_all)]


def _chosen(tower: Quantization, source: Checkpoint, asked: Asked) -> dict[str, Reading]:
    """Values that the quantizers that are asked for read, by variable scope.

    Args:
        tower: of the network.
        source: for messages.
        asked: which of them.

    Raises:
        UsageError: there are none.
    """
    if not tower.readings:
        raise UsageError(_in_float(source))
    found = {}
    for scope, reading in tower.readings.items():
        what = 'weights' if reading.weights else 'activations'
        if asked.what in ('', what) and re.search(asked.layer, scope):
            found[scope] = reading
    if not found:
        wanted = asked.what or 'weights and activations'
        raise UsageError(
            f'--layer {asked.layer!r}: matches no quantizer of {wanted}; there are '
            f'{", ".join(tower.readings)}'
        )
    return found


def _in_float(source: Checkpoint) -> str:
    return f'{source.prefix}: is in float; nothing of it is quantized'


def _place(config: Config, asked: Asked, prefix: str) -> str:
    """Where evaluation images are.

    Args:
        config: of the run.
        asked: says where, or leaves it to the run.
        prefix: of the checkpoint, for messages.

    Raises:
        UsageError: they are not there.
    """
    place = located(asked.data) if asked.data else config.data
    if not place or is_gone(place):
        raise UsageError(
            f'--data {asked.data or config.data}: is not there; {prefix} needs evaluation '
            'images for its activations: --data says where they are, --only weights needs none'
        )
    return place


def _images(source: Checkpoint, model: InferenceModel, asked: Asked) -> list[np.ndarray]:
    """Evaluation images at equal distances, by view size.

    Args:
        source: of the run.
        model: that takes them.
        asked: how many, and where they are.

    Raises:
        UsageError: they are not there.
    """
    config = model.config
    place = _place(config, asked, source.prefix)
    images = open_dataset(place, size=config.image_size, split=config.split).val
    count = min(asked.images, len(images))
    numbers = np.linspace(0, len(images) - 1, count).round().astype(int)
    # The first ones can be of one class.
    return views([images.read(int(number)) for number in numbers], config.preprocessing)


class _Sample:
    """Tensors that say what a quantizer does, and to which values.

    Args:
        tower: of the quantizer.
        scope: variable scope of the quantizer.
        reading: what it reads.
    """

    def __init__(self, tower: Quantization, scope: str, reading: Reading):
        self._scope = scope
        self._reading = reading
        book = tower.codebooks[scope]()
        described = tower.described.get(scope, reading.values)
        rows = []
        for values in (reading.values, described):
            channels = values.shape[-1]
            rows.append(tf.reshape(tf.cast(values, tf.float32), [-1, channels]))
        count = tf.shape(rows[0])[0]
        wanted = max(1, SAMPLE // rows[0].shape[1])
        # The same ones in every run: pictures of it are to be compared.
        drawn = tf.random.stateless_uniform([wanted], [0, 1], 0, count, tf.int32)
        places = tf.cond(count <= wanted, lambda: tf.range(count), lambda: drawn)
        self.tensors = [tf.gather(row, places) for row in rows]
        self.tensors += [book.levels, book.thresholds]

    def layer(
        self, read: np.ndarray, described: np.ndarray, levels: np.ndarray, thresholds: np.ndarray
    ) -> Layer:
        """The quantizer and its sample as the picture shows them.

        Args:
            read: [N, C] values as the network has them.
            described: [N, C] those of which levels and thresholds are.
            levels: of the codebook.
            thresholds: of the codebook.
        """
        moved = described - read
        shift = moved.mean(0)  # [C]
        spread = float(np.abs(moved - shift).max())
        by_channel = spread <= ROUNDING * float(np.abs(read).max())
        if by_channel and shift.any():
            thresholds = thresholds - shift
        if by_channel:
            described = read
        what = 'weights' if self._reading.weights else 'activations'
        spec = specs.spelled(self._reading.quantizer)
        return Layer(self._scope, spec, what, described, levels, thresholds, not by_channel)


def states(layers: Sequence[Layer]) -> list[list[Any]]:
    """A row for a table: scope, quantizer, number of levels, of those in use, of grids."""
    rows = []
    for layer in layers:
        shares = layer.shares()
        used = int(np.count_nonzero(shares))
        grids = max(layer.levels.shape[1], layer.thresholds.shape[1])
        rows.append([layer.scope, layer.what, layer.spec, len(shares), used, grids])
    return rows
