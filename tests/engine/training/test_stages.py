"""Chains of trainings: which they are, what is refused before the first, and that they go on."""

import functools
import json
import shutil
import signal

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import Config, read_config
from engine.errors import UsageError
from engine.graph.inference import InferenceModel
from engine.runs.checkpoint import Checkpoint
from engine.runs.folder import checkpoints
from engine.training import origins, stages
from tests.engine.training.test_fault import (
    STEPS,
    assert_same,
    finish,
    output,
    signal_after_step,
    start,
)

GIVEN = {'data': 'animals28', 'arch': 'resnet8', 'sizes': (16, 12)}


def test_stages_differ_in_bits_alone():
    found = stages.chain({**GIVEN, 'lr': 0.3, 'epochs': 3}, ('4', 'w2a3', '2'))
    assert [stage.end for stage in found] == ['-w4a4', '-w2a3', '-w2a2']
    given = [dict(stage.given) for stage in found]
    assert [(one.pop('qw'), one.pop('qa')) for one in given] == [(4, 4), (2, 3), (2, 2)]
    assert given[0] == given[1] == given[2]
    assert given[0] == {**GIVEN, 'lr': 0.3, 'epochs': 3, 'stages': ('w4a4', 'w2a3', 'w2a2')}


def test_activations_first_then_weights():
    """ReActNet's two steps; what is float has no quantizer of its own."""
    given = {**GIVEN, 'weight_quantizer': 'sawb', 'activation_quantizer': 'pact'}
    chain = stages.checked(stages.chain(given, ('w32a4', 'w4a4')), None, None)
    assert [stage.given['weight_quantizer'] for stage in chain] == ['', 'sawb']
    assert {stage.given['mode'] for stage in chain} == {'preact'}


def test_all_stages_have_the_form_that_the_last_one_needs():
    chain = stages.checked(stages.chain(GIVEN, ('w2a32', 'w2a2')), None, None)
    assert [stage.given['mode'] for stage in chain] == ['preact', 'preact']


def test_only_the_first_worker_needs_what_is_loaded(tmp_path):
    chain = stages.chain({**GIVEN, 'load': str(tmp_path / 'gone')}, ('4', '2'))
    with pytest.raises(UsageError, match='--load'):
        stages.checked(chain, tmp_path / 'run', None)
    found = stages.checked(chain, tmp_path / 'run', None, first=False)
    assert [stage.given['qw'] for stage in found] == [4, 2]


def test_presets_follow_the_last_bits():
    chain = stages.chain({'preset': 'demo-dsnet', 'lr': 0.1}, ('4', '2'))
    ends = [stage.end for stage in chain]
    assert ends == ['-w4a4', '-w2a2', '-w2a2-gate']
    gate = chain[-1].given
    assert (gate['preset'], gate['qw'], gate['qa']) == ('demo-dsnet-gate', 2, 2)
    assert 'lr' not in gate


@pytest.mark.parametrize(
    'flags, part',
    [
        ('--progressive 4', 'give the bits of two stages or more'),
        ('--progressive w32a4', 'a single one is --qw 32 --qa 4'),
        ('--progressive 2 3', 'w3a3 after w2a2; bits must fall'),
        ('--progressive 3 3', 'w3a3 after w3a3; bits must fall'),
        ('--progressive w2a4 w4a2', 'w4a2 after w2a4; bits must fall'),
        ('--progressive 4 two', "'two' is no number of bits"),
        ('--progressive 4 2 --qw 2', '--qw 2 with --progressive 4 2: give one of them'),
        ('--progressive 9 4', 'w9a9 of w9a9 w4a4: --qw 9: bits must be 1 to 8'),
        (
            '--quantizer apot --progressive 4 3 1',
            'w1a1 of w4a4 w3a3 w1a1: --quantizer apot: ',
        ),
        ('--progressive 4 2 --mode resnet', 'w2a2 of w4a4 w2a2: --qa 2 with --mode resnet'),
        ('--progressive 4 2 -a p', '-a p with several stages'),
        ('--eval --progressive 4 2', '--progressive: is about training'),
    ],
)
def test_refused_before_the_first_stage(flags, part, tmp_path, capsys):
    line = ['--data', 'animals28', '-d', '8', '--sizes', '16', '--logdir', str(tmp_path / 'run')]
    assert imagenet_tf.main([*line, *flags.split()]) == 2
    assert part in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def recorded(folder, config: Config):
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(config.to_json()))


