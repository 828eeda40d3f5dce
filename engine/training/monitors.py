"""What a person sees of a training: one line per epoch, and TensorBoard."""

import datetime
import time
from collections.abc import Callable, Sequence

from tensorpack import MonitorBase, TFEventWriter
from tensorpack.utils import logger

from engine.errors import reason
from engine.graph.tower import Model
from quant.backend import tf


class Events(TFEventWriter):
    """TensorBoard's file. Where there is no room for it, that is said, and the training goes on."""

    def process_summary(self, summary: tf.Summary) -> None:
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


class EpochLine(MonitorBase):
    """One line per epoch: loss, top-1 of the strongest and the weakest operating point, images/s, time left.

    TensorBoard and stats.json have everything else.

    Args:
        model: whose inference tower has been built when the first epoch ends.
    """

    def __init__(self, model: Model):
        self._model = model
        self._latest: dict[str, float] = {}

    def process_scalar(self, name: str, val: float) -> None:
        self._latest[name] = val

    def _before_epoch(self) -> None:
        self._started, self._first = time.perf_counter(), self.global_step

    def _after_epoch(self) -> None:
        self._trained = time.perf_counter()

    def _trigger_epoch(self) -> None:
        trainer, steps = self.trainer, self.global_step - self._first
        seconds, rest = self._trained - self._started, time.perf_counter() - self._trained
        epochs = trainer.max_epoch - self.epoch_num
        left = epochs * (seconds / steps * trainer.steps_per_epoch + rest)
        speed = steps * self._model.config.batch_size / seconds
        logger.info(
            line(
                self._latest,
                self._model.names,
                f'epoch {self.epoch_num}/{trainer.max_epoch}',
                speed,
                left,
            )
        )


def line(
    latest: dict[str, float], names: Sequence[str], epoch: str, speed: float, left: float
) -> str:
    """The line.

    Args:
        latest: newest value of every metric.
        names: operating points as evaluation spells them, strongest first.
        epoch: which one, of how many.
        speed: images per second of training.
        left: seconds.
    """
    top1 = {
        name: latest[f'val/{name}/top1']
        for name in names
        if f'val/{name}/top1' in latest and not name.startswith('ensemble')
    }
    ends = ', '.join(
        f'{name} {top1[name]:.2f}' for name in dict.fromkeys((*list(top1)[:1], *list(top1)[-1:]))
    )
    time_left = datetime.timedelta(seconds=round(left))
    return f'{epoch}: loss {latest["loss"]:.4f}, top-1 {ends or "not scored"}; {speed:.0f} images/s, {time_left} left'
