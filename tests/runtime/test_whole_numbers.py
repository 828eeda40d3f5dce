"""Convolutions of whole numbers: equal to the interpreter, whatever levels and shapes there are."""

import numpy as np
import pytest

from engine.deployment import program
from tests.runtime.programs import Built, check

# Levels of activations: some that tables of sums take, with one plane or two, and others.
INPUTS = {
    'one bit': [0, 1],
    'one bit of any size': [0, 201],
    'both signs': [-1, 1],
    'ternary': [-1, 0, 1],
    'uniform': [0, 1, 2, 3],
    'uniform of any size': [0, 85, 170, 255],
    'two planes': [0, 37, 218, 255],
    'two planes, three levels': [0, 99, 250],
    'the largest of one plane': [0, 4, 9, 15],
    'no planes': [0, 3, 200, 255],
    'no zero': [5, 9, 11, 254],
    'four of both signs': [-128, -5, 0, 127],
    'four bits': list(range(16)),
    'eight bits': list(range(256)),
    'eight bits of both signs': list(range(-128, 128)),
}
# Levels of kernels, of every channel, times a number of its own.
KERNELS = {
    'one bit': [-1, 1],
    'one bit, one sign': [3, 5],
    'ternary': [-1, 0, 1],
    'two bits': [-3, -1, 1, 3],
    'two bits of any size': [-63, -11, 11, 63],
    'two bits, uniform': [-2, -1, 0, 1],
    'no pairs': [-31, -1, 2, 60],
    'four bits': list(range(-8, 8)),
    'eight bits': list(range(-128, 128)),
}
# side, inputs, outputs, window, stride, groups
SHAPES = [
    (6, 16, 32, 3, 1, 1),
    (7, 8, 40, 3, 2, 1),
    (5, 3, 5, 1, 1, 1),
    (5, 6, 17, 3, 1, 1),
    (3, 5, 33, 5, 1, 1),
    (4, 16, 48, 1, 2, 1),
    (5, 12, 16, 3, 1, 4),
    (5, 10, 66, 3, 2, 2),
    (5, 19, 19, 3, 1, 19),
    (6, 35, 35, 5, 2, 35),
    (1, 64, 32, 3, 1, 1),
]


def images_of(side, channels=3, count=2):
    rng = np.random.default_rng(side)
    return rng.integers(256, size=(count, side, side, channels), dtype=np.uint8)


def convolved(inputs, kernel, shape, seed=1, as_codes=True):
    """A program of a quantizer, and a convolution of what it gives."""
    side, c, o, window, stride, groups = shape
    built = Built(side, seed)
    built.activation(inputs, c)
    codes = built.rng.integers(len(kernel), size=(window, window, c // groups, o))
    factors = np.ones(o)
    if max(np.abs(kernel)) <= 31:
        factors = built.rng.choice([1, 2, 4], size=o)
    levels = np.asarray(kernel)[:, None] * factors
    part = built.coded(codes, levels)
    if not as_codes:
        part = built.part(np.take_along_axis(levels, codes.reshape(-1, o), 0).reshape(codes.shape))
    built.add(
        program.IntegerConvolution,
        kernel=part,
        stride=stride,
        pads=program.same_pads((side, side), (window, window), (stride, stride)),
        same=True,
        groups=groups,
    )
    return built


@pytest.mark.parametrize('inputs', INPUTS)
@pytest.mark.parametrize('kernel', KERNELS)
def test_levels(opened, inputs, kernel):
    built = convolved(INPUTS[inputs], KERNELS[kernel], SHAPES[0])
    check(opened, built, images_of(SHAPES[0][0]))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('inputs', ['uniform', 'two planes', 'both signs', 'eight bits'])
@pytest.mark.parametrize('as_codes', [True, False])
def test_shapes(opened, shape, inputs, as_codes):
    built = convolved(INPUTS[inputs], KERNELS['two bits, uniform'], shape, as_codes=as_codes)
    check(opened, built, images_of(shape[0]))


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('shape', SHAPES[:3])
def test_rows_of_tiles_are_shared_among_threads(opened, kernel, shape):
    built = convolved(INPUTS['two planes'], KERNELS[kernel], shape)
    check(opened, built, images_of(shape[0]), threads=3)


def test_sums_of_extreme_numbers(opened):
    """Every product the largest there is, in sums of 4608 of them: no step of 8 or 16 bits holds
    them.
    """
    for kernel in ([-128, 127], [-127, -1, 1, 127]):
        built = Built(4)
        built.activation([254, 255], 512)
        codes = built.rng.integers(len(kernel), size=(3, 3, 512, 32))
        codes[..., 0] = 0
        codes[..., 1] = len(kernel) - 1
        levels = np.repeat(np.asarray(kernel)[:, None], 32, axis=1)
        built.add(
            program.IntegerConvolution,
            kernel=built.coded(codes, levels),
            stride=1,
            pads=(1, 1, 1, 1),
            same=True,
            groups=1,
        )
        check(opened, built, images_of(4, count=1))


def test_an_affine_function_and_a_quantizer_behind_a_sum(opened):
    """Thresholds that sums meet: a tie goes below."""
    built = convolved([0, 1, 2, 3], [-1, 0, 1], SHAPES[1])
    o = SHAPES[1][2]
    signs = built.rng.choice([-1.0, 1.0], size=o)
    built.add(program.Affine, scale=built.part(signs), shift=built.part(np.zeros(o)))
    built.add(
        program.Encode,
        thresholds=built.part([-2, 0, 3]),
        levels=built.part([0, 10, 20, 30]),
        signed=False,
    )
    check(opened, built, images_of(SHAPES[1][0]))


def test_rows(opened):
    """A head of whole numbers behind a pool of all positions' largest."""
    built = Built(5)
    built.activation([0, 3, 5, 8], 21)
    built.add(
        program.Pool, function='max', window=(5, 5), stride=(1, 1), pads=(0, 0, 0, 0), same=False
    )
    built.add(program.ToRows)
    codes = built.rng.integers(256, size=(21, 37))
    levels = np.repeat(np.arange(-128, 128)[:, None], 37, axis=1)
    built.add(program.IntegerDense, kernel=built.coded(codes, levels))
    built.add(program.ToImages)
    check(opened, built, images_of(5))
