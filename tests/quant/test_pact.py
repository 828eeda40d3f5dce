"""PACT against its formulas in numpy."""

import numpy as np
import pytest

from quant.backend import tf
from quant.pact import PACT
from quant.specs import parse
from quant.state import declared
from tests.quant.towers import activate, quantization, variable

RNG = np.random.default_rng(4)


def placed(spec, x, clips, run, upstream, **options):
    """Values, gradients of x and of the clips, and the codebook, at given clips."""
    q = quantization(f'{spec}', half='activation')
    tensor = tf.constant(x)
    y = activate(q, tensor, relu=False, **options)
    learned = [variable(f'quant1/{name}') for name in clips]
    gradients = tf.gradients(y, [tensor, *learned], tf.constant(upstream))
    run([])
    for one, value in zip(learned, clips.values()):
        one.load([value], run.session)
    (make,) = q.codebooks.values()
    return run([y, *gradients, make()])


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('inner', [False, True])
def test_values_and_gradients(inner, bits, run):
    n = 2**bits - 1
    clip = n / 8  # the step is a power of two, so that ties and the end are exact
    x = np.append(np.abs(RNG.normal(size=60)) * clip, [0, -0.0, clip, 1e30, 1e-30, -1])
    x = x.astype('float32')
    upstream = RNG.normal(size=x.shape).astype('float32')
    spec = f'pact(bits={bits}, inner={inner})'
    y, gx, ga, book = placed(spec, x, {'clip': clip}, run, upstream)
    z = np.clip(x.astype('float64'), 0, clip) * 8
    np.testing.assert_array_equal(y, np.round(z) / 8)
    passes = (x > 0) & (x < clip) if inner else (x >= 0) & (x <= clip)
    np.testing.assert_array_equal(gx, np.where(passes, upstream, 0))
    slope = (x >= clip) + inner * (x > 0) * (np.round(z) - z) / n
    np.testing.assert_allclose(ga, [(upstream * slope).sum()], rtol=1e-4)
    shipped = book.levels[(x[:, None] > book.thresholds[:, 0]).sum(1), 0]
    np.testing.assert_allclose(shipped, y, rtol=1e-6)


def test_values_count_from_their_lower_bound(run):
    x = np.float32([-0.25, 0.0, 1.2, 9])
    y, gx, ga, _ = placed('pact(bits=2)', x, {'clip': 3.0}, run, np.ones_like(x), lower=-0.25)
    np.testing.assert_array_equal(y, [-0.25, -0.25, 0.75, 2.75])
    np.testing.assert_array_equal(gx, [1, 1, 1, 0])
    np.testing.assert_array_equal(ga, [1])


def test_gradient_of_levels_whose_codes_stay(run):
    """As of the clip by which N2UQ's code divides: y / a from all values, once more from beyond."""
    x = np.append(RNG.normal(size=30), [0, 1.5, 9, -9]).astype('float32')
    upstream = RNG.normal(size=x.shape).astype('float32')
    y, gx, ga, _ = placed('pact(bits=2, levels=True)', x, {'clip': 1.5}, run, upstream)
    np.testing.assert_array_equal(y, np.round(np.clip(x, 0, 1.5) * 2) / 2)
    np.testing.assert_array_equal(gx, np.where((x > 0) & (x < 1.5), upstream, 0))
    np.testing.assert_allclose(ga, [(upstream * (y / 1.5 + (x >= 1.5))).sum()], rtol=1e-4)
    with pytest.raises(ValueError, match='levels=True has one clip; these activations have both'):
        placed('pact(bits=2, levels=True)', x, {}, run, upstream, lower=-np.inf)


