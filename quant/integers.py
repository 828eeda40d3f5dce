"""Bases whose levels are small whole numbers times a scale: what integer arithmetic can compute.

A basis of K entries has K - 1 free ratios. Whole numbers are found whose ratios are nearest to
them; those of two entries are the best rational approximation. The scale is rounded to so few bits
that every level is exact in float32.
"""

import numpy as np

# Entries of a basis whose levels of both signs are whole numbers and a half: 256 of them.
BITS = 8

# Largest level in 8 bits, of both signs and of one.
SIGNED = 127
UNSIGNED = 255

# Bits of the significand of a float32.
_SIGNIFICANT = 24

# Levels are whole multiples of a scale if they lie so near to them, relative to the largest: what
# sums in float32 leave.
EXACT = 1e-6


def snapped(basis: np.ndarray, *, both_signs: bool) -> np.ndarray:
    """The basis [K, C] float32 nearest to one whose levels fit into 8 bits.

    Args:
        basis: [K, C] float32.
        both_signs: whether codes are -1 and +1; else 0 and 1.

    >>> basis = snapped(np.float32([[0.31], [0.62001]]), both_signs=True)
    >>> print(float(basis[1, 0] / basis[0, 0]))
    2.0
    """
    most = UNSIGNED
    odd = both_signs and len(basis) == BITS
    if not odd and (both_signs or (basis < 0).any()):
        most = SIGNED
    integers, scale = nearest(basis, most, both_signs=both_signs, odd=odd)
    return (integers * scale).astype(np.float32)


def nearest(
    basis: np.ndarray, most: int, *, both_signs: bool, odd: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers and a scale for each channel with the smallest error of a level.

    Args:
        basis: [K, C].
        most: largest sum of the magnitudes of the whole numbers of a channel.
        both_signs: whether codes are -1 and +1; else 0 and 1.
        odd: whether that sum, and so every level of both signs, is to be an odd number.

    Returns:
        int64 [K, C] without a common divisor, and float64 [C].
    """
    basis = basis.astype(np.float64)
    sums = np.abs(basis).sum(axis=0)  # [C]
    found = np.zeros(basis.shape, np.int64)
    scales = np.ones_like(sums)
    least = np.full_like(sums, np.inf)
    # At the best scale an entry is exact, or their sum is.
    for exact in (*np.abs(basis), sums):
        scale = _candidates(exact, sums, most)  # [J, C]
        integers = np.rint(basis[:, None] / scale)  # [K, J, C]
        error = _worst(basis[:, None] - integers * scale, both_signs=both_signs)  # [J, C]
        totals = np.abs(integers).sum(axis=0)  # [J, C]
        refused = totals > most
        if odd:
            refused |= totals % 2 == 0
        error = np.where(refused, np.inf, error)
        best = error.argmin(axis=0)  # [C]
        channels = np.arange(len(best))
        better = error[best, channels] < least
        least = np.where(better, error[best, channels], least)
        scales = np.where(better, scale[best, channels], scales)
        found = np.where(better, integers[:, best, channels].astype(np.int64), found)
    common = np.maximum(np.gcd.reduce(found, axis=0), 1)  # [C]
    found //= common
    return found, _rounded(scales * common, np.abs(found).sum(axis=0))


def _candidates(exact: np.ndarray, sums: np.ndarray, most: int) -> np.ndarray:
    """Scales [J, C] of which a quantity is a whole multiple.

    Whole numbers of less than half of the largest sum are left out: twice as many do no worse.

    Args:
        exact: the quantity, [C], at least 0.
        sums: of the magnitudes of the entries, [C].
        most: largest sum of the whole numbers.
    """
    share = exact / np.maximum(sums, np.finfo(np.float64).tiny)  # [C]
    first = np.maximum(np.floor(share * most / 2), 1)
    counts = first + np.arange(most // 2 + 2)[:, None]  # [J, C]
    scale = exact / counts
    return np.where(scale > 0, scale, np.where(sums > 0, sums, 1.0))


def _worst(errors: np.ndarray, *, both_signs: bool) -> np.ndarray:
    """Largest error of a level [J, C] where those of the entries are [K, J, C]."""
    if both_signs:
        return np.abs(errors).sum(axis=0)
    above = np.maximum(errors, 0).sum(axis=0)
    below = np.maximum(-errors, 0).sum(axis=0)
    return np.maximum(above, below)


def _rounded(scales: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Scales of which multiples up to a sum are exact in float32, [C] each."""
    bits = _SIGNIFICANT - np.ceil(np.log2(np.maximum(sums, 1)))
    mantissa, exponent = np.frexp(scales)
    return np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent)


def whole(levels: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The smallest whole numbers and the scale of each channel that give its levels.

    Args:
        levels: [L, C] float32.
        low: smallest whole number allowed.
        high: largest.

    Returns:
        int64 [L, C] and float32 [C]; None where there are none.

    >>> whole(np.float32([[-0.75], [-0.25], [0.5]]), -128, 127)
    (array([[-3],
           [-1],
           [ 2]]), array([0.25], dtype=float32))
    """
    exact = levels.astype(np.float64)
    largest = np.abs(exact).max(axis=0)  # [C]
    found = np.zeros(levels.shape, np.int64)
    scales = np.ones_like(largest)
    missing = largest > 0
    for count in range(1, max(-low, high) + 1):
        if not missing.any():
            break
        scale = np.where(missing, largest / count, 1.0)
        integers = np.rint(exact / scale)
        far = np.abs(integers * scale - exact).max(axis=0) > EXACT * largest
        outside = (integers.min(axis=0) < low) | (integers.max(axis=0) > high)
        fits = missing & ~far & ~outside
        found = np.where(fits, integers.astype(np.int64), found)
        scales = np.where(fits, scale, scales)
        missing &= ~fits
    if missing.any():
        return None
    return found, scales.astype(np.float32)


def whole_or_half(
    levels: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Whole numbers, scale and offset of each channel: ``(whole + offset) * scale`` are its levels.

    256 levels of both signs, a step apart and none of them zero, are whole numbers and a half.

    Args:
        levels: [L, C] float32.
        low: smallest whole number allowed.
        high: largest.

    Returns:
        int64 [L, C], float32 [C], and float32 [C] of 0 and 0.5; None where there are none.

    >>> levels = np.float32([[-255], [-253], [1], [255]])
    >>> numbers, scale, offset = whole_or_half(levels, -128, 127)
    >>> print(numbers.ravel(), scale, offset)
    [-128 -127    0  127] [2.] [0.5]
    """
    found = whole(levels, 2 * low + 1, 2 * high + 1)
    if found is None:
        return None
    numbers, scales = found
    outside = (numbers.min(axis=0) < low) | (numbers.max(axis=0) > high)  # [C]
    odd = numbers % 2 == 1
    if not odd.all(axis=0)[outside].all():
        return None
    halved = np.where(outside, numbers // 2, numbers)
    factor = np.where(outside, 2, 1)
    return halved, (scales * factor).astype(np.float32), np.where(outside, np.float32(0.5), 0)
