"""RandAugment and random erasing as DS-Net trains with them (timm 0.3.2): numpy, OpenCV and Pillow only.

Functions on arrays take and return uint8 [h, w, 3] in BGR order and never write to their input. All chance comes from
the `numpy.random.Generator` that is handed in.

References:
    RandAugment: Practical automated data augmentation with a reduced search space, https://arxiv.org/abs/1909.13719
    Random Erasing Data Augmentation, https://arxiv.org/abs/1708.04896
"""

import dataclasses
import math
import re
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from engine.data.opencv import cv2

Picture = Image.Image

# ImageNet statistics of the [0, 255] range, BGR.
MEAN = 255 * np.array([0.406, 0.456, 0.485], np.float32)
STD = 255 * np.array([0.225, 0.224, 0.229], np.float32)
FILL = (124, 116, 104)  # what moves into a picture: the mean, RGB
PROBABILITY = 0.5  # that a drawn operation is applied
LARGEST = 10.0  # magnitude
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
ERASED_AREA = (0.02, 1 / 3)
ERASED_LOG_ASPECT = (math.log(0.3), -math.log(0.3))
ERASING_TRIES = 10


def _affine(picture: Picture, matrix: tuple[float, ...], method: Image.Resampling) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, method, fillcolor=FILL)


def _posterize(picture: Picture, level: float) -> Picture:
    # Pillow's own function refuses to keep 0 bits, which, as published, makes black.
    return picture.point([i & -(1 << 8 - int(4 * level)) for i in range(256)] * 3)


def _solarize_add(picture: Picture, level: float) -> Picture:
    return picture.point([min(255, i + int(110 * level)) if i < 128 else i for i in range(256)] * 3)


# Operations on colours, of (RGB picture, level). A level is a magnitude / 10, 0 to 1. Posterize, Solarize and the four
# enhancements are weakest somewhere inside that range or at its end: magnitude is no strength, as published.
COLOURS: dict[str, Callable[[Picture, float], Picture]] = {
    'AutoContrast': lambda picture, _: ImageOps.autocontrast(picture),
    'Equalize': lambda picture, _: ImageOps.equalize(picture),
    'Invert': lambda picture, _: ImageOps.invert(picture),
    'Posterize': _posterize,
    'Solarize': lambda picture, level: ImageOps.solarize(picture, int(256 * level)),
    'SolarizeAdd': _solarize_add,
    'Color': lambda picture, level: ImageEnhance.Color(picture).enhance(1.8 * level + 0.1),
    'Contrast': lambda picture, level: ImageEnhance.Contrast(picture).enhance(1.8 * level + 0.1),
    'Brightness': lambda picture, level: ImageEnhance.Brightness(picture).enhance(
        1.8 * level + 0.1
    ),
    'Sharpness': lambda picture, level: ImageEnhance.Sharpness(picture).enhance(1.8 * level + 0.1),
}

# Operations on places, of (RGB picture, level with a sign, filter).
PLACES: dict[str, Callable[[Picture, float, Image.Resampling], Picture]] = {
    'Rotate': lambda picture, level, method: picture.rotate(30 * level, method, fillcolor=FILL),
    'ShearX': lambda picture, level, method: _affine(picture, (1, 0.3 * level, 0, 0, 1, 0), method),
    'ShearY': lambda picture, level, method: _affine(picture, (1, 0, 0, 0.3 * level, 1, 0), method),
    'TranslateXRel': lambda picture, level, method: _affine(
        picture, (1, 0, 0.45 * level * picture.width, 0, 1, 0), method
    ),
    'TranslateYRel': lambda picture, level, method: _affine(
        picture, (1, 0, 0, 0, 1, 0.45 * level * picture.height), method
    ),
}

OPERATIONS = (*COLOURS, *PLACES)


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Some operations drawn with replacement, each applied with probability 1/2 at a magnitude of its own.

    Attributes:
        operations: how many are drawn, at least 1.
        magnitude, deviation: mean and standard deviation of the normal magnitude, which is clipped to 0..10.

    Raises:
        ValueError: a number is out of range.
    """

    operations: int = 2
    magnitude: float = LARGEST
    deviation: float = 0.0

    def __post_init__(self) -> None:
        if (
            self.operations < 1
            or not 0 <= self.magnitude <= LARGEST
            or not 0 <= self.deviation < math.inf
        ):
            raise ValueError(
                f'{self}: expected at least 1 operation, a magnitude of 0 to 10 and a deviation of '
                'at least 0'
            )

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment uint8 [h, w, 3], BGR. What is drawn does not depend on the image or its size."""
        picture = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        for k in rng.integers(len(OPERATIONS), size=self.operations):
            if rng.random() < PROBABILITY:
                magnitude = min(LARGEST, max(0.0, rng.normal(self.magnitude, self.deviation)))
                picture = apply(OPERATIONS[k], picture, magnitude / LARGEST, rng)
        return cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)


def parse(spec: str) -> RandAugment:
    """The value that timm spells rand-m9-mstd0.5: m magnitude, n operations, mstd deviation, each optional.

    Raises:
        ValueError: `spec` is no such text, or a number is out of range.
    """
    parts = re.fullmatch(r'rand((?:-[a-z]+[\d.]+)*)', spec)
    pairs = re.findall(r'-([a-z]+)([\d.]+)', parts[1]) if parts else []
    found = dict(pairs)
    try:
        if not parts or len(found) < len(pairs) or set(found) - {'m', 'n', 'mstd'}:
            raise ValueError('not of this form')
        return RandAugment(
            operations=int(found.get('n', 2)),
            magnitude=float(found.get('m', LARGEST)),
            deviation=float(found.get('mstd', 0)),
        )
    except ValueError as error:
        raise ValueError(
            f'{spec}: expected rand, -mMAGNITUDE (0 to 10), -nOPERATIONS (at least 1) and -mstdDEVIATION, '
            'as in rand-m9-mstd0.5'
        ) from error


def apply(name: str, picture: Picture, level: float, rng: np.random.Generator) -> Picture:
    """One of `OPERATIONS` on an RGB picture at a level of 0 to 1; an operation on places draws its sign and filter."""
    if name in COLOURS:
        return COLOURS[name](picture, level)
    sign = -1 if rng.random() < 0.5 else 1
    return PLACES[name](picture, sign * level, FILTERS[rng.random() < 0.5])


def random_erasing(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Fill a random rectangle with noise.

    Its area is U(0.02, 1/3) of the image, its aspect ratio log-uniform in [0.3, 1/0.3]. One that does not leave a row
    and a column of the image is drawn again, up to ten times; then nothing is erased.

    The published code fills with N(0, 1) per value after the images were normalised with the mean and standard
    deviation of ImageNet. In uint8 that is N(mean, deviation) per channel, rounded and clipped: 3 to 4 in 100
    values lie outside of 0..255, which begin at 1.8 to 2.6 deviations from the mean.

    Args:
        image: uint8 [h, w, 3], BGR.
        probability: of erasing.
        rng: source of all chance.
    """
    if rng.random() >= probability:
        return image
    height, width = image.shape[:2]
    for _ in range(ERASING_TRIES):
        area = height * width * rng.uniform(*ERASED_AREA)
        aspect = math.exp(rng.uniform(*ERASED_LOG_ASPECT))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
            noise = MEAN + STD * rng.standard_normal((rows, columns, 3), np.float32)
            erased = image.copy()
            erased[top : top + rows, left : left + columns] = np.clip(np.rint(noise), 0, 255)
            return erased
    return image
