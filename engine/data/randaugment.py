"""RandAugment as DS-Net trains with it (timm 0.3.2): OpenCV and Pillow only.

Reference: RandAugment: Practical automated data augmentation with a reduced search space,
https://arxiv.org/abs/1909.13719.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from engine.data.inputs import IMAGENET_MEAN
from engine.data.opencv import cv2

Picture = Image.Image

FILL = tuple(round(255 * value) for value in IMAGENET_MEAN)  # what moves into a picture, RGB
PROBABILITY = 0.5  # that a drawn operation is applied
LARGEST = 10.0  # magnitude
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)

SPEC = re.compile(r'rand((?:-[a-z]+[\d.]+)*)')
SPEC_PART = re.compile(r'-([a-z]+)([\d.]+)')


# Operations on colours, of (RGB picture, level). A level is a magnitude / 10, 0 to 1. Posterize,
# Solarize and the four enhancements are weakest somewhere inside that range or at its end:
# magnitude is no strength, as published.


def _auto_contrast(picture: Picture, level: float) -> Picture:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Picture, level: float) -> Picture:
    return ImageOps.equalize(picture)


def _invert(picture: Picture, level: float) -> Picture:
    return ImageOps.invert(picture)


def _posterize(picture: Picture, level: float) -> Picture:
    # Pillow's own function refuses to keep 0 bits, which, as published, makes black.
    mask = -(1 << 8 - int(4 * level))
    table = [value & mask for value in range(256)]
    return picture.point(table * 3)


def _solarize(picture: Picture, level: float) -> Picture:
    return ImageOps.solarize(picture, int(256 * level))


def _solarize_add(picture: Picture, level: float) -> Picture:
    added = int(110 * level)
    dark = [min(255, value + added) for value in range(128)]
    table = dark + list(range(128, 256))
    return picture.point(table * 3)


def _color(picture: Picture, level: float) -> Picture:
    return ImageEnhance.Color(picture).enhance(1.8 * level + 0.1)


def _contrast(picture: Picture, level: float) -> Picture:
    return ImageEnhance.Contrast(picture).enhance(1.8 * level + 0.1)


def _brightness(picture: Picture, level: float) -> Picture:
    return ImageEnhance.Brightness(picture).enhance(1.8 * level + 0.1)


def _sharpness(picture: Picture, level: float) -> Picture:
    return ImageEnhance.Sharpness(picture).enhance(1.8 * level + 0.1)


COLOURS: dict[str, Callable[[Picture, float], Picture]] = {
    'AutoContrast': _auto_contrast,
    'Equalize': _equalize,
    'Invert': _invert,
    'Posterize': _posterize,
    'Solarize': _solarize,
    'SolarizeAdd': _solarize_add,
    'Color': _color,
    'Contrast': _contrast,
    'Brightness': _brightness,
    'Sharpness': _sharpness,
}


# Operations on places, of (RGB picture, level with a sign, filter).


def _affine(picture: Picture, matrix: tuple[float, ...], method: Image.Resampling) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, method, fillcolor=FILL)


def _rotate(picture: Picture, level: float, method: Image.Resampling) -> Picture:
    return picture.rotate(30 * level, method, fillcolor=FILL)


def _shear_x(picture: Picture, level: float, method: Image.Resampling) -> Picture:
    return _affine(picture, (1, 0.3 * level, 0, 0, 1, 0), method)


def _shear_y(picture: Picture, level: float, method: Image.Resampling) -> Picture:
    return _affine(picture, (1, 0, 0, 0.3 * level, 1, 0), method)


def _translate_x(picture: Picture, level: float, method: Image.Resampling) -> Picture:
    return _affine(picture, (1, 0, 0.45 * level * picture.width, 0, 1, 0), method)


def _translate_y(picture: Picture, level: float, method: Image.Resampling) -> Picture:
    return _affine(picture, (1, 0, 0, 0, 1, 0.45 * level * picture.height), method)


PLACES: dict[str, Callable[[Picture, float, Image.Resampling], Picture]] = {
    'Rotate': _rotate,
    'ShearX': _shear_x,
    'ShearY': _shear_y,
    'TranslateXRel': _translate_x,
    'TranslateYRel': _translate_y,
}

OPERATIONS = (*COLOURS, *PLACES)


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Operations drawn with replacement, each applied with probability 1/2 at its own magnitude.

    Attributes:
        operations: how many are drawn, at least 1.
        magnitude: mean of the normal magnitude, which is clipped to 0..10.
        deviation: standard deviation of the magnitude.

    Raises:
        ValueError: a number is out of range.
    """

    operations: int = 2
    magnitude: float = LARGEST
    deviation: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: one is out of range.
        """
        valid = (
            self.operations >= 1
            and 0 <= self.magnitude <= LARGEST
            and 0 <= self.deviation < math.inf
        )
        if not valid:
            raise ValueError(
                f'{self}: expected at least 1 operation, a magnitude of 0 to 10 and a deviation '
                'of at least 0'
            )

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment uint8 [h, w, 3], BGR. What is drawn does not depend on the image or its size."""
        picture = Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        for k in rng.integers(len(OPERATIONS), size=self.operations):
            if rng.random() < PROBABILITY:
                drawn = rng.normal(self.magnitude, self.deviation)
                magnitude = min(LARGEST, max(0.0, drawn))
                picture = apply(OPERATIONS[k], picture, magnitude / LARGEST, rng)
        return cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)


def parse(spec: str) -> RandAugment:
    """The value that timm spells rand-m9-mstd0.5: m magnitude, n operations, mstd deviation.

    Each of the three is optional.

    Raises:
        ValueError: `spec` is no such text, or a number is out of range.

    >>> parse('rand-m9-mstd0.5')
    RandAugment(operations=2, magnitude=9.0, deviation=0.5)
    """
    whole = SPEC.fullmatch(spec)
    try:
        if whole is None:
            raise ValueError('not of this form')
        pairs = SPEC_PART.findall(whole[1])
        found = dict(pairs)
        if len(found) < len(pairs) or not found.keys() <= {'m', 'n', 'mstd'}:
            raise ValueError('a part is unknown or repeated')
        return RandAugment(
            operations=int(found.get('n', 2)),
            magnitude=float(found.get('m', LARGEST)),
            deviation=float(found.get('mstd', 0)),
        )
    except ValueError as error:
        raise ValueError(
            f'{spec}: expected rand, -mMAGNITUDE (0 to 10), -nOPERATIONS (at least 1) and '
            '-mstdDEVIATION, as in rand-m9-mstd0.5'
        ) from error


def apply(name: str, picture: Picture, level: float, rng: np.random.Generator) -> Picture:
    """Apply one operation to a picture.

    Args:
        name: one of `OPERATIONS`.
        picture: RGB.
        level: 0 to 1.
        rng: draws the sign and the filter of an operation on places.
    """
    if name in COLOURS:
        return COLOURS[name](picture, level)
    sign = -1 if rng.random() < 0.5 else 1
    bicubic = rng.random() < 0.5
    return PLACES[name](picture, sign * level, FILTERS[bicubic])
