"""What every registered quantizer promises: hard input, and one state for several points."""

import numpy as np
import pytest

from quant import QuantizationOptions, pairs
from quant import specs as registry
from quant.backend import tf
from quant.scope import Quantization
from tests.quant.asking import DEGENERATE, ask, check_finite
from tests.quant.towers import activate, quantization
from tests.test_grid import serves

RNG = np.random.default_rng(2)


def specs(half):
    """Each quantizer that serves this half, at its lowest bits from 2 on, or at 1."""
    found = []
    for name in registry.names():
        for bits in (2, 3, 4, 1):
            if serves(name, half, {'bits': bits}):
                found.append(registry.with_options(name, {'bits': bits}))
                break
    return found


def variants(half):
    """What quantizers name as possible improvements, at 2 bits."""
    found = {}
    for pair in pairs.variants((2,)):
        found[registry.with_options(getattr(pair, half), {'bits': pair.bits})] = None
    return [spec for spec in found if spec not in specs(half)]


WAYS = [(spec, 'weight', {}) for spec in specs('weight') + variants('weight')]
for spec in specs('activation') + variants('activation'):
    for lower in (0.0, -0.25, -np.inf):
        WAYS.append((spec, 'activation', {'lower': lower}))
NAMES = [f'{spec}-{half}-{options.get("lower", "")}' for spec, half, options in WAYS]
each_way = pytest.mark.parametrize('spec, half, options', WAYS, ids=NAMES)


def check_codebook(found):
    """What is shipped is what was trained, but for values that lie at a threshold."""
    levels, thresholds = found.book['levels'], found.book['thresholds']
    assert (np.diff(levels, axis=0) >= 0).all() and (np.diff(thresholds, axis=0) >= 0).all()
    # TensorFlow computes without denormal numbers.
    read = np.where(np.abs(found.read) < np.finfo('float32').tiny, 0, found.read)
    columns = read.reshape(-1, levels.shape[1], 1)
    near = np.abs(columns - thresholds.T) <= 1e-5 * np.abs(columns)
    at_one = (near & (columns != 0)).any(-1).reshape(read.shape)
    coded = found._replace(read=read).coded()
    largest = np.abs(levels).max()
    close = np.abs(coded - found.y) <= 1e-5 * largest
    assert (close | at_one).all()


@pytest.mark.slow
@each_way
def test_hard_values(spec, half, options, run):
    """All is finite for what is, at the start and with a learned state of zero or less."""
    for x in DEGENERATE.values():
        try:
            found = ask(run, spec, x, half=half, **options)
        except ValueError as error:
            assert 'signs' in str(error)
            return
        check_finite(found)
        check_codebook(found)
        for factor in (0, -1):
            state = {name: factor * found.state[name] for name in found.gradients}
            if state:
                moved = ask(run, spec, x, half=half, state=state, **options)
                check_finite(moved)
                check_codebook(moved)


@pytest.mark.slow
@each_way
def test_what_is_no_number(spec, half, options, run):
    """It is an error where it would be the start; of weights it stays none, of activations it is
    the lowest level or stays none.
    """
    x = RNG.normal(size=(2, 2, 2, 3)).astype('float32')
    x[0, 1, 0, 2] = np.nan
    try:
        found = ask(run, spec, x, half=half, **options)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        assert half == 'activation' and str(error)
        return
    value = found.y[0, 1, 0, 2]
    lowest = found.book['levels'].min()
    assert np.isnan(value) or (half == 'activation' and value == lowest)


def learned(prefix):
    """Trained variables by the last part of their names."""
    names = {v.op.name: v for v in tf.trainable_variables()}
    return {
        name.rpartition('/')[2]: v for name, v in names.items() if name.startswith(f'{prefix}/')
    }


@pytest.mark.parametrize('spec', specs('activation'))
def test_points_share_a_state_or_have_their_own(spec, run):
    """What is learned gets the sum of the gradients of its points, each as if it was alone, with
    its own number of values; what a batch starts has the statistics of all of them.
    """
    name, _ = registry.split(spec)
    forms = [False]
    if 'private' in registry.options(name):
        forms.append(True)
    else:
        assert not ask(run, spec, np.ones([2, 3]), half='activation', lower=0.0).state
    points = {'s8': RNG.normal(size=(6, 5)), 's4': RNG.normal(size=(3, 5))}
    points = {point: np.abs(x).astype('float32') for point, x in points.items()}
    for private in forms:
        form = registry.with_options(spec, {'private': private} if private else {})
        with tf.variable_scope(f'private{private}'):
            check_points(form, points, run, private=private)


