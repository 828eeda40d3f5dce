"""Training from end to end on tiny settings: records, several towers, every kind of evaluation."""

import itertools
import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

import imagenet_tf
from engine.config import cli, resolve
from engine.config.config import read_config
from engine.results.records import read_layers
from quant.backend import tf
from tests.checkpoints import values

TINY = shlex.split(
    '--data animals28 -d 8 --sizes 16 12 --kd --qw 2 --qa 2 --batch-size 8 --epochs 2 '
    '--steps-per-epoch 3 --threads 0'
)


pytestmark = pytest.mark.usefixtures('few_validation_images', 'shallow_module')


def main(*flags) -> None:
    assert imagenet_tf.main([str(flag) for flag in flags]) == 0


def records(run) -> dict[str, dict]:
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted((Path(run) / 'eval').glob('*.json'))
    }


def accuracies(found) -> dict[str, tuple[float, float]]:
    return {name: (row['top1'], row['top5']) for name, row in found.items()}


@pytest.fixture(scope='module')
def trained(tmp_path_factory, shallow_module) -> Path:
    run = tmp_path_factory.mktemp('trained') / 'run'
    main(*TINY, '--logdir', run)
    return run


def test_a_run_leaves_what_its_readers_need(trained):
    config = read_config(trained / 'config.json')
    assert (config.sizes, config.qw, config.qa, config.classes) == ((16, 12), 2, 2, 10)
    assert set(records(trained)) == {'s16', 's12', 'ensemble'}
    assert set(read_layers(trained)) == {'s16', 's12'}
    history = json.loads((trained / 'stats.json').read_text())
    assert [row['epoch_num'] for row in history] == [1, 2]
    assert {'val/top1/s16', 'val/top5/ensemble', 'train/loss/distillation', 'lr'} <= set(history[0])
    assert any('dead_levels' in name for name in history[0])
    assert (trained / 'log.log').exists() and list(trained.glob('events.*'))


def test_tags_of_tensorboard(trained):
    """In groups of the field's terms: the loss by step, scores by point, the configuration."""
    found, steps = {}, []
    for path in trained.glob('events.*'):
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[value.tag] = value
                if value.tag == 'train/loss':
                    steps.append(event.step)
    assert {'lr', 'val/top1/s16', 'val/loss/s12', 'val/top1/mean', 'train/error/s16'} <= set(found)
    assert len(steps) == 6 and len(set(steps)) == 6
    text = found['config/text_summary'].tensor.string_val[0].decode()
    assert '**quantization**' in text and '"qw": 2' in text
    assert {'_hparams_/experiment', '_hparams_/session_start_info'} <= set(found)
    groups = {name.split('/')[0] for name in found}
    assert groups - {'_hparams_'} == {'config', 'lr', 'quant', 'step', 'train', 'val', 'data'}


def test_every_basis_is_refit_once_per_step(trained):
    state = values(trained / 'model-6')
    steps = {name: value for name, value in state.items() if name.endswith('basis/local_step')}
    assert len(steps) == len([name for name in state if name.endswith('/basis')]) == 9
    assert all(value == 6 for value in steps.values())
    assert state['global_step'] == 6


def test_best_checkpoint_is_the_best_epoch(trained):
    history = json.loads((trained / 'stats.json').read_text())
    best = json.loads((trained / 'best.json').read_text())
    means = [row['val/top1/mean'] for row in history]
    assert best['mean_top1'] == pytest.approx(max(means))
    assert best['epoch'] == 1 + means.index(max(means))
    assert values(trained / 'best')['global_step'] == best['step']


def test_a_finished_run_is_left_alone(trained, capsys):
    def state():
        return {
            path: path.stat().st_mtime_ns for path in trained.rglob('*') if path.name != 'log.log'
        }

    before = state()
    main(*TINY, '--logdir', trained)
    assert 'is complete' in capsys.readouterr().out
    assert before == state()


def test_evaluation_repeats_the_training_records(trained):
    trained_records = accuracies(records(trained))
    main('--eval', '-ec', trained)
    assert accuracies(records(trained)) == trained_records
    assert records(trained)['s16']['images'] == 40


def test_evaluation_of_one_size_epoch_and_prefix(trained, tmp_path, capsys):
    main('--eval', '-ec', trained, '-es', 12, '-ep', 1, '--logdir', tmp_path / 'one')
    assert set(records(tmp_path / 'one')) == {'s12'}
    main('--eval', '-ec', trained / 'model-3', '-es', 12, '--logdir', tmp_path / 'two')
    assert accuracies(records(tmp_path / 'two')) == accuracies(records(tmp_path / 'one'))


