"""A trained network in the graph of another that learns from it."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.config.config import Config
from engine.data import inputs, preprocess
from engine.graph import freeze
from engine.graph.freeze import Part
from engine.runs.checkpoint import Checkpoint
from nets.points import Point
from quant.backend import rounding_kept, tf
from quant.state import State

# Scopes of its graph, and of its weights, which no checkpoint of the learner holds.
SCOPE = 'outside'
WEIGHTS = 'outside_weights'

# Constants of more values than this are weights: kept once per device, and not in the graph.
SMALL = 256


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The graph of one operating point of a trained network, from images to logits.

    Its weights are no variables of a training: they are constants of a graph, which are fed when a
    session begins.

    Attributes:
        view: which of the learner's views it takes.
        graph_def: of a part with one feed and one fetch, without its weights.
        weights: what was taken out of it, by the names of the nodes.
        feed: name of the images uint8 [N, side, side, C].
        fetch: name of the logits float32 [N, classes of the learner].
        digest: of the variables that it was made of.
    """

    view: int
    graph_def: Any
    weights: Mapping[str, np.ndarray]
    feed: str
    fetch: str
    digest: str

    def logits(self, images: Sequence[tf.Tensor]) -> tf.Tensor:
        """Its answers [N, classes] to a batch, without gradient.

        Args:
            images: uint8 [N, side, side, C] of each view size of the learner.
        """
        inputs = {self.feed: images[self.view]}
        # Absolute: names that begin with those of towers are taken for copies of others. And not
        # the scope of the graph, whose placeholders have the same names.
        with tf.name_scope(f'{WEIGHTS}/'):
            for name, value in self.weights.items():
                inputs[f'{name}:0'] = _constant(name, value)
        (logits,) = tf.import_graph_def(self.graph_def, inputs, [self.fetch], name=SCOPE)
        return tf.stop_gradient(logits)


def _constant(name: str, value: np.ndarray) -> tf.Tensor:
    """A weight on the device of the tower, without a copy of its value in the graph."""
    dtype = tf.as_dtype(value.dtype)
    plain = value
    if dtype == tf.bfloat16:
        plain = value.astype(np.float32)  # what numpy has
    whole = tf.numpy_function(lambda: plain, [], plain.dtype)
    # Made without the getters of a training, which decide about variables that it has.
    variable = tf.Variable(
        tf.cast(tf.ensure_shape(whole, value.shape), dtype),
        trainable=False,
        collections=[tf.GraphKeys.LOCAL_VARIABLES],
        name=name,
        use_resource=True,
    )
    return variable.read_value()


def teacher(
    source: Checkpoint,
    name: str,
    columns: np.ndarray,
    *,
    learner: Config,
    data_format: str,
) -> Teacher:
    """The graph of an operating point as a learner takes it.

    Args:
        source: the trained network.
        name: spelling of the point.
        columns: int [classes of the learner], which answer of the network stands for each class.
        learner: the configuration that learns: its views are taken, as they are.
        data_format: of the layers.

    Raises:
        UsageError: there is no such point, or it has no statistics.
    """
    model, values = freeze.point_model(source, name, data_format)
    point = Point.parse(name)
    size = model.size_of(point)
    sides = learner.preprocessing.view_sizes
    view = _view(sides, model.config.preprocessing.side(size))
    # Whatever its edge is, a view becomes the input of this size by the network's own rule.
    rule = dataclasses.replace(model.config.preprocessing, sizes=(size,))
    known: dict[str, np.ndarray] = {}

    def of_network(declared: Mapping[str, State]) -> Mapping[str, np.ndarray]:
        assert callable(values)
        known.update(values(declared))
        return known

    def build() -> list[Part]:
        channels = learner.preprocessing.channels
        feed = tf.placeholder(tf.uint8, [None, sides[view], sides[view], channels], 'images')
        views = preprocess.views([_in_channels(feed, rule.channels)], rule, data_format)
        if learner.teacher_bf16:
            views = {size: tf.cast(views[size], tf.bfloat16)}
        outputs = model.net.outputs(views, model.blocks(training=False))
        logits = tf.gather(outputs.logits[point], columns, axis=1)
        return [Part([feed], [logits])]

    with rounding_kept():
        frozen = freeze.freeze_folded(build, of_network)
    (signature,) = frozen.signatures
    weights = _taken_out(frozen.graph_def)
    (fetch,) = signature.fetches
    return Teacher(view, frozen.graph_def, weights, signature.feeds[0], fetch, _digest(name, known))


def _view(sides: Sequence[int], wanted: int) -> int:
    """Which view a network takes that has views of the edge ``wanted``: that one or the largest."""
    if wanted in sides:
        return sides.index(wanted)
    return sides.index(max(sides))


def _in_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Images uint8 [N, side, side, C] with the channels that another network takes."""
    there = int(images.shape[3])
    if there == channels:
        return images
    if channels == 3:
        return tf.tile(images, [1, 1, 1, 3])
    grey = tf.tensordot(tf.cast(images, tf.float32), tf.constant(inputs.WEIGHTS[::-1]), 1)
    return tf.cast(tf.round(grey), tf.uint8)[..., None]


def _taken_out(graph_def: Any) -> dict[str, np.ndarray]:
    """Values of the weights of a graph by node, in whose places are placeholders."""
    found = {}
    for node in graph_def.node:
        if node.op != 'Const':
            continue
        value = tf.make_ndarray(node.attr['value'].tensor)
        if value.size <= SMALL:
            continue
        found[node.name] = value
        node.op = 'Placeholder'
        del node.attr['value']
    return found


def _digest(name: str, values: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of an operating point and of variables by name."""
    hashed = hashlib.sha256(name.encode())
    for key in sorted(values):
        value = np.ascontiguousarray(values[key])
        hashed.update(f'{key} {value.dtype} {value.shape}'.encode())
        hashed.update(value.tobytes())
    return hashed.hexdigest()
