"""Batches for training and validation, as tensorpack data flows.

A batch is a list of images uint8 [B, size, size, 3] (BGR) for each size, and labels int32 [B]. What a batch holds
depends on the seed and on its number only, never on the number of threads nor on what was read before: a resumed run
sees exactly the images that the interrupted one would have seen.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TypeVar

import numpy as np
from tensorpack.dataflow import DataFlow

from engine.augment import eval_views, train_views
from engine.datasets import Dataset, Source
from engine.errors import UsageError

Argument = TypeVar('Argument')
Result = TypeVar('Result')
Batch = list[np.ndarray]

SPARE_BATCHES = 1  # decoded while all threads are busy with later ones, so that a slow batch does not starve the net


class TrainFlow(DataFlow):
    """Endless stream of augmented training batches.

    Batch k belongs to pass p = k // (N // B) over the N images. The order of a pass is a permutation drawn from
    (seed, p), its last N % B images are left out, and the views of an image are drawn from (seed, p, image).
    """

    def __init__(self, dataset: Dataset, *, batch_size: int, sizes: Sequence[int], antialias: bool = False, seed: int,
                 start_step: int = 0, workers: int) -> None:
        """Prepare; nothing is decoded before the first batch is asked for.

        Args:
            dataset: its training images are used.
            batch_size: images per batch, B.
            sizes: edges of the views, pixels; one, unless `antialias`.
            antialias: make all sizes here, as the published PyTorch code does.
            seed: not negative.
            start_step: number of the first batch, for a resumed run. Earlier batches are not decoded.
            workers: decoding threads; 0 decodes in the thread that iterates.

        Raises:
            UsageError: a number is out of range, there are several sizes without `antialias`, or a batch is larger
                than the training set.
        """
        _check_least('--batch_size', batch_size, 1)
        _check_sizes(sizes, antialias)
        _check_least('--seed', seed, 0)
        _check_least('start_step', start_step, 0)
        _check_least('--workers', workers, 0)
        if batch_size > len(dataset.train):
            raise UsageError(f'--batch_size {batch_size} is larger than the training set of {dataset.name}: '
                             f'give at most {len(dataset.train)}')
        self.dataset = dataset
        self.batch_size = batch_size
        self.sizes = tuple(sizes)
        self.antialias = antialias
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

        def views(image: np.ndarray, index: int) -> list[np.ndarray]:
            rng = np.random.default_rng([self.seed, number, index])
            return train_views(image, self.dataset.augment, self.sizes, rng, antialias=self.antialias)

        return _read_batch(self.dataset.train, indices, views)


class EvalFlow(DataFlow):
    """Every validation image once, in order; the last batch may be smaller."""

    def __init__(self, dataset: Dataset, *, batch_size: int, sizes: Sequence[int], antialias: bool = False,
                 workers: int) -> None:
        """Prepare; nothing is decoded before the first batch is asked for.

        Args:
            dataset: its validation images are used.
            batch_size: images per batch, B. May exceed the number of images.
            sizes: edges of the views, pixels; one, unless `antialias`.
            antialias: make all sizes here, as the published PyTorch code does.
            workers: decoding threads; 0 decodes in the thread that iterates.

        Raises:
            UsageError: a number is out of range, or there are several sizes without `antialias`.
        """
        _check_least('--batch_size', batch_size, 1)
        _check_sizes(sizes, antialias)
        _check_least('--workers', workers, 0)
        self.dataset = dataset
        self.batch_size = batch_size
        self.sizes = tuple(sizes)
        self.antialias = antialias
        self.workers = workers

    def __len__(self) -> int:
        """Batches in all, the smaller last one included."""
        return (len(self.dataset.val) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch once."""
        starts = range(0, len(self.dataset.val), self.batch_size)
        return ordered_map(self._read, starts, workers=self.workers)

    def _read(self, start: int) -> Batch:
        indices = np.arange(start, min(start + self.batch_size, len(self.dataset.val)))
        return _read_batch(self.dataset.val, indices, lambda image, _: eval_views(
            image, self.dataset.augment, self.sizes, antialias=self.antialias))


def ordered_map(function: Callable[[Argument], Result], arguments: Iterable[Argument], *,
                workers: int) -> Iterator[Result]:
    """`map` over threads: results in the order of the arguments, and only a few of them ahead of the reader.

    Threads are enough because OpenCV and Pillow work outside of the interpreter lock. They end when the iterator is
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


def _read_batch(source: Source, indices: np.ndarray,
                views: Callable[[np.ndarray, int], list[np.ndarray]]) -> Batch:
    """Images uint8 [B, size, size, 3] per size, labels int32 [B] of `indices`, int64 [B].

    `views` gets an image and its number.
    """
    images = [views(source.read(int(index)), int(index)) for index in indices]
    return [*(np.stack(size) for size in zip(*images)), source.labels[indices].astype(np.int32)]


def _check_sizes(sizes: Sequence[int], antialias: bool) -> None:
    """Raise UsageError unless every size is at least 1 and there is one, or with `antialias` any number."""
    if not sizes or len(sizes) > 1 and not antialias:
        raise UsageError(f'--sizes gives {len(sizes)} views, expected '
                         + ('at least 1' if antialias else '1 without --resize antialias'))
    _check_least('--sizes', min(sizes), 1)


def _check_least(flag: str, value: int, least: int) -> None:
    """Raise UsageError unless value >= least."""
    if value < least:
        raise UsageError(f'{flag} is {value}, expected at least {least}')
