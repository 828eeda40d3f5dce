"""Training: trainer, callbacks and the order of a step."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tensorpack import (
    Callback,
    DataFlow,
    JSONWriter,
    ProxyDataFlow,
    QueueInput,
    TrainConfig,
    launch_train_with_config,
)
from tensorpack.utils import logger

from engine.config.config import Config, learning_rate
from engine.data import randaugment
from engine.data.augment import Extra
from engine.data.batches import TrainFlow
from engine.data.datasets import Dataset
from engine.errors import UsageError
from engine.evaluation.evaluate import eval_flow, merge_layers, records, score, write_records
from engine.evaluation.evaluators import gates
from engine.graph.tower import Model
from engine.runs import checkpoint
from engine.runs.folder import Run
from engine.training.cluster import Machine
from engine.training.monitors import EpochLine, Events
from engine.training.saving import Resume, Save, SaveBest, Start
from engine.training.trainers import OneTower, ParameterServer, Replicated, StopAtNaN, StopOnSignal
from nets.layers.kernels import generate
from quant.backend import tf
from quant.scope import refit

# What a checkpoint of another configuration need not have: it starts afresh.
FRESH = r'^alpha$|/basis$|/gate[12]/|(^|/)slimming_gate/'

# Batches that wait for a step.
QUEUED = 4


class Watched(ProxyDataFlow):
    """A data flow that keeps what ended it, of which tensorpack says no more than that there is no more data.

    Attributes:
        error: the exception, or None.
    """

    error: Exception | None = None

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        try:
            yield from self.ds
        except Exception as error:
            self.error = error
            raise


class SharedBatches(QueueInput):
    """Takes one batch per step and gives every tower its part, so that a step does not depend on thread order."""

    def __init__(self, flow: DataFlow, towers: int):
        super().__init__(flow)
        self._towers = towers
        self._parts: list[list[tf.Tensor]] = []

    def _setup(self, inputs: Sequence[tf.TensorSpec]) -> None:
        # The default of 50 batches takes gigabytes at 224 pixels.
        self.queue = tf.FIFOQueue(QUEUED, [spec.dtype for spec in inputs], name='input_queue')
        super()._setup(inputs)

    def _get_input_tensors(self) -> list[tf.Tensor]:
        if not self._parts:
            with tf.device('/cpu:0'):
                split = [tf.split(tensor, self._towers) for tensor in super()._get_input_tensors()]
            self._parts = [list(part) for part in zip(*split)]
        return self._parts.pop(0)


class RefitQuantizers(Callback):
    """Refits every basis once per step, in the session call of the step, from the statistics of all towers."""

    def __init__(self, model: Model):
        self._model = model

    def _setup_graph(self) -> None:
        self._fetches = tf.train.SessionRunArgs(
            refit(
                [blocks.quantization for blocks in self._model.towers],
                add=self._model.machines.sum,
                first=self._model.machines.first,
            )
        )

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return self._fetches


class ConnectTowers(Callback):
    """Lets the towers share their batch statistics, once the last one is built."""

    def __init__(self, model: Model):
        self._model = model

    def _setup_graph(self) -> None:
        if self._model.exchange:
            self._model.exchange.connect()


class FollowWeights(Callback):
    """Moves the teacher's variables toward those that they follow, after every step."""

    def __init__(self, model: Model):
        self._model = model

    def _setup_graph(self) -> None:
        rate = 1 - self._model.config.ema
        self._follow = tf.group(
            *(
                average.assign_sub(rate * (average - variable), read_value=False)
                for average, variable in self._model.net.teacher_pairs()
            )
        )

    def _trigger_step(self) -> None:
        self.trainer.sess.run(self._follow)


class FeedStep(Callback):
    """Tells every tower the step, from which its layers draw noise."""

    def __init__(self, model: Model):
        self._model = model

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return tf.train.SessionRunArgs(None, dict.fromkeys(self._model.steps, self.global_step))


