"""RPReLU against its formula, where it stands in a network, and what it can be loaded from."""

import numpy as np
import pytest
from tensorpack.tfutils.tower import TowerContext

from engine.errors import UsageError
from engine.graph.tower import Model
from nets.layers.blocks import Blocks
from nets.points import Point
from quant.backend import tf
from quant.policy import Policy, low_bit
from quant.state import Kind, declared
from tests import test_grid as grid

RNG = np.random.default_rng(0)
LARGE, SMALL = Point(size=8), Point(size=4)
PARTS = ('before', 'slope', 'after')


def builder(policy=None, **options):
    values = {'training': True, 'activation': 'rprelu', **options}
    return Blocks(policy or Policy(), [LARGE, SMALL], **values)


@pytest.mark.parametrize('data_format', ['NHWC', 'NCHW'])
def test_values_and_gradients(data_format, run):
    b = builder(data_format=data_format)
    images = RNG.normal(size=(2, 4, 4, 3)).astype('float32')
    images[0, 0] = 0
    upstream = RNG.normal(size=images.shape).astype('float32')
    turned = (0, 3, 1, 2) if data_format == 'NCHW' else (0, 1, 2, 3)
    x = tf.constant(images.transpose(turned))
    y = b.act('quant1', x)
    variables = {v.op.name.rpartition('/')[2]: v for v in tf.trainable_variables()}
    run(y)
    for part, start in zip(PARTS, (0, 0.25, 0)):
        np.testing.assert_array_equal(run(variables[part]), [start] * 3)
    values = {part: RNG.normal(size=3).astype('float32') for part in PARTS}
    run.session.run([variables[part].assign(value) for part, value in values.items()])
    fetches = [x, *(variables[part] for part in PARTS)]
    found = run([y, *tf.gradients(y, fetches, tf.constant(upstream.transpose(turned)))])
    moved = images + values['before']
    slope = np.where(moved > 0, 1, values['slope'])
    through = upstream * slope
    np.testing.assert_allclose(
        found[0], (moved * slope + values['after']).transpose(turned), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(found[1], through.transpose(turned), rtol=1e-5, atol=1e-6)
    sums = [through, upstream * np.minimum(moved, 0), upstream]
    for ours, expected in zip(found[2:], sums):
        np.testing.assert_allclose(ours, expected.sum((0, 1, 2)), rtol=1e-4, atol=1e-5)


def test_points_share_it_and_the_quantizer_sees_both_signs(run):
    b = builder(low_bit('float', 'n2uq(bits=2)'))
    for point in (LARGE, SMALL):
        with b.at(point):
            y = b.act('quant1', tf.constant(RNG.normal(size=(1, 2, 2, 3)), tf.float32))
    learned = {name for name in declared() if '/rprelu/' in name}
    assert learned == {f'quant1/rprelu/{part}' for part in PARTS}
    for name in learned:
        state = declared()[name]
        assert (state.kind, state.fresh, state.point) == (Kind.TRAINED, True, '')
    assert run(y).shape == (1, 2, 2, 3)


def test_images_and_the_stem_keep_their_functions(run):
    b = builder()
    x = np.float32([-1, 2]).reshape(1, 1, 1, 2)
    y = run([b.image(tf.constant(x)), b.act('relu0', tf.constant(x), role='stem')])
    np.testing.assert_array_equal(y, [x, np.maximum(x, 0)])
    assert not tf.global_variables()


def test_the_head_reads_negative_values():
    b = builder()
    seen = []
    b.dense_input = lambda x, role, lower: seen.append(lower) or x
    b.dense('linear', tf.ones([1, 2]), 3)
    assert seen == [-np.inf]


def config(net, axis, **options):
    return grid.config(f'{net}-{axis}-lsq4').adjusted(activation='rprelu', **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    'net, axis', [('rsnet', 'sizes'), ('aig', 'gates'), ('san', 'sizes'), ('msdnet', 'exits')]
)
@pytest.mark.usefixtures('shallow')
def test_networks_learn_it(net, axis, run):
    model = Model(config(net, axis), data_format='NHWC')
    with TowerContext('', is_training=True):
        loss = model.build_graph(tf.constant(grid.IMAGES), tf.constant(grid.LABELS))
    learned = [v for v in tf.trainable_variables() if '/rprelu/' in v.op.name]
    assert len(learned) > 6
    gradients = tf.gradients(loss, learned)
    run([])
    # What comes from a ReLU has no negative values before it is moved.
    for v in learned:
        if v.op.name.endswith('before'):
            v.load(RNG.uniform(-0.6, -0.1, v.shape), run.session)
    found = run(gradients)
    for variable, gradient in zip(learned, found):
        assert np.isfinite(gradient).all(), variable.op.name
        assert gradient.any(), variable.op.name


@pytest.mark.usefixtures('shallow')
def test_widths_cannot_learn_it():
    with pytest.raises(UsageError, match='--activation rprelu with --net dsnet: its blocks have'):
        config('dsnet', 'widths').check()