def check_points(spec, points, run, *, private):
    q = quantization(spec, half='activation')
    scope = tf.get_variable_scope().name
    outputs = []
    for point, x in points.items():
        outputs.append(activate(q, x, relu=False, point=point, strongest=point == 's8'))
    count = 1 if private else 2
    assert {len(one.statistics) for one in q.collected.values()} <= {count}
    assert {len(one.tables) for one in q.starts.values()} <= {count}
    owners = [f'{scope}/quant1/{point}' for point in points] if private else [f'{scope}/quant1']
    parts = [[point] for point in points] if private else [list(points)]
    for owner, own in zip(owners, parts):
        variables = learned(owner)
        if not variables:
            continue
        run([])
        for variable in variables.values():
            variable.load(0.7 * run(variable) + 0.1, run.session)
        state = run(variables)
        found = run(tf.gradients(outputs, list(variables.values())))
        alone = [
            ask(run, spec, points[point], half='activation', lower=0.0, state=state)
            for point in own
        ]
        for name, gradient in zip(variables, found):
            expected = sum(one.gradients[name] for one in alone)
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('spec', specs('activation'))
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float64'])
def test_types_of_activations(spec, dtype, run):
    """Levels are chosen in float32; values and gradients come back in the type that was given."""
    x = tf.cast(np.abs(RNG.normal(size=(6, 5))), dtype)
    q = quantization(spec, half='activation')
    y = activate(q, x, relu=False)
    gradient = tf.gradients(y, x)[0]
    assert y.dtype == gradient.dtype == x.dtype
    expected = activate(q, tf.cast(x, tf.float32), relu=False)
    y, expected, gradient = run([y, tf.cast(expected, dtype), gradient])
    np.testing.assert_array_equal(y, expected)
    assert np.isfinite(np.float32(gradient)).all()


@pytest.mark.slow
@pytest.mark.parametrize('spec', specs('activation'))
@pytest.mark.parametrize('shape', [(0, 4, 4, 3), (1, 1, 1, 3)])
def test_small_batches(spec, shape, run):
    """An empty one leaves everything finite; statistics of none change nothing in a sum."""
    found = ask(run, spec, np.full(shape, 0.25), half='activation', lower=0.0)
    assert found.y.shape == shape
    check_finite(found)
    if not np.prod(shape):
        assert not any(gradient.any() for gradient in found.gradients.values())


PRECISIONS = (4, 3, 2)


def nesting():
    """Weights of every quantizer that can claim nested codes, at three precisions."""
    found = []
    for name in registry.names():
        ways = [{}]
        if 'nested' in registry.options(name):
            ways = [{'nested': way} for way in (True, 'cut')]
        for options in ways:
            spec = registry.with_options(name, options) if options else name
            policy = _policy(spec) if serves(name, 'weight', {'bits': 4}) else None
            if policy is not None and policy.at(4).weight('layer', 'body').is_nested:
                found.append(spec)
    return found


def _policy(spec):
    bits = tuple(map(str, PRECISIONS))
    try:
        options = QuantizationOptions(bits=bits, weight_quantizer=spec, activation_quantizer='lq')
        return options.to_policy()
    except ValueError:
        return None  # it has not all of these bits


def test_who_claims_nested_codes():
    assert {registry.split(spec)[0] for spec in nesting()} == {'adabits', 'lq'}


@pytest.mark.parametrize('spec', nesting())
def test_leading_bits_are_the_code_of_fewer_bits(spec, run):
    """As a network builds them: of the same weights, at each of its precisions."""
    w = RNG.normal(0, 0.4, [3, 3, 5, 4]).astype('float32')
    w[0, 0, 0] = 0.0
    w[0, 0, 1] = [30.0, -30.0, 1e-30, -1e-30]
    latent = tf.constant(w)
    tower = Quantization(_policy(spec), training=False)
    read, books = {}, {}
    with tf.variable_scope('layer'):
        for bits in PRECISIONS:
            with tower.at(bits):
                tower.weight(latent, scope='layer', role='body', init_std=0.4, point=f'b{bits}')
                scope = f'layer/weight_quant/b{bits}'
                read[bits] = tower.described.get(scope, tower.readings[scope].values)
                books[bits] = tower.codebooks[scope]().thresholds
    values, thresholds = run([read, books])
    codes = {}
    for bits in PRECISIONS:
        columns = values[bits].reshape(-1, 4)  # [N, C]
        edges = np.broadcast_to(thresholds[bits], [2**bits - 1, 4])
        codes[bits] = (columns[:, None] > edges).sum(1)
        assert codes[bits].min() == 0 and codes[bits].max() == 2**bits - 1
    for bits in PRECISIONS[1:]:
        np.testing.assert_array_equal(codes[bits], codes[4] >> 4 - bits)
