"""APoT against its formulas in numpy: sets, values, gradients, starts, codebooks, hard input."""

import numpy as np
import pytest

from quant import Rule
from quant import specs as registry
from quant.apot import APoT, magnitudes, standardised
from quant.backend import tf
from quant.quantizer import Codebook
from quant.state import Kind, declared
from quant.updates import starts
from tests.quant.towers import activate, quantization, shipped, variable, weigh

RNG = np.random.default_rng(0)


def test_published_sets():
    np.testing.assert_array_equal(magnitudes(1), [0, 1])
    np.testing.assert_array_equal(magnitudes(2) * 4, [0, 1, 2, 4])
    np.testing.assert_allclose(magnitudes(3) * 10, [0, 1, 2, 3, 4, 6, 8, 10], rtol=1e-6)
    expected = np.unique([a + b for a in (0, 32, 8, 2) for b in (0, 16, 4, 1)])
    np.testing.assert_allclose(magnitudes(4) * 48, expected, rtol=1e-6)
    for bits in range(1, 7):
        assert len(np.unique(magnitudes(bits))) == 2**bits


def oracle(x, clip, units, upstream, *, everywhere=False, below=False):
    """Values, gradient of x and of the clip, in float64; units are levels at a clip of 1."""
    u = x.astype('float64') / abs(clip)
    low = -np.inf if below else units[0]
    clipped = np.clip(u, low, 1)
    nearest = units[np.abs(clipped[..., None] - units.astype('float64')).argmin(-1)]
    inside = clipped == u
    slope = np.where(inside, nearest - u, clipped)
    gradient = np.where(inside | everywhere, upstream, 0)
    return nearest * abs(clip), gradient, np.sign(clip) * (upstream * slope).sum()


def signed_units(bits):
    positive = magnitudes(bits - 1)
    return np.concatenate([-positive[:0:-1], positive])


def evaluated(run, q, y, x, upstream, name):
    """Values, gradients and codebook of a layer whose clip has this name."""
    codebook = q.codebooks[name.rpartition('/')[0]]()
    gradients = tf.gradients(y, [x, variable(name)], tf.constant(upstream))
    y, gradients, tables = run([y, gradients, codebook[:2]])
    return y, *gradients, Codebook(*tables)


@pytest.mark.parametrize('variant', ['imagenet', 'cifar'])
@pytest.mark.parametrize('bits', [2, 3, 7])
def test_weights(bits, variant, run):
    w = (RNG.normal(size=(3, 3, 4, 5)) * 0.2 + 0.05).astype('float32')
    upstream = RNG.normal(size=w.shape).astype('float32')
    q = quantization(f'apot(bits={bits}, variant={variant!r})', half='weight')
    values = tf.constant(w)
    y = weigh(q, values)
    run(y)
    clip = variable('conv/weight_quant/clip')
    np.testing.assert_array_equal(run(clip), [3])
    run(clip.initializer, {clip.initializer.inputs[1]: [1.3]})
    found = evaluated(run, q, y, values, upstream, clip.op.name)
    deviation = w.std(ddof=1, dtype='float64')
    standard = (w - w.mean(dtype='float64')) / deviation
    everywhere = variant == 'cifar' or bits == 2
    expected = oracle(standard, 1.3, signed_units(bits), upstream, everywhere=everywhere)
    toward = expected[1]
    if variant == 'imagenet':
        through = (toward * standard).sum() / (w.size - 1)
        toward = toward - toward.mean() - standard * through
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], toward / deviation, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[2], [expected[2]], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(shipped(found[3], w.reshape(-1, 1)).reshape(w.shape), found[0])


def test_standard_weights_whatever_their_size(run):
    """At the ends of float32, of a single weight, and where weights differ by nothing."""
    noise = RNG.normal(size=99)
    tensors = [noise, noise * 1e-30, noise * 1e30, noise + 100, [5.0], [0.3] * 7, [1e30] * 7]
    tensors += [[0.0] * 7, [1e-42] * 7]
    results = []
    for w in tensors:
        values = tf.constant(w, tf.float32)
        standard, _, _ = standardised(values, constants=False)
        results.append((standard, tf.gradients(standard, values)[0]))
    found = run(results)
    for standard, gradient in found:
        assert np.isfinite(standard).all() and np.isfinite(gradient).all()
    expected = (noise - noise.mean()) / noise.std(ddof=1)
    for standard, _ in found[:4]:
        np.testing.assert_allclose(standard, expected, atol=1e-4)
    for standard, _ in found[4:]:
        np.testing.assert_allclose(standard, 0, atol=1e-6)


