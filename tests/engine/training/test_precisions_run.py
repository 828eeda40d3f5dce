"""Networks of several precisions in training: several towers, and levels of whole numbers."""

import numpy as np
import pytest

import imagenet_tf
from engine.deployment import snapping
from engine.graph.tower import Model
from engine.runs import checkpoint
from quant import integers
from quant.backend import new_graph, tf
from quant.updates import refit
from scripts import snap
from scripts.bench import train
from tests import test_grid

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('shallow')]

NESTED = 'lq(nested=True)'


def after_a_step(gpu, **fields) -> dict[str, np.ndarray]:
    """Variables after a step of training on the same images in so many towers."""
    given = {'bits': ('4', '2'), 'batch_size': 8, 'gpu': gpu, 'sync_bn': len(gpu) > 1, **fields}
    config = test_grid.small('rsnet', 'sizes', given)
    with new_graph(), tf.Session() as session:
        model = Model(config, data_format='NHWC')
        batch = train.random_batch(config, model.feeds)
        tf.train.get_or_create_global_step()
        loss = train.tower_loss(model, batch)
        optimizer = model.optimizer()
        step = optimizer.minimize(loss)
        if model.exchange is not None:
            model.exchange.connect()
        refits = refit([blocks.quantization for blocks in model.towers])
        session.run(tf.global_variables_initializer())
        (rate,) = [one for one in tf.global_variables() if one.op.name == 'learning_rate']
        rate.load(0.01, session)
        session.run([step, *refits, *tf.get_collection(tf.GraphKeys.UPDATE_OPS)])
        return session.run({one.op.name: one for one in tf.global_variables()})


@pytest.mark.parametrize('spec', ['lq', NESTED, "lq(nested='cut')", 'adabits'])
def test_two_towers_train_as_one(spec):
    """Statistics of all precisions are those of all images; weights are counted once."""
    halves = {'weight_quantizer': spec}
    if spec == 'adabits':
        halves['activation_quantizer'] = spec
    one, two = after_a_step((0,), **halves), after_a_step((0, 1), **halves)
    assert one.keys() == two.keys()
    compared = 0
    for name, value in one.items():
        if name.startswith('bench/') or name.endswith('/EMA'):
            continue
        # A value at a threshold may fall on its other side: sums are rounded differently.
        np.testing.assert_allclose(two[name], value, rtol=2e-3, atol=2e-4, err_msg=name)
        compared += 1
    assert compared > 20
    if spec != 'adabits':
        bases = [name for name in one if name.endswith('/basis')]
        assert {name.split('/')[-2] for name in bases} == {'b4', 'b2'}


def test_the_last_epochs_have_whole_levels_at_every_precision(tmp_path, capsys):
    """And a run without such epochs has them when it is snapped: of each precision, evaluated."""
    flags = (
        '--data animals28 -d 8 --mode preact --bits 4 2 --sizes 28 12 --steps_per_epoch 2 '
        f'--epochs 2 --batch_size 8 --weight_quantizer {NESTED} --logdir'
    ).split()
    whole, learned = tmp_path / 'whole', tmp_path / 'learned'
    assert imagenet_tf.main([*flags, str(whole), '--snap_epochs', '1']) == 0
    assert imagenet_tf.main([*flags, str(learned)]) == 0
    capsys.readouterr()
    assert snap.main([str(learned), '--out', str(tmp_path / 'snapped')]) == 0
    said = capsys.readouterr().out
    assert all(point in said for point in ('s28-b4', 's28-b2', 's12-b4', 's12-b2'))
    assert snapping.would_change(read(learned))
    for folder in (whole, tmp_path / 'snapped'):
        source = read(folder)
        assert not snapping.would_change(source)
        check_whole(source)


def read(folder):
    return checkpoint.read(checkpoint.find(str(folder), None, 'RUN'), flag='RUN')


def check_whole(source):
    """Every basis has levels that are whole numbers times a scale."""
    counts = dict.fromkeys((4, 2), 0)
    for name, basis in source.values.items():
        if not name.endswith('/basis'):
            continue
        bits = len(basis)
        numbers = np.arange(2**bits)[:, None] >> np.arange(bits) & 1  # [L, K]
        signed = 'weight_quant' in name
        codes = (2 * numbers - 1 if signed else numbers).astype(np.float32)
        limits = (-127, 127) if signed else (0, 255)
        assert integers.whole(codes @ basis, *limits) is not None, name
        counts[bits] += 1
    assert min(counts.values()) > 0
