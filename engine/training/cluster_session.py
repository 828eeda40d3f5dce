"""Sessions of a group of workers, and the callback that keeps their variables together."""

import zlib
from typing import TYPE_CHECKING, Any

from tensorpack import Callback
from tensorpack.tfutils.sessinit import JustCurrentSession, SessionInit

from engine.errors import WorkerError, reason
from engine.training.saving import one_step_left
from quant.backend import tf
from quant.private_api import prepare_state, restore_state

if TYPE_CHECKING:
    from engine.training.cluster import Barrier, WorkerGroup

# How TensorFlow reports that a member of a collective is gone.
GONE = (
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
)


class WorkerSession(tf.Session):
    """A session on the server of a group, that tells a lost worker from other errors.

    TensorFlow's MonitoredSession, through which tensorpack runs a step, takes such an error for one
    that passes, and tries again for ever.
    """

    def __init__(self, group: 'WorkerGroup', graph: tf.Graph | None = None):
        super().__init__(group.server.target, graph=graph, config=group.session_config)
        self._group = group

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Runs as ``tf.Session.run``.

        Raises:
            WorkerError: another worker is gone.
            OpError: anything else went wrong.
        """
        try:
            return super().run(*args, **kwargs)
        except tf.errors.OpError as error:
            if isinstance(error, GONE) or 'Collective' in error.message:
                raise self._lost(error) from error
            raise

    def _lost(self, error: tf.errors.OpError) -> WorkerError:
        return self._group.fail(
            f'another worker died, hangs or was too slow (--worker-timeout '
            f'{self._group.timeout:g}), or this one failed, see above: {reason(error)}'
        )


class WorkerSessionCreator(tf.train.SessionCreator):
    """The session of the training, with variables at their initial values."""

    def __init__(self, group: 'WorkerGroup'):
        self._group = group

    def create_session(self) -> tf.Session:
        session = WorkerSession(self._group)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return session


class StateOfFirst(SessionInit):
    """All variables as the first worker has them, who alone needs the checkpoint.

    No folder has to be shared.

    Args:
        group: the workers.
        state: where the first one takes them from; None: they start afresh.
        built: the barrier at which all have built their graphs, which may take them different
            times.
    """

    def __init__(self, group: 'WorkerGroup', state: SessionInit | None, built: 'Barrier'):
        self._group = group
        self._built = built
        self._state = state if state and group.first else JustCurrentSession()

    def _setup_graph(self) -> None:
        prepare_state(self._state)
        self._broadcast = self._group.broadcast(tf.global_variables())

    def _run_init(self, session: tf.Session) -> None:
        restore_state(self._state, session)
        self._built.leave()
        session.run(self._broadcast)


class StayTogether(Callback):
    """Keeps the workers at one state, and waits for the first one.

    At the end of an epoch: moving averages as on the first worker, checksums, and waiting for its
    evaluation; before the last step, waiting for its checkpoint.

    Every tower normalises by its own batch; what the main tower of the first worker saw is what is
    kept.
    """

    def __init__(self, group: 'WorkerGroup'):
        self._group = group
        self._barrier = group.barrier()

    def _setup_graph(self) -> None:
        moving = [
            variable for variable in tf.global_variables() if variable.op.name.endswith('/EMA')
        ]
        self._broadcast = self._group.broadcast(moving) if moving else tf.no_op()

    def _before_train(self) -> None:
        self._variables = {variable.op.name: variable for variable in tf.global_variables()}

    def _after_run(self, *_: Any) -> None:
        if one_step_left(self):
            self._enter()

    def _trigger_step(self) -> None:
        if one_step_left(self):
            self._barrier.leave()

    def _after_epoch(self) -> None:
        self.trainer.sess.run(self._broadcast)
        values = self.trainer.sess.run(self._variables)
        checksums = {name: zlib.crc32(value.tobytes()) for name, value in values.items()}
        self._group.compare(checksums, self._apart)
        self._enter()

    def _apart(self, name: str, worker: int) -> WorkerError:
        return self._group.fail(
            f'{name} differs between worker 0 and worker {worker} at step {self.global_step}; '
            'this epoch is not saved'
        )

    def _enter(self) -> None:
        self._barrier = self._group.barrier()
        self._barrier.enter()

    def _trigger_epoch(self) -> None:
        self._barrier.leave()

    def _after_train(self) -> None:
        self._barrier.abandon()
