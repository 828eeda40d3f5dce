"""Callbacks of every training: refits, the step and the learning rate, evaluation."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from tensorpack import Callback, DataFlow
from tensorpack.utils import logger

from engine import families
from engine.data.datasets import Dataset
from engine.data.sources import some
from engine.evaluation.evaluate import Score, eval_flow, score
from engine.evaluation.evaluators.evaluator import Scored
from engine.evaluation.records import Record, records, write_records
from engine.graph.tower import Model
from engine.optimization.averages import follow
from engine.runs import history
from engine.runs.folder import Run, merge_layers
from engine.training.averages import AverageWeights
from engine.training.monitors import STEP_CPU
from engine.training.watchdog import Noted, Watchdog
from nets.layers.kernels import generate
from nets.points import ENSEMBLE
from quant.backend import tf
from quant.updates import refit


class RefitQuantizers(Callback):
    """Refits every basis once per step, in its session call, from the statistics of all towers.

    In the last epochs of ``--snap-epochs`` levels are small whole numbers times a scale.
    """

    def __init__(self, model: Model):
        self._model = model
        config = model.config
        self._first_snapped = (config.epochs - config.snap_epochs) * config.steps_per_epoch

    def _setup_graph(self) -> None:
        worker = self._model.worker
        towers = [blocks.quantization for blocks in self._model.towers]
        self._snapping = None
        if self._model.config.snap_epochs:
            self._snapping = tf.placeholder(tf.bool, [], 'snapping')
        self._updates = refit(towers, add=worker.sum, first=worker.first, snapping=self._snapping)

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        feeds = {}
        if self._snapping is not None:
            feeds[self._snapping] = self.global_step >= self._first_snapped
        return tf.train.SessionRunArgs(self._updates, feeds)


class ConnectTowers(Callback):
    """Lets the towers share their batch statistics, once the last one is built."""

    def __init__(self, model: Model):
        self._model = model

    def _setup_graph(self) -> None:
        if self._model.exchange:
            self._model.exchange.connect()


class WarnOfSingleValues(Callback):
    """Names the layers whose batch statistics are those of a single value, before the first step.

    Its variance is 0, toward which the moving average then falls.
    """

    def __init__(self, model: Model):
        self._model = model

    def _before_train(self) -> None:
        config = self._model.config
        of_tower = config.batch_size // (len(config.gpu) * self._model.worker.size)
        together = of_tower
        if self._model.exchange:
            together *= len(config.gpu)
        pixels = self._model.towers[0].pixels
        layers = [name for name, count in pixels.items() if count * together == 1]
        if layers:
            logger.warning(
                f'--batch_size {config.batch_size} is {of_tower} image per tower: batch '
                f'normalisation of {some(layers)} sees a single value per channel, whose variance '
                'is 0, and so will be the variance that evaluation uses; give a larger '
                '--batch_size, larger --sizes, or --sync_bn with several towers'
            )


class FollowWeights(Callback):
    """Moves the teacher's variables toward those that they follow, after every step."""

    def __init__(self, model: Model):
        self._model = model

    def _setup_graph(self) -> None:
        self._follow = None
        pairs = self._model.net.teacher_pairs()
        # Only networks with a teacher have the option of its speed.
        if pairs:
            self._follow = tf.group(*follow(pairs, self._model.config.ema))

    def _trigger_step(self) -> None:
        if self._follow is not None:
            self.trainer.sess.run(self._follow)


class FeedStep(Callback):
    """Tells every tower the step, from which its layers draw noise."""

    def __init__(self, model: Model):
        self._model = model

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return tf.train.SessionRunArgs(None, dict.fromkeys(self._model.steps, self.global_step))


class MeasureSteps(Callback):
    """Measures the CPU time of a step, of all threads of this process: the median of an epoch."""

    def _before_epoch(self) -> None:
        self._seconds: list[float] = []
        self._last = time.process_time()

    def _trigger_step(self) -> None:
        now = time.process_time()
        self._seconds.append(now - self._last)
        self._last = now

    def _trigger_epoch(self) -> None:
        self.trainer.monitors.put_scalar(STEP_CPU, 1e3 * statistics.median(self._seconds))


