"""Makes a program of a trained network: its inference graph is built, and read node by node."""

from __future__ import annotations

from collections.abc import Sequence

from engine.deployment.choices import chosen
from engine.deployment.names import IMAGES
from engine.deployment.pool import Constants
from engine.deployment.program import PointProgram, Program
from engine.deployment.reading import Reader
from engine.graph import freeze
from engine.graph.inference import InferenceModel
from engine.runs.checkpoint import Checkpoint
from nets.points import DYNAMIC, Point
from quant.backend import tf


def of_points(
    source: Checkpoint, names: Sequence[str], thresholds: Sequence[float] = ()
) -> Program:
    """The program of operating points of a checkpoint, or of its choices image by image.

    Args:
        source: the checkpoint.
        names: of the points, strongest first: the others are often a part of that one.
        thresholds: as of ``Network.chosen``.

    Raises:
        UsageError: there is no such point, or its network has what no operation stands for.
    """
    constants = Constants()
    points = {}
    for name in names:
        reader = Reader(constants, thresholds)
        model, values, size = _model(source, name)
        side = reader.preprocess(model.config.preprocessing, size)
        frozen, told = _opaque(model, name, size, values)
        results = reader.read(frozen, size)
        made = tuple(reader.operations)
        choices = tuple(chosen(made, *one) for one in zip(told, results))
        channels = model.config.preprocessing.channels
        points[name] = PointProgram(IMAGES, side, made, reader.output, choices, channels)
    return Program(points, dict(constants))


def _model(source: Checkpoint, name: str) -> tuple[InferenceModel, freeze.Values, int]:
    """A model that has a point or makes choices, its variables, and the size of its images.

    Args:
        source: the checkpoint.
        name: of the point, or of choices, of a calibrated size too.

    Raises:
        UsageError: there is no such point.
    """
    assert source.config is not None
    choosing = source.config.network().choosing
    if name in choosing:
        model, values = freeze.choosing_model(source, name)
        return model, values, choosing[name]
    point = name.removesuffix(f'-{DYNAMIC}')
    model, values = freeze.point_model(source, point)
    return model, values, model.size_of(Point.parse(point))


def _opaque(
    model: InferenceModel, name: str, size: int, values: freeze.Values
) -> tuple[freeze.Frozen, list[str]]:
    """The graph of a point in which a quantizer of activations is one node, from float images.

    Args:
        model: that has the point.
        name: of the point, or of choices.
        size: of its images, in pixels.
        values: of its variables.

    Returns:
        The graph, whose output is followed by what it says of each choice, and names of these.
    """
    told: list[str] = []

    def build() -> list[freeze.Part]:
        views = {}
        for each in model.config.sizes:
            shape = [None, each, each, model.config.preprocessing.channels]
            views[each] = tf.placeholder(tf.float32, shape, f'view_{each}')
        blocks = model.blocks(training=False, opaque=True)
        feeds = list(views.values())
        if name in model.net.choosing:
            logits, executed = model.net.chosen(size, views, blocks)
            told.extend(executed)
            return [freeze.Part(feeds, [logits, *executed.values()])]
        outputs = model.net.outputs(views, blocks, **model.net.static_options)
        return [freeze.Part(feeds, [outputs.logits[Point.parse(name)]])]

    return freeze.freeze_folded(build, values), told
