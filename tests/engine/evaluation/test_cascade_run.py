"""Cascades of every network from the command line: chosen, carried out, refused."""

from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.files import read_json, write_json
from engine.graph.tower import Model
from engine.results import cascades, exit_records
from engine.results.records import read_layers
from engine.runs import fingerprint, holdout
from engine.runs.folder import merge_layers
from scripts import thresholds
from tests import test_grid
from tests.conftest import make_shallow
from tests.engine.results.test_cascades import made as cascade
from tests.engine.runs.test_checkpoint import save

pytestmark = pytest.mark.usefixtures('few_validation_images')

# A row of the grid, and what it takes to have several points.
NETS = {
    'rsnet': ('rsnet-sizes-w2a2', {}),
    'san': ('san-sizes-float', {'resize': 'antialias'}),
    'aig': ('aig-gates-float', {'sizes': (16, 12)}),
    'msdnet': ('msdnet-exits-float', {'sizes': (16, 12)}),
    'dsnet': ('dsnet-widths-float', {'sizes': (16, 12)}),
    'bits': ('rsnet-sizes-b4b2', {}),
}


def made(path: Path, family: str) -> Path:
    """A run folder with random weights that has set 60 images aside."""
    cell, fields = NETS[family]
    config = test_grid.config(cell).replacing(classes=10, **fields)
    model = Model(config, data_format='NHWC')
    variables, layers = model.inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    save(model.starting_values() | test_grid.numbers(shapes), path / 'model-1')
    write_json(path / 'config.json', config.to_json())
    merge_layers(path, layers)
    holdout.write(path, np.arange(0, 8000, 134), 8000)
    return path


@pytest.fixture(scope='module')
def make(tmp_path_factory):
    """Run folders by family, each written once."""
    known = {}

    def one(family):
        if family not in known:
            known[family] = made(tmp_path_factory.mktemp(family) / 'run', family)
        return known[family]

    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        yield one


def measured(path: Path) -> dict:
    return read_json(path, dict[str, object], '')['measured']


PLAIN, MEAN = (), ('--combine', 'mean', '--calibrate-confidence')
CASES = [pytest.param('rsnet', MEAN, id='rsnet-mean')]
for name in NETS:
    CASES.append(pytest.param(name, PLAIN, marks=pytest.mark.slow, id=name))
    if name != 'rsnet':
        CASES.append(pytest.param(name, MEAN, marks=pytest.mark.slow, id=f'{name}-mean'))