class SetLearningRate(Callback):
    """Sets ``learning_rate`` before every step: a function of the step, so that resuming is exact.

    Args:
        rate: step -> learning rate.
    """

    def __init__(self, rate: Callable[[int], float]):
        self._rate = rate
        self._last = -1.0

    def _setup_graph(self) -> None:
        self._variable = next(v for v in tf.global_variables() if v.op.name == 'learning_rate')
        self._value = tf.placeholder(tf.float32, [], 'next_learning_rate')
        self._assign = self._variable.assign(self._value).op

    def _before_train(self) -> None:
        self._set()

    def _trigger_step(self) -> None:
        if self.local_step == self.trainer.steps_per_epoch - 1:
            self.trainer.monitors.put_scalar(history.RATE, self._last)
        self._set()

    def _set(self) -> None:
        rate = self._rate(self.global_step)
        if rate != self._last:
            self.trainer.sess.run(self._assign, {self._value: rate})
            self._last = rate


def of_a_step(model: Model) -> list[Callback]:
    """Callbacks that run with every step, on every worker."""
    return [
        ConnectTowers(model),
        WarnOfSingleValues(model),
        FeedStep(model),
        RefitQuantizers(model),
        FollowWeights(model),
        SetLearningRate(model.config.course.rate()),
        MeasureSteps(),
    ]


class Evaluate(Callback):
    """Scores all operating points, on every GPU of the run; writes records and metrics.

    Every epoch, or every ``--val-interval`` and after the last one.

    Args:
        model: the network, whose training towers are built.
        dataset: its validation images.
        run: where the records go.
        threads: that decode.
        averages: of the weights, which are scored too; None if there are none.
        watchdog: that is told of every batch; None if there is none.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        run: Run,
        *,
        threads: int,
        averages: AverageWeights | None = None,
        watchdog: Watchdog | None = None,
    ):
        self._model = model
        self._run = run
        self._averages = averages
        flow = eval_flow(model.config, dataset, threads)
        self._images = len(flow.source)
        self._flow: DataFlow = flow
        if watchdog is not None:
            self._flow = Noted(self._flow, watchdog)

    def _setup_graph(self) -> None:
        self._predictors = [
            self.trainer.get_predictor(self._model.feeds, self._model.fetches, device=device)
            for device in range(len(self._model.config.gpu))
        ]
        merge_layers(self._run.path, self._model.towers[0].layers)
        self._generate = generate()

    def _trigger_epoch(self) -> None:
        config = self._model.config
        if self.epoch_num % config.val_interval and self.epoch_num < config.epochs:
            return
        result, found = self._score()
        put = self.trainer.monitors.put_scalar
        scored = Scored(self._model, self._model.towers[0].layers, result, self._run.path)
        for evaluator in families.get(self._model.config.net).evaluators(self._model.config):
            for name, value in evaluator.monitor(scored).items():
                put(name, value)
        self._record(found, 'raw')
        if self._averages:
            with self._averages.shown():
                _, of_averages = self._score()
            self._record(of_averages, 'ema')

    def _score(self) -> tuple[Score, list[Record]]:
        """Scores the network with the present values of its variables."""
        self.trainer.sess.run(self._generate)
        prefix = str(self._run.path / f'model-{self.global_step}')
        first = self._model.names[0]
        result = score(self._predictors, self._flow, self._images, self._model.net, first)
        config = self._model.config
        found = records(
            self._model.names, result, data=config.data, dataset=config.dataset, prefix=prefix
        )
        return result, found

    def _record(self, found: list[Record], weights: str) -> None:
        """Writes records, and metrics of the history."""
        write_records(self._run.path, found, weights)
        put = self.trainer.monitors.put_scalar
        of_points = []
        for record in found:
            put(history.metric('top1', record.point, weights), record.top1)
            put(history.metric('top5', record.point, weights), record.top5)
            if record.loss is not None:
                put(history.metric('loss', record.point, weights), record.loss)
            if not record.point.startswith(ENSEMBLE):
                of_points.append(record.top1)
        put(history.metric('top1', 'mean', weights), sum(of_points) / len(of_points))
