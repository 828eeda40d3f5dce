"""Batches for training and validation, as tensorpack data flows.

A batch is a list of images uint8 [B, size, size, 3] (BGR) and labels int32 [B]. What a batch holds depends on the seed
and on its number only, never on the number of threads nor on what was read before: a resumed run sees exactly the
images that the interrupted one would have seen.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TypeVar

import numpy as np
from tensorpack.dataflow import DataFlow

from engine.augment import eval_view, train_view
from engine.datasets import Dataset, Source
from engine.errors import UsageError

Argument = TypeVar('Argument')
Result = TypeVar('Result')
Batch = list[np.ndarray]

SPARE_BATCHES = 1  # decoded while all threads are busy with later ones, so that a slow batch does not starve the net


class TrainFlow(DataFlow):
    """Endless stream of augmented training batches.

    Batch k belongs to pass p = k // (N // B) over the N images. The order of a pass is a permutation drawn from
    (seed, p), its last N % B images are left out, and the view of an image is drawn from (seed, p, image).
    """

    def __init__(self, dataset: Dataset, *, batch_size: int, size: int, seed: int, start_step: int = 0,
                 workers: int) -> None:
        """Prepare; nothing is decoded before the first batch is asked for.

        Args:
            dataset: its training images are used.
            batch_size: images per batch, B.
            size: edge of the views, pixels.
            seed: not negative.
            start_step: number of the first batch, for a resumed run. Earlier batches are not decoded.
            workers: decoding threads; 0 decodes in the thread that iterates.

        Raises:
            UsageError: a number is out of range, or a batch is larger than the training set.
        """
        _check_least('--batch_size', batch_size, 1)
        _check_least('--size', size, 1)
        _check_least('--seed', seed, 0)
        _check_least('start_step', start_step, 0)
        _check_least('--workers', workers, 0)
        if batch_size > len(dataset.train):
            raise UsageError(f'--batch_size {batch_size} is larger than the training set of {dataset.name}: '
                             f'give at most {len(dataset.train)}')
        self.dataset = dataset
        self.batch_size = batch_size
        self.size = size
        self.seed = seed
        self.start_step = start_step
        self.workers = workers

    def __len__(self) -> int:
        """Batches in one pass."""
        return len(self.dataset.train) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield batch start_step, start_step + 1, ... without end."""
        return ordered_map(self._read, self._plan(), workers=self.workers)

    def _plan(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the pass and the image numbers, int64 [B], of each batch."""
        first_pass, first_batch = divmod(self.start_step, len(self))
        for number in count(first_pass):
            order = np.random.default_rng([self.seed, number]).permutation(len(self.dataset.train))
            for batch in range(first_batch, len(self)):
                yield number, order[batch * self.batch_size:(batch + 1) * self.batch_size]
            first_batch = 0

    def _read(self, planned: tuple[int, np.ndarray]) -> Batch:
        number, indices = planned

        def view(image: np.ndarray, index: int) -> np.ndarray:
            rng = np.random.default_rng([self.seed, number, index])
            return train_view(image, self.dataset.augment, self.size, rng)

        return _read_batch(self.dataset.train, indices, view)


class EvalFlow(DataFlow):
    """Every validation image once, in order; the last batch may be smaller."""

    def __init__(self, dataset: Dataset, *, batch_size: int, size: int, workers: int,
                 limit: int | None = None) -> None:
        """Prepare; nothing is decoded before the first batch is asked for.

        Args:
            dataset: its validation images are used.
            batch_size: images per batch, B. May exceed the number of images.
            size: edge of the views, pixels.
            workers: decoding threads; 0 decodes in the thread that iterates.
            limit: stop after this many images; None takes all.

        Raises:
            UsageError: a number is out of range.
        """
        _check_least('--batch_size', batch_size, 1)
        _check_least('--size', size, 1)
        _check_least('--workers', workers, 0)
        if limit is not None:
            _check_least('limit', limit, 1)
        self.dataset = dataset
        self.batch_size = batch_size
        self.size = size
        self.workers = workers
        self.images = len(dataset.val) if limit is None else min(limit, len(dataset.val))

    def __len__(self) -> int:
        """Batches in all, the smaller last one included."""
        return (self.images + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch once."""
        starts = range(0, self.images, self.batch_size)
        return ordered_map(self._read, starts, workers=self.workers)

    def _read(self, start: int) -> Batch:
        indices = np.arange(start, min(start + self.batch_size, self.images))
        return _read_batch(self.dataset.val, indices,
                           lambda image, _: eval_view(image, self.dataset.augment, self.size))


def ordered_map(function: Callable[[Argument], Result], arguments: Iterable[Argument], *,
                workers: int) -> Iterator[Result]:
    """`map` over threads: results in the order of the arguments, and only a few of them ahead of the reader.

    Threads are enough because OpenCV decodes and scales outside of the interpreter lock. They end when the iterator is
    exhausted, closed or collected.

    Args:
        function: called from the threads, so it must not change shared state.
        arguments: may be endless; read only as far as results are needed.
        workers: threads; 0 calls in the thread that iterates.

    Yields:
        function(argument). An exception in a call is raised in its place.
    """
    if workers == 0:
        yield from map(function, arguments)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix='decode')
    pending: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            pending.append(pool.submit(function, argument))
            if len(pending) > workers + SPARE_BATCHES:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_batch(source: Source, indices: np.ndarray, view: Callable[[np.ndarray, int], np.ndarray]) -> Batch:
    """Images uint8 [B, size, size, 3] and labels int32 [B] of `indices`, int64 [B]; `view` gets image and number."""
    images = [view(source.read(int(index)), int(index)) for index in indices]
    return [np.stack(images), source.labels[indices].astype(np.int32)]


def _check_least(flag: str, value: int, least: int) -> None:
    """Raise UsageError unless value >= least."""
    if value < least:
        raise UsageError(f'{flag} is {value}, expected at least {least}')