@pytest.mark.parametrize('family, flags', CASES)
def test_what_is_chosen_is_what_is_measured(family, flags, make, threads_of_sessions, capsys):
    """On the same images the real cascade answers as the recorded answers say."""
    run = make(family)
    single = exit_records.pass_costs(run, list(read_layers(run)), 'MAdds')
    cheap, *_, dear = sorted(single, key=single.get)
    budget = f'{single[cheap] + 0.5 * single[dear]:.0f}'
    chain = ('--cascade', cheap, dear, '--budget', budget)
    out = run / 'cascades' / 'own.json'
    assert thresholds.main([str(run), *chain, *flags, '--out', str(out)]) == 0
    threads_of_sessions.clear()
    line = ['--eval', '-ec', str(run), '--cascade', str(out), '--threads', '3']
    assert imagenet_tf.main(line) == 0
    assert threads_of_sessions[0] == 3
    chosen = cascades.read(out).validation
    found = measured(run / 'cascades' / 'own-measured.json')
    # One image may lie on a threshold, another batch rounds otherwise.
    assert found['cascade']['top1'] == pytest.approx(chosen.top1, abs=2.6)
    assert found['cascade']['top5'] == pytest.approx(chosen.top5, abs=2.6)
    assert found['cascade']['shares'] == pytest.approx(chosen.shares, abs=0.026)
    assert {cheap, dear} < set(found)
    for name, one in found.items():
        assert one['images_per_second'] > 0
        if name != 'cascade':
            assert one['madds'] == single[name] and one['shares'] == [1.0]
    printed = capsys.readouterr().out
    assert 'speed ratio' in printed and 'of its multiply-adds and' in printed
    assert (run / 'cascades' / 'own.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.slow
def test_precisions_of_a_size_in_turn(make):
    """A chain that ascends in BitOps alone is carried out as it was chosen."""
    run = make('bits')
    single = exit_records.pass_costs(run, ['s16-b2', 's16-b4'], 'BitOps')
    assert single['s16-b2'] < single['s16-b4']
    out = run / 'cascades' / 'bits.json'
    limit = f'{single["s16-b2"] + 0.5 * single["s16-b4"]:.0f}'
    chain = ('--cascade', 's16-b2', 's16-b4', '--bitops', limit)
    assert thresholds.main([str(run), *chain, '--out', str(out)]) == 0
    assert imagenet_tf.main(['--eval', '-ec', str(run), '--cascade', str(out)]) == 0
    found = measured(run / 'cascades' / 'bits-measured.json')
    chosen = cascades.read(out)
    assert found['cascade']['shares'] == pytest.approx(chosen.validation.shares, abs=0.026)
    assert found['s16-b2']['madds'] == found['s16-b4']['madds']


@pytest.mark.parametrize(
    'line, part',
    [
        ('--cascade nowhere.json', 'nowhere.json'),
        ('--cascade own.json --thresholds x', '--thresholds with --cascade'),
        ('--cascade own.json -es 12', '-es with --cascade'),
        ('--cascade own.json --weights ema', '--weights ema with --cascade'),
        ('--cascade own.json --per-class', '--per-class with --cascade'),
        ('--cascade other.json', 'chosen for another checkpoint'),
        ('--cascade point.json', 'no point s14; there are s16 s12'),
        ('--cascade down.json', 's12 costs no more than s16 before it'),
        ('--cascade time.json', 'no point s14; there are s16 s12'),
    ],
)
def test_what_is_refused(line, part, make, tmp_path, monkeypatch, capsys):
    run = make('rsnet')
    monkeypatch.chdir(tmp_path)
    own = {'identity': fingerprint.identity(str(run / 'model-1'))}
    for name, changes in (
        ('own', own),
        ('other', {}),
        ('point', own | {'points': ('s14', 's16')}),
        ('down', own | {'points': ('s16', 's12')}),
        ('time', own | {'points': ('s16', 's14'), 'unit': 'ms'}),
    ):
        cascades.write(Path(f'{name}.json'), cascade(**changes))
    assert imagenet_tf.main(['--eval', '-ec', str(run), *line.split()]) == 2
    assert part in capsys.readouterr().err


def test_a_chain_chosen_by_milliseconds_need_not_ascend_in_multiply_adds(make, tmp_path, capsys):
    """Precisions of a point have the same."""
    run = make('rsnet')
    identity = fingerprint.identity(str(run / 'model-1'))
    file = tmp_path / 'own.json'
    cascades.write(file, cascade(identity=identity, points=('s16', 's12'), unit='ms'))
    line = ['--eval', '-ec', str(run), '--cascade', str(file), '--dry-run']
    assert imagenet_tf.main(line) == 0
    assert 's16+s12 fits' in capsys.readouterr().out


def test_only_an_evaluation_has_one(capsys):
    assert imagenet_tf.main(['--data', 'animals28', '--cascade', 'x.json']) == 2
    assert '--cascade' in capsys.readouterr().err


@pytest.mark.slow
def test_a_published_preset_on_images_like_those_of_imagenet(tmp_path):
    """A thousand classes, of which a record keeps the most probable, and antialiased views."""
    run = str(tmp_path / 'run')
    small = ['--width', '0.25', '--image-size', '64', '--sizes', '64', '48', '--batch-size', '8']
    short = ['--steps-per-epoch', '1', '--epochs', '1', '--holdout', '100', '--logdir', run]
    assert imagenet_tf.main(['--preset', 'rsnet18', '--data', 'fake', *small, *short]) == 0
    file = f'{run}/cascades/chain.json'
    flags = ['--cascade', 's48', 's64', '--accuracy', '0', '--combine', 'mean', '--out', file]
    assert thresholds.main([run, *flags]) == 0
    assert imagenet_tf.main(['--eval', '-ec', run, '--cascade', file]) == 0
    found = measured(Path(f'{run}/cascades/chain-measured.json'))
    assert set(found) == {'cascade', 's48', 's64'}
    chosen = cascades.read(Path(file)).validation
    assert found['cascade']['shares'] == pytest.approx(chosen.shares, abs=0.02)
