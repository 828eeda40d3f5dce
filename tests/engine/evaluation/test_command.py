"""Evaluation from the command line: what is refused, what is borrowed, and where the records go."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.evaluation import borrowing, evaluate
from engine.runs import checkpoint
from tests.engine.command_line import RUN, accepted, call, tree
from tests.engine.runs.test_checkpoint import numbers, shapes

pytestmark = pytest.mark.usefixtures('here')


@pytest.mark.parametrize(
    'line, parts',
    [
        ('--eval', ('--eval', '-ec')),
        ('--eval -ec nowhere', ('-ec nowhere', 'no such checkpoint')),
        ('--eval -ec empty', ('-ec empty', 'no checkpoint')),
        ('--eval -ec notes', ('-ec notes', 'no checkpoint')),
        ('--eval -ec garbage', ('-ec garbage/model-5', 'cannot be read')),
        (
            '--eval -ec run -es 24',
            ('-es 24', 'size 24', 'scripts/calibrate.py', '--untrained', '-eos', '16 12'),
        ),
        ('--eval -ec run -es 16 24', ('-es 24 16', 'size 24', '16 12')),
        ('--eval -ec run -eos 24 -es 16', ('-eos 24', 'size 24', '16 12')),
        ('--eval -ec run -ep 7', ('-ep 7', 'epochs 1, 2')),
        ('--eval -ec run -ep two', ('-ep/--eval_epoch two', 'a whole number')),
        ('--eval -ec run -es 16 --fix_mean_var', ('--fix_mean_var', '-eos', '-es')),
        ('--eval -ec run -eos 16 --fix_mean_var', ('--fix_mean_var', 'one size')),
        ('--eval -ec run --data nowhere', ('--data nowhere',)),
        ('--eval -ec run --qa 2', ('--qa 2', '--mode resnet', '--mode preact')),
        ('--eval -ec run --data_format NCHW', ('--data_format NCHW', 'GPU')),
        ('--eval -ec run --gpu x', ('--gpu x',)),
        ('--eval -ec alien', ('-ec alien/model-5', 'holds no network of ours')),
        ('--eval -ec alien -es 24', ('-ec alien/model-5', 'holds no network of ours')),
        ('--eval -ec alien --fix_mean_var', ('-ec alien/model-5', 'holds no network of ours')),
        ('--eval -ec run -eos 0', ('-eos/--eval_original_scale 0', 'at least 8')),
        ('--eval -ec run/model-10 -ep 2', ('-ep 2', 'run/model-10')),
        (
            '--eval -ec run -eos 16 -es 12 --fix_mean_var',
            ('--fix_mean_var', 'run has no 16 in its path'),
        ),
        ('--eval -ec run --sizes 12', ('--sizes', '-es')),
        ('--eval -ec run --load run', ('--load', '-ec')),
        ('--eval -ec run --threads -1', ('--threads -1', 'at least 0')),
        ('--eval -ec run --data fake', ('--data fake', '1000 classes', 'knows 10')),
        ('--eval -ec run --logdir notes', ('--logdir notes', 'choose another')),
        ('--eval -ec run --logdir file', ('--logdir file', 'choose another')),
        ('--eval -ec run -eos 16 -es 4', ('-es/--eval_scale 4', 'at least 8')),
        (
            '--eval -ec run -es 24 --untrained nearest',
            ('--untrained nearest', 'proxy, ideal, interpolate'),
        ),
        (
            '--eval -ec run -es 24 --untrained interpolate',
            ('--untrained interpolate', '24', '16 12', '--untrained proxy'),
        ),
        ('--eval -ec run -es 8 --untrained interpolate', ('--untrained interpolate', '8', '16 12')),
    ],
)
def test_bad_input(line, parts, refused):
    message = refused(line)
    for part in parts:
        assert part in message


@pytest.mark.parametrize('field, value', [('qw', '2'), ('image_size', None)])
def test_a_field_of_another_type(field, value, refused):
    Path('run/config.json').write_text(json.dumps({**RUN.to_json(), field: value}))
    assert field in refused('--eval -ec run')


@pytest.mark.parametrize(
    'line', ['--mode preact', '--mode preact_typeA', '-d 20', '--width 1', '--qw 2']
)
def test_evaluation_as_another_network(line, refused):
    assert refused(f'--eval -ec run {line}').startswith('-ec: ')


@pytest.mark.parametrize(
    'line, sizes',
    [
        ('--eval -ec run', (16, 12)),
        ('--eval -ec run -es 12', (12,)),
        ('--eval -ec run/model-10', (16, 12)),
        ('--eval --eval-checkpoint run --eval-scale 12 16 --eval-epoch 1', (16, 12)),
        ('--eval -ec run -es 24 -eos 16', (24,)),
        ('--eval -ec run -es 12 12', (12,)),
        ('--eval -ec=run -es=12', (12,)),
        ('--eval -ec run --gpu 0,1,2', (16, 12)),
        ('--eval -ec run -es 14 16 --untrained interpolate', (16, 14)),
        ('--eval -ec run -es 24 8 --untrained proxy', (24, 8)),
        ('--eval -ec run -es 24 --untrained ideal', (24,)),
    ],
)
def test_evaluations_that_are_accepted(line, sizes, here):
    before = tree(here / 'run')
    found = accepted(line)
    assert found.sizes == sizes
    assert (found.arch, found.width, found.data) == ('resnet8', 0.25, 'animals28')
    assert tree(here / 'run') == before


@pytest.fixture
def recorded(monkeypatch, capsys):
    """``recorded(line)``: folder in which an evaluation leaves its records."""

    def scores(model, values, dataset, **_):
        model.names = [str(point) for point in model.net.points]
        correct = np.zeros((len(model.names), 2))
        return [evaluate.Score(correct, {}, {}, len(dataset.val), 1.0)]

    def check(line: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(evaluate, 'evaluate', scores)
            assert call(line) == 0, capsys.readouterr().err
        folder = Path(capsys.readouterr().out.split(' records in ')[-1].strip())
        assert list(folder.glob('*.json'))
        assert (folder.parent / 'config.json').exists() and (folder.parent / 'layers.json').exists()
        return str(folder.parent)

    return check


ELSEWHERE = 'train_log/eval-resnet8-32-32-16-12-width0.25'


@pytest.mark.parametrize(
    'line, folder',
    [
        ('-ec run', 'run'),
        ('-ec run -ep 2', 'run'),
        ('-ec run/model-20', 'run'),
        ('-ec run -es 12', 'run'),
        ('-ec ./run/model-20', 'run'),
        ('-ec run --logdir run/', 'run'),
        ('-ec run --logdir mine', 'mine'),
        ('-ec run -ep 1', f'{ELSEWHERE}-animals28-model-10'),
        ('-ec run/model-10', f'{ELSEWHERE}-animals28-model-10'),
        ('-ec run/best', f'{ELSEWHERE}-animals28-best'),
        ('-ec onlybest/best', f'{ELSEWHERE}-animals28-best'),
        ('-ec run --data ten', f'{ELSEWHERE}-ten-model-20'),
    ],
)
def test_where_the_records_go(line, folder, here, recorded):
    for part in ('train', 'val'):
        for name in range(10):
            (here / 'ten' / part / str(name)).mkdir(parents=True)
            shutil.copy(here / f'images/{part}/cat/0.png', here / 'ten' / part / str(name))
    shutil.copytree(here / 'run', here / 'onlybest', ignore=shutil.ignore_patterns('model-*'))
    for source in (here / 'run').glob('model-20.*'):
        for target in ('run', 'onlybest'):
            shutil.copy(source, here / target / source.name.replace('model-20', 'best'))
    before = tree(here / 'run')
    assert recorded(f'--eval {line}') == folder
    assert folder == 'run' or tree(here / 'run') == before


@pytest.mark.parametrize(
    'again', ['-ec run/model-10', '-ec "$PWD/run" -ep 1', '-ec run -ep 1 --gpu 1']
)
def test_the_same_checkpoint_evaluated_again(again, here, recorded):
    first = recorded('--eval -ec run -ep 1')
    assert recorded(f'--eval {again.replace("$PWD", str(here))}') == first


def test_statistics_of_a_second_checkpoint(here, monkeypatch):
    taken = {}

    def spy(source, variables, borrowed, detachable):
        taken.update(first=source.prefix, second=borrowed.moving.prefix, lenders=borrowed.lenders)
        return values_of(source, variables, borrowed, detachable)

    values_of = borrowing.variable_values
    monkeypatch.setattr(borrowing, 'variable_values', spy)
    shutil.copytree(here / 'run', here / 'at-16')
    shutil.copytree(here / 'run', here / 'at-12')
    for epoch, step in ((2, 20), (1, 10)):
        accepted(f'--eval -ec at-16 -ep {epoch} -eos 16 -es 12 --fix-mean-var')
        assert taken == {
            'first': f'at-16/model-{step}',
            'second': f'at-12/model-{step}',
            'lenders': {12: (16,)},
        }


@pytest.mark.parametrize(
    'flags, names',
    [
        ('-es 16 12', {}),
        ('-es 14 24 16 --untrained proxy', {'s24': 's16', 's14': 's12'}),
        ('-es 24 12 --untrained ideal', {'s24': 's16'}),
        ('-es 24 12 -eos 12', {'s24': 's12', 's12': 's12'}),
        ('-es 15 --untrained interpolate', {'s15': 's12+s16'}),
    ],
)
def test_what_a_point_borrows_is_recorded(flags, names, here, recorded):
    folder = Path(recorded(f'--eval -ec run {flags}')) / 'eval'
    found = {
        row['point']: row['bn']
        for row in map(json.loads, (path.read_text() for path in folder.iterdir()))
    }
    assert {point: bn for point, bn in found.items() if bn != point} == {
        point: bn for point, bn in names.items() if bn != point
    }


def test_calibrated_statistics_are_evaluated(here, recorded):
    """They make a size of their own, which needs no lender, and is scored when it is asked for."""
    values = {
        name.replace('/s12/', '/s14/'): value
        for name, value in numbers(shapes(RUN)).items()
        if '/s12/' in name
    }
    checkpoint.write_calibrated('run/model-20', values)
    folder = Path(recorded('--eval -ec run')) / 'eval'
    assert {path.stem for path in folder.iterdir()} == {'s16', 's12'}
    recorded('--eval -ec run -es 14')
    assert {path.stem for path in folder.iterdir()} == {'s16', 's14', 's12'}


def test_a_damaged_calibration(here, refused):
    Path('run/model-20.calibrated.npz').write_bytes(b'PK')
    assert 'run/model-20.calibrated.npz' in refused('--eval -ec run')


def test_a_missing_second_checkpoint(here, refused):
    shutil.copytree(here / 'run', here / 'at-16')
    assert 'at-12' in refused('--eval -ec at-16 -eos 16 -es 12 --fix_mean_var')
