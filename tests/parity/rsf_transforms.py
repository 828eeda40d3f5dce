"""RS-Nets float: boxes, crops and pixels of the training and validation input, with the antialiased
filter.
"""

import random
import zlib
from typing import Any

import numpy as np

from engine.data import area_crop, augment
from engine.data import transforms as scaling
from tests.parity.fixtures import Check, Fixture, Result, compare

SIZES = (224, 192, 160, 128, 96)
SHAPES = {'land': (375, 500), 'port': (500, 333)}
# By symmetry the brightest value stands at three places, and rounding alone decided which of them
# became 255 instead of 254. `picture_crc` names the two of the landscape picture, the checksum of
# its 224 view those of the other.
PEAKS = {'land': ((125, 374), (333, 333)), 'port': ((166, 166), (0, 222))}
GREY = 1 / 255


class PublishedChance:
    """Answers as a numpy Generator would, with the numbers that the published code drew from
    Python's `random`.
    """

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        return self.source.uniform(low, high)

    def integers(self, high: int) -> int:
        return self.source.randint(0, high - 1)

    def random(self) -> float:
        return self.source.random()


def transforms(fixture: Fixture) -> Result:
    """Validation crops of two pictures, six training boxes, and one training crop at every size."""
    pictures = {name: picture(name) for name in SHAPES}
    crc = zlib.crc32(pictures['land'].tobytes())
    result = Result(
        fixture.name,
        'the grey range',
        [
            compare(
                'checksum of the landscape picture',
                np.array([crc >> 16, crc & 0xFFFF]),
                fixture.arrays['picture_crc'],
                0.0,
            )
        ],
    )
    cases = fixture.data['val']
    views = {
        name: dict(zip(SIZES, augment.eval_views(image, 'area_crop', SIZES, antialias=True)))
        for name, image in pictures.items()
    }
    equal = 0
    for case, expected in cases.items():
        name, size = case.split('_')
        view = views[name][int(size)]
        equal += zlib.crc32(view.tobytes()) == expected['crc']
        result.checks += _moments(case, view, expected)
        if name == 'land' and f'val_uint8_{size}' in fixture.arrays:
            result.checks.append(
                compare(
                    f'{case}: pixels', view, fixture.arrays[f'val_uint8_{size}'], GREY, scale=255
                )
            )
    result.checks += _boxes(fixture.data['train']) + _training(fixture, pictures['land'])
    result.remark = f'{equal} of {len(cases)} validation crops equal byte for byte'
    return result


def picture(name: str) -> np.ndarray:
    """The picture that the fixture's crops were made of, uint8 [h, w, 3].

    The fixture only says that it is a sum of cosines with the seed 77. Frequencies, order of the
    coefficients and scale were fitted to the stored crops; the checksums say that it is the same in
    every byte.
    """
    factors = np.random.RandomState(77).uniform(-1, 1, [3, 8, 8])
    rows, columns = (
        np.cos(3 * np.pi / edge * np.outer(np.arange(edge) + 0.5, np.arange(8)))
        for edge in SHAPES[name]
    )
    x = np.einsum('ckl,yk,xl->yxc', factors, rows, columns)
    image = ((x - x.min()) / (np.ptp(x) + 1e-9) * 255).astype('uint8')
    image[(*PEAKS[name], 1)] = 255
    return image


def _moments(case: str, view: np.ndarray, expected: dict[str, Any]) -> list[Check]:
    """Mean and standard deviation per channel of a validation crop, of which not all pixels are
    stored.
    """
    values = view.reshape(-1, 3) / 255
    return [
        compare(f'{case}: mean', values.mean(0), expected['mean'], 1e-5, scale=1),
        compare(f'{case}: std', values.std(0, ddof=1), expected['std'], 1e-5, scale=1),
    ]


def _boxes(expected: dict[str, Any]) -> list[Check]:
    """Top, left, height and width of six random crops, read off an image whose pixels spell their
    place.
    """
    height, width = SHAPES['land']
    rows, columns = np.mgrid[:height, :width]
    chance = PublishedChance(8)
    boxes = []
    for _ in expected['boxes_top_left_h_w']:
        crop = area_crop.random_crop(np.stack([rows, columns], axis=-1), chance)  # type: ignore[arg-type]
        boxes.append([*crop[0, 0], *crop.shape[:2]])
    return [compare('training boxes', np.array(boxes), expected['boxes_top_left_h_w'], 0.0)]


def _training(fixture: Fixture, image: np.ndarray) -> list[Check]:
    """Views of the first box with their mirrors, all drawn as published: pixels of the smallest,
    means of all.
    """
    expected = fixture.data['train']['mean']
    views = augment.train_views(image, 'area_crop', SIZES, PublishedChance(8), antialias=True)  # type: ignore[arg-type]
    means = [
        compare(f'training mean {size}', view.mean() / 255, expected[str(size)], 1e-6, scale=1)
        for size, view in zip(SIZES, views)
    ]
    crop = area_crop.random_crop(image, PublishedChance(8))  # type: ignore[arg-type]
    mirrored = [
        not np.array_equal(*pair) for pair in zip(views, scaling.scale_antialiased(crop, SIZES))
    ]
    flips = [fixture.data['train']['flips_per_size'][str(size)] for size in SIZES]
    return [
        *means,
        compare('training mirrors', np.array(mirrored), np.array(flips), 0.0),
        compare('training pixels 96', views[-1], fixture.arrays['train_uint8_96'], GREY, scale=255),
    ]
