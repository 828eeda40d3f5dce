"""Labelled images that can be read one by one, from memory or from files."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engine.data.opencv import cv2
from engine.errors import UsageError

# What a network file system answers that is down, or whose server has started anew. It may answer
# EIO as well, which from a disk is damage.
PASSING = (
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
)

# Seconds after which it is asked again.
PAUSES = (1, 2, 4, 8, 10, 10)
SHOWN = 20  # names in a message


def some(names: Iterable[str]) -> str:
    """The first of many names in order, for a message."""
    ordered = sorted(names)
    more = len(set(ordered)) - SHOWN
    first = ', '.join(ordered[:SHOWN])
    return f'{first} and {more} more' if more > 0 else first


class BadImage(UsageError):
    """A file that cannot be read or is no complete image.

    Attributes:
        name: of the image, see ``Source.name``; empty where it is not known.
    """

    def __init__(self, message: str, name: str = '') -> None:
        """Keep the message and the name of the image."""
        super().__init__(message)
        self.name = name


class Source:
    """Labelled images that can be read from several threads.

    Attributes:
        skipped: names of images that it could have and has not, for skip lists; None: not known.
    """

    skipped: frozenset[str] | None = frozenset()

    def __init__(self, labels: Sequence[int] | np.ndarray) -> None:
        """Keep the class indices as `labels`, int64 [N].

        Raises:
            UsageError: they are no whole numbers.
        """
        found = np.asarray(labels)
        if found.size and found.dtype.kind not in 'iu':
            raise UsageError(
                f'--data: labels are {found.dtype}, such as {found.flat[0]}; expected whole numbers'
            )
        self.labels = found.astype(np.int64)

    def __len__(self) -> int:
        """Number of images, N."""
        return len(self.labels)

    def read(self, i: int) -> np.ndarray:
        """Image `i`, uint8 [h, w, 3], BGR, of any size. Must not be written to.

        Raises:
            BadImage: its file cannot be decoded.
        """
        raise NotImplementedError

    def name(self, i: int) -> str:
        """Name of image `i` in messages and skip lists: of a file its path in the data folder."""
        return f'image {i}'

    def stored_size(self, i: int) -> int:
        """Number of bytes of image `i` as it lies on a disk; 0 in memory.

        Raises:
            OSError: it cannot be read.
        """
        return 0

    def stored(self, i: int) -> bytes:
        """Image `i` as it is stored, undecoded and unchecked: what tells it from others.

        Raises:
            OSError: it cannot be read.
        """
        return self.read(i).tobytes()

    def opened(self, i: int) -> BinaryIO:
        """Image `i` as it is stored, of which as much is read as is asked for.

        Raises:
            OSError: it cannot be read.
        """
        return io.BytesIO(self.stored(i))

    def part(self, numbers: np.ndarray) -> Source:
        """Some of the images as data of their own, of which nothing tells that there are more.

        Args:
            numbers: of the images, int64 [n].

        Raises:
            NotImplementedError: they come in fixed parts.
        """
        raise NotImplementedError(f'{type(self).__name__} has fixed parts')


class ArraySource(Source):
    """Images in memory."""

    def __init__(self, images: np.ndarray, labels: Sequence[int] | np.ndarray) -> None:
        """Keep uint8 [N, h, w] (grey) or [N, h, w, 3] (BGR), and N labels."""
        super().__init__(labels)
        self.images = images

    def read(self, i: int) -> np.ndarray:
        """Image `i`, uint8 [h, w, 3], BGR."""
        image = self.images[i]
        if image.ndim == 2:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return image

    def stored(self, i: int) -> bytes:
        """The pixels of image `i` as they are kept."""
        return self.images[i].tobytes()

    def part(self, numbers: np.ndarray) -> ArraySource:
        """See ``Source.part``."""
        return ArraySource(self.images[numbers], self.labels[numbers])


class Subset(Source):
    """Some images of another source."""

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        """Keep the images with these numbers, int64 [N], in this order."""
        super().__init__(source.labels[indices])
        self.source = source
        self.indices = indices

    def read(self, i: int) -> np.ndarray:
        """Image `i` of the subset, see ``Source.read``."""
        return self.source.read(int(self.indices[i]))

    def name(self, i: int) -> str:
        """Name of image `i` of the subset."""
        return self.source.name(int(self.indices[i]))


class Relabelled(Source):
    """The images of another source with other labels."""

    def __init__(self, source: Source, labels: np.ndarray) -> None:
        """Keep N labels for the N images of `source`."""
        super().__init__(labels)
        self.source = source

    def read(self, i: int) -> np.ndarray:
        """Image `i`, see ``Source.read``."""
        return self.source.read(i)

    def name(self, i: int) -> str:
        """Name of image `i`."""
        return self.source.name(i)


def innermost(source: Source) -> tuple[Source, np.ndarray]:
    """The source that images were chosen from, and the numbers of those that were, int64 [N]."""
    numbers = np.arange(len(source))
    while isinstance(source, Subset | Relabelled):
        if isinstance(source, Subset):
            numbers = source.indices[numbers]
        source = source.source
    return source, numbers


class FileSource(Source):
    """Image files, decoded when they are read."""

    def __init__(
        self, root: Path, files: Sequence[str], labels: Sequence[int] | np.ndarray
    ) -> None:
        """Keep N paths relative to `root` and N labels."""
        super().__init__(labels)
        self.root = root
        self.files = files

    def encoded(self, i: int) -> np.ndarray:
        """The bytes of file `i`, uint8 [n].

        A network file system that does not answer is asked again, for half a minute and more.

        Raises:
            BadImage: it cannot be read.
            UsageError: the file system does not answer.
        """
        name = self.files[i]
        for pause in (*PAUSES, None):
            try:
                return self._bytes(i)
            except OSError as error:
                passing = error.errno in PASSING or error.errno == errno.EIO
                if pause is not None and passing:
                    time.sleep(pause)
                elif error.errno not in PASSING:
                    raise BadImage(f'--data: cannot read {name}: {error}', name) from error
        raise UsageError(
            f'--data: {name} cannot be read: the file system of {self.root} has not answered for '
            f'{sum(PAUSES)} s; when it does, the same command goes on'
        )

    def read(self, i: int) -> np.ndarray:
        """Image `i`, see ``decode``."""
        return decode(self.encoded(i), self.files[i])

    def name(self, i: int) -> str:
        """Path of file `i` relative to the data folder."""
        return self.files[i]

    def stored_size(self, i: int) -> int:
        """Length of file `i`."""
        return os.stat(os.path.join(self.root, self.files[i])).st_size

    def stored(self, i: int) -> bytes:
        """The bytes of file `i`."""
        return self._bytes(i).tobytes()

    def opened(self, i: int) -> BinaryIO:
        """File `i`."""
        return open(os.path.join(self.root, self.files[i]), 'rb')

    def part(self, numbers: np.ndarray) -> FileSource:
        """See ``Source.part``."""
        files = [self.files[number] for number in numbers.tolist()]
        return FileSource(self.root, files, self.labels[numbers])

    def _bytes(self, i: int) -> np.ndarray:
        # numpy.fromfile would return what happens to be in memory where the disk fails.
        with open(os.path.join(self.root, self.files[i]), 'rb') as file:
            return np.frombuffer(file.read(), np.uint8)


def decode(encoded: np.ndarray, name: str) -> np.ndarray:
    """Turn the bytes of a file into pixels: colours as they are meant, no EXIF rotation.

    From memory OpenCV refuses a JPEG or PNG without its end, which it lets pass, grey below the
    cut, when it opens the file itself. So nothing else has to look for truncation.
    Not at a reduced scale: only 2 % of the crops for 224 pixels are shrunk by 2, and they would
    differ by 1.5 to 5 grey levels in the mean (0.8 without any texture).

    Args:
        encoded: uint8 [n], a file of any format that OpenCV reads.
        name: for the message.

    Returns:
        uint8 [h, w, 3], BGR.

    Raises:
        BadImage: empty, truncated or no image.
    """
    remedy = 'repair it or put it on the list of --skip-list'
    if not encoded.size:
        raise BadImage(f'--data: {name} is empty; {remedy}', name)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise BadImage(f'--data: {name} is not a complete image; {remedy}', name)
    return image
