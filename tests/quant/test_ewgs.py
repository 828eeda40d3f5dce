"""EWGS's quantizer against its formulas in numpy."""

import numpy as np
import pytest

from quant.backend import tf
from quant.ewgs import EWGS
from quant.specs import parse
from tests.quant.towers import activate, quantization, variable, weigh

RNG = np.random.default_rng(4)


def placed(kind, spec, x, ends, run, upstream):
    """Values, gradients of x, upper and lower end, and the codebook, at given ends."""
    q = quantization(spec)
    tensor = tf.constant(x)
    if kind == 'weight':
        y = weigh(q, tensor)
        scope = 'conv/weight_quant'
    else:
        y = activate(q, tensor, relu=False)
        scope = 'quant1'
    learned = [variable(f'{scope}/{name}') for name in ('upper', 'lower')]
    gradients = tf.gradients(y, [tensor, *learned], tf.constant(upstream))
    run([])
    for one, value in zip(learned, ends):
        one.load([value], run.session)
    (make,) = q.codebooks.values()
    return run([y, *gradients, make()])


@pytest.mark.parametrize('bits', [1, 2, 3, 8])
@pytest.mark.parametrize('kind, ends', [('weight', (1.0, -1.0)), ('activation', (1.4, -0.3))])
@pytest.mark.parametrize('delta', [0.0, 0.2])
def test_values_and_gradients(delta, kind, ends, bits, run):
    u, l = ends
    x = np.append(RNG.normal(size=80), [0, -0.0, u, l, 1e6, -1e6]).astype('float32')[:, None]
    upstream = RNG.normal(size=x.shape).astype('float32')
    spec = f'ewgs(bits={bits}, delta={delta})'
    y, gx, gu, gl, book = placed(kind, spec, x, ends, run, upstream)
    n = 2**bits - 1
    ratio = (x.astype('float64') - np.float32(l)) / (np.float32(u) - np.float32(l))
    v = np.clip(ratio, 0, 1)
    q = np.round(v * n) / n
    factor = 2 if kind == 'weight' else 1
    g = factor * upstream * (1 + delta * np.sign(upstream) * (v - q))
    g = np.where((x >= np.float32(l)) & (x <= np.float32(u)), g, 0)
    np.testing.assert_allclose(y, factor * q - (factor - 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gx, g / (u - l), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gu, [-(g * v).sum() / (u - l)], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gl, [-(g * (1 - v)).sum() / (u - l)], rtol=1e-4, atol=1e-4)
    shipped = book.levels[(x[:, :1] > book.thresholds[:, 0]).sum(1), 0]
    np.testing.assert_allclose(shipped, y[:, 0], rtol=1e-5, atol=1e-6)
    levels = book.offset + book.step * np.arange(n + 1)[:, None]
    np.testing.assert_allclose(levels, book.levels, atol=1e-6)


def test_starts(run):
    """Of weights from three deviations, of activations from the pooled first batch."""
    w = RNG.normal(size=(3, 3, 2, 4)).astype('float32')
    q = quantization('ewgs(bits=2)')
    weigh(q, w)
    x = np.abs(RNG.normal(size=60)).astype('float32')
    activate(q, x[:20], relu=False)
    activate(q, x[20:], relu=False, point='s4', strongest=False)
    upper, lower = run([variable(f'conv/weight_quant/{name}') for name in ('upper', 'lower')])
    np.testing.assert_allclose([upper, -lower], [[3 * w.std(ddof=1)]] * 2, rtol=1e-5)
    found = run({name: s.value(tf.add_n(s.tables)) for name, s in q.starts.items()})
    expected = 3 * x.std(ddof=1) / np.sqrt(1 - 2 / np.pi)
    np.testing.assert_allclose(found['quant1/upper'], [expected], rtol=1e-5)
    np.testing.assert_allclose(found['quant1/lower'], [(x[:20].min() + x[20:].min()) / 2])


@pytest.mark.slow
def test_degenerate_values_start_finite(run):
    found = []
    for place, values in enumerate(([0.0] * 4, [], [5.0] * 3, [1e-30] * 2, [1e30, 0], [1e-42])):
        q = quantization('ewgs')
        with tf.variable_scope(f'net{place}'):
            y = weigh(q, np.float32(values)[:, None])
            activate(q, np.float32(values), relu=False)
        found += [y, *(one.value(tf.add_n(one.tables)) for one in q.starts.values())]
    assert all(np.isfinite(value).all() for value in run(found))


@pytest.mark.parametrize('ends', [(0.5, 0.5), (0.0, 1.0), (1e-30, 0.0)])
def test_an_interval_of_no_width_is_finite(ends, run):
    x = np.float32([[-1], [0], [0.5], [2]])
    for found in placed('activation', 'ewgs', x, ends, run, np.ones_like(x))[:-1]:
        assert np.isfinite(found).all()


def test_it_needs_a_normalisation_behind():
    for role in ('head', 'gate'):
        assert 'normalisation' in parse('ewgs').refuses(role, weights=True)
        assert not parse('ewgs').refuses(role, weights=False)
    assert not parse('ewgs').refuses('body', weights=True)


@pytest.mark.parametrize(
    'options, message', [({'delta': -1}, 'delta=-1'), ({'private': 1}, 'private=1')]
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EWGS(**options)
