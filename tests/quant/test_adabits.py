"""AdaBits against its formulas in numpy; its codes are nested."""

import numpy as np
import pytest

from quant import Policy, Rule
from quant.adabits import AdaBits, grid
from quant.backend import tf
from quant.scope import Quantization
from quant.specs import parse
from quant.state import declared
from tests.quant.test_dorefa import run_weights
from tests.quant.test_pact import placed
from tests.quant.towers import activate, quantization, shipped, weigh

RNG = np.random.default_rng(8)


def weights(shape=(3, 3, 4, 5)):
    w = RNG.normal(size=shape).astype('float32')
    w.flat[:5] = [0, -0.0, 1e-3, -1e-3, 2.5]
    return w


def oracle(w, bits, scheme, upstream, *, rescale=False):
    """Codes, values and gradient in float64."""
    w = w.astype('float64')
    n = 2**bits - 1
    t = np.tanh(w)
    largest = np.abs(t).max()
    unit = (t / largest + 1) / 2
    if scheme == 'original':
        code = np.round(unit * n)
        q = code / n
    else:
        code = np.minimum(np.floor(unit * 2**bits), n)
        q = (code + (scheme == 'centred') / 2) / 2**bits
    y = 2 * q - 1
    if rescale:
        *window, _, outputs = w.shape
        scale = 1 / np.sqrt(np.prod(window) * outputs) / y.std(ddof=1)
        y, upstream = y * scale, upstream * scale
    top = np.sign(t) * (np.abs(t) == largest)
    gradient = upstream / largest - (upstream * t).sum() / largest**2 * top
    return code, y, gradient * (1 - t**2)


