"""Statistics of untrained sizes.

Whom they are borrowed from, what is interpolated and what is not touched.
"""

import numpy as np
import pytest

from engine.errors import UsageError
from engine.runs.untrained_sizes import lend, nearest, neighbours
from quant.state import Kind, State

TRAINED = (224, 192, 160, 128, 96)
RNG = np.random.default_rng(0)
PARTS = ('gamma', 'beta', 'mean/EMA', 'variance/EMA')


@pytest.mark.parametrize(
    'size, expected',
    [
        (224, 224),
        (96, 96),
        (300, 224),
        (8, 96),
        (209, 224),
        (207, 192),
        (208, 192),
        (176, 160),
        (112, 96),
        (113, 128),
    ],
)
@pytest.mark.parametrize('order', [1, -1])
def test_nearest_and_of_two_the_smaller(size, expected, order):
    assert nearest(size, TRAINED[::order]) == expected


@pytest.mark.parametrize(
    'size, expected',
    [
        (208, (192, 224)),
        (97, (96, 128)),
        (223, (192, 224)),
        (160, (160, 160)),
        (96, (96, 96)),
        (224, (224, 224)),
    ],
)
@pytest.mark.parametrize('order', [1, -1])
def test_neighbours(size, expected, order):
    assert neighbours(size, TRAINED[::order]) == expected


@pytest.mark.parametrize('size', [95, 225, 8])
def test_no_neighbours_outside(size):
    with pytest.raises(
        UsageError, match=rf'interpolate: {size} does not lie between .* 224 192 160 128 96.*proxy'
    ):
        neighbours(size, TRAINED)


def values(sizes=(24, 16)):
    """Two normalisations per size, private and shared quantizers, kernels, rests of a training."""
    found = {
        f'{scope}/s{size}/{part}': RNG.normal(size=3).astype('float32')
        for scope in ('conv0/bn', 'group0/block0/conv1/bn')
        for size in sizes
        for part in PARTS
    }
    found |= {
        f'group0/block0/{scope}/s{size}/basis': RNG.normal(size=(2, 1)).astype('float32')
        for scope in ('quant2', 'conv1/weight_quant')
        for size in sizes
    }
    found |= {
        name: RNG.normal(size=(2, 2)).astype('float32')
        for name in ('conv0/W', 'linear/W', 'group0/quant_last/basis', 'group0/block0/conv1/slope')
    }
    return found | {'global_step': np.int64(6), 's24': np.float32(1)}


def private(found, size):
    return {name for name in found if f'/s{size}/' in name}


def declared(*sizes):
    """Declarations of the variables of a network at these sizes."""
    found = {}
    for size in sizes:
        for name in private(values((size,)), size):
            kind = Kind.TRAINED
            if name.endswith('/EMA'):
                kind = Kind.MOVING
            elif name.endswith('/basis'):
                kind = Kind.QUANTIZER
            found[name] = State(kind, f's{size}', shared=name.replace(f'/s{size}/', '/'))
    for name in ('conv0/W', 'linear/W', 'group0/quant_last/basis', 'group0/block0/conv1/slope'):
        found[name] = State(Kind.TRAINED, shared=name)
    return found


@pytest.mark.parametrize('lender', [24, 16])
@pytest.mark.parametrize('size', [20, 8, 99])
def test_proxy_takes_everything_from_one_size(lender, size):
    given = values()
    lent = lend(given, declared(size), {size: (lender,)})
    assert set(lent) == {
        name.replace(f'/s{lender}/', f'/s{size}/') for name in private(given, lender)
    }
    assert len(lent) == 2 * 4 + 2
    for name, value in lent.items():
        np.testing.assert_array_equal(value, given[name.replace(f'/s{size}/', f'/s{lender}/')])


@pytest.mark.parametrize('size, share', [(20, 0.5), (18, 0.25), (22, 0.75), (16, 0), (24, 1)])
@pytest.mark.parametrize('order', [1, -1])
def test_interpolation_is_linear_in_the_size(size, share, order):
    given = values()
    lent = lend(given, declared(size), {size: (16, 24)[::order]})
    for scope in ('conv0/bn', 'group0/block0/conv1/bn'):
        for part in PARTS:
            low = given[f'{scope}/s16/{part}']
            high = given[f'{scope}/s24/{part}']
            found = lent[f'{scope}/s{size}/{part}']
            expected = ((1 - share) * low + share * high).astype('float32')
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == np.float32


@pytest.mark.parametrize('size, near', [(18, 16), (20, 16), (22, 24)])
def test_bases_are_those_of_the_nearer_size(size, near):
    """Half-way it is the smaller one."""
    given = values()
    lent = lend(given, declared(size), {size: (16, 24)})
    for scope in ('quant2', 'conv1/weight_quant'):
        name = f'group0/block0/{scope}/s{{}}/basis'
        np.testing.assert_array_equal(lent[name.format(size)], given[name.format(near)])
    assert len(lent) == 10 and all(f'/s{size}/' in name for name in lent)


def test_only_names_of_the_lent_size_are_made():
    given = values((24, 16, 12))
    copies = {name: np.copy(value) for name, value in given.items()}
    lent = lend(given, declared(24, 20), {20: (16, 24)})
    assert private(lent, 20) == set(lent)
    assert set(given) == set(copies)
    assert all(np.array_equal(given[name], copies[name]) for name in given)


@pytest.mark.parametrize('lenders', [(28,), (280,), (28, 280)])
def test_sizes_with_a_common_beginning(lenders):
    given = values((280, 28, 2800, 8))
    lent = lend(given, declared(154), {154: lenders})
    assert len(lent) == 10 and private(lent, 154) == set(lent)
    means = [given[f'conv0/bn/s{lender}/mean/EMA'].astype('float64') for lender in lenders]
    expected = np.mean(means, axis=0)
    np.testing.assert_allclose(lent['conv0/bn/s154/mean/EMA'], expected, rtol=1e-6)
    near = f'group0/block0/quant2/s{min(lenders)}/basis'
    np.testing.assert_array_equal(lent['group0/block0/quant2/s154/basis'], given[near])


def test_every_point_of_a_size_borrows_from_its_own_counterpart():
    """Of a network with two axes; what the lender lacks is left out."""
    given = {}
    variables = {}
    for width in (0, 3):
        for size in (24, 16):
            given[f'bn/s{size}-w0{width}/mean/EMA'] = np.float32([size, width])
        name = f'bn/s20-w0{width}/mean/EMA'
        variables[name] = State(Kind.MOVING, f's20-w0{width}', shared='bn/mean/EMA')
    variables['bn/s20-w05/gamma'] = State(Kind.TRAINED, 's20-w05', shared='bn/gamma')
    lent = lend(given, variables, {20: (16,)})
    assert {name: value.tolist() for name, value in lent.items()} == {
        'bn/s20-w00/mean/EMA': [16, 0],
        'bn/s20-w03/mean/EMA': [16, 3],
    }
    between = lend(given, variables, {20: (16, 24)})
    assert between['bn/s20-w03/mean/EMA'].tolist() == [20, 3]