@pytest.mark.parametrize('inner', [False, True])
@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_two_clips_as_published(bits, inner, run):
    """As IBM's PACT2 and PACT+2: levels from the lower clip to the upper one."""
    n = 2**bits - 1
    low, high = -n / 16, n / 16  # a step of 1/8
    noise = RNG.normal(size=40) * high
    x = np.append(noise, [low, high, 0, -0.0, 1e30, -1e30, 1e-30]).astype('float32')
    upstream = RNG.normal(size=x.shape).astype('float32')
    clips = {'clip': high, 'low_clip': low}
    spec = f'pact(bits={bits}, zero=False, inner={inner})'
    y, gx, of_high, of_low, book = placed(spec, x, clips, run, upstream, lower=-np.inf)
    z = (np.clip(x.astype('float64'), low, high) - low) * 8
    np.testing.assert_array_equal(y, np.round(z) / 8 + low)
    np.testing.assert_array_equal(gx, np.where((x > low) & (x < high), upstream, 0))
    error = inner * (np.round(z) - z) / n
    expected = (upstream * np.where(x >= high, 1, error)).sum()
    np.testing.assert_allclose(of_high, [expected], rtol=1e-4, atol=1e-4)
    expected = (upstream * np.where(x <= low, 1, -error)).sum()
    np.testing.assert_allclose(of_low, [expected], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(book.levels[:, 0], np.arange(n + 1) / 8 + low, atol=1e-6)


@pytest.mark.parametrize('inner', [False, True])
def test_two_clips(inner, run):
    """Zero is a level; each clip gets what lies at it or beyond."""
    x = np.float32([-9, -1.0, -0.4, 0, 0.7, 2.0, 9])
    upstream = np.float32([1, 2, 4, 8, 16, 32, 64])
    clips = {'clip': 2.0, 'low_clip': -1.1}
    spec = f'pact(bits=2, inner={inner})'
    y, gx, high, low, book = placed(spec, x, clips, run, upstream, lower=-np.inf)
    step = 3.1 / 3
    v = np.clip(x / step, -1, 2)
    np.testing.assert_allclose(y, np.round(v) * step, rtol=1e-6)
    np.testing.assert_array_equal(gx, [0, 2, 4, 8, 16, 32, 0])
    inside = inner * (upstream * (np.round(v) - v) / 3)[1:-1].sum()
    np.testing.assert_allclose(high, [64 + inside], rtol=1e-5)
    np.testing.assert_allclose(low, [1 - inside], rtol=1e-5)
    np.testing.assert_allclose(book.levels[:, 0], step * np.arange(-1, 3), rtol=1e-6)


@pytest.mark.parametrize('lower', [0.0, -np.inf])
@pytest.mark.parametrize('start', ["'mean'", "'error'", '8', '0.0'])
def test_starts(start, lower, run):
    """From the pooled first batch, or from a constant."""
    x = RNG.normal(size=600).astype('float32')
    if lower == 0:
        x = np.abs(x)
    q = quantization(f'pact(bits=2, start={start})', half='activation')
    activate(q, x[:100], relu=False, lower=lower)
    activate(q, x[100:], relu=False, lower=lower, point='s4', strongest=False)
    clips = tf.trainable_variables()
    if not start.startswith("'"):
        assert not q.starts
        expected = [[float(start)], [-float(start)]]
        np.testing.assert_array_equal(run(clips), expected[: len(clips)])
        return
    found = run([one.value(tf.add_n(one.tables)) for one in q.starts.values()])
    assert [v.op.name for v in clips] == list(q.starts)
    if start == "'mean'":
        half = 3 if lower == 0 else 1.5
        clip = 2 * np.abs(x).mean() * np.sqrt(half)
        np.testing.assert_allclose(found, [[clip], [-clip]][: len(found)], rtol=1e-5)
        return

    def lost(low, high):
        step = (high - low) / 3
        low = np.round(low / step) * step
        return ((np.round(np.clip((x - low) / step, 0, 3)) * step + low - x) ** 2).sum()

    high, *rest = [value.item() for value in found]
    low = rest[0] if rest else 0.0
    assert lost(low, high) <= min(lost(low, 1.2 * high), lost(low, high / 1.2))


@pytest.mark.slow
@pytest.mark.parametrize('start, lower', [('mean', -np.inf), ('error', 0.0), ('error', -np.inf)])
def test_degenerate_values_start_finite(start, lower, run):
    found = []
    for place, values in enumerate(([0.0] * 4, [], [5.0] * 3, [1e30, 1e-42])):
        q = quantization(f"pact(start='{start}')", half='activation')
        with tf.variable_scope(f'net{place}'):
            activate(q, np.float32(values), relu=False, lower=lower)
        found += [one.value(tf.add_n(one.tables)) for one in q.starts.values()]
    found = run(found)
    assert np.isfinite(found).all()
    clips = np.reshape(found, [4, -1])
    assert (clips[:, 0] > np.append(clips, np.zeros([4, 1]), 1)[:, 1]).all()


@pytest.mark.parametrize('clip', [0.0, -2.0, 1e-30])
def test_a_clip_through_zero_is_finite(clip, run):
    """One of less than zero goes on as its mirror image."""
    x = np.float32([0, 0.5, 3, 1e30])
    y, gx, ga, _ = placed('pact(bits=2)', x, {'clip': clip}, run, np.ones_like(x))
    assert all(np.isfinite(found).all() for found in (y, gx, ga))
    if clip == -2:
        np.testing.assert_allclose(y, [0, 2 / 3, 2, 2], rtol=1e-6)
        np.testing.assert_array_equal(ga, [-2])


def test_the_clip_decays():
    q = quantization('pact(lr_factor=0.5)', half='activation')
    activate(q, np.ones([2], 'float32'))
    (state,) = declared().values()
    assert (state.lr_factor, state.decay_factor) == (0.5, 1)


def test_it_refuses_weights():
    assert 'activations alone' in parse('pact').refuses('body', weights=True)
    assert not parse('pact').refuses('body', weights=False)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'start': 'max'}, "start='max' must be a number"),
        ({'start': -8}, 'start=-8 must be at least 0'),
        ({'inner': 0}, 'inner=0 must be True or False'),
        ({'zero': 0}, 'zero=0 must be True or False'),
        ({'bits': 9}, 'bits=9'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PACT(**options)
