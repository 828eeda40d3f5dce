"""Progress of a training for people: one line per epoch, and TensorBoard."""

import datetime
import time
from collections.abc import Callable, Sequence

from tensorpack import MonitorBase, TFEventWriter
from tensorpack.utils import logger

from engine.errors import reason
from engine.graph.tower import Model
from engine.runs import history
from engine.runs.folder import Run
from nets.points import ENSEMBLE
from quant.backend import tf


class Events(TFEventWriter):
    """TensorBoard's file. Where there is no room for it, that is said, and the training goes on."""

    def process_summary(self, summary: tf.Summary) -> None:
        """Writes a summary."""
        self._try(lambda: super(Events, self).process_summary(summary))

    def _trigger(self) -> None:
        self._try(super()._trigger)

    def _after_train(self) -> None:
        self._try(super()._after_train)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, RuntimeError, tf.errors.OpError) as error:
            logger.warning(f'TensorBoard events cannot be written ({reason(error)})')


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
            self._now[name] = val

    def _trigger_epoch(self) -> None:
        about = {history.EPOCH: self.epoch_num, history.STEP: self.global_step}
        self._rows.append(self._now | about)
        self._now = {}
        history.write(self._folder, self._rows)


class EpochLine(MonitorBase):
    """One line per epoch: loss, top-1 of the strongest and the weakest point, images/s, time left.

    TensorBoard and stats.json have everything else.

    Args:
        model: whose inference tower has been built when the first epoch ends.
    """

    def __init__(self, model: Model):
        self._model = model
        self._latest: dict[str, float] = {}

    def process_scalar(self, name: str, val: float) -> None:
        """Keeps the newest value of a metric."""
        self._latest[name] = val

    def _before_epoch(self) -> None:
        self._started = time.perf_counter()
        self._first = self.global_step
        # A line shows no scores of an earlier epoch.
        self._latest = {k: v for k, v in self._latest.items() if not k.startswith('val')}

    def _after_epoch(self) -> None:
        self._trained = time.perf_counter()

    def _trigger_epoch(self) -> None:
        trainer = self.trainer
        steps = self.global_step - self._first
        training = self._trained - self._started
        evaluating = time.perf_counter() - self._trained
        speed = steps * self._model.config.batch_size / training
        of_epoch = training / steps * trainer.steps_per_epoch + evaluating
        left = (trainer.max_epoch - self.epoch_num) * of_epoch
        epoch = f'epoch {self.epoch_num}/{trainer.max_epoch}'
        logger.info(line(self._latest, self._model.names, epoch, speed, left))


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
        top1 = latest.get(f'val/{name}/top1')
        if top1 is not None and not name.startswith(ENSEMBLE):
            scored.append(f'{name} {top1:.2f}')
    ends = dict.fromkeys([*scored[:1], *scored[-1:]])
    accuracy = ', '.join(ends) or 'not scored'
    time_left = datetime.timedelta(seconds=round(left))
    return (
        f'{epoch}: loss {latest["loss"]:.4f}, top-1 {accuracy}; {speed:.0f} images/s, '
        f'{time_left} left'
    )