class SetLearningRate(Callback):
    """Sets ``learning_rate`` before every step: a function of the step, so that resuming is exact."""

    def __init__(self, rate: Callable[[int], float]):
        self._rate, self._last = rate, -1.0

    def _setup_graph(self) -> None:
        self._variable = next(v for v in tf.global_variables() if v.op.name == 'learning_rate')
        self._value = tf.placeholder(tf.float32, [], 'next_learning_rate')
        self._assign = self._variable.assign(self._value).op

    def _before_train(self) -> None:
        self._set()

    def _trigger_step(self) -> None:
        if self.local_step == self.trainer.steps_per_epoch - 1:
            self.trainer.monitors.put_scalar('learning_rate', self._last)
        self._set()

    def _set(self) -> None:
        rate = self._rate(self.global_step)
        if rate != self._last:
            self.trainer.sess.run(self._assign, {self._value: rate})
            self._last = rate


class Evaluate(Callback):
    """Scores all operating points every epoch, on every GPU of the run; writes records and metrics."""

    def __init__(self, model: Model, dataset: Dataset, run: Run, *, threads: int):
        self._model, self._run = model, run
        self._flow = eval_flow(model.config, dataset, threads)

    def _setup_graph(self) -> None:
        self._predictors = [
            self.trainer.get_predictor(self._model.feeds, self._model.sums, device=device)
            for device in range(len(self._model.config.gpu))
        ]
        merge_layers(self._run.path, self._model.towers[0].layers)
        self._generate = generate()

    def _trigger_epoch(self) -> None:
        self.trainer.sess.run(self._generate)
        prefix = str(self._run.path / f'model-{self.global_step}')
        result = score(self._predictors, self._flow, len(self._flow))
        found = records(self._model.names, result, data=self._model.config.data, prefix=prefix)
        activities = gates.activities(self._model, self._model.towers[0].layers, result.sums[1:])
        gates.write(self._run.path, activities)
        for activity in activities:
            self.trainer.monitors.put_scalar(
                f'val/{activity.point}/activation', activity.activation
            )
        write_records(self._run.path, found)
        for record in found:
            self.trainer.monitors.put_scalar(f'val/{record.point}/top1', record.top1)
            self.trainer.monitors.put_scalar(f'val/{record.point}/top5', record.top5)
        points = [record.top1 for record in found if not record.point.startswith('ensemble')]
        self.trainer.monitors.put_scalar('val/mean/top1', sum(points) / len(points))


def train_flow(
    config: Config,
    dataset: Dataset,
    *,
    start_step: int,
    threads: int,
    part: int = 0,
    parts: int = 1,
) -> TrainFlow:
    """The training batches, or a part of each, as a model of this configuration takes them."""
    augment = randaugment.parse(config.randaugment) if config.randaugment else None
    extra = Extra(augment, config.erasing) if augment or config.erasing else None
    return TrainFlow(
        dataset,
        batch_size=config.batch_size,
        sizes=config.view_sizes,
        antialias=config.antialias,
        cubic=config.cubic,
        extra=extra,
        seed=config.seed,
        start_step=start_step,
        max_bad=config.max_bad,
        threads=threads,
        part=part,
        parts=parts,
    )


def make_trainer(config: Config) -> Any:
    """The trainer for the towers of ``config``."""
    towers = list(range(len(config.gpu)))
    if len(towers) == 1:
        return OneTower()
    if config.trainer == 'parameter-server':
        return ParameterServer(towers, ps_device='cpu')
    return Replicated(towers)


def starting_values(config: Config) -> dict[str, np.ndarray] | None:
    """Values of the network's variables from ``--load``; quantizers and gates that the checkpoint lacks start
    afresh.

    Raises:
        UsageError: the checkpoint cannot be read, or is of another network.
    """
    if not config.load:
        return None
    source = checkpoint.read(checkpoint.find(config.load, None, '--load'), flag='--load')
    if config.network().frozen:
        checkpoint.check_points(source, config, '--load')
    variables, _ = Model(config, data_format='NHWC').inspect()
    values = checkpoint.select(
        source, variables, flag='--load', optional=lambda name: re.search(FRESH, name) is not None
    )
    shadows = {
        name: value
        for name, value in source.values.items()
        if name.rpartition('/')[0] in values and name.rpartition('/')[2] in ('biased', 'local_step')
    }
    return values | shadows


