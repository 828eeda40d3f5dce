"""What makes data the same data: their content, wherever they lie and however they are stored.

The names and labels of all images count, and of as many of them as can be looked at before every
start also sizes and bytes: of all in a set of up to ``SIZED`` images and ``READ`` bytes, of a
sample in a larger one. A packed copy is the same data as its folder.
"""

import functools
import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from engine.data.sources import Source, innermost
from engine.data.spec import Dataset

T = TypeVar('T')

# Images whose sizes are looked at, and bytes that are read of these: of a larger set a sample.
SIZED = 50_000
READ = 128 * 2**20

# Images of one task of the reading threads, and how many of these there are.
TASK = 128
THREADS = 8


class Part(NamedTuple):
    """What a set of images is.

    Attributes:
        images: their number.
        crc32: checksum of labels and names, in order.
        content: sum of the fingerprints of sizes and bytes, as a number of 16 hexadecimal digits:
            that of a set in which one image differs, differs by what that image differs by.
    """

    images: int
    crc32: int
    content: str


class Prints(NamedTuple):
    """Fingerprints of N images, uint64 [N]; 0 where nothing was looked at.

    Attributes:
        contents: of the bytes alone.
        images: of name, size and bytes.
    """

    contents: np.ndarray
    images: np.ndarray


class Identity:
    """What a data set is, by which it is known again wherever it lies.

    Nothing is read before a part is asked for.

    Attributes:
        classes: names of the classes, in the order of the class index.
    """

    def __init__(self, dataset: Dataset, *, trains: bool = True, whole: bool = False) -> None:
        """Keep the data set.

        Args:
            dataset: the images that a run has.
            trains: whether its training images matter, too.
            whole: whether all bytes are read, however many: to find what is in both parts.
        """
        self._whole = whole
        self.classes = dataset.classes
        self._train = dataset.train if trains else None
        self._val = dataset.val

    @functools.cached_property
    def train(self) -> Part | None:
        """The images that are trained on; None where they do not matter."""
        if self._train is None:
            return None
        return _part(self._train, self._prints_of_train)

    @functools.cached_property
    def val(self) -> Part:
        """The validation images, without those that a skip list names."""
        return _part(self._val, self._prints_of_val)

    @functools.cached_property
    def whole_val(self) -> Part:
        """All validation images."""
        whole, _ = innermost(self._val)
        if len(whole) == len(self._val):
            return self.val
        return _part(whole, self._prints_of_val)

    def print_of(self, name: str) -> int | None:
        """The fingerprint of one image; None if there is no image of this name."""
        if name in self._numbers:
            found, number = self._numbers[name]
            return int(found.images[number])
        return None

    def repeated(self) -> list[tuple[str, str]]:
        """Names of training and validation images of the same bytes, in pairs."""
        if self._train is None:
            return []
        train, numbers = innermost(self._train)
        known: dict[int, int] = {}
        for number, content in zip(
            numbers.tolist(), self._prints_of_train.contents[numbers].tolist()
        ):
            known.setdefault(content, number)
        known.pop(0, None)
        val, numbers = innermost(self._val)
        pairs = []
        for number, content in zip(
            numbers.tolist(), self._prints_of_val.contents[numbers].tolist()
        ):
            if content in known:
                pairs.append((train.name(known[content]), val.name(number)))
        return pairs

    @functools.cached_property
    def _prints_of_train(self) -> Prints:
        assert self._train is not None
        return prints(innermost(self._train)[0], whole=self._whole)

    @functools.cached_property
    def _prints_of_val(self) -> Prints:
        return prints(innermost(self._val)[0], whole=self._whole)

    @functools.cached_property
    def _numbers(self) -> dict[str, tuple[Prints, int]]:
        """Where the fingerprint of an image is, by its name."""
        found = {}
        parts = [(self._val, self._prints_of_val)]
        if self._train is not None:
            parts.append((self._train, self._prints_of_train))
        for source, of_part in parts:
            whole, numbers = innermost(source)
            for number in numbers.tolist():
                found[whole.name(number)] = of_part, number
        return found


def _part(source: Source, of_whole: Prints) -> Part:
    """What these images are, by the fingerprints of all that they were chosen from."""
    whole, numbers = innermost(source)
    crc32 = zlib.crc32(source.labels.tobytes())
    for number in numbers.tolist():
        crc32 = zlib.crc32(os.fsencode(whole.name(number)), crc32)
    total = int(of_whole.images[numbers].sum(dtype=np.uint64))
    return Part(len(source), crc32, f'{total:016x}')


def prints(source: Source, *, whole: bool = False) -> Prints:
    """Fingerprints of the images of a source that is no part of another one.

    Args:
        source: the images.
        whole: whether all of them are read.
    """
    names = [zlib.crc32(os.fsencode(source.name(i))) for i in range(len(source))]
    hashes = np.array(names, np.uint32)  # [N], by which a sample does not depend on what is beside
    share = 1 if whole else _share(len(source), SIZED)
    chosen = np.flatnonzero(hashes % share == 0)
    sizes = _mapped(lambda i: _looked_at(source.stored_size, i, -1), chosen)
    share = 1 if whole else _share(sum(sizes), READ)
    # The lowest bits have chosen already.
    read = (hashes[chosen] >> 16) % share == 0
    stored = _mapped(lambda i: _hash(_looked_at(source.stored, i, b'')), chosen[read])
    contents = np.zeros(len(source), np.uint64)
    contents[chosen[read]] = stored
    images = np.zeros(len(source), np.uint64)
    for i, size in zip(chosen.tolist(), sizes):
        images[i] = _hash(f'{source.name(i)}\0{size}\0{contents[i]}'.encode(errors='replace'))
    return Prints(contents, images)


def _share(count: int, limit: int) -> int:
    """The power of two that divides ``count`` to at most ``limit``."""
    share = 1
    while count > limit * share:
        share *= 2
    return share


def _mapped(function: Callable[[int], int], numbers: np.ndarray) -> list[int]:
    """What a function makes of each number, in threads: a file system answers several at a time."""

    def work(task: Sequence[int]) -> list[int]:
        return list(map(function, task))

    found: list[int] = []
    tasks = [numbers[start : start + TASK].tolist() for start in range(0, len(numbers), TASK)]
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(work, tasks):
            found += part
    return found


def _looked_at(look: Callable[[int], T], i: int, otherwise: T) -> T:
    """What is seen of image ``i``; a file that cannot be read is named when it is used."""
    try:
        return look(i)
    except OSError:
        return otherwise


def _hash(content: bytes) -> int:
    """A number of 64 bits, never 0."""
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, 'little') or 1
