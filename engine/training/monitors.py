"""Progress of a training for people: on the console, and in the history."""

import time
from collections.abc import Sequence
from typing import Any

from tensorpack import MonitorBase

from engine.config import overview
from engine.console import Progress, clock_text, say
from engine.graph.tower import Model
from engine.runs import history
from engine.runs.folder import Run
from nets.points import ENSEMBLE
from quant.backend import tf

# Milliseconds of CPU time.
STEP_CPU = 'step/cpu_ms'

# Ends of names of metrics that differ from run to run: they say how busy the machine is.
OF_MACHINE = ('queue_size', STEP_CPU)


class History(MonitorBase):
    """Writes the metrics of every epoch behind those of the epochs before, see ``history``."""

    def __init__(self, run: Run):
        self._folder = run.path
        self._now: history.Row = {}

    def _before_train(self) -> None:
        self._rows = history.recorded(self._folder)

    def process_scalar(self, name: str, val: float) -> None:
        """Keeps the value of a metric until its epoch ends."""
        if not name.endswith(OF_MACHINE):
            self._now[history.tag(name)] = val

    def _trigger_epoch(self) -> None:
        about = {history.EPOCH: self.epoch_num, history.STEP: self.global_step}
        self._rows.append(self._now | about)
        self._now = {}
        history.write(self._folder, self._rows)


class EpochLine(MonitorBase):
    """Progress within an epoch, and one line at its end.

    The line has the loss, top-1 of the strongest and the weakest point, images/s, the time left.
    TensorBoard and stats.json have everything else.

    Args:
        model: whose training towers have been built.
        cost: whether the cost of the network is said before the first step.
    """

    # The newest step counts so much in what is shown of training.
    NEWEST = 0.05

    def __init__(self, model: Model, *, cost: bool = True):
        self._model = model
        self._cost = cost
        self._latest: dict[str, float] = {}
        self._progress: Progress | None = None
        self._scoring = 0.0

    def _setup_graph(self) -> None:
        fetched = {'loss': self._model.losses[0][history.TENSOR], 'error': self._model.errors[0]}
        self._fetches = tf.train.SessionRunArgs(fetched)

    def process_scalar(self, name: str, val: float) -> None:
        """Keeps the newest value of a metric."""
        self._latest[history.tag(name)] = val

    def _before_train(self) -> None:
        if self._cost:
            say('\n'.join(overview.cost_lines(self._model.towers[0].layers)))
        self._begun = self.global_step

    def _before_epoch(self) -> None:
        self._started = time.perf_counter()
        self._first = self.global_step
        self._shown: dict[str, float] = {}
        # A line shows no scores of an earlier epoch.
        self._latest = {k: v for k, v in self._latest.items() if not k.startswith('val')}
        done = self.global_step % self.trainer.steps_per_epoch
        steps = self.trainer.steps_per_epoch
        self._progress = Progress(self._epoch, steps, 'steps', done=done, left=False)

    @property
    def _epoch(self) -> str:
        return f'epoch {self.epoch_num}/{self.trainer.max_epoch}'

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return self._fetches

    def _after_run(self, _: Any, values: tf.train.SessionRunValues) -> None:
        for name, value in values.results.items():
            before = self._shown.get(name, value)
            self._shown[name] = before + self.NEWEST * (value - before)

    def _trigger_step(self) -> None:
        is_last = self.global_step % self.trainer.steps_per_epoch == 0
        if self.global_step == self._begun + 1 and not is_last:
            # The first step of a session takes longer than all others.
            self._started = time.perf_counter()
            self._first = self.global_step
        progress = self._progress
        assert progress is not None
        if self.global_step > self._first:
            progress.note(*self._notes())
        progress.update()

    def _step_seconds(self, until: float) -> float:
        return (until - self._started) / max(self.global_step - self._first, 1)

    def _left(self, of_step: float) -> tuple[float, float]:
        """Seconds that are left of the steps of this epoch, and of the run."""
        steps = self.trainer.steps_per_epoch
        of_epoch = steps * self.epoch_num - self.global_step
        of_run = steps * self.trainer.max_epoch - self.global_step
        scored = overview.scorings(self._model.config, self.global_step // steps)
        return of_epoch * of_step, of_run * of_step + scored * self._scoring

    def _notes(self) -> list[str]:
        """Texts beside the count of steps, the most important one first."""
        of_step = self._step_seconds(time.perf_counter())
        epoch, run = self._left(of_step)
        name, top1 = self._model.names[0], 100 * (1 - self._shown['error'])
        speed = self._model.config.batch_size / of_step
        return [
            f'loss {self._shown["loss"]:.4f}',
            f'run {clock_text(run)} left',
            f'top-1 {name} {top1:.1f} %',
            f'epoch {clock_text(epoch)} left',
            f'{speed:.0f} images/s',
        ]

    def _after_epoch(self) -> None:
        self._trained = time.perf_counter()
        self._close()

    def _trigger_epoch(self) -> None:
        of_step = self._step_seconds(self._trained)
        if history.MEAN_TOP1 in self._latest:
            self._scoring = time.perf_counter() - self._trained
        speed = self._model.config.batch_size / of_step
        _, left = self._left(of_step)
        say(line(self._latest, self._model.names, self._epoch, speed, left))

    def _after_train(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()


def line(
    latest: dict[str, float], names: Sequence[str], epoch: str, speed: float, left: float
) -> str:
    """The line of an epoch.

    Args:
        latest: newest value of every metric.
        names: operating points as evaluation spells them, strongest first.
        epoch: which one, of how many.
        speed: images per second of training.
        left: seconds.
    """
    scored = []
    for name in names:
        top1 = latest.get(history.metric('top1', name))
        if top1 is not None and not name.startswith(ENSEMBLE):
            scored.append(f'{name} {top1:.2f}')
    ends = dict.fromkeys([*scored[:1], *scored[-1:]])
    accuracy = ', '.join(ends) or 'not scored'
    return (
        f'{epoch}: loss {latest[history.LOSS]:.4f}, top-1 {accuracy}; {speed:.0f} images/s, '
        f'{clock_text(left)} left'
    )
