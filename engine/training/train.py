"""Training: what a run starts from, the order of a step, and what ended it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorpack import (
    Callback,
    MergeAllSummaries,
    MovingAverageSummary,
    RunUpdateOps,
    TrainConfig,
    launch_train_with_config,
)
from tensorpack.tfutils.sessinit import SessionInit
from tensorpack.utils import logger

from engine.config.config import Config
from engine.data.batches import TrainFlow
from engine.data.datasets import Dataset
from engine.data.identity import Identity
from engine.data.sources import BadImage, some
from engine.errors import UsageError
from engine.graph.loaders import KeepsError, SharedBatches, train_flow
from engine.graph.teacher import Teacher
from engine.graph.tower import Model
from engine.graph.worker import SingleWorker
from engine.runs import data_record
from engine.runs.folder import Run
from engine.training.averages import AverageWeights
from engine.training.callbacks import Evaluate, of_a_step
from engine.training.events import Events
from engine.training.monitors import EpochLine, History
from engine.training.quantizer_starts import StartQuantizers
from engine.training.saving import Resume, Save, SaveBest, Start, keep_class_names
from engine.training.signals import StopAtNaN, StopOnSignal
from engine.training.trainers import make_trainer
from engine.training.watchdog import Watchdog
from quant.backend import new_graph, tf


def train(
    config: Config,
    dataset: Dataset,
    run: Run,
    *,
    values: dict[str, np.ndarray] | None,
    data_format: str,
    threads: int,
    worker: SingleWorker,
    teacher: Teacher | None = None,
    histograms: bool = False,
) -> None:
    """Trains until ``config.epochs``.

    Ctrl-C and SIGTERM leave a folder from which the same command goes on.

    Args:
        config: what to train.
        dataset: on what.
        run: where. All workers but the first know only its step and write nothing.
        values: initial values of a fresh run by name, see ``engine.training.starting``.
        data_format: ``NHWC`` or ``NCHW``.
        threads: that decode images.
        worker: this process among those that train together.
        teacher: another network that is learned from; None without one.
        histograms: whether TensorBoard gets those of the weights.

    Raises:
        UsageError: the loss is no number, the data are bad, memory or disk are full.
        WorkerError: another worker is gone.
        KeyboardInterrupt: Ctrl-C, or as Terminated SIGTERM; a checkpoint of that step is there.
    """
    with _explained(config, run, worker), new_graph():
        tf.set_random_seed(config.seed)
        keep_class_names(dataset.classes)
        options = config.network().evaluation_options
        model = Model(
            config, data_format=data_format, options=options, worker=worker, teacher=teacher
        )
        images = _flow(config, dataset, worker, start_step=run.step, threads=threads)
        ahead = 1 if len(config.gpu) > 1 else 0
        flow = KeepsError(images, config.course.steps - run.step, ahead)
        batches = SharedBatches(flow, len(config.gpu))
        watchdog = Watchdog(flow, len(config.gpu) * worker.size)
        callbacks = [watchdog, *of_a_step(model)]
        if run.step == 0:
            callbacks.append(StartQuantizers(model, lambda: next(iter(images)), values or {}))
        averages = AverageWeights(model, config.model_ema) if config.model_ema else None
        if averages:
            callbacks.append(averages)
        guard = StopAtNaN(model)
        callbacks.append(guard)
        save = Save(run)
        monitors: list[Callback] = []
        finish = [guard.check]
        if worker.first:
            logger.set_logger_dir(str(run.path), action='k')
            evaluate = Evaluate(
                model, dataset, run, threads=threads, averages=averages, watchdog=watchdog
            )
            callbacks.extend([evaluate, SaveBest(run), save])
            monitors.extend([Events(model, histograms=histograms), History(run)])
            finish.append(save.save)
        monitors.append(EpochLine(model, cost=worker.first))
        stop = StopOnSignal(worker, *finish)
        callbacks.extend([*worker.callbacks, stop])
        session = worker.session(_state(run, values), config)
        record = run.path if worker.first else None
        with _bad_images_noted(images, record, dataset), watchdog.watching():
            trainer = _launch(model, batches, callbacks, monitors, session, run)
        _check_end(config, trainer, flow, guard, worker)
        _report_bad(images)
        if worker.first:
            save.tidy()
        stop.end()


@contextlib.contextmanager
def _explained(config: Config, run: Run, worker: SingleWorker) -> Iterator[None]:
    """A block whose errors of memory and of the disk say what can be done about them.

    Args:
        config: what is trained.
        run: where.
        worker: this process among those that train together.

    Raises:
        UsageError: a step needs more memory than there is, or the folder cannot be written.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise UsageError(too_large(config, worker.size)) from error
    except OSError as error:
        raise UsageError(f'--logdir {run.path}: {error}; the checkpoints in it are kept') from error


