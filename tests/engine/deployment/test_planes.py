"""Bit planes, and the codes that kernels of several precisions share."""

import numpy as np
import pytest

from engine.deployment import planes
from engine.deployment.coding import coded
from engine.deployment.program import Codes

RNG = np.random.default_rng(4)


@pytest.mark.parametrize('bits', range(1, 9))
@pytest.mark.parametrize('count', [1, 7, 8, 9, 64, 1001])
def test_the_first_planes_are_codes_without_their_last_bits(bits, count):
    codes = RNG.integers(2**bits, size=count).astype(np.uint8)
    stored = planes.to_planes(codes, bits)
    assert [len(plane) for plane in stored] == [-(-count // 8)] * bits
    for number, plane in enumerate(stored):
        for place in range(count):
            bit = plane[place // 8] >> place % 8 & 1
            assert bit == codes[place] >> bits - 1 - number & 1
    for kept in range(bits + 1):
        found = planes.from_planes(stored[:kept], count)
        np.testing.assert_array_equal(found, codes >> bits - kept)


def nested(shape, bits=(2, 3, 4), levels=None):
    """Kernels of several precisions whose codes are leading bits of one another."""
    most = max(bits)
    codes = RNG.integers(2**most, size=shape).astype(np.uint8)
    if levels is not None:
        codes = RNG.choice(levels, size=shape).astype(np.uint8)
    channels = np.arange(shape[-1])
    found = {}
    for count in bits:
        table = np.sort(RNG.normal(size=(2**count, shape[-1])).astype(np.float32), axis=0)
        found[f'b{count}'] = table[codes >> most - count, channels]
    return found


def read(one, name):
    """The values of a kernel by what is stored of it."""
    table = one.tables[name]
    bits = planes.bits_of(len(table))
    stored = planes.to_planes(one.codes, one.bits)[:bits]
    codes = planes.from_planes(stored, one.codes.size).reshape(one.codes.shape)
    return Codes(codes, table).values


@pytest.mark.parametrize('levels', [None, [0, 1, 5, 6, 7, 15], [2, 9], [0, 15], [8, 9, 10, 11, 15]])
@pytest.mark.parametrize('order', [('b4', 'b3', 'b2'), ('b2', 'b4', 'b3')])
def test_nested_kernels_share_codes(levels, order):
    """Also where channels use few levels, so that their ranks are no codes of a quantizer."""
    values = nested((3, 3, 40, 5), levels=levels)
    kernels = {name: coded(values[name]) for name in order}
    assert all(isinstance(kernel, Codes) for kernel in kernels.values())
    (one,) = planes.shared(kernels)
    assert set(one.tables) == set(order)
    assert one.bits <= 4
    if levels is None:
        assert [len(one.tables[name]) for name in ('b2', 'b3', 'b4')] == [4, 8, 16]
    for name in order:
        assert read(one, name).tobytes() == values[name].tobytes()
        assert not np.isnan(one.tables[name]).any()
        assert (np.diff(one.tables[name], axis=0) >= 0).all()


def test_kernels_that_are_not_nested_have_codes_of_their_own():
    values = nested((3, 3, 40, 5))
    other = nested((3, 3, 40, 5))
    values['b4'][2, 2, 39, 4] = values['b4'].max()
    values['b2'][2, 2, 39, 4] = values['b2'][..., 4].min()
    kernels = {name: coded(value) for name, value in values.items()}
    kernels |= {f'other {name}': coded(value) for name, value in other.items()}
    found = planes.shared(kernels)
    together = sorted(sorted(one.tables) for one in found)
    assert ['other b2', 'other b3', 'other b4'] in together
    assert ['b2', 'b3', 'b4'] not in together
    for one in found:
        for name in one.tables:
            assert read(one, name).tobytes() == kernels[name].values.tobytes()


def test_a_coarse_level_with_more_fine_ones_than_bits_tell_apart():
    """Of four fine levels three lie in one coarse one: 3 bits for both, or 1 and 2."""
    fine = np.float32([0, 1, 2, 3])[RNG.integers(4, size=(300, 1))]
    coarse = np.where(fine < 3, np.float32(-1), np.float32(1))
    found = planes.shared({'fine': coded(fine), 'coarse': coded(coarse)})
    assert [one.bits for one in found] == [1, 2]


def test_fine_levels_in_another_order_than_coarse_ones():
    """As levels are that were learned."""
    fine = np.float32([0, 1, 2, 3])[RNG.integers(4, size=(300, 1))]
    coarse = np.float32([1, 0, 1, 0])[fine.astype(int)]
    (one,) = planes.shared({'fine': coded(fine), 'coarse': coded(coarse)})
    assert one.bits == 2
    assert read(one, 'fine').tobytes() == fine.tobytes()
    assert read(one, 'coarse').tobytes() == coarse.tobytes()


def test_three_levels_take_two_planes():
    kernel = np.float32([-1, 0, 1])[RNG.integers(3, size=(100, 2))]
    (one,) = planes.shared({'a': coded(kernel)})
    assert one.bits == 2 and len(one.tables['a']) == 3
    assert read(one, 'a').tobytes() == kernel.tobytes()
