"""Codes of kernels give back every weight; levels of both signs are pairs."""

import numpy as np
import pytest

from engine.deployment.coding import coded
from engine.deployment.program import Codes, Floats

RNG = np.random.default_rng(2)

# Levels that each of three channels uses, and how many are stored.
CASES = {
    'pairs': ([[-2, -1, 1, 2], [-0.5, -0.25, 0.25, 0.5], [-7, -1, 1, 7]], 4),
    'a level is not used': ([[-2, -1, 1, 2], [-0.5, 0.25, 0.5], [-7, 1]], 4),
    'zeros': ([[-2, -1, 1, 2], [0], [-3, 0]], 4),
    'one sign': ([[-2, -1, 1, 2], [0.25, 0.5], [7]], 4),
    'one bit': ([[-2, 2], [-1], [0.5]], 2),
    'no pairs': ([[-2, -1, 0, 1], [-3, 0], [5, 6, 7]], 4),
    'three levels': ([[-2, 0, 2], [-3, 0, 1], [5]], 3),
}


@pytest.mark.parametrize('channels, count', CASES.values(), ids=CASES)
def test_every_weight_comes_back(channels, count):
    columns = [np.resize(np.float32(values), 36) for values in channels]
    kernel = RNG.permuted(np.stack(columns, axis=1), axis=0).reshape(3, 3, 4, 3)
    found = coded(kernel)
    assert isinstance(found, Codes) and found.levels.shape == (count, 3)
    np.testing.assert_array_equal(found.values, kernel)
    assert not np.any(np.diff(found.levels, axis=0) < 0)


@pytest.mark.parametrize('name', ['pairs', 'a level is not used', 'zeros', 'one sign', 'one bit'])
def test_levels_are_pairs_where_that_takes_no_more(name):
    channels, _ = CASES[name]
    columns = [np.resize(np.float32(values), 36) for values in channels]
    levels = coded(np.stack(columns, axis=1)).levels
    np.testing.assert_array_equal(levels, -levels[::-1])


def test_a_kernel_of_many_values_stays_as_it_is():
    kernel = RNG.normal(size=(3, 3, 40, 2)).astype(np.float32)
    assert isinstance(coded(kernel), Floats)
