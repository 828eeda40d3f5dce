"""The network of a configuration in a graph: inputs, views, layers, scores."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.config.config import Config
from engine.data.preprocess import views
from nets.cost import LayerRecord
from nets.layers.blocks import Blocks
from nets.outputs import Outputs
from nets.points import DYNAMIC, ENSEMBLE, Point
from quant import backend
from quant.backend import new_graph, tf
from quant.state import State, variables

CORRECT, LOSSES, ANSWERS, LABELS = 'correct', 'cross_entropies', 'answers', 'true_classes'

# Start of the names of what evaluation takes of a network beside the right answers.
EXTRA = 'extra_'


def correct(scored: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
    """[points, 2] int32: how many of a batch are right within the first 1 and the first 5 classes.

    Args:
        scored: logits [N, classes] by name.
        labels: int32 [N].
    """
    rows = []
    for logits in scored.values():
        counts = []
        for k in (1, 5):
            hits = tf.nn.in_top_k(logits, labels, min(k, logits.shape[1]))  # [N] bool
            counts.append(tf.reduce_sum(tf.cast(hits, tf.int32)))
        rows.append(tf.stack(counts))
    return tf.stack(rows)


def loss_sums(scored: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
    """[points] float32: sums of the cross entropies of a batch.

    Args:
        scored: logits [N, classes] by name.
        labels: int32 [N].
    """
    sums = []
    for logits in scored.values():
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels)  # [N]
        sums.append(tf.reduce_sum(each))
    return tf.stack(sums)


def answers(scored: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """[N, points] int32: the class that each takes an image for, of logits by name."""
    found = [tf.argmax(logits, axis=1, output_type=tf.int32) for logits in scored.values()]
    return tf.stack(found, axis=1)


def scored(outputs: Outputs) -> dict[str, tf.Tensor]:
    """Logits that get a row of a table: every operating point, ensembles, dynamic choices."""
    rows = {str(point): logits for point, logits in outputs.logits.items()}
    for name, logits in outputs.extras.items():
        if name.startswith(ENSEMBLE) or name.endswith(DYNAMIC):
            rows[name] = logits
    return rows


def drawn_by_name(
    getter: Callable[..., tf.Variable],
    name: str,
    *args: Any,
    initializer: Any = None,
    **kwargs: Any,
) -> tf.Variable:
    """A getter of variables whose random start follows from the graph's seed and their name.

    Nothing else that a graph holds has a part in it: networks start alike with any number of
    towers, operating points and losses.

    Args:
        getter: makes the variable.
        name: of the variable.
        *args: of ``getter``.
        initializer: given a seed, if it has room for one.
        **kwargs: of ``getter``.
    """
    if getattr(initializer, 'seed', 0) is None:
        seed = zlib.crc32(name.encode()) % 2**31
        initializer = type(initializer).from_config({**initializer.get_config(), 'seed': seed})
    return getter(name, *args, initializer=initializer, **kwargs)


class InferenceModel:
    """The network of one configuration, to be built in the graph that is current.

    Args:
        config: what to build.
        data_format: ``NHWC`` or ``NCHW``.
        options: of the network's ``outputs`` where it is not trained.
    """

    def __init__(
        self, config: Config, *, data_format: str, options: Mapping[str, Any] | None = None
    ):
        self.config = config
        self.data_format = data_format
        self.options = options or {}
        self.net = config.network()

    def inputs(self) -> list[tf.TensorSpec]:
        """The images uint8 [N, side, side, C] of each view size, and the labels int32 [N]."""
        specs = []
        channels = self.config.preprocessing.channels
        for side in self.config.preprocessing.view_sizes:
            shape = [None, side, side, channels]
            specs.append(tf.TensorSpec(shape, tf.uint8, f'images_{side}'))
        return [*specs, tf.TensorSpec([None], tf.int32, 'labels')]

    def size_of(self, point: Point) -> int:
        """Input size of an operating point, pixels: the largest where it has none of its own."""
        return point.size or max(self.config.sizes)

    @property
    def feeds(self) -> list[str]:
        """Names of the inputs."""
        return [spec.name for spec in self.inputs()]

    @property
    def fetches(self) -> list[str]:
        """Names of the tensors of an inference tower that evaluation takes.

        Counts of right answers, what it adds up beside them, what it keeps of every image, sums of
        cross entropies, answers, and labels.
        """
        extras = (*self.net.accumulator_names, *self.net.per_image_names)
        return [CORRECT, *(f'{EXTRA}{name}' for name in extras), LOSSES, ANSWERS, LABELS]

    def blocks(self, *, training: bool, **options: Any) -> Blocks:
        """A layer builder for one tower of this network; ``options`` as of ``Blocks``."""
        return Blocks(
            self.config.quantization.to_policy(),
            self.net.points,
            training=training,
            data_format=self.data_format,
            padding=self.net.padding,
            activation=self.config.activation,
            **options,
        )

    def views(self, images: Sequence[tf.Tensor]) -> dict[int, tf.Tensor]:
        """Input of the network from uint8 images, see ``engine.data.preprocess``."""
        return views(images, self.config.preprocessing, self.data_format)

    def outputs(self, inputs: Mapping[int, tf.Tensor], blocks: Blocks, **options: Any) -> Outputs:
        """Runs the network on views; variables start as ``drawn_by_name`` has it."""
        scope = tf.get_variable_scope()
        with tf.variable_scope(scope, custom_getter=drawn_by_name, auxiliary_name_scope=False):
            return self.net.outputs(inputs, blocks, **options)

    def inspect(self) -> tuple[dict[str, State], dict[str, list[LayerRecord]]]:
        """Declarations of the variables by name, layer records by point, of an inference graph."""
        with new_graph():
            layers = self.build_inference().layers
            return variables(), layers

    def starting_values(self) -> dict[str, np.ndarray]:
        """Initial values of the variables by name, drawn by the configuration's seed."""
        with new_graph(), backend.session() as session:
            tf.set_random_seed(self.config.seed)
            self.build_inference()
            session.run(tf.global_variables_initializer())
            return session.run({v.op.name: v for v in tf.global_variables()})

    def build_inference(self) -> Blocks:
        """Builds the network alone in the current graph, in inference mode."""
        blocks = self.blocks(training=False)
        channels = self.config.preprocessing.channels
        images = {}
        for size in self.config.sizes:
            shape = [None, size, size, channels]
            if self.data_format == 'NCHW':
                shape = [None, channels, size, size]
            images[size] = tf.placeholder(tf.float32, shape)
        self.outputs(images, blocks)
        return blocks
