"""LQ quantizer against brute force in float64, and the laws of any basis and input.

Bases are whole 32nds, so that levels and thresholds are exact in float32 and distance finds the
nearest level.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant import cells
from quant.backend import tf
from quant.lq import levels as lq
from quant.lq import refit
from quant.straight_through import straight_through_inside
from tests.conftest import Runner

BITS = range(1, 9)
LOWS = {'weight': -1, 'activation': 0}
BOUNDARY = 5, 6
each_bits = pytest.mark.parametrize('bits', BITS)
each_kind = pytest.mark.parametrize('low', LOWS.values(), ids=LOWS.keys())


class Tower:
    """Stands for ``quant.scope.Quantization``: remembers what a quantizer reports."""

    compiles = False

    def __init__(self, seen=None):
        self.seen = seen

    def once(self, make):
        return make()

    def variable(self, name, shape, *, initializer, trainable=False, **_):
        return tf.get_variable(name, shape=shape, initializer=initializer, trainable=trainable)

    def collect(self, *row):
        self.seen.append(row)

    def report(self, make):
        self.codebook = make()


def start_basis(bits, channels=1, step=0.25):
    """Ascending powers of two, other in every channel."""
    return (step * 2.0 ** np.arange(bits)[:, None] * 2.0 ** np.arange(channels)).astype('float32')


def any_basis(rng, bits, channels):
    """Unsorted, with negative, zero and equal entries."""
    basis = rng.integers(-12, 33, size=(bits, channels)) / 32
    basis[bits // 2] = basis[0]
    return basis.astype('float32')


def oracle_grid(basis, low):
    """Per channel sorted levels [L] and codes [L, K]; of equal levels the larger number first."""
    numbers = sorted(range(2 ** len(basis)), reverse=True)
    codes = np.array([[1.0 if m >> i & 1 else low for i in range(len(basis))] for m in numbers])
    result = []
    for column in basis.T.astype('float64'):
        rows = sorted(codes.tolist(), key=lambda code: np.dot(code, column))
        result.append((np.array(rows) @ column, np.array(rows)))
    return result


def oracle_index(x, levels):
    """Number of the nearest level, a tie taking the lower.

    Equal levels share out what lies around them.
    """
    distances = np.abs(x.astype('float64')[:, None] - levels)
    nearest = [levels[row == row.min()].min() for row in distances]
    index = (x.astype('float64')[:, None] > (levels[1:] + levels[:-1]) / 2).sum(1)
    np.testing.assert_array_equal(levels[index], nearest)
    return index


def beside(x, side):
    """The next float32 below (-1) or above (1); beside zero no denormal, which is flushed."""
    return np.where(x == 0, np.float32(side * 1e-6), np.nextafter(x, np.float32(side * np.inf)))


def hard_inputs(rng, basis, low, rows=8):
    """[n, C]: noise, zeros, levels, thresholds and their neighbours, values far out of range."""
    columns = []
    for levels, _ in oracle_grid(basis, low):
        thresholds = ((levels[1:] + levels[:-1]) / 2).astype('float32')
        near = [beside(thresholds, side) for side in (-1, 1)]
        noise = (
            rng.normal(size=rows * 8 + (-3 * len(thresholds) - len(levels) - 5) % 8)
            * np.abs(levels).max()
        )
        columns.append(np.concatenate([noise, levels, thresholds, *near, [0, 0, -0.0, 100, -100]]))
    return np.stack(columns, 1).astype('float32')


def case(bits, low, seed=0):
    rng = np.random.default_rng([seed, bits, -low])
    basis = any_basis(rng, bits, 3 if low else 1)
    return basis, hard_inputs(rng, basis, low)


def flat_shape(x):
    return x if x.shape[1] > 1 else x[:, 0]


class Values(NamedTuple):
    """Arrays of a grid."""

    basis: Any
    levels: Any
    thresholds: Any
    codes: Any


def values_of(g):
    """What a session is to give of a grid."""
    return Values(g.basis, g.levels, g.thresholds, g.codes)


def statistics(basis, x, low, *, ridge=1e-4, relative=False):
    g = lq.grid(tf.constant(basis), low)
    return refit.LevelStatistics(
        g, lq.quantize(tf.constant(x), lq.encoder(g), collect=True)[1], ridge, relative, False
    )


@each_kind
@each_bits
def test_codes_levels_and_thresholds(bits, low, run):
    basis, _ = case(bits, low)
    g = run(values_of(lq.grid(tf.constant(basis), low)))
    for c, (levels, codes) in enumerate(oracle_grid(basis, low)):
        np.testing.assert_array_equal(g.levels[:, c], levels)
        np.testing.assert_array_equal(g.codes[c], codes)
        np.testing.assert_array_equal(g.thresholds[:, c], (levels[1:] + levels[:-1]) / 2)


def test_of_equal_levels_the_larger_number_comes_first(run):
    g = run(values_of(lq.grid(tf.constant([[1.0], [1.0], [2.0]]), 0)))
    np.testing.assert_array_equal(g.levels[:, 0], [0, 1, 1, 2, 2, 3, 3, 4])
    np.testing.assert_array_equal(g.codes[0] @ [1, 2, 4], [0, 2, 1, 4, 3, 6, 5, 7])


@each_kind
@each_bits
def test_output_is_the_nearest_level(bits, low, run):
    basis, x = case(bits, low)
    g = lq.grid(tf.constant(basis), low)
    y = run(lq.quantize(tf.constant(flat_shape(x)), lq.encoder(g), collect=False)[0]).reshape(
        x.shape
    )
    for c, (levels, _) in enumerate(oracle_grid(basis, low)):
        np.testing.assert_array_equal(y[:, c], levels[oracle_index(x[:, c], levels)])
        assert len(np.unique(y[:, c])) <= 2**bits


@each_kind
@each_bits
def test_levels_are_fixed_points(bits, low, run):
    basis, _ = case(bits, low)
    g = lq.grid(tf.constant(basis), low)
    levels, y = run([g.levels, lq.quantize(g.levels, lq.encoder(g), collect=False)[0]])
    np.testing.assert_array_equal(y, levels)


@each_kind
@pytest.mark.parametrize('bits', [1, 2, *BOUNDARY, 8])
def test_statistics_are_the_counts_and_sums(bits, low, run):
    basis, x = case(bits, low)
    table = run(statistics(basis, flat_shape(x), low).table)
    for c, (levels, _) in enumerate(oracle_grid(basis, low)):
        values, thresholds = x[:, c].astype('float64'), (levels[1:] + levels[:-1]) / 2
        expected = [
            len(values),
            values.sum(),
            *((values > t).sum() for t in thresholds),
            *(values[values > t].sum() for t in thresholds),
        ]
        np.testing.assert_allclose(table[:, c], expected, rtol=2e-6, atol=1e-3)
        np.testing.assert_array_equal(table[2 : 2**bits + 1, c], expected[2 : 2**bits + 1])


@pytest.mark.parametrize('bits', [2, 4])
def test_no_sum_of_a_channel_is_a_number_where_a_value_is_none(bits, run):
    """Whether values are compared or numbered: its basis then stays as it is."""
    basis = np.tile(start_basis(bits), 3)
    x = np.arange(30, dtype='float32').reshape(10, 3) / 30
    x[4, 1] = np.nan
    table = run(statistics(basis, x, -1).table)
    is_sum = np.arange(len(table)) > 2**bits
    is_sum[1] = True
    np.testing.assert_array_equal(np.isnan(table[:, 1]), is_sum)
    assert np.isfinite(table[:, [0, 2]]).all()


@pytest.mark.parametrize('bits', BOUNDARY)
@pytest.mark.parametrize('channels', [8, 16, 5, 1])
def test_counts_of_images_for_any_number_of_channels(bits, channels, run):
    basis = start_basis(bits)
    x = np.random.default_rng(channels).normal(size=(2, 3, 3, channels)).astype('float32')
    ((levels, _),) = oracle_grid(basis, 0)
    row = statistics(basis, x, 0)
    counts, sums = refit.level_counts_and_sums(row.table)
    index = oracle_index(x.ravel(), levels)
    counts, sums = run([counts, sums])
    np.testing.assert_array_equal(counts[:, 0], np.bincount(index, minlength=len(levels)))
    np.testing.assert_allclose(sums[:, 0], np.bincount(index, x.ravel(), len(levels)), atol=1e-4)


@each_kind
@pytest.mark.parametrize('bits', [2, 5])
def test_all_encoders_agree(bits, low, run, monkeypatch):
    basis, x = case(bits, low)
    x[0] = np.nan
    results = []
    for compared, counted in ((0, 0), (0, 255), (255, 0)):
        monkeypatch.setattr(cells, 'MAX_COMPARED', compared)
        monkeypatch.setattr(cells, 'MAX_COUNTED', counted)
        encoder = lq.encoder(lq.grid(tf.constant(basis), low))
        results.append(lq.quantize(tf.constant(x), encoder, collect=True))
    (expected, table), *others = run(results)
    for y, other in others:
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(other[2 : 2**bits + 1], table[2 : 2**bits + 1])


@each_kind
@pytest.mark.parametrize('bits', [2, 4])
def test_a_gpu_changes_no_value(bits, low, run, monkeypatch):
    """Levels are of another shape there, and 4 bits are compared; nothing else."""
    basis, x = case(bits, low)
    upstream = np.linspace(-1, 1, x.size).reshape(x.shape).astype('float32')
    results = []
    for has_gpu in (False, True):
        monkeypatch.setattr('quant.backend.has_gpu', lambda answer=has_gpu: answer)
        monkeypatch.setattr(cells, 'has_gpu', lambda answer=has_gpu: answer)
        values = tf.constant(x)
        encoder = lq.encoder(lq.grid(tf.constant(basis), low))
        y, table = lq.quantize(values, encoder, collect=True)
        through = straight_through_inside(y, values, values > 0)
        gradient = tf.gradients(through, values, tf.constant(upstream))[0]
        results.append((y, table[2 : 2**bits + 1], gradient))
    on_cpu, on_gpu = run(results)
    for expected, found in zip(on_cpu, on_gpu):
        np.testing.assert_array_equal(found, expected)


def test_encoder_changes_after_the_boundary(run):
    def kinds(bits):
        graph = tf.Graph()
        with graph.as_default():
            encoder = lq.encoder(lq.grid(tf.constant(start_basis(bits)), 0))
            lq.quantize(tf.zeros([8]), encoder, collect=False)
        return {op.type for op in graph.get_operations()}

    assert 'LowerBound' not in kinds(BOUNDARY[0])
    assert 'LowerBound' in kinds(BOUNDARY[1])


def floats(least, most):
    return st.floats(least, most, width=32, allow_subnormal=False)


@st.composite
def cases(draw):
    bits, low = draw(st.integers(1, 6)), draw(st.sampled_from([-1, 0]))
    basis = draw(st.lists(floats(-2, 2), min_size=bits, max_size=bits))
    x = draw(st.lists(floats(-8, 8), min_size=1, max_size=40))
    return low, np.float32(basis)[:, None], np.float32(x)


def check_encoding(x, y, levels):
    assert set(y) <= set(levels)
    distance = np.abs(x.astype('float64')[:, None] - levels).min(1)
    np.testing.assert_allclose(np.abs(x.astype('float64') - y), distance, atol=1e-5)


def check_refit(x, y, g, new):
    """With the codes held, least squares with its ridge is no worse than the present basis."""
    assert np.isfinite(new).all()
    codes = g.codes[0][np.sum(x[:, None] > g.thresholds[:, 0], axis=1)].astype('float64')
    after, before = np.sum((x - codes @ new[:, 0]) ** 2), np.sum((x.astype('float64') - y) ** 2)
    assert after <= before + 1e-3 * (1 + before)


@settings(max_examples=15, deadline=None)
@given(cases())
def test_laws_for_any_basis(drawn):
    low, basis, x = drawn
    with tf.Graph().as_default(), Runner().session as session:
        row = statistics(basis, x, low)
        y = lq.quantize(tf.constant(x), lq.encoder(row.grid), collect=False)[0]
        y, g, (new, counts) = session.run([y, values_of(row.grid), refit.solve([row])])
    assert np.all(np.diff(g.levels[:, 0]) >= 0)
    np.testing.assert_allclose(g.levels[:, 0], oracle_grid(basis, low)[0][0], atol=1e-5)
    assert counts.min() >= 0 and counts.sum() == len(x)
    check_encoding(x, y, g.levels[:, 0])
    check_refit(x, y, g, new)
