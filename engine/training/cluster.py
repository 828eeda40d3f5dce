"""Training on several machines, each of which runs the whole program on its own part of every batch.

They meet in TensorFlow's own collectives: sums over all workers, with a time limit, so that a worker that died or hangs
ends the others. Everything else is made of these sums: the mean of the gradients, the evidence of the quantizers, one
state for all (that of the first worker, which alone reads and writes checkpoints), checksums, waiting for each other.
The sums run on the CPU and over gRPC, which is neither encrypted nor protected: it belongs into a private network.
"""

import contextlib
import functools
import itertools
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tensorpack import Callback, StopTraining
from tensorpack.tfutils.common import get_default_sess_config
from tensorpack.tfutils.gradproc import GradientProcessor
from tensorpack.tfutils.sessinit import JustCurrentSession, SessionInit

from engine.config.config import Config
from engine.data.datasets import Dataset
from engine.errors import UsageError, WorkerError, reason
from engine.training.saving import one_step_left
from quant.backend import tf

# Seconds in which all workers have to be there: a scheduler may start them minutes apart.
START = 600.0

# Seconds of them after which this says for whom it waits.
PATIENCE = 5.0

# Seconds between two signs of life of a worker that keeps the others waiting.
PAUSE = 1.0

# Fields of Config that may differ between workers: where files and GPUs are.
LOCAL = ('gpu', 'data', 'skip_list', 'load')


class Machine:
    """One machine that trains alone.

    Attributes:
        index, size: number of this worker, and of all.
        failure: why the workers fell apart, None while all is well.
    """

    index, size = 0, 1
    failure: WorkerError | None = None

    @property
    def first(self) -> bool:
        """Whether this is the worker that evaluates and writes."""
        return self.index == 0

    @property
    def processors(self) -> list[GradientProcessor]:
        """What the gradients of this machine go through."""
        return []

    @property
    def callbacks(self) -> list[Callback]:
        """What training has to do besides, after what the first worker evaluates and writes."""
        return []

    def start(self, config: Config, dataset: Dataset, step: int) -> int:
        """Meets the other workers before anything is built. Returns the step of the first one.

        Raises:
            UsageError: the workers were started with different configurations or data.
            WorkerError: one is missing.
        """
        return step

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums of these tensors over all workers, in one exchange per type."""
        return list(tensors)

    def meeting(self) -> contextlib.AbstractContextManager:
        """A block at whose end all workers wait for each other, however long one of them needs."""
        return contextlib.nullcontext()

    def session(self, state: SessionInit | None) -> dict[str, Any]:
        """Arguments of tensorpack's TrainConfig: the session, and its variables from ``state``."""
        return {'session_init': state}


