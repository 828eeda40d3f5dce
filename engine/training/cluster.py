"""Training on several machines, each of which runs the program on its own part of every batch.

They meet in TensorFlow's own collectives: sums over all workers, with a time limit, so that a
worker that died or hangs ends the others. Everything else is made of these sums: the mean of the
gradients, the statistics of the quantizers, one state for all (that of the first worker, which
alone reads and writes checkpoints), checksums, barriers. The sums run on the CPU and over gRPC,
which is neither encrypted nor protected: it belongs into a private network.
"""

import contextlib
import functools
import io
import itertools
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorpack import Callback, StopTraining
from tensorpack.tfutils.sessinit import SessionInit

from engine.config.config import Config
from engine.data.datasets import Dataset
from engine.errors import UsageError, WorkerError
from engine.graph import sessions
from engine.graph.worker import SingleWorker
from engine.training.cluster_session import (
    StateOfFirst,
    StayTogether,
    WorkerSession,
    WorkerSessionCreator,
)
from quant.backend import tf

# Seconds in which all workers have to be there: a scheduler may start them minutes apart.
START = 600.0

# Seconds of them after which this says for whom it waits.
PATIENCE = 5.0

# Seconds between two signs of life of a worker that keeps the others waiting.
PAUSE = 1.0

# Fields of Config that may differ between workers: where files are, GPUs, cores.
LOCAL = ('gpu', 'operation_threads', 'data', 'skip_list', 'load', 'teacher')

# What the first worker settles for all: whether each has built the operations may differ.
OF_FIRST = ('native',)


class Lost(WorkerError, StopTraining):
    """Ends tensorpack's loop without a traceback."""


