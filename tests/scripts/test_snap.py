"""scripts/snap.py: a copy of a run whose levels are whole numbers, evaluated as any other."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from engine.deployment import snapping
from engine.files import write_json
from engine.graph.tower import Model
from engine.importers import pytorch
from engine.optimization import averages
from engine.runs import checkpoint
from quant import integers
from scripts import copies, export, snap
from tests import test_grid
from tests.conftest import make_shallow
from tests.engine.deployment.test_program import made as checkpoint_of
from tests.engine.runs.test_checkpoint import save


@pytest.fixture(scope='module')
def private(tmp_path_factory):
    """A run of 2 bits with levels of each size, and of a third one that looks calibrated."""
    folder = tmp_path_factory.mktemp('private') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        source = checkpoint_of('rsnet-sizes-w2a2')
        config = source.config.replacing(private_basis=True, data='')
        source = dataclasses.replace(source, config=config)
        values = with_levels_of_points(source.values)
        pytorch.write(pytorch.Imported(config, values, []), folder)
    calibrated = {}
    for name, value in values.items():
        if '/s12/' in name:
            calibrated[name.replace('/s12/', '/s14/')] = 1.1 * value
    points = {checkpoint.POINTS: np.array(['s14'])}
    checkpoint.write_calibrated(str(folder / 'model-0'), calibrated | points)
    return folder


def with_levels_of_points(values):
    """Values in which every basis of activations is one of a point, and no ratio is a small one."""
    rng = np.random.default_rng(3)
    found = {}
    for name, value in values.items():
        if not name.endswith('/basis'):
            found[name] = value
            continue
        jitter = rng.uniform(0.8, 1.2, value.shape).astype(np.float32)
        found[name] = value * jitter
        if 'weight_quant' not in name:
            for point in ('s16', 's12'):
                found[name.replace('/basis', f'/{point}/basis')] = value * jitter
    return found


def bases(folder):
    """The bases of a run folder by name, with those calibrated."""
    source = checkpoint.read(checkpoint.find(str(folder), None, 'RUN'), flag='RUN')
    found = {name: value for name, value in source.values.items() if name.endswith('/basis')}
    return source, found


@pytest.mark.usefixtures('shallow')
def test_every_level_is_whole(private, tmp_path, capsys):
    """Of weights, of activations of every size, and of a size that was calibrated."""
    out = tmp_path / 'out'
    assert snap.main([str(private), '--out', str(out)]) == 0
    said = capsys.readouterr().out
    assert f'{out}: not evaluated, it knows of no data' in said
    assert f'{out / "model-0"}: ' in said
    before, trained = bases(private)
    after, found = bases(out)
    assert found.keys() == trained.keys() and any('/s14/' in name for name in found)
    assert after.calibrated == before.calibrated == ['s14']
    for name, basis in found.items():
        signed = 'weight_quant' in name
        codes = np.float32([[-1, -1], [-1, 1], [1, -1], [1, 1]])
        if not signed:
            codes = np.maximum(codes, 0)
        limits = (-127, 127) if signed else (0, 255)
        assert integers.whole(codes @ basis, *limits) is not None, name
        np.testing.assert_allclose(basis, trained[name], rtol=0.03)
    for name, value in before.values.items():
        if not name.endswith('/basis'):
            np.testing.assert_array_equal(after.values[name], value)
    assert json.loads((out / 'config.json').read_text())['run']['load'] == str(
        (private / 'model-0').resolve()
    )


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_snapping_again_changes_nothing(private):
    source, _ = bases(private)
    once = snapping.snapped(source)
    again = snapping.snapped(once.source)
    assert once.moved > 0 and again.moved == 0
    assert once.variables == again.variables


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_averages_are_snapped_where_they_are_asked_for(private, tmp_path):
    source, _ = bases(private)
    run = tmp_path / 'run'
    raised = {}
    for name, value in source.values.items():
        if '/s14/' not in name and name != checkpoint.POINTS:
            raised[name] = value
            raised[f'{averages.SCOPE}{name}'] = 1.5 * value
    save(raised, run / 'model-0')
    (run / 'config.json').write_bytes((private / 'config.json').read_bytes())
    out = tmp_path / 'out'
    assert snap.main([str(run), '--out', str(out), '--weights', 'ema']) == 0
    _, found = bases(out)
    for name, basis in found.items():
        np.testing.assert_allclose(basis, 1.5 * source.values[name], rtol=0.03)


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
@pytest.mark.parametrize('cell', ['rsnet-sizes-float', 'rsnet-sizes-lsq4'])
def test_a_run_without_such_levels(cell, tmp_path, capsys):
    source = checkpoint_of(cell)
    run = tmp_path / 'run'
    pytorch.write(pytorch.Imported(source.config, source.values, []), run)
    assert snap.main([str(run)]) == 2
    assert 'has no levels to snap' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_what_is_there_is_kept(private, capsys):
    place = private.with_name('run-snapped')
    place.mkdir()
    assert snap.main([str(private)]) == 2
    assert f'--out {place}: exists' in capsys.readouterr().err
    place.rmdir()


@pytest.mark.parametrize('given', ['run', 'logs/run', '/logs/run'])
def test_a_copy_is_named_as_its_run_was(given):
    assert copies.default(Path(given), '-snapped') == Path(f'{given}-snapped')


@pytest.mark.parametrize('given', ['.', 'eval/..'])
def test_a_copy_of_the_current_folder_lies_beside_it(given, tmp_path, monkeypatch):
    (tmp_path / 'eval').mkdir()
    monkeypatch.chdir(tmp_path)
    assert copies.default(Path(given), '-snapped') == tmp_path.with_name(f'{tmp_path.name}-snapped')


@pytest.fixture
def ten_classes(tmp_path):
    """A run of the embedded images that nobody has evaluated."""
    config = test_grid.config('rsnet-sizes-w2a2').replacing(classes=10)
    values = Model(config, data_format='NHWC').starting_values()
    pytorch.write(pytorch.Imported(config, values, []), tmp_path / 'run')
    return tmp_path / 'run'


@pytest.mark.slow
@pytest.mark.usefixtures('shallow', 'few_validation_images')
def test_both_accuracies_are_printed(ten_classes, capsys):
    assert snap.main([str(ten_classes)]) == 0
    said = capsys.readouterr().out
    assert f'imagenet_tf.py --eval -ec {ten_classes} evaluates the run itself' in said
    assert 'top-1, as trained' in said
    records = {path.stem for path in (ten_classes.with_name('run-snapped') / 'eval').iterdir()}
    assert {'s16', 's12'} <= records


@pytest.mark.slow
@pytest.mark.usefixtures('shallow', 'few_validation_images')
def test_export_snaps_on_the_way(ten_classes, tmp_path, capsys):
    out = tmp_path / 'a.onnx'
    flags = [str(ten_classes), '--form', 'int8', '--snap', '--verify', '20', '--out']
    assert export.main([*flags, str(out)]) == 0
    snapped = ten_classes.with_name('run-snapped')
    said = capsys.readouterr().out
    assert 'top-1, snapped' in said
    assert said.splitlines()[-1].startswith(f'{out}: s16 s12 of {snapped / "model-0"}, ')
    assert export.main([*flags, str(tmp_path / 'b.onnx')]) == 2
    assert f'--snap: {snapped} is there; give it' in capsys.readouterr().err
    assert not (tmp_path / 'b.onnx').exists()


def test_scores_stand_in_the_order_of_points(tmp_path):
    (tmp_path / 'eval').mkdir()
    for name in ('ensemble', 's96', 's224', 's128'):
        score = {'point': name, 'top1': 50.0, 'top5': 90.0}
        write_json(tmp_path / 'eval' / f'{name}.json', score)
    names = [name for name, _ in copies.scores(tmp_path)]
    assert names == ['s224', 's128', 's96', 'ensemble']
