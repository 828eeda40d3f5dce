"""Batches for training and validation, as tensorpack data flows.

A batch is a list of images uint8 [B, size, size, 3] (BGR) for each size, and labels int32 [B]. Its
content depends on the seed and on its number only, never on the number of threads nor on what was
read before: a resumed run sees exactly the images that the interrupted one would have seen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, count, islice
from typing import NamedTuple, TypeVar

import numpy as np
from tensorpack.dataflow import DataFlow
from tensorpack.utils import logger

from engine.data.augment import Extra
from engine.data.balance import balanced
from engine.data.ordered import ordered_map
from engine.data.preprocessing import Preprocessing
from engine.data.sources import BadImage, Source
from engine.data.spec import Dataset
from engine.errors import UsageError

Argument = TypeVar('Argument')
Batch = list[np.ndarray]

# Replacements of one image: so many bad ones in a row mean that there is nothing to train on.
TRIES = 20
SHOWN = 20  # bad images in a message


class Sample(NamedTuple):
    """One image of a batch.

    Attributes:
        views: uint8 [size, size, 3] for each size.
        label: class index.
        number: pass that it belongs to.
        bad: files that stood here but cannot be decoded.
    """

    views: list[np.ndarray]
    label: int
    number: int = 0
    bad: tuple[BadImage, ...] = ()


class Planned(NamedTuple):
    """An image that a training batch shall hold.

    Attributes:
        number: of the pass.
        place: in the source.
        again: how often it was in this pass before.
    """

    number: int
    place: int
    again: int = 0

    @property
    def key(self) -> tuple[int, ...]:
        """Numbers that its views are drawn from, beside the seed."""
        first = (self.number, self.place)
        return (*first, 0, self.again) if self.again else first


class Decoded(NamedTuple):
    """An image that could be decoded, its place, and the errors of those that it replaces."""

    image: np.ndarray
    place: int
    bad: tuple[BadImage, ...]


class TrainFlow(DataFlow):
    """Endless stream of augmented training batches.

    Batch k belongs to pass p = k // (N // B) over the N images. The order of a pass is a
    permutation drawn from (seed, p), its last N % B images are left out, and the views of an image
    are drawn from (seed, p, image).

    With `balance` a pass has as many images, drawn alike from every class; the views of an image
    that is there again are drawn from (seed, p, image, 0, times).

    An image that cannot be decoded is named in the log once and its place taken by another one,
    drawn from (seed, p, image, 1), and if need be (seed, p, image, 2) and so on.

    Several workers train on one stream, of which each decodes its own part of every batch.

    Attributes:
        bad: message of every image that could not be decoded so far, by its name.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        extra: Extra | None = None,
        seed: int,
        balance: bool = False,
        start_step: int = 0,
        max_bad: float = 0.001,
        threads: int,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        """Prepare; nothing is decoded before the first batch is asked for.

        Args:
            dataset: its training images are used.
            preprocessing: makes the views.
            batch_size: images per batch, B.
            extra: further augmentation.
            seed: not negative.
            balance: whether all classes are drawn alike.
            start_step: number of the first batch, for a resumed run. Earlier batches are not
                decoded.
            max_bad: largest share of the images of a pass that may be undecodable; counted from
                where a run resumes.
            threads: decoding threads; 0 decodes in the thread that iterates.
            part: which of the equal parts of each batch is made.
            parts: number of equal parts.

        Raises:
            UsageError: a number is out of range, or a batch is larger than the training set, or
                cannot be divided.
        """
        _check_least('--batch_size', batch_size, 1)
        _check_least('--seed', seed, 0)
        _check_least('start_step', start_step, 0)
        _check_least('--max_bad', max_bad, 0)
        _check_least('--threads', threads, 0)
        images = len(dataset.train)
        if batch_size > images:
            raise UsageError(
                f'--batch_size {batch_size} is larger than the training set of {dataset.name}: '
                f'give at most {images}'
            )
        if batch_size % parts:
            raise UsageError(f'--batch_size {batch_size}: not divisible by {parts}')
        self.source = dataset.train
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.extra = extra
        self.seed = seed
        self.balance = balance
        self.start_step = start_step
        self.max_bad = max_bad
        self.threads = threads
        self.part = part
        self.parts = parts
        self.bad: dict[str, str] = {}

    def __len__(self) -> int:
        """Batches in one pass."""
        return len(self.source) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Yield batch start_step, start_step + 1, ... without end.

        Raises:
            UsageError: more than `max_bad` images of a pass cannot be decoded, or images are no
                pixels from 0 to 255.
        """
        found: set[str] = set()  # bad images of the current pass
        number = -1
        first = True
        size = self.batch_size // self.parts
        for samples in _batches(self._read, self._plan(), batch_size=size, threads=self.threads):
            if samples[0].number != number:
                number = samples[0].number
                found = set()
            for sample in samples:
                found.update(map(str, sample.bad))
            self._check_bad(found)
            self._note(samples)
            batch = _stack(samples)
            if first:
                _check_light(batch[:-1])
            first = False
            yield batch

    def _note(self, samples: Sequence[Sample]) -> None:
        """Names every bad image once in the log."""
        for sample in samples:
            for error in sample.bad:
                message = str(error)
                name = error.name or message
                if name not in self.bad:
                    logger.warning('%s; another image takes its place', message)
                    self.bad[name] = message

    def _check_bad(self, found: set[str]) -> None:
        """Checks the number of messages about bad images in one pass.

        Raises:
            UsageError: more images of one pass are bad than ``max_bad`` admits.
        """
        images = len(self.source) // self.parts
        admitted = self.max_bad * images
        if len(found) <= admitted:
            return
        listed = '\n'.join(sorted(found)[:SHOWN])
        raise UsageError(
            f'{len(found)} of {images} training images cannot be decoded, '
            f'--max_bad {self.max_bad:g} admits {int(admitted)}; '
            'python -m scripts.check_data lists all of them for --skip-list. '
            f'Found so far, among others:\n{listed}'
        )

    def _plan(self) -> Iterator[Planned]:
        """Yield what this part of the stream holds, image by image."""
        first_pass, first_batch = divmod(self.start_step, len(self))
        used = len(self) * self.batch_size
        for number in count(first_pass):
            rng = np.random.default_rng([self.seed, number])
            if self.balance:
                order, again = balanced(self.source.labels, rng)
            else:
                order = rng.permutation(len(self.source))
                again = np.zeros(len(order), np.int64)
            own = []
            for numbers in (order, again):
                rest = numbers[first_batch * self.batch_size : used]
                parts = rest.reshape(-1, self.parts, self.batch_size // self.parts)
                own.append(parts[:, self.part].ravel())
            for place, times in zip(*own):
                yield Planned(number, int(place), int(times))
            first_batch = 0

    def _read(self, planned: Planned) -> Sample:
        found = self._decodable(planned)
        rng = np.random.default_rng([self.seed, *planned.key])
        views = self.preprocessing.train_views(found.image, rng, self.extra)
        label = int(self.source.labels[found.place])
        return Sample(views, label, planned.number, found.bad)

    def _decodable(self, planned: Planned) -> Decoded:
        """The planned image or what takes its place.

        Raises:
            BadImage: the last of TRIES images that cannot be decoded.
        """
        place = planned.place
        bad: list[BadImage] = []
        while True:
            try:
                return Decoded(_pixels(self.source, place), place, tuple(bad))
            except BadImage as error:
                bad.append(error)
                if len(bad) == TRIES:
                    raise
            rng = np.random.default_rng([self.seed, *planned.key, len(bad)])
            place = int(rng.integers(len(self.source)))


class EvalFlow(DataFlow):
    """Every validation image once, in order; the last batch may be smaller.

    One that cannot be decoded is an error: whoever wants to go without it has to say so
    by --skip-list.
    """

    def __init__(
        self, dataset: Dataset, preprocessing: Preprocessing, *, batch_size: int, threads: int
    ) -> None:
        """Prepare; nothing is decoded before the first batch is asked for.

        Args:
            dataset: its validation images are used.
            preprocessing: makes the views.
            batch_size: images per batch, B. May exceed the number of images.
            threads: decoding threads; 0 decodes in the thread that iterates.

        Raises:
            UsageError: a number is out of range.
        """
        _check_least('--batch_size', batch_size, 1)
        _check_least('--threads', threads, 0)
        self.source = dataset.val
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.threads = threads

    def __len__(self) -> int:
        """Batches in all, the smaller last one included."""
        return -(-len(self.source) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch once.

        Raises:
            BadImage: an image cannot be decoded.
        """
        numbers = range(len(self.source))
        for samples in _batches(
            self._read, numbers, batch_size=self.batch_size, threads=self.threads
        ):
            yield _stack(samples)

    def _read(self, index: int) -> Sample:
        views = self.preprocessing.eval_views(_pixels(self.source, index))
        return Sample(views, int(self.source.labels[index]))


