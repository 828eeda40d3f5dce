"""tensorpack's trainers, so that a training can begin within an epoch."""

import time
from typing import Any

from tensorpack import (
    SimpleTrainer,
    StopTraining,
    SyncMultiGPUTrainerParameterServer,
    SyncMultiGPUTrainerReplicated,
)
from tensorpack.utils import logger

from engine.config.config import Config
from quant.backend import tf
from quant.private_api import callbacks_of, count_epochs, count_steps


class ExactLoop:
    """Mixin of trainers: the first epoch goes on at the step of the checkpoint.

    tensorpack's own loop starts it afresh.
    """

    def main_loop(self: Any, steps_per_epoch: int, starting_epoch: int, max_epoch: int) -> None:
        """Runs epochs, as ``Trainer.main_loop``.

        Args:
            steps_per_epoch: of a whole epoch.
            starting_epoch: number of the first one, from 1 on.
            max_epoch: number of the last one.
        """
        loop = self.loop
        callbacks = callbacks_of(self)
        with self.sess.as_default():
            loop.config(steps_per_epoch, starting_epoch, max_epoch)
            loop.update_global_step()
            try:
                callbacks.before_train()
                for _ in count_epochs(loop, range(starting_epoch, max_epoch + 1)):
                    self._run_epoch(loop, callbacks)
            except StopTraining as error:
                logger.info(f'Training was stopped: {error}')
            except tf.errors.OutOfRangeError:
                logger.info('Training was stopped: there are no more batches')
            finally:
                callbacks.after_train()
                self.hooked_sess.close()

    def _run_epoch(self: Any, loop: Any, callbacks: Any) -> None:
        started = time.perf_counter()
        steps = loop.steps_per_epoch
        callbacks.before_epoch()
        for _ in count_steps(loop, range(loop.global_step % steps, steps)):
            self.run_step()
            callbacks.trigger_step()
        callbacks.after_epoch()
        seconds = time.perf_counter() - started
        logger.info(
            f'Epoch {loop.epoch_num} (global_step {loop.global_step}) finished, {seconds:.1f} s'
        )
        callbacks.trigger_epoch()


class OneTower(ExactLoop, SimpleTrainer):
    """For one device."""


class ParameterServer(ExactLoop, SyncMultiGPUTrainerParameterServer):
    """For several devices that share variables on the CPU."""


class Replicated(ExactLoop, SyncMultiGPUTrainerReplicated):
    """For several devices with variables of their own."""


def make_trainer(config: Config) -> Any:
    """The trainer for the towers of ``config``."""
    towers = list(range(len(config.gpu)))
    if len(towers) == 1:
        return OneTower()
    if config.trainer == 'parameter-server':
        return ParameterServer(towers, ps_device='cpu')
    return Replicated(towers)