@contextlib.contextmanager
def _bad_images_noted(images: TrainFlow, folder: Path | None, dataset: Dataset) -> Iterator[None]:
    """A block after which a run folder says which images could not be decoded.

    Args:
        images: training images, which know the bad ones among them.
        folder: of the run; None on workers that write nothing.
        dataset: the data.

    Raises:
        BadImage: as raised within; the record has its image, too.
    """
    try:
        yield
    except BadImage as error:
        images.bad[error.name] = str(error)
        raise
    finally:
        if folder is not None and images.bad:
            data_record.note_bad(folder, images.bad, Identity(dataset))


def too_large(config: Config, workers: int = 1) -> str:
    """Says that a step does not fit into memory, and what might."""
    towers = len(config.gpu) * workers
    smaller = config.batch_size // 2 // towers * towers
    advice = 'fewer or smaller --sizes take less'
    if smaller:
        advice = f'try --batch_size {smaller}, with --lr in proportion'
    if config.recompute != 'blocks':
        advice += ', or --recompute blocks, with equal results in more time'
    return (
        f'--batch_size {config.batch_size}: a step does not fit into the memory of the device; '
        f'{advice}'
    )


def _launch(
    model: Model,
    batches: SharedBatches,
    callbacks: list[Callback],
    monitors: list[Callback],
    session: dict[str, Any],
    run: Run,
) -> Any:
    """Trains to the end, or until a callback or the data end it. Returns the trainer."""
    steps = model.config.steps_per_epoch
    trainer = make_trainer(model.config)
    of_training = TrainConfig(
        model=model,
        data=batches,
        callbacks=callbacks,
        extra_callbacks=[MovingAverageSummary(), MergeAllSummaries(), RunUpdateOps()],
        monitors=monitors,
        **session,
        steps_per_epoch=steps,
        starting_epoch=run.step // steps + 1,
        max_epoch=model.config.epochs,
    )
    launch_train_with_config(of_training, trainer)
    return trainer


def _flow(
    config: Config, dataset: Dataset, worker: SingleWorker, *, start_step: int, threads: int
) -> TrainFlow:
    """Training batches of this worker, from those of a step on."""
    return train_flow(
        config,
        dataset,
        start_step=start_step,
        threads=threads,
        part=worker.index,
        parts=worker.size,
    )


def _state(run: Run, values: dict[str, np.ndarray] | None) -> SessionInit | None:
    """Where the variables start: from the run's checkpoint, from ``values``, or afresh."""
    if run.checkpoint:
        return Resume(run.checkpoint)
    return Start(values) if values else None


def _check_end(
    config: Config, trainer: Any, flow: KeepsError, guard: StopAtNaN, worker: SingleWorker
) -> None:
    """Checks that a training ran to its end.

    tensorpack ends quietly when the thread that reads the data dies.

    Args:
        config: says how many steps there are.
        trainer: that has ended.
        flow: keeps the exception that stopped the data.
        guard: keeps why the loss stopped the training.
        worker: keeps why it lost the others.

    Raises:
        WorkerError: another worker is gone.
        RuntimeError: the data ended by a fault of ours.
        UsageError: the data are bad, or the loss is no number.
    """
    # Bad data on this worker end a sum with the others, as if one of them were lost.
    if worker.failure and not flow.error:
        raise worker.failure
    step = trainer.loop.global_step
    if step >= config.epochs * config.steps_per_epoch and not guard.reason:
        return
    if guard.reason or isinstance(flow.error, UsageError):
        raise UsageError(f'training stopped at step {step}: {guard.reason or flow.error}')
    raise RuntimeError(f'no more data at step {step}: {flow.error!r}') from flow.error


def _report_bad(images: TrainFlow) -> None:
    """Says how many training images could not be decoded, and which."""
    if not images.bad:
        return
    listed = some(images.bad)
    print(
        f'{len(images.bad)} of {len(images.source)} training images could not be decoded, and '
        f'others took their places: {listed}',
        flush=True,
    )
