"""Flags of optimizers and averages that cannot be meant."""

import pytest

import imagenet_tf


@pytest.mark.parametrize(
    'flags, parts',
    [
        ('--beta1 0.5', ['--beta1', '--optimizer momentum has no such option']),
        ('--optimizer adam --momentum 0.5', ['--momentum', '--optimizer adam has no such option']),
        ('--optimizer sgd', ['--optimizer', 'sgd', 'momentum, adam, adamw, lamb']),
        ('--optimizer adam --beta2 1', ['--beta2 1', 'below 1']),
        ('--model-ema 1', ['--model_ema 1', 'below 1']),
        ('--model-ema nan', ['--model_ema nan', 'must be a finite number']),
        ('--weights ema', ['--weights', 'add --eval']),
    ],
)
def test_refused(flags, parts, tmp_path, capsys):
    logdir = tmp_path / 'run'
    line = ['--data', 'animals28', *flags.split(), '--logdir', str(logdir)]
    assert imagenet_tf.main(line) == 2
    message = capsys.readouterr().err
    assert [part for part in parts if part not in message] == [] and not logdir.exists()
