"""How a training ends before its time: a signal, or a loss that is no number."""

import os
import signal
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from tensorpack import Callback, StopTraining

from engine.entry import stop
from engine.errors import Terminated
from engine.graph.tower import Model
from engine.graph.worker import SingleWorker
from engine.training.saving import one_step_left
from quant.backend import tf
from quant.state import Kind, declared

# So many variables are named.
NAMED = 3


class StopOnSignal(Callback):
    """Ends the training on Ctrl-C or SIGTERM when the step, or the end of an epoch, is done.

    The end of an epoch includes its evaluation and saving. A second Ctrl-C ends it at once. Of
    several workers all end after the same step, whichever got the signal.

    Args:
        worker: this process among those that train together.
        finish: called before that, in order, within an epoch; its end has a checkpoint anyhow.
    """

    def __init__(self, worker: SingleWorker, *finish: Callable[[], None]):
        self._worker = worker
        self._finish = finish
        self._received = 0
        self._anywhere = False
        self._before: dict[int, Any] = {}

    def _setup_graph(self) -> None:
        self._flag = tf.placeholder_with_default(0.0, [])
        (self._flags,) = self._worker.sum([self._flag])

    def _before_train(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)

    def _after_train(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self._received and number == signal.SIGINT:
            stop(number, frame)
        self._received = self._received or number
        # print() must not be called while it may be interrupted by this very function.
        os.write(2, b'\nstopping after this step or evaluation; Ctrl-C stops at once\n')

    @property
    def _feed(self) -> dict[tf.Tensor, float]:
        return {self._flag: float(self._received > 0)}

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return tf.train.SessionRunArgs(self._flags, self._feed)

    def _after_run(self, _: Any, values: tf.train.SessionRunValues) -> None:
        self._anywhere = values.results > 0

    def _trigger_step(self) -> None:
        if self._due and self.local_step < self.trainer.steps_per_epoch - 1:
            for call in self._finish:
                call()
            self.end()

    def _trigger_epoch(self) -> None:
        # What came during the evaluation must reach the others before a next epoch, or a next
        # stage, begins.
        self._anywhere = self.trainer.sess.run(self._flags, self._feed) > 0

    def _before_epoch(self) -> None:
        self.end()

    @property
    def _due(self) -> bool:
        # What a worker among others got during a step, they hear of in the next one.
        alone = self._worker.size == 1
        return self._anywhere or (alone and self._received > 0)

    def end(self) -> None:
        """Ends the training if there was a signal.

        Raises:
            KeyboardInterrupt: on SIGINT, with the step.
            Terminated: on SIGTERM, or a signal that another worker got.
        """
        if not self._due:
            return
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt(self.global_step)
        raise Terminated(self.global_step)


class StopAtNaN(Callback):
    """Ends the training when the loss is no number, or a variable that is going to be saved.

    Attributes:
        reason: why it ended, empty while all is well.
    """

    def __init__(self, model: Model):
        self._model = model
        self.reason = ''

    def _setup_graph(self) -> None:
        towers = self._model.losses
        terms = list(towers[0])
        of_towers = [tf.add_n([tower[term] for tower in towers]) for term in terms]
        # Summed over the workers, too, so that all of them stop at the same step.
        sums = self._model.worker.sum(of_towers)
        self._fetches = tf.train.SessionRunArgs(dict(zip(terms, sums)))
        variables = [variable for variable in tf.global_variables() if variable.dtype.is_floating]
        self._names = [variable.op.name for variable in variables]
        # What the forward pass alone decides is still finite before the layer that went first.
        trained = {variable.op.name for variable in tf.trainable_variables()}
        self._statistics = {
            name
            for name, state in declared().items()
            if state.kind in (Kind.MOVING, Kind.QUANTIZER) and name not in trained
        }
        finite = [tf.reduce_all(tf.math.is_finite(variable)) for variable in variables]
        self._finite = tf.stack(finite)

    def _before_run(self, _: Any) -> tf.train.SessionRunArgs:
        return self._fetches

    def _after_run(self, _: Any, values: tf.train.SessionRunValues) -> None:
        terms = [name for name, value in values.results.items() if not np.isfinite(value)]
        if terms:
            self._stop(f'the loss is {values.results["loss"]} ({", ".join(terms)} not finite)')

    def check(self) -> None:
        """Looks at all variables.

        Raises:
            StopTraining: one is not finite.
        """
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
        lr = self._model.config.lr
        began = first(self._broken(), self._statistics)
        self.reason = (
            f'{what}; {began}. A smaller --lr than {lr:g} may help; earlier checkpoints are kept'
        )
        raise StopTraining(self.reason)


def first(broken: Sequence[str], statistics: Collection[str]) -> str:
    """Says where a training began to compute what is no number.

    Such a loss makes all weights so within the same step; therefore statistics come first.

    Args:
        broken: names of the variables that are not finite, in the order of the forward pass.
        statistics: names of those variables that the forward pass alone decides.
    """
    if not broken:
        return 'all variables are finite'
    early = [name for name in broken if name in statistics]
    kind = 'statistics' if early else 'variables'
    names = early or broken
    text = (
        'in the order of the layers, the first '
        f'{kind} that are not finite: {", ".join(names[:NAMED])}'
    )
    if len(names) > NAMED:
        text += f' and {len(names) - NAMED} more'
    if not early:
        text += '; all statistics are finite'
    return text
