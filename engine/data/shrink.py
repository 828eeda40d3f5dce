"""Image files scaled down for training: decoding is nearly all that loading an image takes."""

from typing import NamedTuple

import numpy as np

from engine.data.opencv import cv2
from engine.data.sources import BadImage, decode
from engine.data.transforms import scale_shortest

QUALITY = 90
_JPEG = b'\xff\xd8'


class Shrink(NamedTuple):
    """Scales images down and writes them as JPEG.

    Attributes:
        shortest: edge in pixels that the shortest one gets.
        quality: of the files, 1 to 100.
    """

    shortest: int
    quality: int

    @property
    def form(self) -> str:
        """The scaling, as packs record it."""
        return f'shortest{self.shortest}-quality{self.quality}'

    def __call__(self, encoded: np.ndarray, name: str) -> np.ndarray:
        """The bytes of a smaller file; a JPEG file that is no larger stays as it is.

        Args:
            encoded: uint8 [n], of any format.
            name: for messages.

        Returns:
            uint8 [m].

        Raises:
            BadImage: it cannot be decoded, or is too long for JPEG.
        """
        image = decode(encoded, name)
        small = min(image.shape[:2]) <= self.shortest
        if small and encoded[:2].tobytes() == _JPEG:
            return encoded
        if not small:
            image = scale_shortest(image, self.shortest, cv2.INTER_AREA)
        fits, content = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not fits:
            height, width = image.shape[:2]
            raise BadImage(
                f'--data: {name}: {width} x {height} pixels, too long for JPEG; put it on the list '
                'of --skip-list',
                name,
            )
        return content.reshape(-1)