def _batches(
    read: Callable[[Argument], Sample],
    planned: Iterable[Argument],
    *,
    batch_size: int,
    threads: int,
) -> Iterator[list[Sample]]:
    """Samples of what is planned, `batch_size` at a time.

    Every thread makes an equal part of a batch, so that the first one is there soon, and memory
    holds three batches at most, however many threads there are: one being handed out, one that
    waits and one in the making. Single images as tasks would be slower: handing over a 28 pixel
    image takes longer than making its views.
    """
    part = -(-batch_size // max(threads, 1))

    def read_part(arguments: list[Argument]) -> list[Sample]:
        return list(map(read, arguments))

    parts = ordered_map(read_part, _groups(planned, part), threads=threads, ahead=threads)
    with closing(parts):
        yield from _groups(chain.from_iterable(parts), batch_size)


def _groups(items: Iterable[Argument], size: int) -> Iterator[list[Argument]]:
    """Lists of `size` consecutive items; the last one may be shorter."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _pixels(source: Source, place: int) -> np.ndarray:
    """An image of a source, uint8 [h, w, 3].

    Raises:
        BadImage: it cannot be decoded.
        UsageError: it is something else, which would become black.
    """
    image = source.read(place)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(
            f'--data: {source.name(place)} is {image.dtype} {list(image.shape)}, from '
            f'{image.min():g} to {image.max():g}; expected uint8 [h, w, 3], from 0 to 255'
        )
    return image


def _check_light(views: Sequence[np.ndarray]) -> None:
    """Checks that a whole batch is not black.

    Raises:
        UsageError: all pixels are 0 or 1, as they are after a wrong conversion.
    """
    if all(view.max() <= 1 for view in views):
        raise UsageError(
            '--data: the pixels of all images of the first batch are 0 or 1, which is black; '
            'expected 0 to 255'
        )


def _stack(samples: Sequence[Sample]) -> Batch:
    """Images uint8 [B, size, size, 3] per size, labels int32 [B]."""
    batch = []
    for views in zip(*(sample.views for sample in samples)):
        batch.append(np.stack(views))
    labels = [sample.label for sample in samples]
    batch.append(np.array(labels, np.int32))
    return batch


def _check_least(flag: str, value: float, least: int) -> None:
    """Checks that the value of a flag is at least ``least``.

    Raises:
        UsageError: the value is smaller.
    """
    if value < least:
        raise UsageError(f'{flag} is {value}, expected at least {least}')