def test_evaluation_with_the_statistics_of_another_size(trained):
    main('--eval', '-ec', trained, '-es', 20, 16, '-eos', 12)
    found = records(trained)
    assert {'s20@s12', 's16@s12'} <= set(found)
    assert (found['s20@s12']['point'], found['s20@s12']['bn']) == ('s20', 's12')


def test_a_size_without_statistics_is_refused(trained, capsys):
    assert imagenet_tf.main(['--eval', '-ec', str(trained), '-es', '20']) == 2
    message = capsys.readouterr().err
    assert '-es 20' in message and '-eos' in message and 'sizes 16 12' in message


@pytest.mark.slow
def test_fine_tuning_starts_from_the_loaded_weights(trained, tmp_path):
    from engine.training import starting

    given = cli.explicit(cli.parse([*TINY, '--qa', '3', '--load', str(trained)]))
    config, _, _ = resolve.resolve(given | {'qa': 32, 'mode': 'preact'})
    start, saved = starting.starting_values(config), values(trained / 'model-6')
    assert np.array_equal(start['group0/block0/conv1/W'], saved['group0/block0/conv1/W'])
    assert start['group0/block0/conv1/weight_quant/basis/local_step'] == 6
    assert (
        'learning_rate' not in start
        and 'global_step' not in start
        and not any('Momentum' in n for n in start)
    )
    main(
        *TINY[:-6],
        *shlex.split('--epochs 1 --steps-per-epoch 1 --load'),
        trained,
        '--logdir',
        tmp_path / 'tuned',
    )
    assert set(records(tmp_path / 'tuned')) == {'s16', 's12', 'ensemble'}


@pytest.mark.slow
@pytest.mark.parametrize('trainer', ['replicated', 'parameter-server'])
def test_two_towers_on_the_cpu(trainer, tmp_path):
    main(*TINY, '--epochs', '1', '--gpu', '0,1', '--trainer', trainer, '--logdir', tmp_path / 'run')
    state = values(tmp_path / 'run' / 'model-3')
    assert not any(name.startswith('tower') for name in state)
    numbers = [value for value in state.values() if value.dtype != object]  # names of classes
    assert all(np.all(np.isfinite(value)) for value in numbers)
    assert all(value == 3 for name, value in state.items() if name.endswith('local_step'))
    assert records(tmp_path / 'run')['s12']['images'] == 40


SMALLEST = shlex.split(
    '--data animals28 --sizes 16 12 --kd --batch-size 8 --epochs 1 --steps-per-epoch 2 --threads 0'
)


@pytest.mark.parametrize(
    'flags, weights',
    [
        pytest.param(
            ['--net', 'san', '--arch', 'resnet8', '--qw', '2', '--qa', '2'],
            'group0/block0/conv1/slope',
            marks=pytest.mark.slow,
        ),
        (
            shlex.split('--arch resnet8 --mode pytorch --resize antialias --kd-type none'),
            'conv0/W',
        ),
    ],
)
def test_networks_of_the_pytorch_codes(flags, weights, tmp_path):
    """From training to evaluation; a second evaluation of the checkpoint finds the same."""
    run = tmp_path / 'run'
    main(*SMALLEST, *flags, '--logdir', run)
    state, found = values(run / 'model-2'), records(run)
    assert weights in state and np.isfinite(state[weights]).all()
    assert {'s16', 's12'} <= set(found)
    main('--eval', '-ec', run)
    assert accuracies(records(run)) == accuracies(found)


def published_name(name: str) -> str:
    """The published spelling of one of our variables (FACTS_RSQ, section 10)."""
    parts = name.split('/')
    size = next((part for part in parts if part[0] == 's' and part[1:].isdigit()), None)
    if size:
        at = parts.index(size)
        number, parent = f'{int(size[1:]):03d}', parts[at - 1]
        parts[at - 1 : at + 1] = (
            [f'bn{number}'] if parent == 'bn' else [f'{parent.replace("_", "-")}{number}', 'bn']
        )
    if 'basis' in parts and 'weight_quant' not in parts:
        parts.insert(parts.index('basis'), 'ActivationQuantization')
    return '/'.join(parts if parts == ['alpha'] else ['imagenet', *parts])


