"""Levels as small whole numbers: the best there are, exact in float32, and found again."""

import itertools

import numpy as np
import pytest

from quant import integers

# Largest sum of the whole numbers, by whether codes are -1 and +1.
MOST = {True: integers.SIGNED, False: integers.UNSIGNED}


def random_bases(bits, channels, *, low=1.2, high=2.6):
    """Bases [bits, channels] whose neighbours have ratios as training leaves them."""
    ratios = np.random.default_rng(bits).uniform(low, high, size=(bits, channels))
    return np.cumprod(ratios, axis=0)


def levels_of(basis, *, both_signs):
    """Ascending levels [L, C] of a basis [K, C], in float64."""
    values = (-1, 1) if both_signs else (0, 1)
    codes = np.array(list(itertools.product(values, repeat=len(basis))))
    return np.sort(codes @ basis.astype(np.float64), axis=0)


def worst_error(basis, whole, scale, *, both_signs):
    """Largest error of a level of each channel, relative to its largest level."""
    values = (-1, 1) if both_signs else (0, 1)
    codes = np.array(list(itertools.product(values, repeat=len(basis))))
    errors = np.abs(codes @ (basis - whole * scale)).max(axis=0)
    return errors / np.abs(levels_of(basis, both_signs=both_signs)).max(axis=0)


def smallest_error(basis, most, *, both_signs):
    """The same of the best of all pairs of whole numbers, each with its best scale.

    Of two levels at the best scale, one is exact or their errors are equal.
    """
    first, second = np.meshgrid(np.arange(most + 1), np.arange(most + 1))
    pairs = np.stack([first, second]).reshape(2, -1)
    pairs = pairs[:, (pairs.sum(axis=0) <= most) & (pairs.sum(axis=0) > 0)]
    least = np.inf
    total = basis.sum()
    with np.errstate(divide='ignore', invalid='ignore'):
        scales = [*(basis[:, None] / pairs), total / pairs.sum(axis=0)]
    for scale in scales:
        scale = np.where(np.isfinite(scale), scale, 1.0)
        one, two = basis[:, None] - pairs * scale
        errors = [np.abs(one), np.abs(two), np.abs(one + two)]
        if both_signs:
            errors = [np.abs(one + two), np.abs(one - two)]
        least = min(least, np.max(errors, axis=0).min())
    return least / total


@pytest.mark.parametrize('both_signs', [True, False])
@pytest.mark.parametrize('ratio', [1.0, 1.37, 2.0, 2.01, 2.3, 3.999, 17.2, 300.0])
def test_two_bits_get_the_best_of_all_pairs(ratio, both_signs):
    basis = 0.37 * np.array([[1.0], [ratio]])
    most = MOST[both_signs]
    whole, scale = integers.nearest(basis, most, both_signs=both_signs)
    found = worst_error(basis, whole, scale, both_signs=both_signs)
    best = smallest_error(basis[:, 0], most, both_signs=both_signs)
    assert np.abs(whole).sum() <= most
    # The scale is rounded to the bits that make levels exact.
    assert found[0] <= best + 2.0**-15


# Median and largest error, which facts/DEPLOY.md measured of another search.
@pytest.mark.parametrize(
    'bits, both_signs, median, largest',
    [
        (1, True, 1e-7, 1e-7),
        (1, False, 1e-7, 1e-7),
        (2, True, 9e-5, 4e-3),
        (2, False, 2.3e-5, 1.9e-3),
        (3, True, 1.1e-3, 5e-3),
        (3, False, 4e-4, 2.6e-3),
        (4, True, 2.7e-3, 7e-3),
        (4, False, 1.1e-3, 3.3e-3),
    ],
)
def test_errors_of_levels(bits, both_signs, median, largest):
    basis = random_bases(bits, 400)
    whole, scale = integers.nearest(basis, MOST[both_signs], both_signs=both_signs)
    errors = worst_error(basis, whole, scale, both_signs=both_signs)
    assert np.median(errors) <= median and errors.max() <= largest
    assert np.abs(whole).sum(axis=0).max() <= MOST[both_signs]


