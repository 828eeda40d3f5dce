"""Times a few steps of a training, of which nothing is kept."""

import resource
import statistics
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tensorpack import (
    Callback,
    RunUpdateOps,
    StopTraining,
    TrainConfig,
    launch_train_with_config,
)

from engine.config.config import Config
from engine.data.datasets import Dataset
from engine.evaluation.evaluate import eval_flow
from engine.graph.loaders import KeepsError, SharedBatches, train_flow
from engine.graph.teacher import Teacher
from engine.graph.tower import Model
from engine.graph.worker import SingleWorker
from engine.training.callbacks import of_a_step
from engine.training.quantizer_starts import StartQuantizers
from engine.training.saving import Start
from engine.training.trainers import make_trainer
from quant.backend import has_gpu, new_graph, tf

# Steps that are not timed: the first ones of a session take longer.
WARM_UP = 2
# Timed steps, the fewest and the most, and seconds after which no more than the fewest are taken.
LEAST, MOST, ENOUGH = 3, 20, 20.0
# Batches that are scored, the first of which is not timed.
SCORED = 3


class Measured(NamedTuple):
    """Time and memory of a step.

    Attributes:
        step_seconds: median wall time of a step.
        steps: how many were timed.
        scored_per_second: images that are scored in a second.
        peak_bytes: most memory of the process, or of the first GPU.
    """

    step_seconds: float
    steps: int
    scored_per_second: float
    peak_bytes: int


class _Clock(Callback):
    """Times steps, scores some batches, and ends the training."""

    def __init__(self, model: Model, dataset: Dataset, threads: int):
        self._model = model
        self._flow = eval_flow(model.config, dataset, threads)
        self._ends: list[float] = []
        self.seconds: list[float] = []
        self.scored_per_second = 0.0

    def _setup_graph(self) -> None:
        self._predict = self.trainer.get_predictor(self._model.feeds, self._model.fetches)

    def _trigger_step(self) -> None:
        self._ends.append(time.perf_counter())
        timed = len(self._ends) - WARM_UP
        if timed < LEAST:
            return
        if timed >= MOST or self._ends[-1] - self._ends[WARM_UP - 1] > ENOUGH:
            self._finish()

    def _finish(self) -> None:
        """Ends the training.

        Raises:
            StopTraining: always.
        """
        self.seconds = np.diff(self._ends[WARM_UP - 1 :]).tolist()
        self._score()
        raise StopTraining('measured')

    def _score(self) -> None:
        speeds = []
        for number, batch in zip(range(SCORED), self._flow):
            started = time.perf_counter()
            self._predict(*batch)
            if number or len(self._flow) == 1:
                speeds.append(len(batch[-1]) / (time.perf_counter() - started))
        self.scored_per_second = statistics.median(speeds)


def measure(
    config: Config,
    dataset: Dataset,
    values: Mapping[str, np.ndarray],
    *,
    data_format: str,
    threads: int,
    teacher: Teacher | None = None,
) -> Measured:
    """Takes steps of a training as it would begin, with its data, and forgets them.

    Args:
        config: of the training.
        dataset: its data.
        values: that its variables start from, by name.
        data_format: of its layers.
        threads: that decode.
        teacher: another network that is learned from; None without one.
    """
    with new_graph():
        tf.set_random_seed(config.seed)
        options = config.network().evaluation_options
        model = Model(config, data_format=data_format, options=options, teacher=teacher)
        images = train_flow(config, dataset, start_step=0, threads=threads)
        batches = SharedBatches(KeepsError(images, WARM_UP + MOST + 1), len(config.gpu))
        clock = _Clock(model, dataset, threads)
        starts = StartQuantizers(model, lambda: next(iter(images)), values)
        session = SingleWorker().session(Start(values) if values else None, config)
        of_training = TrainConfig(
            model=model,
            data=batches,
            callbacks=[*of_a_step(model), starts, clock],
            extra_callbacks=[RunUpdateOps()],
            monitors=[],
            **session,
            steps_per_epoch=WARM_UP + MOST + 1,
            max_epoch=1,
        )
        launch_train_with_config(of_training, make_trainer(config))
    step = statistics.median(clock.seconds)
    return Measured(step, len(clock.seconds), clock.scored_per_second, peak_bytes())


def peak_bytes() -> int:
    """Most memory that the first GPU had in use, or without one this process, in bytes.

    0 where TensorFlow does not say.
    """
    if has_gpu():
        try:
            return int(tf.config.experimental.get_memory_info('GPU:0')['peak'])
        except (ValueError, RuntimeError, tf.errors.OpError):
            return 0
    # Kilobytes, but on macOS.
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