class Cluster(Machine):
    """This worker among others.

    Args:
        hosts: ``host:port`` of all workers, the same list on each.
        index: which of them this is.
        timeout: seconds after which a worker that does not answer is taken for dead.
    """

    def __init__(self, hosts: Sequence[str], index: int, timeout: float):
        self.hosts, self.index, self.size, self.timeout = tuple(hosts), index, len(hosts), timeout
        self._keys = itertools.count(1)
        self._rows: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}

    @functools.cached_property
    def _config(self) -> tf.ConfigProto:
        config = get_default_sess_config()
        config.experimental.collective_group_leader = '/job:worker/replica:0/task:0'
        config.device_filters.append(f'/job:worker/task:{self.index}')
        return config

    @functools.cached_property
    def _server(self) -> Any:
        try:
            return tf.train.Server(
                tf.train.ClusterSpec({'worker': self.hosts}),
                job_name='worker',
                task_index=self.index,
                config=self._config,
            )
        except tf.errors.OpError as error:
            raise UsageError(
                f'--workers {self.hosts[self.index]}: this port cannot be opened here; is it in use, or '
                f'--worker-index {self.index} wrong? ({error.message})'
            ) from error

    @functools.cached_property
    def _control(self) -> tf.Session:
        """A session beside that of the training, for what has to be settled outside of its steps."""
        return Session(self, self._server.target, tf.Graph())

    @property
    def processors(self) -> list[GradientProcessor]:
        return [MeanOverWorkers(self)]

    @property
    def callbacks(self) -> list[Callback]:
        return [StayTogether(self)]

    def start(self, config: Config, dataset: Dataset, step: int) -> int:
        self._server  # noqa: B018
        for index, host in enumerate(self.hosts):
            self._wait_for(index, host)
        fields = {name: value for name, value in config.to_json().items() if name not in LOCAL}
        fields |= {
            'gpu': len(config.gpu),
            'data': zlib.crc32(np.asarray(dataset.train.labels).tobytes()),
        }
        self.compare(
            {name: zlib.crc32(json.dumps(value).encode()) for name, value in fields.items()},
            lambda name, there: UsageError(
                f'--{name}: differs between worker 0 and worker {there}; start all '
                'workers with the same flags and data'
            ),
        )
        return int(self.gather([step])[0, 0])

    def _wait_for(self, index: int, host: str) -> None:
        name, _, port = host.rpartition(':')
        start, silent = time.monotonic(), True
        end = start + max(START, self.timeout)
        while True:
            try:
                socket.create_connection((name.strip('[]'), int(port)), timeout=PAUSE).close()
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise self.fail(
                        f'worker {index} did not come up at {host} within {max(START, self.timeout):g} '
                        f'seconds ({error})'
                    ) from error
                if silent and time.monotonic() > start + PATIENCE:
                    silent = False
                    print(f'waiting for worker {index} at {host} ({error})', flush=True)
            time.sleep(PAUSE / 4)

    def fail(self, why: str) -> WorkerError:
        """The error that ends this worker."""
        self.failure = Lost(f'worker {self.index}: {why}')
        return self.failure

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        sums: dict[int, tf.Tensor] = {}
        with tf.device('/cpu:0'):
            for dtype in dict.fromkeys(tensor.dtype.base_dtype for tensor in tensors):
                places = [i for i, tensor in enumerate(tensors) if tensor.dtype.base_dtype == dtype]
                flat = tf.concat([tf.reshape(tensors[i], [-1]) for i in places], 0)
                total = tf.raw_ops.CollectiveReduce(
                    input=flat,
                    group_size=self.size,
                    group_key=1,
                    instance_key=next(self._keys),
                    merge_op='Add',
                    final_op='Id',
                    subdiv_offsets=[0],
                    communication_hint='ring',
                    timeout_seconds=self.timeout,
                )
                parts = tf.split(total, [tensors[i].shape.num_elements() for i in places])
                sums |= {i: tf.reshape(part, tensors[i].shape) for i, part in zip(places, parts)}
        return [sums[i] for i in range(len(tensors))]

    def of_first(self, variables: Sequence[tf.Variable]) -> tf.Operation:
        """An op that gives these variables the values that they have on the first worker."""
        values = [variable.read_value() for variable in variables]
        new = self.sum(values if self.first else [tf.zeros_like(value) for value in values])
        return tf.group(*(variable.assign(value) for variable, value in zip(variables, new)))

    def gather(self, numbers: Sequence[int]) -> np.ndarray:
        """int64 [workers, N]: the N numbers that every worker gives."""
        if len(numbers) not in self._rows:
            with self._control.graph.as_default():
                row = tf.placeholder(tf.int64, [self.size, len(numbers)])
                self._rows[len(numbers)] = row, self.sum([row])[0]
        row, total = self._rows[len(numbers)]
        rows = np.zeros(row.shape, np.int64)
        rows[self.index] = numbers
        return self._control.run(total, {row: rows})

    def compare(self, checksums: dict[str, int], error: Callable[[str, int], Exception]) -> None:
        """Raises ``error(name, worker)``, on all workers, for the first checksum that is not that of worker 0."""
        rows = self.gather(list(checksums.values()))
        for worker, name in np.argwhere(rows != rows[0]).tolist():
            raise error(list(checksums)[name], worker)

    def meeting(self) -> contextlib.AbstractContextManager:
        return Meeting(self)

    def session(self, state: SessionInit | None) -> dict[str, Any]:
        meeting = Meeting(self)
        meeting.__enter__()
        return {
            'session_creator': SessionCreator(self),
            'session_init': StateOfFirst(self, state, meeting),
        }


@functools.cache
def join(peers: tuple[tuple[str, ...], int, float] | None) -> Machine:
    """What this process is among ``peers``, see ``Cluster``. A process can open its port only once."""
    return Cluster(*peers) if peers else Machine()


class Lost(WorkerError, StopTraining):
    """Ends tensorpack's loop without a traceback."""


