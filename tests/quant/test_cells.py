"""Cells of values found in each of three ways, against numpy."""

import numpy as np
import pytest

from quant import cells
from quant.backend import tf

WAYS = {'compared': (255, 0), 'counted': (0, 255), 'searched': (0, 0)}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    compared, counted = WAYS[request.param]
    monkeypatch.setattr(cells, 'MAX_COMPARED', compared)
    monkeypatch.setattr(cells, 'MAX_COUNTED', counted)


def thresholds_of(count, channels):
    """[count, channels] ascending, some of them equal, one at zero, one without end."""
    rng = np.random.default_rng([count, channels])
    found = np.round(rng.normal(size=(count, channels)), 1)
    found[0] = -np.inf
    found[count // 2] = 0
    return np.sort(found, axis=0).astype('float32')


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('count', [1, 3, 15, 31, 255])
def test_a_value_lies_above_as_many_thresholds_as_its_cell_says(count, channels, way, run):
    edges = thresholds_of(count, channels)
    beside = np.nextafter(edges[1:], np.float32(np.inf), where=edges[1:] != 0, out=edges[1:].copy())
    ends = np.repeat(np.float32([[np.nan], [-0.0], [np.inf], [-np.inf], [9.0]]), channels, axis=1)
    x = np.concatenate([edges, beside, ends])  # [n, C]
    expected = (x[:, None] > edges).sum(1)  # [n, C]
    levels = np.arange((count + 1) * channels, dtype='float32').reshape(count + 1, channels)
    found = cells.at_levels(tf.constant(x), tf.constant(levels), tf.constant(edges))
    np.testing.assert_array_equal(run(found), np.take_along_axis(levels, expected, axis=0))


@pytest.mark.parametrize(
    'shape, count', [([64, 5], 1000), ([4, 300], 50), ([0, 3], 8), ([0, 30], 8)]
)
def test_there_are_never_more_sums_in_between_than_values_or_cells(shape, count, run):
    """A dense layer has a row of values per input, and cells of each output channel."""
    rng = np.random.default_rng(count)
    numbers = rng.integers(count, size=shape)
    values = rng.normal(size=shape).astype('float32')
    sums = cells.sums_of(tf.constant(values), tf.constant(numbers, tf.int32), count)
    counts = cells.counts_of(tf.constant(numbers, tf.int32), count)
    found, rows, counted = run([sums, sums.op.inputs[0], counts])
    np.testing.assert_allclose(found, np.bincount(numbers.ravel(), values.ravel(), count))
    np.testing.assert_array_equal(counted, np.bincount(numbers.ravel(), minlength=count))
    assert rows.size <= max(values.size, count)


@pytest.mark.parametrize('shape', [[0, 3], [2, 5, 3, 7]])
def test_sums_over_the_inner_cells(shape, way, run):
    x = np.random.default_rng(4).normal(size=shape).astype('float32')
    edges = thresholds_of(15, 1)
    placeholder = tf.placeholder(tf.float32, [None, *shape[1:]])
    values = cells.Cells(placeholder, tf.constant(edges)).inner_sums(2 * placeholder)
    index = np.searchsorted(edges[:, 0], x.ravel(), side='left')
    expected = np.bincount(index, 2 * x.ravel(), 16)[1:-1]
    found = run.session.run(values, {placeholder: x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
