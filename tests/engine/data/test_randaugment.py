"""RandAugment: operations against formulas in RGB, chance by scripted answers and by counting."""

import math

import numpy as np
import pytest
from PIL import Image

from engine.config.config import Config
from engine.data import randaugment
from engine.data.randaugment import OPERATIONS, RandAugment, apply, parse
from engine.errors import UsageError
from tests.engine.data.pictures import Scripted, noise

LUMA = np.array([0.299, 0.587, 0.114])  # of R, G, B
FILL = (124, 116, 104)


def applied(name: str, image: np.ndarray, level: float, *random: float) -> np.ndarray:
    return np.asarray(apply(name, Image.fromarray(image), level, Scripted(random=random)))


def blended(base: np.ndarray | float, image: np.ndarray, level: float) -> np.ndarray:
    factor = 1.8 * level + 0.1
    return np.clip(base + factor * (image.astype(float) - base), 0, 255)


def grey(rgb: np.ndarray) -> np.ndarray:
    return (rgb @ LUMA)[..., None].round()


def contrasted(rgb: np.ndarray) -> np.ndarray:
    low, high = rgb.min(axis=(0, 1)), rgb.max(axis=(0, 1))
    return (rgb.astype(float) - low) * 255 / (high.astype(float) - low)


def equalized(channel: np.ndarray) -> np.ndarray:
    counts = np.bincount(channel.ravel(), minlength=256)
    step = (channel.size - counts[channel.max()]) // 255
    return np.minimum((step // 2 + np.cumsum(counts) - counts) // step, 255)[channel]


EXACT = (
    'Equalize',
    'Invert',
    'Posterize',
    'Solarize',
    'SolarizeAdd',
)  # in the others Pillow cuts fractions off
BY_FORMULA = {
    'AutoContrast': lambda x, level: contrasted(x),
    'Equalize': lambda x, level: np.stack([equalized(x[..., k]) for k in range(3)], axis=-1),
    'Invert': lambda x, level: 255 - x,
    'Posterize': lambda x, level: (
        x.astype(int) // 2 ** (8 - int(4 * level)) * 2 ** (8 - int(4 * level))
    ),
    'Solarize': lambda x, level: np.where(x < int(256 * level), x, 255 - x),
    'SolarizeAdd': lambda x, level: np.where(
        x < 128, np.minimum(x.astype(int) + int(110 * level), 255), x
    ),
    'Color': lambda x, level: blended(grey(x), x, level),
    'Contrast': lambda x, level: blended(round(float(grey(x).mean())), x, level),
    'Brightness': lambda x, level: blended(0.0, x, level),
}


@pytest.mark.parametrize('level', [0.0, 0.2, 0.5, 0.87, 0.9, 1.0])
@pytest.mark.parametrize('name', BY_FORMULA)
def test_colours_follow_the_published_scales(name, level):
    image = noise(30, 40) // 2 + 40
    expected = BY_FORMULA[name](image, level)
    assert np.abs(applied(name, image, level).astype(float) - expected).max() <= (
        0 if name in EXACT else 2
    )


def test_sharpness_blurs_below_a_factor_of_one():
    image = noise(40, 40)
    spread = [applied('Sharpness', image, level).std() for level in (0.0, 0.5, 0.9)]
    assert spread[0] < spread[1] < spread[2]
    np.testing.assert_array_equal(applied('Sharpness', image, 0.5), image)


# Output row and column, relative to the centre where there is one -> source row and column.
SOURCES = {
    'ShearX': lambda y, x, v: (y, x + 0.3 * v * y),
    'ShearY': lambda y, x, v: (y + 0.3 * v * x, x),
    'TranslateXRel': lambda y, x, v: (y, x + 0.45 * v * 60),
    'TranslateYRel': lambda y, x, v: (y + 0.45 * v * 50, x),
    'Rotate': lambda y, x, v: (
        25 + (y - 25) * math.cos(math.radians(30 * v)) + (x - 30) * math.sin(math.radians(30 * v)),
        30 + (x - 30) * math.cos(math.radians(30 * v)) - (y - 25) * math.sin(math.radians(30 * v)),
    ),
}


@pytest.mark.parametrize('sign', [-1, 1])
@pytest.mark.parametrize('bicubic', [False, True])
@pytest.mark.parametrize('name', SOURCES)
def test_places_move_by_the_published_amounts_and_are_filled(name, bicubic, sign):
    rows, columns = np.mgrid[:50, :60] + 0.5
    ramp = np.stack([rows * 4, columns * 4, np.full_like(rows, 200)], axis=-1).astype(np.uint8)
    moved = applied(name, ramp, 0.9, 0.2 if sign < 0 else 0.7, 0.2 if bicubic else 0.7).astype(
        float
    )
    y, x = SOURCES[name](rows, columns, 0.9 * sign)
    inside = (y > 2) & (y < 48) & (x > 2) & (x < 58)
    assert inside.mean() > 0.4
    assert (
        np.abs(moved[..., 0] - 4 * y)[inside].max() < 3
        and np.abs(moved[..., 1] - 4 * x)[inside].max() < 3
    )
    outside = (y < -1) | (y > 51) | (x < -1) | (x > 61)
    assert outside.any() and (moved[outside] == FILL).all()


@pytest.mark.parametrize('name', SOURCES)
def test_the_filter_is_drawn(name):
    image = noise(50, 60)
    bicubic, bilinear = (applied(name, image, 0.83, 0.7, draw).astype(float) for draw in (0.2, 0.7))
    assert bicubic.std() > bilinear.std()


def test_there_are_the_published_operations():
    assert set(OPERATIONS) == set(BY_FORMULA) | set(SOURCES) | {'Sharpness'}
    assert len(OPERATIONS) == 15


def one(name: str, image: np.ndarray) -> np.ndarray:
    """RandAugment that draws this operation at magnitude 9, unchanged sign and the
    bilinear filter.
    """
    rng = Scripted(integers=[OPERATIONS.index(name)], random=[0.4, 0.7, 0.7], normal=[9.0])
    return RandAugment(operations=1, magnitude=9)(image, rng)


def test_arrays_are_bgr():
    """Weights of the grey value, and what is filled in, belong to RGB."""
    image = noise(20, 20) // 2 + 40
    rgb = image[..., ::-1]
    assert np.abs(one('Color', image)[..., ::-1] - blended(grey(rgb), rgb, 0.9)).max() <= 2
    assert one('TranslateXRel', image)[10, -1].tolist() == list(FILL[::-1])


def test_operations_follow_each_other_as_drawn():
    image = noise(9, 7)
    solarize, invert, posterize = (
        OPERATIONS.index(name) for name in ('Solarize', 'Invert', 'Posterize')
    )
    rng = Scripted(
        integers=[solarize, invert, posterize], random=[0.49, 0.51, 0.1], normal=[9.3, 14.0]
    )
    result = RandAugment(operations=3, magnitude=9, deviation=0.5)(image, rng)
    once = np.where(image < int(25.6 * 9.3), image, 255 - image)
    np.testing.assert_array_equal(
        result, once // 16 * 16
    )  # magnitude 14 is clipped to 10: 4 bits stay
    assert rng.asked == [15, (9, 0.5), (9, 0.5)] and not any(rng.answers.values())


def test_magnitudes_are_clipped_at_0():
    rng = Scripted(integers=[OPERATIONS.index('Posterize')], random=[0.1], normal=[-1.0])
    assert not RandAugment(operations=1, magnitude=0)(noise(5, 5), rng).any()


def test_operations_are_drawn_evenly_with_replacement(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        randaugment,
        'apply',
        lambda name, picture, level, rng: drawn.append((name, level)) or picture,
    )
    augment, image = parse('rand-m9-mstd0.5'), noise(2, 2)
    chosen = []
    for k in range(3000):
        drawn.clear()
        np.testing.assert_array_equal(augment(image, np.random.default_rng(k)), image)
        chosen.append(list(drawn))
    counts = [sum(name == op for ops in chosen for name, _ in ops) for op in OPERATIONS]
    assert np.abs(np.array(counts) - 200).max() < 4 * 200**0.5
    assert np.abs(np.bincount([len(ops) for ops in chosen]) / 3000 - [0.25, 0.5, 0.25]).max() < 0.04
    assert any(len(ops) == 2 and ops[0][0] == ops[1][0] for ops in chosen)
    levels = np.array([level for ops in chosen for _, level in ops])
    assert (
        levels.max() == 1 and abs(levels.mean() - 0.9) < 0.005 and abs(levels.std() - 0.05) < 0.005
    )


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (28, 28), (33, 20)])
def test_any_image_survives_and_is_not_written_to(shape):
    image = noise(*shape)
    image.flags.writeable = False
    for k in range(60):
        first, again = (
            parse('rand-m5-n4-mstd5')(image, np.random.default_rng(k)) for _ in range(2)
        )
        assert first.shape == image.shape and first.dtype == np.uint8
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    'spec, expected',
    [
        ('rand-m9-mstd0.5', (2, 9, 0.5)),
        ('rand-mstd1-n3-m4', (3, 4, 1)),
        ('rand', (2, 10, 0)),
        ('rand-m0', (2, 0, 0)),
    ],
)
def test_spelling(spec, expected):
    assert parse(spec) == RandAugment(*expected)
    assert hash(parse(spec)) == hash(RandAugment(*expected))
    Config.from_values(randaugment=spec, erasing=0.2).check()


@pytest.mark.parametrize(
    'spec',
    [
        'rand-m11',
        'rand-n0',
        'rand-n1.5',
        'rand-m9-m8',
        'rand-m9-inc1',
        'rand-m9-w0',
        'augmix-m3',
        'v0',
        'rand-',
        'rand-m',
        'rand m9',
        'rand-m-9',
        'rand-mstd1.5.2',
        ' rand-m9',
        'm9-rand',
        'rand-mstd0..5',
    ],
)
def test_other_spellings_are_refused(spec):
    with pytest.raises(ValueError, match='expected rand, .* as in rand-m9-mstd0.5'):
        parse(spec)
    with pytest.raises(UsageError, match=f'^--randaugment {spec}: expected rand'):
        Config.from_values(randaugment=spec).check()
