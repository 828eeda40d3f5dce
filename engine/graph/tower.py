"""A tower: network, loss and scores as tensorpack builds them per device."""

from collections.abc import Mapping
from typing import Any

from tensorpack import ModelDesc
from tensorpack.tfutils.gradproc import ScaleGradient
from tensorpack.tfutils.optimizer import apply_grad_processors
from tensorpack.tfutils.summary import add_moving_summary
from tensorpack.tfutils.tower import get_current_tower_context

from engine.config.config import Config
from engine.graph.inference import CORRECT, TALLY, InferenceModel, correct, log_confidence, scored
from engine.training.cluster import Machine
from nets.layers.blocks import Blocks
from nets.layers.sync_norm import Exchange
from quant.backend import tf


class Model(InferenceModel, ModelDesc):
    """The towers of one configuration, for training or for evaluation.

    Args:
        config: what to build.
        data_format: ``NHWC`` or ``NCHW``.
        options: of the network's ``outputs`` in inference towers.
        machines: the machines that train it; None: one.

    Attributes:
        towers: layer builders of the training towers, in order.
        steps: the step by training tower, to be fed: a step writes the graph's counter.
        losses: by training tower, in order: the ``loss`` and what it is the sum of, by name.
        names: spelling of what the rows of the ``correct`` tensor stand for, once a tower is built.
        exchange: through which training towers share batch statistics, to be connected when all
            are built, or None.
    """

    def __init__(
        self,
        config: Config,
        *,
        data_format: str,
        options: Mapping[str, Any] | None = None,
        machines: Machine | None = None,
    ):
        super().__init__(config, data_format=data_format, options=options)
        self.machines = machines or Machine()
        self.towers: list[Blocks] = []
        self.steps: list[tf.Tensor] = []
        self.names: list[str] = []
        self.losses: list[dict[str, tf.Tensor]] = []
        self.exchange = (
            Exchange(len(config.gpu)) if config.sync_bn and len(config.gpu) > 1 else None
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
        outputs = self.outputs(inputs, blocks, **{} if training else self.options)
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

    def _of_step(self) -> dict[str, tf.Tensor]:
        """Seed and progress (share of the training done) for the layers of a tower."""
        step = tf.placeholder_with_default(tf.train.get_or_create_global_step(), [], 'step')
        number = self.machines.index * len(self.config.gpu) + len(self.steps)
        seed = tf.stack([self.config.seed + 1000 * number, tf.cast(step, tf.int32)])
        self.steps.append(step)
        total = self.config.epochs * self.config.steps_per_epoch
        return {'seed': seed, 'progress': tf.cast(step, tf.float32) / total}

    def optimizer(self) -> tf.train.Optimizer:
        """SGD with momentum 0.9, at the variable ``learning_rate`` that the schedule sets."""
        rate = tf.get_variable('learning_rate', initializer=0.0, trainable=False)
        plain = tf.train.MomentumOptimizer(rate, momentum=0.9, use_nesterov=self.config.nesterov)
        factors = [(names, factor) for names, factor in self.net.lr_factors.items() if factor != 1]
        processors = [
            *self.machines.processors,
            *([ScaleGradient(factors, verbose=False)] if factors else []),
        ]
        return apply_grad_processors(plain, processors) if processors else plain