@pytest.mark.parametrize('both_signs', [True, False])
@pytest.mark.parametrize('bits', range(1, 9))
def test_snapped_levels_are_exact_and_stay(bits, both_signs):
    """Sums in float32 are whole multiples, with nothing left over; snapping again changes none."""
    basis = random_bases(bits, 30).astype(np.float32)
    snapped = integers.snapped(basis, both_signs=both_signs)
    assert snapped.dtype == np.float32
    np.testing.assert_array_equal(integers.snapped(snapped, both_signs=both_signs), snapped)
    levels = levels_of(snapped, both_signs=both_signs)
    np.testing.assert_array_equal(levels.astype(np.float32), levels)
    offset: object = 0
    if both_signs:
        found = integers.whole_or_half(levels.astype(np.float32), -128, integers.SIGNED)
        assert found is not None
        whole, scale, offset = found
        assert np.all(offset == 0) or bits == 8
    else:
        found = integers.whole(levels.astype(np.float32), 0, integers.UNSIGNED)
        assert found is not None
        whole, scale = found
    np.testing.assert_array_equal((whole + offset) * scale.astype(np.float64), levels)


def test_eight_bits_of_both_signs_lose_no_more_than_a_step():
    """The basis that training starts with stays; the levels of others move by half a step."""
    powers = 0.3 * 2.0 ** np.arange(8, dtype=np.float32)[:, None]
    # The scale is rounded to the bits that make levels exact.
    np.testing.assert_allclose(integers.snapped(powers, both_signs=True), powers, rtol=2.0**-16)
    basis = random_bases(8, 400, low=1.6, high=2.2).astype(np.float32)
    snapped = integers.snapped(basis, both_signs=True)
    before = levels_of(basis, both_signs=True)
    moved = np.abs(levels_of(snapped, both_signs=True) - before).max(axis=0) / before.max(axis=0)
    assert np.median(moved) < 0.0055 and moved.max() < 2 / 255


def test_a_negative_entry_leaves_seven_bits_for_activations():
    basis = np.float32([[-0.3], [1.1]])
    snapped = integers.snapped(basis, both_signs=False)
    whole, _ = integers.whole(levels_of(snapped, both_signs=False).astype(np.float32), -127, 127)
    assert whole.min() < 0 and np.abs(whole).max() <= 127
    np.testing.assert_allclose(snapped, basis, rtol=0.01)


def test_entries_of_zero_and_equal_ones():
    basis = np.float32([[0.0, 0.0, 0.75], [0.0, 0.5, 0.75]])
    for both_signs in (True, False):
        np.testing.assert_array_equal(integers.snapped(basis, both_signs=both_signs), basis)


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_uniform_levels_are_found(bits):
    """As those of LSQ: rounded products of a step."""
    steps = np.random.default_rng(bits).uniform(1e-3, 2, size=16).astype(np.float32)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    multiples = np.arange(low, high + 1, dtype=np.float32)[:, None]
    whole, scale = integers.whole(multiples * steps, -128, 127)
    np.testing.assert_array_equal(whole, np.broadcast_to(multiples, whole.shape))
    np.testing.assert_allclose(scale, steps, rtol=1e-6)


def test_levels_that_are_not_whole_are_not_found():
    levels = np.float32([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0**0.5 + 1]])
    assert integers.whole(levels, 0, 127) is None
    assert integers.whole(levels[:, :1], 0, 127) is not None
    # Whole, but too large.
    assert integers.whole(np.float32([[0.0], [1.0], [300.0]]), 0, 255) is None


@pytest.mark.parametrize('bits', range(1, 9))
def test_levels_around_zero_are_whole_numbers_and_a_half(bits):
    """Grids without a level at zero whose ends are -1 and 1; at 8 bits they need the half."""
    steps = np.random.default_rng(bits).uniform(1e-3, 2, size=16).astype(np.float32)
    most = 2**bits - 1
    odd = np.arange(-most, most + 1, 2, dtype=np.float32)[:, None]
    levels = odd / np.float32(most) * steps
    whole, scale, offset = integers.whole_or_half(levels, -128, 127)
    assert whole.min() >= -128 and whole.max() <= 127
    np.testing.assert_array_equal(offset, np.full(16, 0.5 if bits == 8 else 0))
    np.testing.assert_allclose((whole + offset) * scale, levels, rtol=1e-5)


def test_levels_that_are_neither_are_not_found():
    """Even and odd numbers beyond 127 are one too many for a half."""
    levels = np.float32([[-200, 1], [3, 2], [255, 3]])
    assert integers.whole_or_half(levels, -128, 127) is None
    whole, _, offset = integers.whole_or_half(levels[:, 1:], -128, 127)
    assert whole.ravel().tolist() == [1, 2, 3] and offset == [0]
    assert integers.whole_or_half(np.float32([[1], [2.0**0.5]]), -128, 127) is None
