"""The identity of data: their content, wherever they lie and however they are stored.

The names and labels of all images count, and of as many of them as can be looked at before every
start also sizes and bytes: of all in a set of up to ``SIZED`` images and ``READ`` bytes, of a
sample in a larger one. A packed copy is the same data as its folder.
"""

import dataclasses
import functools
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from engine.data.sources import Source, innermost
from engine.data.spec import Dataset
from engine.schema import Count

T = TypeVar('T')

# Images whose sizes are looked at, and bytes that are read of these: of a larger set a sample.
SIZED = 50_000
READ = 128 * 2**20

# Images of one task of the reading threads, and how many of these there are.
TASK = 128
THREADS = 8

# Fingerprints are numbers below this, added up modulo it, and recorded in hexadecimal digits.
MODULUS = 2**64
_HEXADECIMAL = re.compile('[0-9a-f]{16}')


@dataclasses.dataclass(frozen=True)
class Part:
    """The identity of a set of images.

    Attributes:
        images: their number.
        crc32: checksum of labels and names, in order.
        content: sum of the fingerprints of names, sizes and bytes, as ``to_hexadecimal`` gives it.
            Where one image differs, the sum differs by as much. Empty in earlier records.
    """

    images: Count
    crc32: Count
    content: str = ''


class Fingerprints(NamedTuple):
    """Fingerprints of N images, uint64 [N]; 0 where nothing was looked at.

    Attributes:
        contents: of the bytes alone.
        images: of name, size and bytes.
    """

    contents: np.ndarray
    images: np.ndarray


class Identity:
    """A data set as it is known again, wherever it lies.

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
        return _part(self._train, self._train_fingerprints)

    @functools.cached_property
    def val(self) -> Part:
        """The validation images, without those that a skip list names."""
        return _part(self._val, self._val_fingerprints)

    @functools.cached_property
    def whole_val(self) -> Part:
        """All validation images."""
        whole, _ = innermost(self._val)
        if len(whole) == len(self._val):
            return self.val
        return _part(whole, self._val_fingerprints)

    def fingerprint_of(self, name: str) -> int | None:
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
            numbers.tolist(), self._train_fingerprints.contents[numbers].tolist()
        ):
            known.setdefault(content, number)
        known.pop(0, None)
        val, numbers = innermost(self._val)
        pairs = []
        for number, content in zip(
            numbers.tolist(), self._val_fingerprints.contents[numbers].tolist()
        ):
            if content in known:
                pairs.append((train.name(known[content]), val.name(number)))
        return pairs

    @functools.cached_property
    def _train_fingerprints(self) -> Fingerprints:
        assert self._train is not None
        return fingerprints(innermost(self._train)[0], whole=self._whole)

    @functools.cached_property
    def _val_fingerprints(self) -> Fingerprints:
        return fingerprints(innermost(self._val)[0], whole=self._whole)

    @functools.cached_property
    def _numbers(self) -> dict[str, tuple[Fingerprints, int]]:
        """Where the fingerprint of an image is, by its name."""
        found = {}
        parts = [(self._val, self._val_fingerprints)]
        if self._train is not None:
            parts.append((self._train, self._train_fingerprints))
        for source, of_part in parts:
            whole, numbers = innermost(source)
            for number in numbers.tolist():
                found[whole.name(number)] = of_part, number
        return found


def _part(source: Source, of_whole: Fingerprints) -> Part:
    """The identity of images, by the fingerprints of all that they were chosen from."""
    whole, numbers = innermost(source)
    crc32 = zlib.crc32(source.labels.tobytes())
    for number in numbers.tolist():
        crc32 = zlib.crc32(os.fsencode(whole.name(number)), crc32)
    total = int(of_whole.images[numbers].sum(dtype=np.uint64))
    return Part(len(source), crc32, to_hexadecimal(total))


def to_hexadecimal(fingerprint: int) -> str:
    """A fingerprint as records hold it."""
    return f'{fingerprint:016x}'


def is_fingerprint(text: str) -> bool:
    """Whether a text of a record is a fingerprint."""
    return _HEXADECIMAL.fullmatch(text) is not None


def fingerprints(source: Source, *, whole: bool = False) -> Fingerprints:
    """Fingerprints of the images of a source that is no part of another one.

    Args:
        source: the images.
        whole: whether all of them are read.
    """
    names = [zlib.crc32(os.fsencode(source.name(i))) for i in range(len(source))]
    hashes = np.array(names, np.uint32)  # [N], by which a sample does not depend on what is beside
    share = 1 if whole else _share(len(source), SIZED)
    chosen = np.flatnonzero(hashes % share == 0)
    sizes = mapped(lambda i: looked_at(source.stored_size, i, -1), chosen)
    share = 1 if whole else _share(sum(sizes), READ)
    # The lowest bits have chosen already.
    read = (hashes[chosen] >> 16) % share == 0
    stored = mapped(lambda i: hashed(looked_at(source.stored, i, b'')), chosen[read])
    contents = np.zeros(len(source), np.uint64)
    contents[chosen[read]] = stored
    images = np.zeros(len(source), np.uint64)
    for i, size in zip(chosen.tolist(), sizes):
        images[i] = hashed(f'{source.name(i)}\0{size}\0{contents[i]}'.encode(errors='replace'))
    return Fingerprints(contents, images)


def _share(count: int, limit: int) -> int:
    """The power of two that divides ``count`` to at most ``limit``."""
    share = 1
    while count > limit * share:
        share *= 2
    return share


def mapped(function: Callable[[int], int], numbers: np.ndarray) -> list[int]:
    """Results of a function of each number, by threads: a file system answers several at a time."""

    def work(task: Sequence[int]) -> list[int]:
        return list(map(function, task))

    found: list[int] = []
    tasks = [numbers[start : start + TASK].tolist() for start in range(0, len(numbers), TASK)]
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(work, tasks):
            found += part
    return found


def looked_at(look: Callable[[int], T], i: int, otherwise: T) -> T:
    """Result of looking at an image; a file that cannot be read is named when it is used.

    Args:
        look: a function of the number of an image.
        i: number of the image.
        otherwise: result where that is not possible.
    """
    try:
        return look(i)
    except OSError:
        return otherwise


def hashed(content: bytes) -> int:
    """A number of 64 bits, never 0."""
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, 'little') or 1