def test_a_folder_of_another_run_is_found_before_the_first_stage(tmp_path):
    chain = stages.chain(GIVEN, ('4', '2'))
    config = stages._resolved(chain[1], first=True)
    recorded(tmp_path / 'run-w2a2', config.replacing(load=str(tmp_path / 'other'), mode='preact'))
    with pytest.raises(UsageError, match='holds a run of another configuration .load:'):
        stages.checked(chain, tmp_path / 'run', None)
    stages.checked(chain, tmp_path / 'run', 'n')


def test_no_stage_becomes_longer_that_another_began_with(tmp_path):
    short = stages.chain({**GIVEN, 'epochs': 2}, ('4', '2'))
    load = None
    for stage in stages.checked(short, tmp_path / 'run', None):
        folder = stage.folder(tmp_path / 'run')
        recorded(folder, stages._resolved(stage, first=True).replacing(load=load))
        load = str(folder)
    stages.checked(short, tmp_path / 'run', None)
    longer = stages.chain({**GIVEN, 'epochs': 3}, ('4', '2'))
    with pytest.raises(UsageError, match='--epochs 3: .*-w4a4 was trained for 2, and the stage'):
        stages.checked(longer, tmp_path / 'run', None)


@pytest.mark.slow
def test_killed_in_the_second_stage_it_goes_on_there(tmp_path):
    flags = ['--epochs', 2, '--quantizer', 'lsq', '--progressive', 4, 2]
    straight, run = tmp_path / 'straight', tmp_path / 'run'
    finish(straight, *flags)
    hurt = functools.partial(signal_after_step, signal.SIGTERM, 3 * STEPS + 2)
    process = start(run, *flags, hurt=hurt)
    process.join()
    assert process.exitcode == 143
    assert max(checkpoints(tmp_path / 'run-w2a2')) == STEPS + 2, output(run)
    assert f'resuming at step {STEPS + 2}\n' in finish(run, *flags)
    for end in ('-w4a4', '-w2a2'):
        shutil.move(f'{straight}{end}', tmp_path / 'aside')
        assert_same(tmp_path / f'run{end}', tmp_path / 'aside', 2)
        shutil.rmtree(tmp_path / 'aside')
    config = read_config(tmp_path / 'run-w2a2' / 'config.json')
    assert (config.stages, config.load) == (('w4a4', 'w2a2'), str(tmp_path / 'run-w4a4'))
    few = finish(run, *flags)
    assert few.count('is complete') == 2


@pytest.mark.parametrize('name, kept', [('lsq', False), ('pact', True)])
def test_steps_of_other_bits_start_anew(name, kept):
    """The clip of PACT serves any bits."""
    config = Config.from_values(
        **GIVEN, mode='preact', width=0.25, activation_quantizer=f'{name}(bits=3)'
    )
    variables, _ = InferenceModel(config, data_format='NHWC').inspect()
    there = {key: np.zeros(state.shape) for key, state in variables.items()}
    learned = {key for key in there if key.rpartition('/')[2] in ('step', 'clip')}
    assert learned
    other = config.replacing(activation_quantizer=f'{name}(bits=4)', qa=4)
    for run, taken in ((config, set(there)), (other, set(there) - (set() if kept else learned))):
        known, _ = InferenceModel(run, data_format='NHWC').inspect()
        source = Checkpoint('RUN/model-1', there, run)
        found = origins.find(source, known, variables, config)
        assert {key for key, origin in found.items() if origin.value is not None} == taken
