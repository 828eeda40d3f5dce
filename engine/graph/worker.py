"""The process that trains, as graphs and callbacks see it: alone.

``engine.training.cluster`` has the process that is one of several.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorpack import Callback
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.sessinit import SessionInit

from engine.errors import WorkerError
from engine.graph import sessions
from quant.backend import tf

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.data.datasets import Dataset


class SingleWorker:
    """A process that trains alone; also the questions that every worker of a group answers.

    Attributes:
        index: number of this worker.
        size: number of all workers.
        failure: why the workers fell apart, None while all is well.
    """

    index = 0
    size = 1
    failure: WorkerError | None = None

    @property
    def first(self) -> bool:
        """Whether this is the worker that evaluates and writes."""
        return self.index == 0

    @property
    def callbacks(self) -> list[Callback]:
        """Callbacks that keep the workers together, to run after those that evaluate and write."""
        return []

    def start(
        self, config: 'Config', dataset: 'Dataset', step: int, contents: Mapping[str, str]
    ) -> int:
        """Meets the other workers before anything is built.

        Args:
            config: the configuration that this worker was started with.
            dataset: its data.
            step: global step that it would go on from.
            contents: digests of what it has read, by flag.

        Returns:
            The step of the first worker, from which all go on.

        Raises:
            UsageError: the workers were started with different configurations or data.
            WorkerError: one is missing.
        """
        return step

    def agree(self, config: 'Config') -> 'Config':
        """The configuration of the first worker, who alone knows what its folder recorded.

        Args:
            config: of this worker, whose files and devices stay its own.
        """
        return config

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums of these tensors over all workers, in one exchange per type."""
        return list(tensors)

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Means of these tensors over all workers, see ``sum``."""
        return list(tensors)

    def collect(self, results: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """Rows of arrays of all workers, those of the first one first.

        Args:
            results: rows of this worker; all rows have as many arrays.
        """
        return [list(row) for row in results]

    def barrier(self) -> contextlib.AbstractContextManager:
        """A block at whose end all workers wait for each other, however long one of them needs."""
        return contextlib.nullcontext()

    def session(self, state: SessionInit | None, config: 'Config') -> dict[str, Any]:
        """Arguments of tensorpack's TrainConfig: the session, and its variables from ``state``.

        Args:
            state: where variables start.
            config: of the run.
        """
        creator = NewSessionCreator()
        creator.config = sessions.session_config(config, len(config.gpu))
        return {'session_creator': creator, 'session_init': state}