@pytest.mark.parametrize('clip', [1.5, -1.5])
@pytest.mark.parametrize(
    'bits, lower', [(2, 0.0), (4, -0.25), (6, 0.0), (2, -np.inf), (4, -np.inf)]
)
def test_activations(bits, lower, clip, run):
    units = signed_units(bits) if lower == -np.inf else magnitudes(bits)
    offset = np.float32(max(lower, -1)) if lower > -np.inf else np.float32(0)
    noise = RNG.normal(size=200).astype('float32')
    x = np.concatenate([noise, np.float32([0, -0.0, 1.5, -1.5, 1e-30, 1e30, -1e30])])
    upstream = RNG.normal(size=x.size).astype('float32')
    q = quantization(f'apot(bits={bits}, start=1.0)', half='activation')
    values = tf.constant(x)
    y = activate(q, values, relu=False, lower=lower)
    run(y)
    variable('quant1/clip').load([clip], run.session)
    found = evaluated(run, q, y, values, upstream, 'quant1/clip')
    expected = oracle(x - offset, clip, units, upstream)
    np.testing.assert_allclose(found[0], expected[0] + offset, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[2], [expected[2]], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(shipped(found[3], x), found[0])


def test_what_lies_below_is_within_the_clip_of_the_other_variant(run):
    x = RNG.normal(size=50).astype('float32')
    upstream = RNG.normal(size=50).astype('float32')
    q = quantization("apot(bits=2, start=1.0, variant='cifar')")
    values = tf.constant(x)
    y = activate(q, values, relu=False)
    found = evaluated(run, q, y, values, upstream, 'quant1/clip')
    expected = oracle(x, 1.0, magnitudes(2), upstream, below=True)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[2], [expected[2]], rtol=1e-4)


def test_equal_steps(run):
    q = quantization('apot(bits=3, start=7.0, equal_steps=True)')
    x = np.float32([-1, 0.4, 3.4, 6.6, 9])
    np.testing.assert_array_equal(run(activate(q, x)), [0, 0, 3, 7, 7])
    weigh(q, x[:, None])
    book = run(q.codebooks['conv/weight_quant']())
    np.testing.assert_allclose(book.levels[:, 0], np.arange(-3, 4), atol=1e-6)
    np.testing.assert_allclose([book.step, book.offset], [[1], [-3]], rtol=1e-6)


