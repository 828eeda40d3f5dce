"""A run that goes on with another number of towers, and longer, is the same run."""

import numpy as np
import pytest

import imagenet_tf
from engine.runs import checkpoint

FLAGS = '--data animals28 --sizes 16 12 --width .25 --batch-size 16 --steps-per-epoch 4 --sync-bn'
COURSE = '--schedule milestones --milestones 9 --warmup 0 --lr 0.01 --threads 0'


def train(folder, flags):
    line = [*FLAGS.split(), *COURSE.split(), *flags.split(), '--logdir', str(folder)]
    assert imagenet_tf.main(line) == 0


def variables(folder):
    found = checkpoint.read_variables(str(folder / 'model-8'), flag='-ec')
    # Averages of metrics are those of a tower.
    return {name: value for name, value in found.items() if not name.startswith('EMA/')}


@pytest.mark.slow
@pytest.mark.parametrize('first, then', [('0,1', '0'), ('0', '0,1')])
def test_it_ends_where_one_tower_ends(first, then, tmp_path, capsys):
    train(tmp_path / 'one', '--epochs 2 --gpu 0')
    train(tmp_path / 'changed', f'--epochs 1 --gpu {first}')
    capsys.readouterr()
    train(tmp_path / 'changed', f'--epochs 2 --gpu {then}')
    said = capsys.readouterr().out
    before, now = len(first.split(',')), len(then.split(','))
    assert f'--gpu: towers {now}, before {before}; --batch_size 16 stays' in said
    assert '--epochs 2, before 1: the learning rate at step 4 is 0.01, before 0.01' in said
    expected, found = variables(tmp_path / 'one'), variables(tmp_path / 'changed')
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype == object:
            assert found[name].tolist() == value.tolist()
            continue
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-3, err_msg=name)
