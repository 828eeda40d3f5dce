"""Starting from a checkpoint.

What is restored, what starts afresh, fine-tuning, and calibrated statistics.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UsageError
from engine.runs import checkpoint
from engine.training import starting
from nets.layers.blocks import Blocks
from nets.layers.kernels import MetaConv
from nets.points import Point
from quant import Policy
from quant.backend import tf
from quant.slim_variables import zeros
from quant.state import begun
from tests.engine.runs.test_checkpoint import SMALL, numbers, read, save, shapes


class Restored:
    """A session with variables of a few values, and others that were changed after their start."""

    def __init__(self, values):
        self.names = [
            name for name in values if name.startswith(('conv0', 'linear', 'group0/block0/conv1'))
        ]
        given = [tf.get_variable(name, shape=values[name].shape) for name in self.names]
        plain = tf.get_variable('other', initializer=3.0)
        # As the start of a basis follows from the kernel that it codes.
        follows = tf.get_variable('follows', initializer=lambda: 2 * begun(given[0]))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run([plain.assign(8.0), follows.assign(tf.zeros_like(follows))])
            checkpoint.Restore(values).init(session)
            self.found = session.run({v.op.name: v for v in tf.global_variables()})


def test_restore_sets_variables(ours):
    values = ours[1]
    restored = Restored(values)
    assert len(restored.names) > 5
    assert all(np.array_equal(restored.found[name], values[name]) for name in restored.names)


def test_restore_starts_the_other_variables_afresh(ours):
    restored = Restored(ours[1])
    assert restored.found['other'] == 3
    np.testing.assert_array_equal(restored.found['follows'], 2 * ours[1][restored.names[0]])


def test_restore_tells_variables_apart_that_start_from_one_tensor():
    like = tf.get_variable('like', [2], initializer=tf.ones_initializer())
    for name in ('a', 'b', 'c'):
        tf.get_variable(name, [2], initializer=zeros(like))
    with tf.Session() as session:
        values = {'a': np.float32([1, 2]), 'c': np.float32([3, 4])}
        checkpoint.Restore(values).init(session)
        found = session.run({v.op.name: v for v in tf.global_variables()})
    expected = {'like': [1, 1], 'a': [1, 2], 'b': [0, 0], 'c': [3, 4]}
    assert {name: value.tolist() for name, value in found.items()} == expected


@pytest.mark.parametrize('given', [('slope', 'offset'), ('slope',), ()])
def test_restore_makes_generated_kernels_anew(given, run):
    """Slope 5 and offset 7 where they are given, else their start 1 and 2; the encoding is 0.5."""
    b = Blocks(Policy(), [Point(size=8)], training=False)
    start = tf.constant_initializer(1.0), tf.constant_initializer(2.0)
    with b.generated(MetaConv(0.5, lambda _: start)):
        y = b.conv('conv', tf.ones([1, 1, 1, 1]), 1, 1)
    run([])
    values = {'slope': 5.0, 'offset': 7.0}
    checkpoint.Restore(
        {f'conv/{name}': np.full((1, 1, 1, 1), values[name], 'float32') for name in given}
    ).init(run.session)
    taken = {'slope': 1.0, 'offset': 2.0} | {name: values[name] for name in given}
    assert run.session.run(y).item() == 0.5 * taken['slope'] + taken['offset']


def starting_values(folder: Path, **change):
    return starting.starting_values(SMALL.replacing(load=str(folder), **change))


def test_fine_tuning_starts_new_quantizers_afresh(ours):
    folder, values = ours
    assert set(starting_values(folder)) == set(values)
    shared = set(starting_values(folder, private_basis=False))
    assert shared == {name for name in values if not re.search(r'/quant\w+/s\d+/basis$', name)}
    assert starting.starting_values(SMALL) is None


def test_fine_tuning_takes_the_averages_of_a_basis_with_it(tmp_path):
    values = numbers(shapes(SMALL))
    basis = next(name for name in values if name.endswith('weight_quant/basis'))
    shadows = {f'{basis}/biased': values[basis], f'{basis}/local_step': np.float32(7)}
    prefix = save(
        values | shadows | {'linear/W/Momentum': values['linear/W']}, tmp_path / 'model-1'
    )
    assert set(starting_values(Path(prefix))) == {*values, *shadows}


def test_fine_tuning_to_other_bits_starts_their_bases_afresh(ours):
    found = set(starting_values(ours[0], sizes=(16,), kd=False, qw=1))
    wanted = set(shapes(SMALL.replacing(sizes=(16,), kd=False)))
    assert found == {name for name in wanted if not name.endswith('/weight_quant/basis')} != wanted


def test_the_averages_of_a_basis_of_other_bits_are_left_behind(tmp_path):
    values = numbers(shapes(SMALL))
    basis = next(name for name in values if name.endswith('weight_quant/basis'))
    prefix = save(values | {f'{basis}/biased': values[basis]}, tmp_path / 'model-1')
    assert f'{basis}/biased' in starting_values(Path(prefix))
    assert not [name for name in starting_values(Path(prefix), qw=1) if name.startswith(basis)]


def test_fine_tuning_at_a_new_size_starts_from_the_nearest_one(ours, capsys):
    folder, values = ours
    found = starting_values(folder, sizes=(24, 13), kd=False)
    for size, lender in ((24, 16), (13, 12)):
        for name, value in values.items():
            if f'/s{lender}/' in name:
                np.testing.assert_array_equal(found[name.replace(f's{lender}', f's{size}')], value)
    said = capsys.readouterr().out
    assert 'that of s16' in said and 'that of s12' in said and '-eos' not in said


NEW = {
    'conv0/bn/s14/mean/EMA': np.arange(4, dtype='float32'),
    'conv0/bn/s14/gamma': np.zeros(4, 'float32'),
}


@pytest.fixture
def prefix(tmp_path) -> str:
    return save(
        {'conv0/bn/s16/mean/EMA': np.ones(4, np.float32), 'w': np.ones(3, np.float32)},
        tmp_path / 'model-625',
    )


def test_calibrated_statistics_lie_beside_the_checkpoint(prefix, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    path = checkpoint.write_calibrated(prefix, NEW)
    assert path == tmp_path / 'model-625.calibrated.npz'
    assert {other: other.read_bytes() for other in tmp_path.iterdir() if other != path} == before
    assert read(prefix).sizes == [16, 14]
    assert all(np.array_equal(read(prefix).values[name], value) for name, value in NEW.items())
    assert checkpoint.checkpoints(tmp_path) == {625: prefix}


def test_calibrated_statistics_beat_those_trained_and_are_added_to(prefix):
    again = {
        'conv0/bn/s16/mean/EMA': np.full(4, 9, np.float32),
        'conv0/bn/s14/gamma': np.ones(4, 'float32'),
    }
    checkpoint.write_calibrated(prefix, NEW)
    checkpoint.write_calibrated(prefix, again)
    found = checkpoint.read_calibrated(prefix)
    assert set(found) == {*NEW, *again}
    assert all(np.array_equal(found[name], value) for name, value in (NEW | again).items())
    assert (read(prefix).values['conv0/bn/s16/mean/EMA'] == 9).all()


def test_without_calibration_there_is_nothing(prefix):
    assert checkpoint.read_calibrated(prefix) == {}
    assert read(prefix).sizes == [16]


@pytest.mark.parametrize(
    'damage', [b'', b'garbage', b'PK\x03\x04garbage', 'half', 'middle', 'pickle']
)
def test_damaged_calibration_is_refused_and_made_anew(damage, prefix):
    path = checkpoint.write_calibrated(prefix, NEW)
    whole = path.read_bytes()
    if damage == 'pickle':
        np.savez(path, x=np.array([{}], object))
    else:
        middle = whole[:90] + bytes(byte ^ 255 for byte in whole[90:140]) + whole[140:]
        path.write_bytes({'half': whole[: len(whole) // 2], 'middle': middle}.get(damage, damage))
    spoilt = path.read_bytes()
    with pytest.raises(
        UsageError,
        match=r'model-625\.calibrated\.npz: damaged \(.*\); .*calibrate .* makes it anew',
    ):
        read(prefix)
    assert path.read_bytes() == spoilt
    checkpoint.write_calibrated(prefix, NEW)
    assert path.read_bytes() == whole
    (aside,) = path.parent.glob(f'{path.name}.damaged-*')
    assert aside.read_bytes() == spoilt


def test_an_interrupted_calibration_leaves_the_old_one(prefix, monkeypatch):
    path = checkpoint.write_calibrated(prefix, NEW)
    before = path.read_bytes()

    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('engine.files.os.replace', die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_calibrated(prefix, {'w': np.zeros(3)})
    assert path.read_bytes() == before