@pytest.mark.parametrize('variant', ['imagenet', 'cifar'])
def test_delta_scales_gradients_by_the_rounding_error(variant, run):
    """Of equal steps: of activations within the clip, of weights before they are standardised."""
    spec = f'apot(bits=3, start=1.0, equal_steps=True, delta=0.2, variant={variant!r})'
    x = (RNG.normal(size=60) + 0.3).astype('float32')
    upstream = RNG.normal(size=60).astype('float32')
    values = tf.constant(x)
    q = quantization(spec)
    found = evaluated(run, q, activate(q, values, relu=False), values, upstream, 'quant1/clip')
    below = variant == 'cifar'
    _, plain, of_clip = oracle(x, 1.0, np.arange(8) / 7, upstream, below=below)
    u = np.maximum(x, -np.inf if below else 0)
    error = 7 * u - np.round(np.clip(7 * u, 0, 7))
    extra = 0.2 * np.abs(plain) * error
    np.testing.assert_allclose(found[1], plain + extra, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[2], [of_clip - (extra * x).sum()], rtol=1e-4, atol=1e-4)
    y = weigh(q, values[:, None])
    found = evaluated(run, q, y, values, upstream[:, None], 'conv/weight_quant/clip')
    deviation = x.std(ddof=1, dtype='float64')
    standard = (x - x.mean(dtype='float64')) / deviation
    everywhere = variant == 'cifar'
    _, plain, _ = oracle(standard, 3.0, np.arange(-3, 4) / 3, upstream, everywhere=everywhere)
    inside = np.abs(standard) <= 3
    toward = plain + inside * 0.2 * np.abs(plain) * (standard - np.round(standard))
    if variant == 'imagenet':
        through = (toward * standard).sum() / (x.size - 1)
        toward = toward - toward.mean() - standard * through
    np.testing.assert_allclose(found[1], toward / deviation, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('lower, steps', [(0.0, 3), (-np.inf, 1)])
def test_start_of_activations_pools_what_it_codes(lower, steps, run):
    large, small = RNG.normal(size=(4, 5)) + 3, 7 * RNG.normal(size=(2, 3))
    q = quantization('apot(bits=2)')
    for x, point in ((large, 's8'), (small, 's4')):
        activate(q, np.abs(x).astype('float32'), relu=False, lower=lower, point=point)
    (op,) = starts([q]).values()
    run(op)
    mean = np.abs(np.concatenate([large.ravel(), small.ravel()])).mean()
    np.testing.assert_allclose(run(variable('quant1/clip')), [2 * mean * steps**0.5], rtol=1e-5)


def test_activations_of_zero_start_at_one(run):
    q = quantization('apot(bits=2)')
    activate(q, np.zeros([4], 'float32'))
    (op,) = starts([q]).values()
    run(op)
    np.testing.assert_array_equal(run(variable('quant1/clip')), [1])


def test_a_given_clip_is_the_start():
    q = quantization('apot(bits=2, start=6.0)')
    activate(q, np.zeros([4], 'float32'))
    assert not q.starts


@pytest.mark.parametrize('clip', [0.0, 1e-30])
def test_a_clip_of_zero_is_finite(clip, run):
    x = np.float32([0, 1, -1, 1e-20])
    q = quantization('apot(bits=2, start=1.0)')
    values = tf.constant(x)
    y = activate(q, values)
    run(y)
    variable('quant1/clip').load([clip], run.session)
    for result in evaluated(run, q, y, values, np.ones_like(x), 'quant1/clip')[:3]:
        assert np.isfinite(result).all()


def test_what_is_no_number_stays_none(run):
    x = np.float32([[np.nan, 1], [0.5, 1]])
    q = quantization('apot(bits=4)')
    y = run([activate(q, x), weigh(q, x)])
    np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x))
    assert np.isnan(y[1]).all()


def test_clips_of_sizes_can_be_private():
    q = quantization('apot(bits=2, private=True, lr_factor=0.5, decay_factor=2)')
    for point in ('s8', 's4'):
        activate(q, np.ones([2], 'float32'), point=point)
    assert {v.op.name for v in tf.trainable_variables()} == set(declared())
    assert set(declared()) == {'quant1/s8/clip', 'quant1/s4/clip'}
    for state in declared().values():
        assert (state.kind, state.fresh) == (Kind.QUANTIZER, True)
        assert (state.lr_factor, state.decay_factor) == (0.5, 2)


@pytest.mark.parametrize('bits, half', [(1, 'weight'), (8, 'weight'), (1, 'activation')])
def test_bits_without_a_set_are_refused(bits, half):
    highest = 7 if half == 'weight' else 6
    with pytest.raises(ValueError, match=f'are published for 2 to {highest} bits alone'):
        Rule(roles=('body',), **{half: f'apot(bits={bits})'})
    Rule(roles=('body',), **{half: f'apot(bits={highest})'})


def test_weights_of_a_layer_without_norm_are_refused():
    for role in ('head', 'gate'):
        with pytest.raises(ValueError, match=f'weights of role {role}: no normalisation follows'):
            Rule(roles=(role,), weight='apot')
        Rule(roles=(role,), activation='apot')


def test_stored_values():
    assert registry.parse('apot(bits=2)').stored_values(16) == 1
    assert registry.parse('apot(bits=2)').packed_bits == 1.6
    assert registry.parse('apot(bits=3)').packed_bits == 3


@pytest.mark.parametrize(
    'options, message',
    [
        ({'bits': 9}, 'bits=9'),
        ({'equal_steps': 1}, 'equal_steps=1'),
        ({'delta': 0.2}, 'delta=0.2 needs equal_steps=True'),
        ({'variant': 'mnist'}, "variant='mnist' must be one of 'imagenet', 'cifar'"),
        ({'start': -1}, 'start=-1'),
        ({'start': 'error'}, "start='error'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        APoT(**options)
