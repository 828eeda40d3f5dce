"""A dry run says what would be trained, and leaves everything as it was."""

import shlex
from pathlib import Path

import pytest

from engine.config import hardware
from engine.config.cli import explicit, parse
from engine.config.config import Config
from engine.config.resolve import resolve
from engine.files import write_json
from engine.training import stages
from engine.training.planning import memory_line, time_lines
from nets.cost import LayerRecord
from tests.engine.command_line import call, tree

TINY = '--data animals28 --arch resnet8 --sizes 16 12 --width 0.25 --batch-size 8'
CONV = LayerRecord('conv', 'body', (3, 3, 4, 8), (10, 10), inputs=400)


def test_what_a_dry_run_says(here, capsys):
    before = tree(here)
    line = f'{TINY} --epochs 3 --steps-per-epoch 5 --qw 2 --qa 2 --logdir new --dry-run'
    assert call(line) == 0
    assert tree(here) == before
    said = capsys.readouterr().out
    for part in (
        'run folder new, a new one',
        'training: 15 steps, 3 epochs of 5, of 8 images each',
        'W2A2 by lq',
        'operating points: s16 s12',
        'memory of a step, estimated',
        'parameters, weights of',
        'nothing was trained or written',
    ):
        assert part in said
    assert len(said.splitlines()) <= 16


def test_a_chain_is_shown_as_it_would_be_trained(here, capsys):
    """All stages have one form of blocks, and each starts from the weights of the one before."""
    line = f'{TINY} --sizes 12 --progressive w2a32 w2a2 --logdir chain'
    given = explicit(parse(shlex.split(line)))
    last = stages.checked(stages.chain(given, ('w2a32', 'w2a2')), Path('chain'), None)[-1]
    config, _, _ = resolve(last.given)
    Path('chain-w2a2').mkdir()
    write_json(Path('chain-w2a2/config.json'), config.replacing(load='chain-w2a32').to_json())
    assert call(f'{line} --dry-run') == 0
    said = capsys.readouterr().out
    assert said.count('--mode preact') == 2
    assert 'run folder chain-w2a32, a new one' in said
    assert 'run folder chain-w2a2, resuming at step 0' in said


def test_of_a_run_that_is_there(here, capsys):
    before = tree(here)
    assert call(f'{TINY} --mode resnet --epochs 2 --steps-per-epoch 10 --logdir run --dry-run') == 2
    message = capsys.readouterr().err
    assert '--logdir run: holds a run' in message and 'batch_size: 256 there' in message
    assert tree(here) == before


@pytest.mark.parametrize(
    'line, message',
    [
        ('--logdir notes', '--logdir notes: the folder is not empty and not a run'),
        ('--logdir run --lr 3', '--logdir run'),
        ('--logdir new --batch-size 9000', '--batch_size 9000: for only'),
        ('--eval -ec run --measure', '--measure: is about training'),
    ],
)
def test_folders_are_looked_at_before_anything_is_loaded(line, message, refused, monkeypatch):
    def prepare(*_, **__):
        raise AssertionError('TensorFlow would be loaded')

    monkeypatch.setattr(hardware, 'prepare', prepare)
    assert message in refused(line if '--eval' in line else f'{TINY} {line}')


def test_memory_that_follows_from_the_layers():
    """Of each layer its input, its output and that normalised; weights, gradients, momentum."""
    config = Config.from_values(batch_size=500, gpu=(0, 1), optimizer='momentum')
    of_image = 400 + 2 * 800
    found = memory_line(config, {'s10': [CONV], 's8': [CONV]})
    assert '4 MB of it activations of 250 images' in found
    assert 4 * 2 * of_image * 250 == 4_000_000
    found = memory_line(config.replacing(gpu=(0,)), {'s10': [CONV]})
    assert '4 MB of it activations of 500 images' in found
    found = memory_line(config, {'s10': [CONV]}, workers=2)
    assert '1 MB of it activations of 125 images' in found


def test_hours_by_measured_steps():
    class Measured:
        step_seconds, steps, scored_per_second, peak_bytes = 0.5, 7, 100.0, 1.5e9

    config = Config.from_values(epochs=10, steps_per_epoch=720, batch_size=64, val_interval=5)
    first, second = time_lines(config, 720, 3600, Measured)
    assert first == (
        'measured: 500 ms a step (median of 7), 128 images/s in training and 100 in scoring; peak '
        'memory 1.5 GB'
    )
    # 9 epochs of 360 s; the validation images twice, 36 s each.
    assert second == ('time: 0.92 hours: 0.90 for 6480 steps, 0.02 for scoring 3600 images 2 times')


@pytest.mark.slow
@pytest.mark.parametrize('net', ['rsnet', 'san', 'aig', 'msdnet', 'dsnet'])
def test_steps_are_measured_and_forgotten(net, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = f'--data animals28 --net {net} --batch-size 8 --logdir new --measure --threads 0'
    if net == 'rsnet':
        line += ' --qw 2 --qa 2'
    assert call(line) == 0
    said = capsys.readouterr().out
    assert 'measured: ' in said and ' hours: ' in said
    assert list(tmp_path.iterdir()) == []
