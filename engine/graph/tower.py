"""A tower: views, network, loss and scores as tensorpack builds them per device."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorpack import ModelDesc
from tensorpack.tfutils.gradproc import ScaleGradient
from tensorpack.tfutils.optimizer import apply_grad_processors
from tensorpack.tfutils.summary import add_moving_summary
from tensorpack.tfutils.tower import get_current_tower_context

from engine.config.config import Config
from engine.data.preprocess import views
from engine.training.cluster import Machine
from nets.cost import LayerRecord
from nets.layers.blocks import Blocks, Outputs
from nets.layers.sync_norm import Exchange
from quant.backend import tf

CORRECT = 'correct'

# Start of the names of what evaluation adds up for a network beside the right answers.
TALLY = 'tally_'

# Of every image and operating point: logarithm of the probability of the answer, and whether it is right.
ANSWERS = ('confidence', 'right')


def correct(scored: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
    """[points, 2] int32: how many of the batch are right within the first 1 and the first 5 classes."""

    def count(logits: tf.Tensor, k: int) -> tf.Tensor:
        return tf.reduce_sum(
            tf.cast(tf.nn.in_top_k(logits, labels, min(k, logits.shape[1])), tf.int32)
        )

    return tf.stack([tf.stack([count(logits, 1), count(logits, 5)]) for logits in scored.values()])


def log_confidence(logits: tf.Tensor) -> tf.Tensor:
    """[N] logarithm of the largest softmax value, exact also where that rounds to 1."""
    rest = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    best = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], on_value=0.0, off_value=1.0)
    return -tf.log1p(tf.reduce_sum(rest * best, axis=1))


def scored(outputs: Outputs) -> dict[str, tf.Tensor]:
    """Logits that are worth a row of a table: every operating point, ensembles, dynamic choices."""
    rows = {str(point): logits for point, logits in outputs.logits.items()}
    return rows | {
        name: logits
        for name, logits in outputs.extras.items()
        if name.startswith('ensemble') or name.endswith('dynamic')
    }


def drawn_by_name(
    getter: Callable[..., tf.Variable],
    name: str,
    *args: Any,
    initializer: Any = None,
    **kwargs: Any,
) -> tf.Variable:
    """A getter of variables whose random start follows from the graph's seed and the name, not from what else a graph
    holds: networks start alike with any number of towers, operating points and losses.
    """
    if getattr(initializer, 'seed', 0) is None:
        seed = zlib.crc32(name.encode()) % 2**31
        initializer = type(initializer).from_config({**initializer.get_config(), 'seed': seed})
    return getter(name, *args, initializer=initializer, **kwargs)


class Model(ModelDesc):
    """The graph of one configuration.

    Args:
        config: what to build.
        data_format: ``NHWC`` or ``NCHW``.
        options: of the network's ``outputs`` in inference towers.
        machines: the machines that train it; None: one.

    Attributes:
        towers: layer builders of the training towers, in order.
        steps: the step by training tower, to be fed: the graph's counter is written while a step runs.
        losses: by training tower, in order: the ``loss`` and what it is the sum of, by name.
        names: spelling of what the rows of the ``correct`` tensor stand for, once a tower is built.
        exchange: through which training towers share batch statistics, to be connected when all are built, or None.
    """

    def __init__(
        self,
        config: Config,
        *,
        data_format: str,
        options: Mapping[str, Any] | None = None,
        machines: Machine | None = None,
    ):
        self.machines = machines or Machine()
        self.config, self.data_format, self.options = config, data_format, options or {}
        self.net = config.network()
        self.towers: list[Blocks] = []
        self.steps: list[tf.Tensor] = []
        self.names: list[str] = []
        self.losses: list[dict[str, tf.Tensor]] = []
        self.exchange = (
            Exchange(len(config.gpu)) if config.sync_bn and len(config.gpu) > 1 else None
        )

    def inputs(self) -> list[tf.TensorSpec]:
        images = [
            tf.TensorSpec([None, side, side, 3], tf.uint8, f'images_{side}')
            for side in self.config.view_sizes
        ]
        return [*images, tf.TensorSpec([None], tf.int32, 'labels')]

    @property
    def feeds(self) -> list[str]:
        """Names of the inputs."""
        return [spec.name for spec in self.inputs()]

    @property
    def sums(self) -> list[str]:
        """Names of the tensors of an inference tower that evaluation adds up over the batches."""
        return [CORRECT, *(f'{TALLY}{name}' for name in self.net.tally_names)]

    @property
    def answers(self) -> tuple[str, ...]:
        """Names of the tensors of an inference tower that evaluation keeps per image, see ``ANSWERS``."""
        return ANSWERS if any(point.exit is not None for point in self.net.points) else ()

    def blocks(self, *, training: bool, **options: Any) -> Blocks:
        """A layer builder for one tower of this network; ``options`` as of ``Blocks``."""
        return Blocks(
            self.config.policy,
            self.net.points,
            training=training,
            data_format=self.data_format,
            padding=self.net.padding,
            **options,
        )

    def views(self, images: Sequence[tf.Tensor]) -> dict[int, tf.Tensor]:
        """What the network takes of uint8 images, see ``engine.data.preprocess``."""
        return views(
            images,
            self.config.sizes,
            resize=self.config.resize,
            inputs=self.config.inputs,
            data_format=self.data_format,
        )

    def build_graph(self, *batch: tf.Tensor) -> tf.Tensor | None:
        """The training loss in a training tower; the ``correct`` tensor in an inference tower."""
        *images, labels = batch
        tower = get_current_tower_context()
        training = tower.is_training
        config = self.config
        blocks = self.blocks(
            training=training,
            main=tower.is_main_training_tower,
            **self._of_step() if training else {},
            exchange=self.exchange,
        )
        inputs = self.views(images)
        if config.bf16 and training:
            inputs = {size: tf.cast(view, tf.bfloat16) for size, view in inputs.items()}
        outputs = self._outputs(inputs, blocks, **{} if training else self.options)
        rows = scored(outputs)
        self.names = list(rows)
        if not training:
            tf.identity(correct(rows, labels), name=CORRECT)
            for name, value in self.net.tallies(outputs, labels).items():
                tf.identity(value, name=f'{TALLY}{name}')
            if self.answers:
                tf.stack(
                    [log_confidence(logits) for logits in outputs.logits.values()],
                    1,
                    name='confidence',
                )
                tf.stack(
                    [tf.nn.in_top_k(logits, labels, 1) for logits in outputs.logits.values()],
                    1,
                    name='right',
                )
            return None
        self.towers.append(blocks)
        parts = self.net.loss(outputs, labels)
        decayed = (
            blocks.kernels
            if config.decay == 'kernels'
            else tower.get_collection_in_tower(tf.GraphKeys.TRAINABLE_VARIABLES)
        )
        parts['loss/weight_decay'] = config.wd * tf.add_n(
            [tf.nn.l2_loss(values) for values in decayed]
        )
        total = tf.add_n(list(parts.values()), name='loss')
        self.losses.append({'loss': total, **parts})
        summaries = [tf.identity(value, name=name) for name, value in parts.items()]
        errors = [
            tf.reduce_mean(
                1 - tf.cast(tf.nn.in_top_k(logits, labels, 1), tf.float32),
                name=f'train-error/{name}',
            )
            for name, logits in rows.items()
        ]
        add_moving_summary(total, *summaries, *errors)
        return total

    def _outputs(self, inputs: Mapping[int, tf.Tensor], blocks: Blocks, **options: Any) -> Outputs:
        with tf.variable_scope(
            tf.get_variable_scope(), custom_getter=drawn_by_name, auxiliary_name_scope=False
        ):
            return self.net.outputs(inputs, blocks, **options)

    def _of_step(self) -> dict[str, tf.Tensor]:
        """What a tower's layers know about the step: a seed of their own, and the share of the training done."""
        step = tf.placeholder_with_default(tf.train.get_or_create_global_step(), [], 'step')
        number = self.machines.index * len(self.config.gpu) + len(self.steps)
        seed = tf.stack([self.config.seed + 1000 * number, tf.cast(step, tf.int32)])
        self.steps.append(step)
        total = self.config.epochs * self.config.steps_per_epoch
        return {'seed': seed, 'progress': tf.cast(step, tf.float32) / total}

    def inspect(self) -> tuple[dict[str, tuple[int, ...]], dict[str, list[LayerRecord]]]:
        """Variable shapes by name and layer records by point, from an inference graph that is thrown away."""
        with tf.Graph().as_default():
            layers = self.build_inference().layers
            return {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}, layers

    def starting_values(self) -> dict[str, np.ndarray]:
        """Initial values of the variables by name, drawn by the configuration's seed."""
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(self.config.seed)
            self.build_inference()
            session.run(tf.global_variables_initializer())
            return session.run({v.op.name: v for v in tf.global_variables()})

    def build_inference(self) -> Blocks:
        """The network alone in the current graph, in inference mode."""
        blocks = self.blocks(training=False)
        images = {
            size: tf.placeholder(tf.float32, [None, size, size, 3]) for size in self.config.sizes
        }
        self._outputs(images, blocks)
        return blocks

    def optimizer(self) -> tf.train.Optimizer:
        """SGD with momentum .9; ``learning_rate`` is a variable that the schedule sets before every step."""
        rate = tf.get_variable('learning_rate', initializer=0.0, trainable=False)
        plain = tf.train.MomentumOptimizer(rate, momentum=0.9, use_nesterov=self.config.nesterov)
        factors = [(names, factor) for names, factor in self.net.lr_factors.items() if factor != 1]
        processors = [
            *self.machines.processors,
            *([ScaleGradient(factors, verbose=False)] if factors else []),
        ]
        return apply_grad_processors(plain, processors) if processors else plain
