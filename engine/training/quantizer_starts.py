"""Starts of quantizers from a first batch, before the first step."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from tensorpack import Callback

from engine.errors import UsageError
from engine.graph.tower import Model
from quant.backend import tf
from quant.first_steps import OF_FIRST_BATCH
from quant.updates import starts


class StartQuantizers(Callback):
    """Starts every quantizer that asks for it from the values of the first batch that it codes.

    No weight changes meanwhile, and the first step gets the same batch again. Quantizers start one
    after the other, in the order of the layers, so that each sees what the started ones before it
    give; sizes, towers and workers count together. Nothing is built where no quantizer asks.

    Args:
        model: whose training towers are built.
        first_batch: makes the first batch of this worker.
        loaded: names of variables that were loaded, and are left as they are.

    Raises:
        UsageError: before training, where activations of the first batch are NaN or infinite.
    """

    def __init__(
        self,
        model: Model,
        first_batch: Callable[[], Sequence[np.ndarray]],
        loaded: Collection[str],
    ):
        self._model = model
        self._first_batch = first_batch
        self._loaded = loaded

    def _setup_graph(self) -> None:
        worker = self._model.worker
        towers = [blocks.quantization for blocks in self._model.towers]
        self._starts = starts(towers, add=worker.sum)
        if not self._starts:
            return
        # Only the first worker has read what was loaded.
        self._own = tf.placeholder(tf.float32, [len(self._starts)], 'starts_wanted')
        (self._wanted,) = worker.sum([self._own])
        follow = []
        for average, variable in self._model.net.teacher_pairs():
            if variable.op.name in self._starts:
                follow.append(average.assign(variable).op)
        self._follow = tf.group(*follow)

    def _before_train(self) -> None:
        if not self._starts:
            return
        own = np.zeros(len(self._starts), 'float32')
        if self._model.worker.first:
            own[:] = [name not in self._loaded for name in self._starts]
        session = self.trainer.sess
        wanted = session.run(self._wanted, {self._own: own})
        if not wanted.any():
            return
        feed = self._feed(self._first_batch())
        for name, is_wanted in zip(self._starts, wanted):
            if is_wanted:
                self._start(name, feed)
        session.run(self._follow)

    def _start(self, name: str, feed: Mapping[tf.Tensor, np.ndarray]) -> None:
        """Gives a variable its start.

        Raises:
            UsageError: what it codes is not finite.
            InvalidArgumentError: of any other cause.
        """
        try:
            self.trainer.sess.run(self._starts[name], feed)
        except tf.errors.InvalidArgumentError as error:
            if OF_FIRST_BATCH not in error.message:
                raise
            raise UsageError(
                f'{name}: cannot start, since of the {OF_FIRST_BATCH} one is NaN or infinite; '
                'look at the weights that --load gives'
            ) from error

    def _feed(self, batch: Sequence[np.ndarray]) -> dict[tf.Tensor, np.ndarray]:
        """The parts of a batch as the towers take them."""
        inputs = self._model.batches
        feed = {}
        for i, array in enumerate(batch):
            for tower, part in zip(inputs, np.split(array, len(inputs))):
                feed[tower[i]] = part
        return feed