@pytest.mark.parametrize(
    'bits, rescale',
    [
        pytest.param(1, False, marks=pytest.mark.slow),
        (2, True),
        pytest.param(8, False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize('scheme', ['original', 'modified', 'centred'])
def test_weights(scheme, bits, rescale, run):
    w = weights()
    upstream = RNG.normal(size=w.shape).astype('float32')
    _, expected, gradient = oracle(w, bits, scheme, upstream, rescale=rescale)
    spec = f'adabits(bits={bits}, scheme={scheme!r}, rescale={rescale})'
    y, gx, book = run_weights(run, w, spec, upstream)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gx, gradient, rtol=2e-5, atol=1e-5)
    np.testing.assert_array_equal(shipped(book, w), y)
    index = np.arange(2**bits)[:, None]
    np.testing.assert_allclose(book.offset + book.step * index, book.levels, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('scheme', ['modified', 'centred'])
def test_codes_of_fewer_bits_are_the_leading_bits_of_those_of_more(scheme, run):
    """At all precisions of one latent weight, at exact levels, thresholds and zeros, too."""
    # The largest one, which thresholds are shares of.
    w = weights((40, 60)).clip(-2, 2)
    w[1:9, 0] = np.arctanh(np.float32(np.linspace(-1, 1, 9)[1:]) * np.tanh(np.float32(2)))
    rules = []
    for bits in range(1, 9):
        spec = f'adabits(bits={bits}, scheme={scheme!r})'
        rules.append(Rule(scope=f'/b{bits}$', roles=('body',), weight=spec))
    tower = Quantization(Policy(tuple(rules)), training=True)
    tensor = tf.constant(w)
    found = {}
    for bits in range(1, 9):
        with tf.variable_scope(f'conv/b{bits}'):
            found[bits] = tower.weight(tensor, scope=f'conv/b{bits}', role='body', init_std=1.0)
    # What they have in common is computed once.
    assert [op.type for op in tensor.graph.get_operations()].count('Tanh') == 1
    codes = {}
    for bits, y in run(found).items():
        levels, _ = grid(bits, centred=scheme == 'centred')
        codes[bits] = np.searchsorted(levels[:, 0], y)
        np.testing.assert_array_equal(levels[codes[bits], 0], y)
    for bits, code in codes.items():
        np.testing.assert_array_equal(code, codes[8] >> (8 - bits))


def test_original_codes_are_no_leading_bits():
    w = weights((40, 60))
    few, *_ = oracle(w, 3, 'original', w)
    many, *_ = oracle(w, 8, 'original', w)
    assert (few != np.int64(many) >> 5).any()


def test_equal_weights_can_be_rescaled(run):
    """Their deviation is zero, of which the published code makes no number."""
    w = np.full([1, 1, 2, 4], 0.3, 'float32')
    y, gx, book = run_weights(run, w, 'adabits(bits=2, rescale=True)', np.ones_like(w))
    np.testing.assert_allclose(y, 0.75 / 2)
    assert np.isfinite(gx).all() and np.isfinite(book.levels).all()


def act_oracle(x, bits, clip, *, floor, signed):
    """Values, where x gets its gradient, and the gradient of the clip by value."""
    n = 2**bits - 1
    x = x.astype('float64')
    ratio = np.clip(x / clip, -1 if signed else 0, 1)
    unit = (ratio + 1) / 2 if signed else ratio
    q = np.minimum(np.floor(unit * 2**bits), n) / 2**bits if floor else np.round(unit * n) / n
    y = 2 * q - 1 if signed else q
    inside = (x > (-clip if signed else 0)) & (x < clip)
    return y * clip, inside, np.where(inside, y - ratio, y)


@pytest.mark.parametrize(
    'bits', [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('signed', [False, True])
@pytest.mark.parametrize('floor', [False, True])
def test_activations(floor, signed, bits, run):
    # A step that is a power of two makes ends and ties exact.
    clip = (2**bits - 1 + floor) / 8 / (1 + signed)
    x = np.append(RNG.normal(size=60) * clip, [0, -0.0, clip, -clip, clip / 2, 1e30, -1e30, 1e-30])
    x = x.astype('float32')
    upstream = RNG.normal(size=x.shape).astype('float32')
    lower = -np.inf if signed else 0.0
    spec = f'adabits(bits={bits}, floor={floor})'
    y, gx, ga, book = placed(spec, x, {'clip': clip}, run, upstream, lower=lower)
    expected, inside, slope = act_oracle(x, bits, clip, floor=floor, signed=signed)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6 * clip)
    np.testing.assert_array_equal(gx, np.where(inside, upstream, 0))
    np.testing.assert_allclose(ga, [(upstream * slope).sum()], rtol=1e-4, atol=1e-4)
    # What lies at a threshold takes the level below in what is shipped.
    at_one = np.isin(x, book.thresholds) & (x != 0)
    np.testing.assert_allclose(shipped(book, x)[~at_one], y[~at_one], rtol=1e-5, atol=1e-6 * clip)


def test_clips_start_from_the_first_batch_or_from_a_number(run):
    x = RNG.normal(size=(50, 4)).astype('float32')
    starts = []
    for lower in (0.0, -np.inf):
        with tf.variable_scope(f'bound{lower}'.replace('-', '')):
            q = quantization('adabits(bits=2)', half='activation')
            activate(q, np.abs(x), relu=False, lower=lower)
        starts += [one.value(tf.add_n(one.tables)) for one in q.starts.values()]
    above, both = run(starts)
    mean = np.abs(x).mean()
    np.testing.assert_allclose(above, [2 * mean * 3**0.5], rtol=1e-5)
    np.testing.assert_allclose(both, [2 * mean * 1.5**0.5], rtol=1e-5)
    with tf.variable_scope('number'):
        q = quantization('adabits(start=8, decay_factor=0.5)', half='activation')
        activate(q, x)
    assert not q.starts
    (clip,) = (v for v in tf.trainable_variables() if v.op.name.startswith('number'))
    assert run(clip) == 8
    assert declared()[clip.op.name].decay_factor == 0.5


def test_without_bits_weights_are_shares_and_activations_are_rectified(run):
    w = weights()
    q = quantization('adabits(bits=32)')
    t = np.tanh(w.astype('float64'))
    y, rectified = run([weigh(q, w), activate(q, w)])
    np.testing.assert_allclose(y, t / np.abs(t).max(), rtol=1e-6)
    np.testing.assert_array_equal(rectified, np.maximum(w, 0))
    assert not q.codebooks and not q.readings


def test_rescaled_weights_need_no_norm():
    for role in ('head', 'gate'):
        with pytest.raises(ValueError, match=f'weights of role {role}: no normalisation follows'):
            Rule(roles=(role,), weight='adabits')
        Rule(roles=(role,), weight='adabits(rescale=True)', activation='adabits')
    assert parse('adabits(rescale=True)').stored_values(9) == 1
    assert parse('adabits').stored_values(9) == 0


@pytest.mark.parametrize(
    'options, message',
    [
        ({'bits': 9}, 'bits=9 .* or 32'),
        ({'scheme': 'centered'}, "scheme='centered' must be one of"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        AdaBits(**options)
