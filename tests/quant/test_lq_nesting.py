"""Codes of several precisions in one, against numpy: cells, prefixes, refits from prefix sums."""

import numpy as np
import pytest

from quant import QuantizationOptions, Rule, native, specs
from quant.backend import tf
from quant.lq import levels, nesting, refit
from quant.lq.levels import code_table
from quant.scope import Quantization

WAYS = (True, 'cut')
CHANNELS = 3


def bases(seed, precisions):
    """A basis [K, C] by bits; the last channel's has the order of its sizes reversed, and signs."""
    rng = np.random.default_rng(seed)
    found = {}
    for bits in precisions:
        sizes = 0.75 / 2.0 ** np.arange(bits)[::-1, None]
        basis = sizes * rng.uniform(0.6, 1.4, [bits, CHANNELS])
        basis[:, -1] = basis[::-1, -1] * rng.choice([-1, 1], bits)
        found[bits] = basis.astype('float32')
    return found


def values(seed):
    """Weights with exact zeros, far outliers, and values on a threshold of two bits."""
    w = np.random.default_rng(seed).normal(size=[200, CHANNELS]).astype('float32')
    w[:3] = [[0.0], [40.0], [-40.0]]
    return w


def cells_of(nested, known):
    most, least = max(known), min(known)
    if nested == 'cut':
        return nesting.cut(tf.constant(known[most]))
    return nesting.refined(tf.constant(known[least]), tf.constant(known[most]))


def fetched(grid):
    """A grid that a session can run."""
    return grid._replace(low=tf.constant(grid.low))


def positions(w, thresholds):
    """Number of the cell of each value, [N, C]."""
    return (w[:, None] > thresholds[None]).sum(axis=1)


@pytest.mark.parametrize('nested', WAYS)
@pytest.mark.parametrize('precisions', [(4, 3, 2), (8, 1), (5, 2), (3, 2, 1)])
def test_first_bits_of_a_code_are_the_code_of_fewer_bits(nested, precisions, run):
    known = bases(1, precisions)
    found = cells_of(nested, known)
    grids = run({bits: fetched(found.grid(tf.constant(b))) for bits, b in known.items()})
    w = values(2)
    w[3:6] = grids[min(precisions)].thresholds[0]
    most = precisions[0]
    widest = positions(w, grids[most].thresholds)
    assert np.all(np.diff(grids[most].thresholds, axis=0) >= 0)
    for bits in precisions:
        grid = grids[bits]
        index = positions(w, grid.thresholds)
        np.testing.assert_array_equal(index, widest >> (most - bits))
        codes = code_table(bits, -1)[grid.numbers]  # [C, L, bits]
        expected = np.einsum('clk,kc->lc', codes.astype('float64'), known[bits])
        np.testing.assert_allclose(grid.levels, expected, rtol=1e-5, atol=1e-6)
        if nested is True:
            first = grids[most].numbers[:, :: 2 ** (most - bits)] & (2**bits - 1)
            np.testing.assert_array_equal(grid.numbers, first)
    root = most if nested == 'cut' else precisions[-1]
    plain = run(fetched(levels.grid(tf.constant(known[root]), -1)))
    np.testing.assert_array_equal(grids[root].thresholds, plain.thresholds)
    np.testing.assert_allclose(grids[root].levels, plain.levels, rtol=1e-6, atol=1e-6)


def test_cells_are_split_in_their_middle_or_at_their_bound(run):
    """Outside its cell, a middle is moved to the nearest threshold, and one half is empty."""
    least, most = np.float32([[0.5]]), np.float32([[0.5], [0.25]])
    found = run(tuple(nesting.refined(tf.constant(least), tf.constant(most)))[:2])
    np.testing.assert_array_equal(found[0][:, 0], [-0.5, 0.0, 0.5])
    np.testing.assert_array_equal(found[1], [[0, 2, 1, 3]])
    far = np.float32([[-0.5], [0.25]])
    moved, _ = run(tuple(nesting.refined(tf.constant(least), tf.constant(far)))[:2])
    np.testing.assert_array_equal(moved[:, 0], [0.0, 0.0, 0.0])