class WorkerGroup(SingleWorker):
    """This worker among others.

    Args:
        hosts: ``host:port`` of all workers, the same list on each.
        index: which of them this is.
        timeout: seconds after which a worker that does not answer is taken for dead.
    """

    def __init__(self, hosts: Sequence[str], index: int, timeout: float):
        self.hosts = tuple(hosts)
        self.index = index
        self.size = len(hosts)
        self.timeout = timeout
        self.session_config = tf.ConfigProto()
        self._keys = itertools.count(1)
        self._gathering: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}

    def _session_config(self, config: Config) -> tf.ConfigProto:
        """Configuration of the sessions on this worker's server.

        They share its threads: that of the steps, and that of barriers.

        Args:
            config: of the run.
        """
        made = sessions.session_config(config, len(config.gpu) + 1)
        made.use_per_session_threads = False
        made.experimental.collective_group_leader = '/job:worker/replica:0/task:0'
        made.device_filters.append(f'/job:worker/task:{self.index}')
        return made

    @functools.cached_property
    def server(self) -> tf.train.Server:
        """The server through which this worker meets the others.

        A process can open its port only once.

        Raises:
            UsageError: the port cannot be opened.
        """
        try:
            return tf.train.Server(
                tf.train.ClusterSpec({'worker': self.hosts}),
                job_name='worker',
                task_index=self.index,
                config=self.session_config,
            )
        except tf.errors.OpError as error:
            raise UsageError(
                f'--workers {self.hosts[self.index]}: this port cannot be opened here; is it in '
                f'use, or --worker-index {self.index} wrong? ({error.message})'
            ) from error

    @functools.cached_property
    def _control(self) -> WorkerSession:
        """A session beside that of the training, for what is settled outside of its steps."""
        return WorkerSession(self, tf.Graph())

    @property
    def callbacks(self) -> list[Callback]:
        return [StayTogether(self)]

    def start(
        self, config: Config, dataset: Dataset, step: int, contents: Mapping[str, str]
    ) -> int:
        """See ``SingleWorker.start``.

        Args:
            config: the configuration that this worker was started with.
            dataset: its data.
            step: global step that it would go on from.
            contents: digests of what it has read, by flag.
        """
        self.session_config = self._session_config(config)
        self.server  # noqa: B018
        for index, host in enumerate(self.hosts):
            self._wait_for(index, host)
        self._compare_runs(config, dataset, contents)
        rows = self.gather([step])
        return int(rows[0, 0])

    def agree(self, config: Config) -> Config:
        text = json.dumps(config.to_json()).encode() if self.first else b''
        of_first = self.share(text)[0]
        if self.first:
            return config
        local = {name: getattr(config, name) for name in LOCAL}
        agreed = Config.from_json(json.loads(of_first), f'worker {self.index}')
        return agreed.replacing(**local)

    def _compare_runs(self, config: Config, dataset: Dataset, contents: Mapping[str, str]) -> None:
        fields = config.flat()
        for name in (*LOCAL, *OF_FIRST):
            del fields[name]
        fields['gpu'] = len(config.gpu)
        fields['data'] = zlib.crc32(np.asarray(dataset.train.labels).tobytes())
        fields.update(contents)
        checksums = {name: zlib.crc32(repr(value).encode()) for name, value in fields.items()}

        def error(name: str, worker: int) -> UsageError:
            return UsageError(
                f'--{name}: differs between worker 0 and worker {worker}; start all workers with '
                'the same flags and data'
            )

        self.compare(checksums, error)

    def _wait_for(self, index: int, host: str) -> None:
        """Waits until the port of a worker is open."""
        name, _, port = host.rpartition(':')
        address = name.strip('[]'), int(port)
        limit = max(START, self.timeout)
        started = time.monotonic()
        announced = False
        while True:
            try:
                socket.create_connection(address, timeout=PAUSE).close()
                return
            except OSError as error:
                waited = time.monotonic() - started
                if waited > limit:
                    raise self.fail(
                        f'worker {index} did not come up at {host} within {limit:g} s ({error})'
                    ) from error
                if waited > PATIENCE and not announced:
                    announced = True
                    print(f'waiting for worker {index} at {host} ({error})', flush=True)
            time.sleep(PAUSE / 4)

    def fail(self, why: str) -> WorkerError:
        """The error that ends this worker, which remembers it."""
        self.failure = Lost(f'worker {self.index}: {why}')
        return self.failure

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        sums: dict[int, tf.Tensor] = {}
        dtypes = dict.fromkeys(tensor.dtype.base_dtype for tensor in tensors)
        with tf.device('/cpu:0'):
            for dtype in dtypes:
                same = {i: t for i, t in enumerate(tensors) if t.dtype.base_dtype == dtype}
                total = self._reduce(tf.concat([tf.reshape(t, [-1]) for t in same.values()], 0))
                parts = tf.split(total, [t.shape.num_elements() for t in same.values()])
                for (i, tensor), part in zip(same.items(), parts):
                    sums[i] = tf.reshape(part, tensor.shape)
        return [sums[i] for i in range(len(tensors))]

    def _reduce(self, flat: tf.Tensor) -> tf.Tensor:
        """The sum of [N] tensors over all workers."""
        return tf.raw_ops.CollectiveReduce(
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

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [total / self.size for total in self.sum(tensors)]

    def broadcast(self, variables: Sequence[tf.Variable]) -> tf.Operation:
        """An op that gives these variables the values that they have on the first worker."""
        values = [variable.read_value() for variable in variables]
        if not self.first:
            values = [tf.zeros_like(value) for value in values]
        assigned = []
        for variable, value in zip(variables, self.sum(values)):
            assigned.append(variable.assign(value))
        return tf.group(*assigned)

    def gather(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """int64 [workers, N]: the N numbers that every worker gives."""
        if len(numbers) not in self._gathering:
            with self._control.graph.as_default():
                table = tf.placeholder(tf.int64, [self.size, len(numbers)])
                (total,) = self.sum([table])
            self._gathering[len(numbers)] = table, total
        table, total = self._gathering[len(numbers)]
        own = np.zeros(table.shape, np.int64)  # [workers, N]
        own[self.index] = numbers
        return self._control.run(total, {table: own})

    def share(self, content: bytes) -> list[bytes]:
        """The contents that the workers give, in their order."""
        lengths = self.gather([len(content)])[:, 0]
        words = max(1, -(-int(lengths.max()) // 8))
        padded = content.ljust(8 * words, b'\0')
        rows = self.gather(np.frombuffer(padded, np.int64))  # [workers, words]
        return [row.tobytes()[:length] for row, length in zip(rows, lengths)]

    def collect(self, results: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """See ``SingleWorker.collect``."""
        arrays: dict[str, Any] = {}
        for number, row in enumerate(results):
            for column, array in enumerate(row):
                arrays[f'{number}-{column}'] = array
        own = io.BytesIO()
        np.savez(own, **arrays)
        collected: list[list[np.ndarray]] = []
        for content in self.share(own.getvalue()):
            rows: dict[str, list[np.ndarray]] = {}
            with np.load(io.BytesIO(content)) as found:
                for name in found.files:
                    number, _, _ = name.partition('-')
                    rows.setdefault(number, []).append(found[name])
            collected += rows.values()
        return collected

    def compare(self, checksums: dict[str, int], error: Callable[[str, int], Exception]) -> None:
        """Compares checksums by name with those of worker 0.

        Args:
            checksums: of this worker, with the same names on all.
            error: makes the exception from the name and the worker of the first one that differs.

        Raises:
            Exception: ``error(name, worker)``, on all workers.
        """
        names = list(checksums)
        rows = self.gather(list(checksums.values()))  # [workers, names]
        different = np.argwhere(rows != rows[0])
        for worker, column in different.tolist():
            raise error(names[column], worker)

    def barrier(self) -> 'Barrier':
        return Barrier(self)

    def session(self, state: SessionInit | None, config: Config) -> dict[str, Any]:
        self.session_config = self._session_config(config)
        built = self.barrier()
        built.enter()
        return {
            'session_creator': WorkerSessionCreator(self),
            'session_init': StateOfFirst(self, state, built),
        }


@functools.cache
def join(peers: tuple[tuple[str, ...], int, float] | None) -> SingleWorker:
    """This process among ``peers`` (arguments of ``WorkerGroup``), or alone.

    It can open its port only once.
    """
    return WorkerGroup(*peers) if peers else SingleWorker()


class Barrier:
    """A block at whose end all workers wait for each other.

    Inside, a thread tells the others that this one lives.
    """

    def __init__(self, group: WorkerGroup):
        self._group = group
        self._ready = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._attend, name='barrier', daemon=True)

    def _attend(self) -> None:
        with contextlib.suppress(WorkerError):
            while not self._over:
                self._ready.wait(PAUSE)
                ready = self._group.gather([self._ready.is_set()])  # [workers, 1]
                self._over = self._over or bool(ready.all())

    def enter(self) -> None:
        """Begins the block."""
        self._thread.start()

    def leave(self) -> None:
        """Waits until all workers are here.

        Raises:
            WorkerError: one of them is gone.
        """
        self._ready.set()
        self._thread.join()
        if self._group.failure:
            raise self._group.failure

    def abandon(self) -> None:
        """Stops waiting: this worker has failed."""
        self._over = True

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.leave()
        else:
            self.abandon()
