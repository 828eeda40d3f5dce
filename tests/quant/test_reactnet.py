"""ReActNet's sign with a shift per channel against its formulas in numpy."""

import numpy as np
import pytest

from quant import Policy, Rule
from quant.backend import tf
from quant.reactnet import ReActNet
from quant.scope import Quantization
from quant.specs import parse
from quant.state import Kind, declared
from tests.quant.asking import ask

SHIFT = np.float32([0.25, 0, -0.5, 1e-3])


def inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 3, 4)).astype('float32')
    x[0, 0, 0] = -SHIFT
    x[0, 0, 1] = 0
    return x, rng.normal(size=x.shape)


def check(found, x, upstream, shift):
    moved = x + shift
    np.testing.assert_array_equal(found.y, np.where(moved > 0, 1, -1))
    gradient = upstream * np.maximum(2 - 2 * np.abs(moved), 0)
    np.testing.assert_allclose(found.gx, gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.coded(), found.y)
    return gradient


def test_values_and_gradients(run):
    x, upstream = inputs()
    found = ask(run, 'reactnet', x, upstream, half='activation', state={'shift': SHIFT})
    gradient = check(found, x, upstream, SHIFT)
    expected = gradient.sum((0, 1, 2))
    np.testing.assert_allclose(found.gradients['shift'], expected, rtol=1e-4, atol=1e-5)


def test_channels_first(run):
    x, upstream = inputs()
    first = np.moveaxis(x, -1, 1), np.moveaxis(upstream, -1, 1)
    found = ask(run, 'reactnet', *first, half='activation', state={'shift': SHIFT}, axis=1)
    np.testing.assert_array_equal(np.moveaxis(found.y, 1, -1) > 0, x + SHIFT > 0)
    assert found.gradients['shift'].shape == SHIFT.shape


def test_a_narrow_network_has_the_first_shifts(run):
    x, upstream = inputs()
    narrow = x[..., :3], upstream[..., :3]
    options = {'half': 'activation', 'state': {'shift': SHIFT}, 'channels': 4}
    found = ask(run, 'reactnet', *narrow, **options)
    gradient = check(found, *narrow, SHIFT[:3])
    expected = [*gradient.sum((0, 1, 2)), 0]
    np.testing.assert_allclose(found.gradients['shift'], expected, rtol=1e-4, atol=1e-5)


def test_shifts_start_at_zero(run):
    x, _ = inputs()
    found = ask(run, 'reactnet', x, half='activation')
    np.testing.assert_array_equal(found.state['shift'], np.zeros(4))


def test_weights_are_those_of_bireal(run):
    w, upstream = inputs()
    ours, theirs = ask(run, 'reactnet', w, upstream), ask(run, 'bireal', w, upstream)
    np.testing.assert_array_equal(ours.y, theirs.y)
    np.testing.assert_array_equal(ours.gx, theirs.gx)


@pytest.mark.parametrize('private', [False, True])
def test_shifts_are_declared(private):
    spec = f'reactnet(private={private})'
    q = Quantization(Policy((Rule(roles=('body',), activation=spec),)), training=True)
    for point in ('s8', 's4'):
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            q.activation(
                'q',
                tf.ones([1, 4]),
                scope='q',
                role='body',
                relu=True,
                lower=0.0,
                point=point,
                strongest=point == 's8',
            )
    found = {state.point for state in declared().values()}
    assert found == ({'s8', 's4'} if private else {''})
    assert {state.kind for state in declared().values()} == {Kind.QUANTIZER}
    assert len(tf.trainable_variables()) == 1 + private


def test_what_is_shipped_is_the_shifted_value(run):
    """Opaque quantizers have one threshold, behind an addition."""
    q = Quantization(
        Policy((Rule(roles=('body',), activation='reactnet'),)), training=False, opaque=True
    )
    y = q.activation(
        'q',
        tf.ones([1, 4]),
        scope='q',
        role='body',
        relu=True,
        lower=0.0,
        point='',
        strongest=True,
    )
    read, levels, thresholds = y.op.inputs
    assert read.op.type == 'AddV2'
    np.testing.assert_array_equal(run([levels, thresholds])[0], [-1, 1])


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match='private=1'):
        ReActNet(private=1)
    with pytest.raises(ValueError, match='bits=2'):
        ReActNet(bits=2)
    assert parse('reactnet').bits == 1