class Session(tf.Session):
    """A session on the server of a cluster, that tells a lost worker from other errors.

    TensorFlow's MonitoredSession, through which tensorpack runs a step, takes such an error for one that passes, and
    tries again for ever.
    """

    def __init__(self, cluster: Cluster, target: str, graph: tf.Graph | None = None):
        super().__init__(target, graph=graph, config=cluster._config)
        self._cluster = cluster

    def run(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().run(*args, **kwargs)
        except tf.errors.OpError as error:
            gone = (
                tf.errors.DeadlineExceededError,
                tf.errors.UnavailableError,
                tf.errors.AbortedError,
            )
            if not isinstance(error, gone) and 'Collective' not in error.message:
                raise
            raise self._cluster.fail(
                f'another worker died, hangs or was too slow (--worker-timeout '
                f'{self._cluster.timeout:g}), or this one failed, see above: {reason(error)}'
            ) from error


class SessionCreator(tf.train.SessionCreator):
    """The session of the training, with variables at their initial values."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster

    def create_session(self) -> tf.Session:
        session = Session(self._cluster, self._cluster._server.target)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return session


class StateOfFirst(SessionInit):
    """All variables as the first worker has them, who alone needs the checkpoint: no folder has to be shared.

    Args:
        cluster: the workers.
        state: where the first one takes them from; None: they start afresh.
        meeting: that ends when all workers have built their graphs, which may take them different times.
    """

    def __init__(self, cluster: Cluster, state: SessionInit | None, meeting: 'Meeting'):
        self._cluster, self._meeting = cluster, meeting
        self._state = state if state and cluster.first else JustCurrentSession()

    def _setup_graph(self) -> None:
        self._state._setup_graph()
        self._spread = self._cluster.of_first(tf.global_variables())

    def _run_init(self, session: tf.Session) -> None:
        self._state._run_init(session)
        self._meeting.__exit__(None, None, None)
        session.run(self._spread)


class MeanOverWorkers(GradientProcessor):
    """Averages gradients over the workers, all of which have the same number of towers."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._means: list[tf.Tensor] | None = None

    def _process(
        self, grads: list[tuple[tf.Tensor, tf.Variable]]
    ) -> list[tuple[tf.Tensor, tf.Variable]]:
        # Replicated towers come one after the other, with the same gradients.
        if self._means is None:
            self._means = [
                total / self._cluster.size
                for total in self._cluster.sum([grad for grad, _ in grads])
            ]
        return [(mean, variable) for mean, (_, variable) in zip(self._means, grads)]


class Meeting:
    """A block at whose end all workers wait for each other. Inside, a thread tells the others that this one lives."""

    def __init__(self, cluster: Cluster):
        self._cluster, self._ready, self._over = cluster, threading.Event(), False
        self._thread = threading.Thread(target=self._attend, name='meeting', daemon=True)

    def _attend(self) -> None:
        with contextlib.suppress(WorkerError):
            while not self._over:
                self._ready.wait(PAUSE)
                self._over |= bool(self._cluster.gather([self._ready.is_set()]).all())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._over = True
            return
        self._ready.set()
        self._thread.join()
        if self._cluster.failure:
            raise self._cluster.failure


class StayTogether(Callback):
    """At the end of an epoch: moving averages as on the first worker, checksums, and waiting for its evaluation; before
    the last step, for its checkpoint.

    Every tower normalises by its own batch; what the main tower of the first worker saw is what is kept.
    """

    def __init__(self, cluster: Cluster):
        self._cluster, self._meeting = cluster, Meeting(cluster)

    def _setup_graph(self) -> None:
        moving = [
            variable for variable in tf.global_variables() if variable.op.name.endswith('/EMA')
        ]
        self._spread = self._cluster.of_first(moving) if moving else tf.no_op()

    def _before_train(self) -> None:
        self._variables = {variable.op.name: variable for variable in tf.global_variables()}

    def _after_run(self, *_: Any) -> None:
        if one_step_left(self):
            self._meet()

    def _trigger_step(self) -> None:
        if one_step_left(self):
            self._meeting.__exit__(None)

    def _after_epoch(self) -> None:
        self.trainer.sess.run(self._spread)
        self._cluster.compare(
            {
                name: zlib.crc32(value.tobytes())
                for name, value in self.trainer.sess.run(self._variables).items()
            },
            lambda name, there: self._cluster.fail(
                f'{name} differs between worker 0 and worker {there} at step '
                f'{self.global_step}; this epoch is not saved'
            ),
        )
        self._meet()

    def _meet(self) -> None:
        self._meeting = Meeting(self._cluster)
        self._meeting.__enter__()

    def _trigger_epoch(self) -> None:
        self._meeting.__exit__(None)

    def _after_train(self) -> None:
        self._meeting.__exit__(StopTraining)
