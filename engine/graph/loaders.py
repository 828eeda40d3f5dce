"""Feeds batches to the towers of a training."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
from tensorpack import DataFlow, ProxyDataFlow, QueueInput
from tensorpack.dataflow.base import DataFlowTerminated

from engine.config.config import Config
from engine.data import randaugment
from engine.data.augment import Extra
from engine.data.balance import SAMPLER
from engine.data.batches import TrainFlow
from engine.data.datasets import Dataset
from quant.backend import tf

# Batches that wait for a step.
QUEUED = 4


class KeepsError(ProxyDataFlow):
    """Passes the batches of a training through, and keeps the exception that stopped them.

    tensorpack says only that there are no more batches, and prints a traceback of its thread. What
    no step needs any more is not read: it could only fail.

    Args:
        flow: batches.
        count: how many are needed.
        ahead: how many more are fetched and come to no step, as tensorpack's trainers of several
            towers do; the last one is handed out again.

    Attributes:
        error: the exception, or None.
        waiting: whether a batch is being made just now.
    """

    error: BaseException | None = None
    waiting = False

    def __init__(self, flow: DataFlow, count: int, ahead: int = 0):
        super().__init__(flow)
        self._count = count
        self._ahead = ahead

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        try:
            with closing(iter(self.ds)) as batches:
                self.waiting = True
                for batch in islice(batches, self._count):
                    self.waiting = False
                    yield batch
                    self.waiting = True
                self.waiting = False
                for _ in range(self._ahead):
                    yield batch
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise DataFlowTerminated from error
        # tensorpack begins anew what just ends.
        raise DataFlowTerminated


class SharedBatches(QueueInput):
    """Takes one batch per step and gives every tower its part.

    A step does not depend on the order of threads.

    Args:
        flow: batches for all towers.
        towers: number of towers, which divides the batch size.
    """

    def __init__(self, flow: DataFlow, towers: int):
        super().__init__(flow)
        self._towers = towers
        self._parts: list[list[tf.Tensor]] = []

    def _setup(self, inputs: Sequence[tf.TensorSpec]) -> None:
        # The default of 50 batches takes gigabytes at 224 pixels.
        self.queue = tf.FIFOQueue(QUEUED, [spec.dtype for spec in inputs], name='input_queue')
        super()._setup(inputs)

    def _get_input_tensors(self) -> list[tf.Tensor]:
        if not self._parts:
            with tf.device('/cpu:0'):
                split = [tf.split(tensor, self._towers) for tensor in super()._get_input_tensors()]
            self._parts = [list(part) for part in zip(*split)]
        return self._parts.pop(0)


def train_flow(
    config: Config,
    dataset: Dataset,
    *,
    start_step: int,
    threads: int,
    part: int = 0,
    parts: int = 1,
) -> TrainFlow:
    """The training batches, or a part of each, as a model of this configuration takes them.

    Args:
        config: sizes, augmentation, seed and batch size.
        dataset: its training images.
        start_step: step whose batch is the first one.
        threads: that decode; 0 decodes in the caller.
        part: which part of every batch.
        parts: number of these.
    """
    augment = randaugment.parse(config.randaugment) if config.randaugment else None
    extra = Extra(augment, config.erasing) if augment or config.erasing else None
    return TrainFlow(
        dataset,
        config.preprocessing,
        batch_size=config.batch_size,
        extra=extra,
        seed=config.seed,
        balance=config.balance == SAMPLER,
        start_step=start_step,
        max_bad=config.max_bad,
        threads=threads,
        part=part,
        parts=parts,
    )