@pytest.mark.slow
def test_a_published_checkpoint_folder_evaluates_alike(tmp_path):
    run, published = tmp_path / 'run', tmp_path / 'published'
    main(*TINY, '-d', 18, '--epochs', '1', '--steps-per-epoch', '1', '--logdir', run)
    published.mkdir()
    with tf.Graph().as_default(), tf.Session() as session:
        keep = {
            name: value
            for name, value in values(run / 'model-1').items()
            if not any(part in name for part in ('Momentum', 'step', 'learning_rate', 'biased'))
        }
        variables = {published_name(name): tf.Variable(value) for name, value in keep.items()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, str(published / 'model'), global_step=550000)
    assert (
        imagenet_tf.main(
            [
                '--eval',
                '-ec',
                str(published),
                *shlex.split('-ep 109 --data animals28 -d 18 --mode preact'),
            ]
        )
        == 2
    )
    main(
        '--eval',
        '-ec',
        published,
        *shlex.split('-ep 110 --data animals28 -d 18 --mode preact --logdir'),
        tmp_path / 'records',
    )
    assert accuracies(records(tmp_path / 'records')) == accuracies(records(run))


def test_a_loss_that_is_no_number_ends_the_training(tmp_path, capfd):
    flags = [
        *TINY,
        *shlex.split('--lr 1e30 --warmup 0 --epochs 1 --steps-per-epoch 9 --logdir'),
        tmp_path,
    ]
    assert imagenet_tf.main([str(flag) for flag in flags]) == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert '--lr than 1e+30' in message
    assert 'training stopped at step 2: the loss is nan (loss, ' in message
    assert 'the first statistics that are not finite: ' in message
    assert not list(tmp_path.glob('model-*.index'))


def test_a_folder_of_jpegs_trains_and_evaluates(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 3)):
        for synset in ('n001', 'n002', 'n003'):
            folder = tmp_path / 'images' / split / synset
            folder.mkdir(parents=True)
            for n in range(count):
                image = rng.integers(
                    0, 256, (int(rng.integers(30, 90)), int(rng.integers(30, 90)), 3), np.uint8
                )
                cv2.imwrite(str(folder / f'{n}.JPEG'), image)
    main(
        '--data',
        tmp_path / 'images',
        *shlex.split(
            '-d 8 --sizes 48 32 --image-size 64 --batch-size 4 '
            '--epochs 1 --steps-per-epoch 2 --logdir'
        ),
        tmp_path / 'run',
    )
    found = records(tmp_path / 'run')
    assert {name: row['images'] for name, row in found.items()} == {'s48': 9, 's32': 9}
    assert all(row['top5'] == 100 for row in found.values())


def test_bad_images_that_end_the_training_are_named(tmp_path, capfd):
    rng = np.random.default_rng(0)
    for part, name in itertools.product(('train', 'val'), ('cat', 'dog')):
        (tmp_path / part / name).mkdir(parents=True)
        for n in range(4):
            cv2.imwrite(
                str(tmp_path / part / name / f'{n}.JPEG'),
                rng.integers(0, 256, (40, 40, 3), np.uint8),
            )
    (tmp_path / 'train' / 'cat' / '3.JPEG').write_bytes(b'nothing')
    flags = [
        '--data',
        tmp_path,
        *shlex.split(
            '--arch resnet8 --sizes 16 --image-size 16 --batch-size 4 '
            '--max-bad 0 --epochs 2 --threads 0 --logdir'
        ),
        tmp_path / 'run',
    ]
    assert imagenet_tf.main([str(flag) for flag in flags]) == 2
    message = capfd.readouterr().err
    assert (
        '1 of 8 training images cannot be decoded'
        in message.partition('error: training stopped at step ')[2]
    )
    assert 'train/cat/3.JPEG' in message.partition('error: ')[2]


@pytest.mark.slow
def test_frozen_parts_stay_as_they_were_loaded_and_a_run_goes_on_exactly(trained, tmp_path):
    run = tmp_path / 'frozen'
    flags = [*TINY, '--load', trained, '--freeze', 'stem,group0', '--lr-factor', 'head=10']
    main(*flags, '--logdir', run)
    before, after = values(trained / 'model-6'), values(run / 'model-6')
    learned = [name for name in before if name.rpartition('/')[2] in ('W', 'gamma', 'beta', 'b')]
    for name in learned:
        same = np.array_equal(before[name], after[name])
        assert same == name.startswith(('conv0/', 'group0/')), name
    assert 'conv0/W/Momentum' not in after and 'linear/W/Momentum' in after
    assert read_config(run / 'config.json').lr_factor == 'head=10'
    for file in run.glob('model-6*'):
        file.unlink()
    main(*flags, '--logdir', run)
    again = values(run / 'model-6')
    assert all(np.array_equal(again[name], after[name]) for name in learned)
    assert imagenet_tf.main([*map(str, flags[:-1]), 'hed=10', '--logdir', str(tmp_path / 'x')]) == 2
    assert not (tmp_path / 'x').exists() or not any((tmp_path / 'x').glob('model*'))
