"""How a training starts within an epoch, and how it ends before its time: a signal, or a loss that is no number."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tensorpack import (
    Callback,
    SimpleTrainer,
    StopTraining,
    SyncMultiGPUTrainerParameterServer,
    SyncMultiGPUTrainerReplicated,
)
from tensorpack.utils import logger

from engine.errors import Terminated
from engine.graph.tower import Model
from engine.training.cluster import Machine
from engine.training.saving import one_step_left
from quant.backend import tf

# Ends of the names of what the forward pass alone decides: still finite in front of the layer that went first.
STATISTICS = ('/mean/EMA', '/variance/EMA', '/basis')

NAMED = 3


class ExactLoop:
    """Mixin of trainers: the first epoch goes on at the step of the checkpoint. tensorpack's own starts it afresh."""

    def main_loop(self: Any, steps_per_epoch: int, starting_epoch: int, max_epoch: int) -> None:
        loop = self.loop
        with self.sess.as_default():
            loop.config(steps_per_epoch, starting_epoch, max_epoch)
            loop.update_global_step()
            try:
                self._callbacks.before_train()
                for loop._epoch_num in range(starting_epoch, max_epoch + 1):
                    self._run_epoch(loop, self._callbacks)
            except (StopTraining, tf.errors.OutOfRangeError) as error:
                logger.info(f'Training was stopped: {error}')
            finally:
                self._callbacks.after_train()
                self.hooked_sess.close()

    def _run_epoch(self: Any, loop: Any, callbacks: Any) -> None:
        started, steps = time.perf_counter(), loop.steps_per_epoch
        callbacks.before_epoch()
        remaining = range(loop.global_step % steps, steps)
        for loop._local_step in remaining:
            self.run_step()
            callbacks.trigger_step()
        callbacks.after_epoch()
        logger.info(
            f'Epoch {loop.epoch_num} (global_step {loop.global_step}) finished, '
            f'{time.perf_counter() - started:.1f} s'
        )
        callbacks.trigger_epoch()


class OneTower(ExactLoop, SimpleTrainer):
    """For one device."""


class ParameterServer(ExactLoop, SyncMultiGPUTrainerParameterServer):
    """For several devices that share variables on the CPU."""


class Replicated(ExactLoop, SyncMultiGPUTrainerReplicated):
    """For several devices with variables of their own."""


class StopOnSignal(Callback):
    """Ctrl-C and SIGTERM end the training when the step, or the evaluation and saving of an epoch, is done.

    A second Ctrl-C ends it at once. Of several machines all end after the same step, whichever got the signal.

    Args:
        machines: that train together.
        finish: called before that, in order, within an epoch; its end has a checkpoint anyhow.
    """

    def __init__(self, machines: Machine, *finish: Callable[[], None]):
        self._machines, self._finish = machines, finish
        self._received, self._anywhere = 0, False
        self._before: dict[int, Any] = {}

    def _setup_graph(self) -> None:
        self._flag = tf.placeholder_with_default(0.0, [])
        (self._flags,) = self._machines.sum([self._flag])

    def _before_train(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)

    def _after_train(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = self._received or number
        # print() must not be called while it may be interrupted by this very function.
        os.write(2, b'\nstopping after this step or evaluation; Ctrl-C stops at once\n')

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return tf.train.SessionRunArgs(self._flags, {self._flag: float(self._received > 0)})

    def _after_run(self, _: Any, values: tf.train.SessionRunValues) -> None:
        self._anywhere = values.results > 0

    def _trigger_step(self) -> None:
        if self._due and self.local_step < self.trainer.steps_per_epoch - 1:
            for call in self._finish:
                call()
            self.end()

    def _trigger_epoch(self) -> None:
        # What came during the evaluation must reach the others before a next epoch, or a next stage, begins.
        self._anywhere = (
            self.trainer.sess.run(self._flags, {self._flag: float(self._received > 0)}) > 0
        )

    def _before_epoch(self) -> None:
        self.end()

    @property
    def _due(self) -> bool:
        # What a machine among others got during a step, they hear of in the next one.
        return self._anywhere or self._received > 0 and self._machines.size == 1

    def end(self) -> None:
        """Raises what the signal stands for, if there was one."""
        if self._due:
            raise (KeyboardInterrupt if self._received == signal.SIGINT else Terminated)(
                self.global_step
            )


class StopAtNaN(Callback):
    """Ends the training when the loss is no number, or a variable that is going to be saved.

    Attributes:
        reason: why it ended, empty while all is well.
    """

    def __init__(self, model: Model):
        self._model, self.reason = model, ''

    def _setup_graph(self) -> None:
        towers = self._model.losses
        # Summed over the machines, too, so that all of them stop at the same step.
        sums = self._model.machines.sum(
            [tf.add_n([tower[name] for tower in towers]) for name in towers[0]]
        )
        self._fetches = tf.train.SessionRunArgs(dict(zip(towers[0], sums)))
        variables = [variable for variable in tf.global_variables() if variable.dtype.is_floating]
        self._names = [variable.op.name for variable in variables]
        self._finite = tf.stack(
            [tf.reduce_all(tf.math.is_finite(variable)) for variable in variables]
        )

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return self._fetches

    def _after_run(self, _: Any, values: tf.train.SessionRunValues) -> None:
        terms = [name for name, value in values.results.items() if not np.isfinite(value)]
        if terms:
            self._stop(f'the loss is {values.results["loss"]} ({", ".join(terms)} not finite)')

    def check(self) -> None:
        """Raises StopTraining if a variable is not finite."""
        if self._broken():
            self._stop('the loss was finite, but variables are not')

    def _trigger_step(self) -> None:
        if one_step_left(self):
            self.check()

    def _trigger_epoch(self) -> None:
        self.check()

    def _broken(self) -> list[str]:
        finite = self.trainer.sess.run(self._finite)
        return [name for name, fine in zip(self._names, finite) if not fine]

    def _stop(self, what: str) -> None:
        self.reason = (
            f'{what}; {first(self._broken())}. A smaller --lr than {self._model.config.lr:g} may help; '
            'earlier checkpoints are kept'
        )
        raise StopTraining(self.reason)


def first(broken: Sequence[str]) -> str:
    """Says where it began, by the names of the variables that are not finite, in the order of the forward pass.

    A loss that is no number makes all weights so within the same step, therefore statistics come first.
    """
    if not broken:
        return 'all variables are finite'
    statistics = [name for name in broken if name.endswith(STATISTICS)]
    names = statistics or broken
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    return (
        f'in the order of the layers, the first {"statistics" if statistics else "variables"} that are not finite: '
        f'{", ".join(names[:NAMED])}{more}' + ('' if statistics else '; all statistics are finite')
    )