@pytest.mark.parametrize('nested', WAYS)
def test_refit_from_prefix_sums_is_that_from_scratch(nested, run):
    """Every basis is the least squares of the codes of its precision, held fixed."""
    known = bases(3, (4, 3, 2))
    w = values(4)
    found = cells_of(nested, known)
    widest = found.grid(tf.constant(known[4]))
    encoded = nesting.Encoded(tf.constant(w), found, widest, collect=True)
    grids, solved, given = {}, {}, {}
    for bits, basis in known.items():
        grids[bits] = found.grid(tf.constant(basis))
        table = found.table(encoded.table, bits)
        row = refit.LevelStatistics(grids[bits], table, 1e-4, relative=False, same=True)
        solved[bits], _ = refit.solve([row])
        given[bits] = encoded.at(grids[bits])
    named = {bits: fetched(grid) for bits, grid in grids.items()}
    grids, solved, given = run([named, solved, given])
    for bits, basis in known.items():
        index = positions(w, grids[bits].thresholds)
        for c in range(CHANNELS):
            codes = code_table(bits, -1)[grids[bits].numbers[c]][index[:, c]].astype('float64')
            now, x = basis[:, c].astype('float64'), w[:, c].astype('float64')
            gram = codes.T @ codes + 1e-4 * np.eye(bits)
            expected = np.linalg.solve(gram, codes.T @ x + 1e-4 * now)
            np.testing.assert_allclose(solved[bits][:, c], expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(given[bits][:, c], grids[bits].levels[index[:, c], c])


@pytest.mark.skipif(not native.is_built(), reason='not built; python -m quant.native.build')
@pytest.mark.parametrize('nested', WAYS)
def test_operations_of_one_pass_give_the_same(nested, run):
    """Levels need not be in order: that of the cell counts."""
    known, w = bases(6, (4, 3, 2)), values(7)
    w[5, 0] = np.nan
    found = []
    for used in (False, True):
        with native.using(used):
            cells = cells_of(nested, known)
            grids = {bits: cells.grid(tf.constant(basis)) for bits, basis in known.items()}
            encoded = nesting.Encoded(tf.constant(w), cells, grids[4], collect=True)
            values_at = {bits: encoded.at(grid) for bits, grid in grids.items()}
        table = encoded.table[:, 1:]  # the first channel has a value that is none
        found.append((values_at, table, cells.thresholds))
    plain, fast = run(found)
    for bits, y in plain[0].items():
        np.testing.assert_allclose(fast[0][bits], y, rtol=1e-6)
    np.testing.assert_allclose(fast[1], plain[1], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(fast[2], plain[2], rtol=1e-6)


def tower(nested):
    options = QuantizationOptions(bits=('4', '2'), weight_quantizer=f'lq(nested={nested!r})')
    return Quantization(options.to_policy(), training=True)


@pytest.mark.parametrize('nested', WAYS)
def test_a_weight_is_encoded_once_and_learns_from_every_precision(nested, run):
    """What has the codes of LQ is LQ; one gradient comes from each; bases are refit each."""
    q, w = tower(nested), tf.constant(values(5))
    found = {}
    for bits in (4, 2):
        with q.at(bits), tf.variable_scope('conv'):
            found[bits] = q.weight(w, scope='conv', role='body', init_std=1.0, point=f'b{bits}')
    names = [f'conv/weight_quant/b{bits}/basis' for bits in (4, 2)]
    assert sorted(q.collected) == sorted(names) == sorted(q.codebooks[n[:-6]] and n for n in names)
    root = 4 if nested == 'cut' else 2
    (basis,) = (v for v in tf.global_variables() if v.op.name == f'conv/weight_quant/b{root}/basis')
    plain, _ = levels.quantize(
        w, levels.encoder(levels.grid(tf.convert_to_tensor(basis), -1)), collect=False
    )
    (gradient,) = tf.gradients([found[4], found[2]], w)
    start = [v.initial_value for v in tf.global_variables()]
    found, plain, gradient, start = run([found, plain, gradient, start])
    np.testing.assert_allclose(found[root], plain, rtol=1e-6)
    np.testing.assert_array_equal(gradient, np.full_like(gradient, 2.0))
    own = {4: 16, 2: 4}
    assert {bits: len(np.unique(y[:, 0])) for bits, y in found.items()} == own
    # Both start with steps of the same size in all.
    assert all(np.isfinite(one).all() for one in start)


@pytest.mark.parametrize(
    'spec, words',
    [
        ('lq(bits=4, nested=True)', '--bits 4 3 2'),
        ("lq(bits=4, nested='half')", "must be False, True or 'cut'"),
        ('lq(bits=4, precisions=(4, 2))', 'codes of its own'),
        ('lq(bits=3, nested=True, precisions=(4, 2))', '--bits 4 3 2'),
    ],
)
def test_wrong_options_are_named(spec, words):
    with pytest.raises(ValueError, match='.') as error:
        specs.parse(spec)
    assert words in str(error.value)


def test_a_quantizer_of_both_halves_nests_the_codes_of_weights():
    policy = QuantizationOptions(bits=('4', '2'), quantizer="lq(nested='cut')").to_policy().at(2)
    assert policy.weight('conv', 'body').precisions == (4, 2)
    assert policy.activation('conv', 'body') == specs.parse('lq(bits=2)')


def test_activations_have_no_nested_codes():
    with pytest.raises(ValueError, match='--weight-quantizer'):
        Rule(roles=('body',), activation='lq(bits=4, nested=True, precisions=(4, 2))')


def test_a_spec_names_its_precisions():
    options = QuantizationOptions(weight_quantizer='lq(bits=(4, 2), nested=True)', stem_bits=8)
    assert (options.bits, options.qw) == (('4', '2'), 4)
    policy = options.to_policy().at(2)
    assert policy.weight('conv', 'body') == specs.parse(
        'lq(bits=2, nested=True, precisions=(4, 2))'
    )
    assert policy.weight('conv0', 'stem') == specs.parse('lq(bits=8)')
    with pytest.raises(ValueError, match='--bits 4 3'):
        QuantizationOptions(weight_quantizer='lq(bits=(4, 2), nested=True)', bits=('4', '3'))
