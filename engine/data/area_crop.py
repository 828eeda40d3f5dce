"""The augmentation of ImageNet: random area crop, PCA lighting and mirror.

LQ-Nets and RS-Nets train so. Evaluation takes the shortest edge to size / 0.875 and cuts the
centre.

Reference: Going deeper with convolutions, https://arxiv.org/abs/1409.4842, section 6.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from engine.data.opencv import cv2
from engine.data.transforms import CENTRE_RATIO, centre_crop, mirror

TRIES = 10
AREA_RANGE = (0.08, 1.0)
ASPECT_RANGE = (0.75, 1.333)
LOG_ASPECT_RANGE = (math.log(3 / 4), math.log(4 / 3))
WIDEST = 4 / 3

# PCA of the ImageNet pixels (Krizhevsky et al. 2012), with the numbers of fb.resnet.torch. They are
# published in RGB order; both axes are reversed because images are BGR and each eigenvalue has to
# stay with its vector.
LIGHTING_STD = 0.1
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])[::-1] * 255.0
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)[::-1, ::-1]


@dataclasses.dataclass(frozen=True)
class AreaCrop:
    """See the module; the antialiased views follow torchvision, without lighting.

    Attributes:
        ratio: share of the shortest edge that evaluation keeps.
    """

    ratio: float = CENTRE_RATIO

    mirrors: ClassVar[bool] = True
    evaluated_as: ClassVar[str] = ''

    @property
    def evaluation(self) -> str:
        """See ``Augmentation``."""
        return (
            f'scale the shortest edge to round({{side}} / {self.ratio:g}) (OpenCV INTER_CUBIC) '
            'and cut the centre {side} x {side}'
        )

    @property
    def evaluation_antialiased(self) -> str:
        """See ``Augmentation``."""
        return (
            f'scale the shortest edge to int({{side}} / {self.ratio:g}) (Pillow {{filter}}) and '
            'cut the centre {side} x {side}'
        )

    def train_view(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Crop a random area to uint8 [size, size, 3], light it and mirror it or not.

        Args:
            image: uint8 [h, w, 3], BGR.
            size: edge of the view, pixels.
            rng: source of all chance.
        """
        return mirror(lighting(area_crop(image, size, rng), rng), rng)

    def train_crop(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Crop a random area, uint8 [h', w', 3], by the rule of torchvision.

        Args:
            image: uint8 [h, w, 3], BGR.
            size: edge of the largest view, pixels.
            rng: source of all chance.
        """
        return random_crop(image, rng)

    def eval_view(self, image: np.ndarray, size: int) -> np.ndarray:
        """Cut the centre, uint8 [size, size, 3]."""
        return centre_crop(image, size, ratio=self.ratio)

    def eval_antialiased(
        self, image: np.ndarray, sizes: Sequence[int], method: Image.Resampling
    ) -> list[np.ndarray]:
        """Cut the centre, uint8 [size, size, 3] for each size.

        Args:
            image: uint8 [h, w, 3], BGR.
            sizes: edges of the views, pixels.
            method: filter of Pillow.
        """
        picture = Image.fromarray(image)
        return [_centre_antialiased(picture, size, method, self.ratio) for size in sizes]


def area_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a random rectangle and scale it to a square (Szegedy et al. 2015, section 6).

    The area is U(0.08, 1) of the image, the aspect ratio U(0.75, 1.333), inverted with probability
    1/2. A rectangle that does not fit is drawn again, up to ten times; then the shortest edge is
    scaled and the centre cut.

    The published code draws the offset below w - ww with the upper end excluded, so that the last
    row and the last column are never reached by a rectangle smaller than the image. Here every
    position is equally likely.

    Args:
        image: uint8 [h, w, 3].
        size: edge of the result, pixels.
        rng: source of all chance.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    for _ in range(TRIES):
        crop_height, crop_width = _draw_rectangle(height * width, rng)
        if crop_height <= height and crop_width <= width:
            crop = _cut(image, crop_height, crop_width, rng)
            return cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC)
    return centre_crop(image, size, ratio=1.0)


def random_crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a random rectangle, at its native size, by the rule of torchvision.

    The area is U(0.08, 1) of the image, the aspect ratio log-uniform in [3/4, 4/3]. A rectangle
    that does not fit, or is empty (which the published code lets fail), is drawn again, up to ten
    times; then the largest centred one is cut.

    Returns:
        uint8 [h, w, 3], a part of `image`.
    """
    height, width = image.shape[:2]
    for _ in range(TRIES):
        area = height * width * rng.uniform(*AREA_RANGE)
        aspect = math.exp(rng.uniform(*LOG_ASPECT_RANGE))
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            return _cut(image, crop_height, crop_width, rng)
    crop_height = min(height, round(width * WIDEST))
    crop_width = min(width, round(height * WIDEST))
    top = (height - crop_height) // 2
    left = (width - crop_width) // 2
    return image[top : top + crop_height, left : left + crop_width]


def lighting(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add one colour to all pixels, drawn along the principal components of the ImageNet pixels.

    The sum is clipped to 0..255 and its fraction cut off, as in the published code.

    Args:
        image: uint8 [h, w, 3], BGR, as the result.
        rng: source of all chance.
    """
    weights = rng.normal(scale=LIGHTING_STD, size=3)
    colour = EIGENVECTORS @ (weights * EIGENVALUES)  # [3], BGR
    # What truncation of the sum gives, on bytes.
    blue, green, red = np.floor(colour.astype(np.float32)).tolist()
    return cv2.add(image, (blue, green, red, 0.0))


def _cut(image: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of `image` at a random place."""
    top = int(rng.integers(image.shape[0] - height + 1))
    left = int(rng.integers(image.shape[1] - width + 1))
    return image[top : top + height, left : left + width]


def _draw_rectangle(area: int, rng: np.random.Generator) -> tuple[int, int]:
    """Height and width (at least 1) of a random rectangle, for an image of `area` pixels."""
    target = rng.uniform(*AREA_RANGE) * area
    aspect = rng.uniform(*ASPECT_RANGE)
    width = max(1, math.floor(math.sqrt(target * aspect) + 0.5))
    height = max(1, math.floor(math.sqrt(target / aspect) + 0.5))
    return (width, height) if rng.random() < 0.5 else (height, width)


def _centre_antialiased(
    picture: Image.Image, size: int, method: Image.Resampling, ratio: float
) -> np.ndarray:
    """Scale the shortest edge to size / ratio and cut the centre.

    Both are rounded as in the published code.

    Args:
        picture: RGB or BGR.
        size: edge of the result, pixels.
        method: filter of Pillow.
        ratio: share of the shortest edge that is kept.

    Returns:
        uint8 [size, size, 3].
    """
    short = int(size / ratio)
    shortest = min(picture.size)
    width = int(short * picture.width / shortest)
    height = int(short * picture.height / shortest)
    top = round((height - size) / 2)
    left = round((width - size) / 2)
    scaled = picture.resize((width, height), method)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))
