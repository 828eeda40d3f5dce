"""A tower: network, loss and scores as tensorpack builds them per device."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tensorpack import ModelDesc
from tensorpack.tfutils.summary import add_moving_summary
from tensorpack.tfutils.tower import get_current_tower_context

from engine.config import hardware
from engine.config.config import Config
from engine.graph.inference import (
    ANSWERS,
    CORRECT,
    EXTRA,
    LABELS,
    LOSSES,
    InferenceModel,
    answers,
    correct,
    loss_sums,
    scored,
)
from engine.graph.mixing import mixed
from engine.graph.teacher import Teacher
from engine.graph.worker import SingleWorker
from engine.loading import uncollected
from engine.optimization import parts
from engine.optimization.rule import PerVariable, RuleOptimizer
from nets.layers.blocks import Blocks
from nets.layers.sync_norm import Exchange
from nets.losses import Labels, Teaching, hard, weighted
from quant.backend import has_gpu, tf
from quant.state import TRAINED, Kind, State, declared


class _Trained(NamedTuple):
    """A variable that a tower trains.

    Attributes:
        variable: as the optimizer gets it.
        state: its declaration.
        is_kernel: whether it is the kernel of a layer.
        decay: its weight decay, as a share of that of kernels.
    """

    variable: tf.Variable
    state: State
    is_kernel: bool
    decay: float


class Model(InferenceModel, ModelDesc):
    """The towers of one configuration, for training or for evaluation.

    Args:
        config: what to build.
        data_format: ``NHWC`` or ``NCHW``.
        options: of the network's ``outputs`` in inference towers.
        worker: the process that trains it; None: it is alone.
        teacher: another network that its training towers learn from; None without one.

    Attributes:
        towers: layer builders of the training towers, in order.
        batches: images and labels as each of them takes them.
        steps: the step by training tower, to be fed: a step writes the graph's counter.
        losses: by training tower, in order: the ``loss`` and what it is the sum of, by name.
        errors: by training tower, in order: share of wrong answers of the first row.
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
        worker: SingleWorker | None = None,
        teacher: Teacher | None = None,
    ):
        super().__init__(config, data_format=data_format, options=options)
        self.worker = worker or SingleWorker()
        self.towers: list[Blocks] = []
        self.batches: list[list[tf.Tensor]] = []
        self.steps: list[tf.Tensor] = []
        self.names: list[str] = []
        self.losses: list[dict[str, tf.Tensor]] = []
        self.errors: list[tf.Tensor] = []
        self._views: list[tf.Tensor] = []
        towers = len(config.gpu)
        self._optimizer = config.optimization
        self._teacher = teacher
        self._quantizer_rule = self._optimizer.quantizer_rule()
        self._settings: dict[Any, PerVariable] = {}
        self.exchange = Exchange(towers) if config.sync_bn and towers > 1 else None

    @uncollected()
    def build_graph(self, *batch: tf.Tensor) -> tf.Tensor | None:
        """Builds a tower on a batch of images (one tensor per view size) and labels.

        Returns:
            The training loss in a training tower, None in an inference tower.
        """
        *images, labels = batch
        if get_current_tower_context().is_training:
            return self._training_tower(images, labels)
        self._inference_tower(images, labels)
        return None

    def _inference_tower(self, images: Sequence[tf.Tensor], labels: tf.Tensor) -> None:
        """Names the tensors that evaluation takes, see ``fetches``."""
        native = hardware.takes_native(self.config)
        blocks = self.blocks(training=False, main=False, exchange=self.exchange, native=native)
        outputs = self.outputs(self.views(images), blocks, **self.options)
        rows = scored(outputs)
        self.names = list(rows)
        tf.identity(correct(rows, labels), name=CORRECT)
        tf.identity(loss_sums(rows, labels), name=LOSSES)
        tf.identity(answers(rows), name=ANSWERS)
        tf.identity(labels, name=LABELS)
        extras = self.net.accumulators(outputs, labels) | self.net.per_image(outputs, labels)
        for name, value in extras.items():
            tf.identity(value, name=f'{EXTRA}{name}')

    def _training_tower(self, images: Sequence[tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
        """The loss, of whose terms moving averages are kept."""
        tower = get_current_tower_context()
        main = tower.is_main_training_tower
        of_step = self._of_step()
        self.batches.append([*images, labels])
        images, targets = self._learned_from(images, labels, of_step['seed'])
        compiles = self._compiles()
        # A program of XLA has none of these operations.
        native = not compiles and hardware.takes_native(self.config)
        blocks = self.blocks(
            training=True,
            main=main,
            exchange=self.exchange,
            compiles=compiles,
            native=native,
            **of_step,
        )
        views = self.views(images)
        if self.config.bf16:
            views = {size: tf.cast(view, tf.bfloat16) for size, view in views.items()}
        self._views.extend(views.values())
        outputs = self.outputs(views, blocks)
        rows = scored(outputs)
        self.names = list(rows)
        self.towers.append(blocks)
        if self._teacher is not None:
            outputs.teaching = self._teaching(self._teacher, images)
            rows['teacher'] = outputs.teaching.logits
        outputs.for_cascades = self.config.for_cascades
        terms = self.net.loss(outputs, targets)
        trained = self._trained(blocks)
        decay = self._decay_terms(blocks, trained)
        self._settle(blocks, trained)
        if not self._optimizer.decoupled:
            terms['loss/weight_decay'] = self._optimizer.wd * tf.add_n(decay)
        loss = tf.add_n(list(terms.values()), name='loss')
        self.losses.append({'loss': loss, **terms})
        self.errors.append(_summarize(loss, terms, rows, hard(targets)))
        return loss

    def _learned_from(
        self, images: Sequence[tf.Tensor], labels: tf.Tensor, seed: tf.Tensor
    ) -> tuple[Sequence[tf.Tensor], Labels]:
        """Images and labels of a step: mixed, and weighted by class, where the options say so.

        Args:
            images: one tensor per view size.
            labels: [N].
            seed: of the step.
        """
        targets: Labels = labels
        mixing = self.config.mixing
        if mixing.mixes:
            images, targets = mixed(images, labels, mixing, seed)
        if self.config.class_weights:
            targets = weighted(targets, self.config.class_weights)
        return images, targets

    def _teaching(self, teacher: Teacher, images: Sequence[tf.Tensor]) -> Teaching:
        """The teacher's answers to a batch: once, for all operating points."""
        options = self.config.teaching
        return Teaching(teacher.logits(images), options.teacher_weight, options.label_weight)

    def _compiles(self) -> bool:
        """Whether quantizers are compiled."""
        if self.config.xla == 'auto':
            return has_gpu()
        return self.config.xla == 'on'

    def _trained(self, blocks: Blocks) -> list[_Trained]:
        """The variables that the current tower trains, and how they decay."""
        tower = get_current_tower_context()
        states = declared()
        kernels = {variable.ref() for variable in blocks.weights.variables}
        every = self._optimizer.decay == 'all'
        found = []
        for variable in tower.get_collection_in_tower(tf.GraphKeys.TRAINABLE_VARIABLES):
            state = states.get(variable.op.name, TRAINED)
            is_kernel = variable.ref() in kernels
            decay = state.decay_factor
            # Quantizers decay only if they ask for it.
            if is_kernel or every and state.kind is not Kind.QUANTIZER:
                decay = 1.0
            found.append(_Trained(variable, state, is_kernel, decay))
        return found

    def _decay_terms(self, blocks: Blocks, trained: Sequence[_Trained]) -> list[tf.Tensor]:
        """Terms of the loss by which variables decay, before they are multiplied by ``--wd``."""
        every = self._optimizer.decay == 'all'
        terms = []
        if not every:
            terms = [tf.nn.l2_loss(value) for value in blocks.kernels]
        for one in trained:
            # Kernels have their terms already, by the values that the tower has read.
            if one.decay and (every or not one.is_kernel):
                term = tf.nn.l2_loss(one.variable)
                terms.append(term if one.decay == 1 else one.decay * term)
        return terms

    def _settle(self, blocks: Blocks, trained: Sequence[_Trained]) -> None:
        """Notes what the optimizer does with each trained variable of the current tower."""
        tower = get_current_tower_context()
        network = parts.Parts(parts.layers_of(blocks.layers))
        for variable, state, _, decay in trained:
            name = variable.op.name.removeprefix(f'{tower.vs_name}/')
            beside = state.fresh and state.kind is Kind.TRAINED
            rate = state.lr_factor * network.factor(name, self.config.parts, beside=beside)
            rule = None
            if state.kind is Kind.QUANTIZER:
                rate *= (self._optimizer.quantizer_lr or self.config.lr) / self.config.lr
                rule = self._quantizer_rule
            of_loss = decay * self._optimizer.wd if decay else None
            self._settings[variable.ref()] = PerVariable(rate, of_loss, rule)

    def _of_step(self) -> dict[str, tf.Tensor]:
        """Seed and progress (share of the training done) for the layers of a tower."""
        step = tf.placeholder_with_default(tf.train.get_or_create_global_step(), [], 'step')
        number = self.worker.index * len(self.config.gpu) + len(self.steps)
        seed = tf.stack([self.config.seed + 1000 * number, tf.cast(step, tf.int32)])
        self.steps.append(step)
        total = self.config.epochs * self.config.steps_per_epoch
        return {'seed': seed, 'progress': tf.cast(step, tf.float32) / total}

    def optimizer(self) -> tf.train.Optimizer:
        """The configuration's optimizer, at the variable ``learning_rate`` that is set by step."""
        rate = tf.get_variable('learning_rate', initializer=0.0, trainable=False)
        return RuleOptimizer(
            self._optimizer.rule(),
            rate,
            count=lambda: self.steps[0] + 1,
            settings=lambda variable: self._settings[variable.ref()],
            mean=self.worker.mean,
            decoupled=self._optimizer.decoupled,
            kept=self._kept if self.config.recompute != 'none' else None,
        )

    def _kept(self) -> list[tf.Tensor]:
        """Tensors of the forward passes that training towers keep, see ``--recompute``."""
        kept = list(self._views)
        for blocks in self.towers:
            kept += blocks.ends
            if self.config.recompute == 'activations':
                kept += blocks.convolved
        if self.exchange:
            kept += self.exchange.means
        return kept


def _summarize(
    loss: tf.Tensor,
    terms: Mapping[str, tf.Tensor],
    rows: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
) -> tf.Tensor:
    """Keeps moving averages of the loss, its terms and the training error of every row.

    Returns:
        The error of the first row.
    """
    summaries = [loss]
    for name, value in terms.items():
        summaries.append(tf.identity(value, name=name))
    errors = []
    for name, logits in rows.items():
        right = tf.cast(tf.nn.in_top_k(logits, labels, 1), tf.float32)
        errors.append(tf.reduce_mean(1 - right, name=f'train-error/{name}'))
    add_moving_summary(*summaries, *errors)
    return errors[0]
