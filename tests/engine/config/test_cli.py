"""The command line.

Bad input ends with status 2, one line that helps, and a file system as it was.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import read_config
from engine.evaluation import evaluate
from engine.runs.folder import open_run
from engine.training import train
from quant.backend import tf
from tests.engine.command_line import RUN, accepted, call, tree
from tests.engine.runs.test_checkpoint import save

pytestmark = pytest.mark.usefixtures('here')

SCRIPT = Path(imagenet_tf.__file__)
PUBLISHED_FLAGS = [
    '--gpu',
    '--data',
    '--load',
    '--fake',
    '--data_format',
    '-d',
    '--depth',
    '--mode',
    '--qw',
    '--qa',
    '--wd',
    '--batch_size',
    '--lr',
    '-a',
    '--action',
    '-s',
    '--sizes',
    '--kd',
    '--fixed_qa',
    '--eval',
    '-ec',
    '-es',
    '--eval_scale',
    '-eos',
    '--eval_original_scale',
    '-ep',
    '--eval_epoch',
    '--fix_mean_var',
    '--logdir',
]


TRAIN = train.train


# No file system takes more than 255 characters between two slashes.
LONG = 5000 * 'x'


@pytest.mark.parametrize(
    'line, parts',
    [
        # unknown preset, size, depth, data: what was given, what exists
        ('--preset rs19', ['--preset rs19', 'rs18_w2a2', 'demo']),
        ('--depth 19', ['--arch resnet19', 'resnet18, resnet20', 'resnext101_32x8d']),
        ('--arch vgg16', ['--arch vgg16', 'resnet18', 'mobilenetv2']),
        ('-d 18 --arch resnet18', ['-d 18', '--arch resnet18', 'one of them']),
        ('--net san --mode preact', ['--net san', '--mode preact', 'pytorch']),
        ('--kd_type topdown --data fake', ['--kd_type topdown', 'ens_topdown, ens, none']),
        ('--net san --encoding 0', ['--encoding 0: must be greater than 0']),
        ('--arch mobilenetv2 --mode resnet --data fake', ['--arch mobilenetv2', 'pytorch only']),
        ('--gamma 0', ['--gamma 0', 'greater than 0']),
        ('-d 18 --mode post --data fake', ['--mode post', 'resnet, preact, preact_typeA']),
        ('--mode vgg --qa 2', ['--mode vgg', 'preact_typeA']),
        ('--net vgg', ['--net vgg', 'rsnet', 'san']),
        ('--data nowhere', ['--data nowhere', 'animals28', 'cifar10:DIR', 'train/ and val/']),
        ('--data cifar10', ['--data cifar10', 'cifar10:DIR']),
        ('--data cifar100:nowhere', ['cifar100:nowhere', 'nowhere/cifar-100-python']),
        ('--data file', ['--data file', 'found a file of 1 byte, looked for', 'train/CLASS/*']),
        ('--data empty', ['--data empty', 'found nothing', 'train/CLASS/*']),
        ('--data noval', ['--data noval', 'no validation images', 'looked for val']),
        ('--data emptyclass', ['--data', 'emptyclass/train: ', 'no images', ': dog']),
        ('--data oddclass', ['--data', 'oddclass/val/cow']),
        ('--fake --data animals28', ['--fake', '--data animals28']),
        # sizes
        ('--data fake --sizes 224 128 224', ['--sizes 224 128 224', 'repeated']),
        ('-s 28 24 7 --data fake', ['-s/--sizes 7', 'at least 8']),
        ('--sizes 60 40', ['--sizes 60 40', 'without --data']),
        ('--sizes 97 96', ['--sizes 97 96', 'without --data']),
        ('--image_size 0', ['--image_size 0', 'at least 1']),
        ('--fake --image_size 96', ['--image_size 96', '224']),
        ('--width inf', ['--width inf', 'greater than 0']),
        ('--sizes 28,24', ['--sizes 28,24', 'whole number']),
        ('--sizes', ['--sizes']),
        # bits and batches
        ('--qa 2 --mode resnet', ['--qa 2', '--mode resnet', '--mode preact']),
        ('--preset rs18_w2a32 --data fake --qa 2', ['--qa 2', '--mode resnet', '--mode preact']),
        ('--qw 16', ['--qw 16', '1 to 8', '32']),
        ('--qa 0', ['--qa 0', '1 to 8', '32']),
        ('--qw 2.5', ['--qw 2.5', 'whole number']),
        ('--gpu 0,1,2 --batch_size 64', ['--batch_size 64', '3 towers', '--gpu']),
        ('--batch_size 0', ['--batch_size 0', 'at least 1']),
        ('--epochs -3', ['--epochs -3', 'at least 1']),
        ('--lr 0', ['--lr 0', 'greater than 0']),
        ('--lr nan', ['--lr nan', 'greater than 0']),
        ('--seed -1', ['--seed -1', 'at least 0']),
        ('--warmup -1', ['--warmup -1', 'at least 0']),
        ('--wd -1', ['--wd -1', 'at least 0']),
        ('--fake --batch_size 512', ['--batch_size 512', 'training images']),
        ('--data images --batch_size 256', ['--batch_size 256', 'only 2 training images']),
        ('--qa 2 --fixed_qa --private_basis', ['--fixed_qa', 'private_basis']),
        ('--sync-bn --net dsnet --data images', ['--sync_bn', '--net dsnet', 'leave it out']),
        ('--sync-bn --net aig --train-skip --data images', ['--sync_bn', '--train_skip']),
        # machine
        ('--gpu a', ['--gpu a', '0,1,2,3']),
        ('--gpu 0,', ['--gpu 0,', '0,1,2,3']),
        ('--gpu ""', ['--gpu', '0,1,2,3']),
        ('--gpu 0,0', ['--gpu 0,0', 'once']),
        ('--gpu -1', ['--gpu -1', 'negative']),
        ('--gpu 0 1', ['unrecognized arguments: 1']),
        ('--data_format NCHW', ['--data_format NCHW', 'GPU', 'NHWC']),
        ('--data_format nchw', ['--data_format', 'NCHW', 'NHWC']),
        ('--threads -1', ['--threads -1', 'at least 0']),
        ('--trainer horovod', ['--trainer', 'replicated', 'parameter-server']),
        ('-a x', ['-a/--action x', 'k, d, n']),
        # --load
        ('--load nowhere', ['--load nowhere', 'no such checkpoint or folder']),
        ('--load empty', ['--load empty', 'no checkpoint']),
        ('--load garbage', ['--load garbage/model-5', 'cannot be read']),
        ('--load garbage/model-5', ['--load garbage/model-5', 'cannot be read']),
        ('--load alien', ['--load', 'another depth']),
        (
            '--load run --data animals28 --sizes 16 12 --width .25 -d 20',
            ['--load', 'another depth', 'run/model-20'],
        ),
        # --logdir
        ('--logdir file/run', ['--logdir file/run', 'cannot be written']),
        ('--logdir notes', ['--logdir notes', 'not a run']),
        ('--logdir notes -a d', ['--logdir notes', 'not a run']),
        ('--logdir file', ['--logdir file', 'is a file']),
        (
            '--logdir run',
            ['--logdir run', 'another configuration', 'epochs: 2 there, 5 here', '-a n'],
        ),
        ('--logdir run -a k', ['--logdir run', 'another configuration']),
        # evaluation flags without --eval
        ('-ec run -es 16', ['-ec', '--eval']),
        ('--fix_mean_var', ['--fix_mean_var', '--eval']),
        ('-ep 1', ['-ep', '--eval']),
        # far too long
        (f'--data {LONG}', [LONG[:900], 'File name too long']),
        (f'--data folder:{LONG}', ['File name too long']),
        (f'--load {LONG}', ['File name too long']),
        (f'--logdir {LONG}', ['File name too long']),
        (f'--eval -ec {LONG}', ['File name too long']),
        (f'--policy {LONG}', ['--policy', 'File name too long']),
        (f'--qw 2 --quantizer {20 * LONG}', ['--quantizer', 'longer than 1000 characters']),
        ('--quantizer lqs', ['--quantizer lqs', 'did you mean', 'lq']),
        ('--quantizer lsq', ['--quantizer lsq', 'nothing is quantized', '--qw']),
        (f'--weight-quantizer lq({20 * LONG})', ['quantizer', 'longer than 1000 characters']),
        # nothing is guessed
        ('--eva', ['--eva']),
        ('--epoch 3', ['--epoch']),
        ('demo', ['demo']),
        ('--', ['--']),
        ('-n note', ['-n']),
        ('-ep 0', ['-ep', '--eval']),
        ('--untrained proxy', ['--untrained', '--eval']),
    ],
)
def test_bad_input(line, parts, refused):
    message = refused(line)
    assert len(message) < 2200
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize('content', ['{"qw": 2', '{"other": 1}', 'null', '[]'])
@pytest.mark.parametrize('line', ['--logdir run', '--eval -ec run'])
def test_a_broken_configuration(content, line, refused):
    Path('run/config.json').write_text(content)
    assert 'run/config.json' in refused(line)


def test_a_broken_history(here, capsys):
    accepted('--logdir new')
    Path('new/stats.json').write_text('[{')
    accepted('--logdir new')
    assert 'new/stats.json: damaged' in capsys.readouterr().out


def test_other_training_images_are_refused(here, refused):
    accepted('--logdir new')
    assert json.loads(Path('new/data.json').read_text())['training_images'] == 8000
    Path('new/data.json').write_text('{"training_images": 7999, "crc32": 1}')
    assert 'the run began with 7999 training images' in refused('--logdir new')


def test_delete_and_new_only_when_asked(here):
    before = tree(here / 'run')
    accepted('--logdir run -a n')
    assert tree(here / 'run') == before
    assert len(list(here.glob('run-*/config.json'))) == 1
    accepted('--logdir run -a d')
    assert set(tree(here / 'run')) == {'config.json', 'data.json', 'environment.json'}


def test_a_good_command_makes_the_named_folder(here, capsys):
    found = accepted('--qw 2 --data fake --sizes 96 128')
    assert found.sizes == (128, 96)
    assert read_config(here / 'train_log' / found.name / 'config.json') == found
    said = capsys.readouterr().out
    assert found.name in said
    assert 'mode resnet' in said


def test_the_same_command_resumes(capsys):
    line = '--data animals28 --qa 32 --sizes 16 12 --logdir again'
    config = accepted(line)
    save({'w': np.ones(3, np.float32)}, Path(f'again/model-{config.steps_per_epoch}'))
    Path('again/stats.json').write_text('[{"epoch_num": 1}]')
    assert accepted(line) == config
    assert f'resuming at step {config.steps_per_epoch}' in capsys.readouterr().out


def test_a_complete_run_is_not_trained_again(here, capsys):
    open_run(RUN, here / 'whole', None)
    for step in (10, 20):
        save({'w': np.ones(3, np.float32)}, here / 'whole' / f'model-{step}')
    (here / 'whole' / 'stats.json').write_text('[{"epoch_num": 1}, {"epoch_num": 2}]')
    config = RUN.replacing(
        lr=0.05,
        schedule='cosine',
        warmup=0.2,
        wd=2e-4,
        batch_size=64,
        augmentation='shift',
        dataset='animals28',
        resize='area',
    )
    (here / 'whole' / 'config.json').write_text(json.dumps(config.to_json()))
    before = tree(here)
    flags = '--data animals28 --sizes 16 12 --width .25 --epochs 2 --steps-per-epoch 10'
    assert call(f'{flags} --logdir whole') == 0
    assert 'complete' in capsys.readouterr().out
    assert tree(here) == before


@pytest.mark.parametrize(
    'line',
    [
        '--fake --batch-size 8 --data-format NHWC --fixed-qa --qa 2',
        '--fake --batch_size=8 --fixed_qa --qa=2',
        '--preset demo --no-kd --no-private-basis',
        '--preset study --no-kd --no-private_basis',
    ],
)
def test_dashes_and_underscores_are_the_same(line):
    found = accepted(line)
    assert found.fixed_qa == ('fixed' in line)
    assert not (found.kd or found.private_basis)


@pytest.mark.parametrize('flag', PUBLISHED_FLAGS)
def test_help_lists_the_published_spellings(flag, capsys):
    assert call('--help') == 0
    words = capsys.readouterr().out.replace(',', ' ').replace('[', ' ').replace(']', ' ').split()
    assert flag in words


def test_a_published_command_line_means_the_same():
    found = accepted(
        '--gpu 0,1 --data photos -d 50 --mode preact --qw 2 --qa 2 --wd 1e-4 --batch_size 2 '
        '--lr .2 -s 224 192 160 128 96 --kd --fixed_qa'
    )
    assert (found.gpu, found.arch, found.mode, found.qw, found.qa) == (
        (0, 1),
        'resnet50',
        'preact',
        2,
        2,
    )
    assert (found.wd, found.batch_size, found.lr, found.kd, found.fixed_qa) == (
        1e-4,
        2,
        0.2,
        True,
        True,
    )
    assert (found.sizes, found.schedule, found.classes) == ((224, 192, 160, 128, 96), 'step', 2)


@pytest.mark.parametrize(
    'stop, status, word',
    [(KeyboardInterrupt, 130, 'interrupted'), (imagenet_tf.Terminated, 143, 'terminated')],
)
def test_ctrl_c_and_sigterm_have_their_own_status(stop, status, word, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise stop

    for module, name in ((train, 'train'), (evaluate, 'evaluate')):
        monkeypatch.setattr(module, name, interrupt)
    assert call('--fake') == status
    assert f'{word}; the same command resumes from the start: no' in capsys.readouterr().err
    assert call('--eval -ec run') == status
    assert capsys.readouterr().err.splitlines()[-1] == word


@pytest.mark.parametrize(
    'error, message',
    [
        (
            tf.errors.ResourceExhaustedError(None, None, 'OOM'),
            '--batch_size 256: a step does not fit into the memory',
        ),
        (
            PermissionError(13, 'Permission denied', 'log.log'),
            "--logdir full: [Errno 13] Permission denied: 'log.log'",
        ),
    ],
)
def test_too_little_memory_and_a_folder_that_cannot_be_written(error, message, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(train, 'train', TRAIN)
    monkeypatch.setattr(train, 'keep_class_names', fail)
    assert call('--fake --logdir full') == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_exit_status_of_the_process(here):
    before = tree(here)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), '--data', 'nowhere'], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('imagenet_tf.py: error: --data nowhere')
    assert 'Traceback' not in done.stderr
    assert tree(here) == before