def _writers(model: Model, dataset: Dataset, run: Run, threads: int, save: Save) -> list[Callback]:
    """What evaluates, and writes to the run folder."""
    logger.set_logger_dir(str(run.path), action='k')
    return [Evaluate(model, dataset, run, threads=threads), SaveBest(run), save]


def train(
    config: Config,
    dataset: Dataset,
    run: Run,
    *,
    values: dict[str, np.ndarray] | None,
    data_format: str,
    threads: int,
    machines: Machine,
) -> None:
    """Trains until ``config.epochs``. Ctrl-C and SIGTERM leave a folder from which the same command goes on.

    Args:
        config, dataset, run: what, on what, where.
        values: initial values of a fresh run, see ``starting_values``.
        data_format, threads: how on this machine.
        machines: with which others. All but the first of them know only the step of ``run`` and write nothing.

    Raises:
        UsageError: the loss is no number, the data are bad, memory or disk are full.
        WorkerError: another machine is gone.
        KeyboardInterrupt: Ctrl-C, or as Terminated SIGTERM; a checkpoint of that step is there.
    """
    try:
        with tf.Graph().as_default():
            _train(config, dataset, run, values, data_format, threads, machines)
    except tf.errors.ResourceExhaustedError as error:
        raise UsageError(too_large(config, machines.size)) from error
    except OSError as error:
        raise UsageError(f'--logdir {run.path}: {error}; the checkpoints in it are kept') from error


def too_large(config: Config, machines: int = 1) -> str:
    """Says that a step does not fit into memory, and what might."""
    towers = len(config.gpu) * machines
    smaller = config.batch_size // 2 // towers * towers
    advice = (
        f'try --batch_size {smaller}, with --lr in proportion'
        if smaller
        else 'fewer or smaller --sizes take less'
    )
    return f'--batch_size {config.batch_size}: a step does not fit into the memory of the device; {advice}'


def _train(
    config: Config,
    dataset: Dataset,
    run: Run,
    values: dict[str, np.ndarray] | None,
    data_format: str,
    threads: int,
    machines: Machine,
) -> None:
    model = Model(
        config, data_format=data_format, options=config.network().watched, machines=machines
    )
    towers, steps = len(config.gpu), config.steps_per_epoch
    tf.set_random_seed(config.seed)
    state = Resume(run.checkpoint) if run.checkpoint else Start(values) if values else None
    flow = Watched(
        train_flow(
            config,
            dataset,
            start_step=run.step,
            threads=threads,
            part=machines.index,
            parts=machines.size,
        )
    )
    trainer, guard, save = make_trainer(config), StopAtNaN(model), Save(run)
    stop = StopOnSignal(machines, guard.check, *([save.save] if machines.first else []))
    launch_train_with_config(
        TrainConfig(
            model=model,
            data=SharedBatches(flow, towers),
            callbacks=[
                ConnectTowers(model),
                FeedStep(model),
                RefitQuantizers(model),
                FollowWeights(model),
                guard,
                SetLearningRate(learning_rate(config)),
                *(_writers(model, dataset, run, threads, save) if machines.first else []),
                *machines.callbacks,
                stop,
            ],
            monitors=[Events(), JSONWriter(), EpochLine(model)] if machines.first else [],
            **machines.session(state),
            steps_per_epoch=steps,
            starting_epoch=run.step // steps + 1,
            max_epoch=config.epochs,
        ),
        trainer,
    )
    # Bad data on this worker end a sum with the others, as if one of them were lost.
    if machines.failure and not flow.error:
        raise machines.failure
    # tensorpack ends quietly when the thread that reads the data dies.
    if trainer.loop.global_step < config.epochs * steps or guard.reason:
        if flow.error and not isinstance(flow.error, UsageError):
            raise RuntimeError(f'no more data at step {trainer.loop.global_step}') from flow.error
        raise UsageError(
            f'training stopped at step {trainer.loop.global_step}: {guard.reason or flow.error}'
        )
    if machines.first:
        save.tidy()
    stop.end()
