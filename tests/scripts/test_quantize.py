"""scripts/quantize.py: a float run quantized without training, evaluated as any other."""

import shutil

import numpy as np
import pytest

from engine.config.config import read_config
from engine.evaluation import quantize as quantizing
from engine.files import write_json
from engine.graph.tower import Model
from engine.importers import pytorch
from engine.runs import checkpoint
from scripts import quantize
from tests import test_grid
from tests.conftest import make_shallow


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A float run of two sizes, as it starts."""
    folder = tmp_path_factory.mktemp('float') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        config = test_grid.config('rsnet-sizes-float')
        config = config.replacing(classes=10, mode='preact', private_basis=True, batch_size=8)
        values = Model(config, data_format='NHWC').starting_values()
        pytorch.write(pytorch.Imported(config, values, []), folder)
    return folder


def read(folder):
    return checkpoint.read(checkpoint.find(str(folder), None, 'RUN'), flag='RUN')


@pytest.mark.parametrize(
    'flags, message',
    [
        ([], '--qw 32 --qa 32: is float'),
        (['--qw', '8', '--data', '/nowhere'], '--data /nowhere: is not there'),
        (['--qw', '9'], 'qw 9: bits must be 1 to 8'),
        (['--qw', '1'], 'signed integers of 1 bit'),
        (['--qw', '8', '--images', '1'], '--images 1: must lie between'),
    ],
)
def test_what_cannot_be_is_refused(flags, message, run, capsys):
    assert quantize.main([str(run), *flags]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in run.parent.iterdir()] == ['run']


def test_a_quantized_run_is_refused(run, tmp_path, capsys):
    copy = tmp_path / 'run'
    shutil.copytree(run, copy)
    config = read_config(copy / 'config.json')
    write_json(copy / 'config.json', config.replacing(qw=2).to_json())
    assert quantize.main([str(copy), '--qw', '8']) == 2
    assert 'is quantized already, to W2A32' in capsys.readouterr().err


def test_what_is_there_is_kept(run, tmp_path, capsys):
    assert quantize.main([str(run), '--qw', '8', '--out', str(tmp_path)]) == 2
    assert f'--out {tmp_path}: exists' in capsys.readouterr().err


def test_sizes_without_observed_ranges_are_left_out():
    values = {'conv0/W': 1, 'bn/s16/gamma': 2, 'bn/s14/gamma': 3}
    values[checkpoint.POINTS] = np.array(['s14', 's16'])
    found = quantizing.of_sizes(values, (16, 12))
    assert found.keys() == {'conv0/W', 'bn/s16/gamma', checkpoint.POINTS}
    assert found[checkpoint.POINTS].tolist() == ['s16']


@pytest.mark.slow
@pytest.mark.usefixtures('shallow', 'few_validation_images')
@pytest.mark.parametrize('method', ['minmax', 'percentile', 'mse'])
def test_from_a_float_run_to_records(method, run, tmp_path, capsys):
    out = tmp_path / 'out'
    flags = ['--qw', '8', '--qa', '8', '--method', method, '--images', '20']
    assert quantize.main([str(run), *flags, '--out', str(out)]) == 0
    said = capsys.readouterr().out
    assert 'top-1, w8a8' in said and f'{out / "model-0"}: w8a8 by {method}' in said
    assert {path.stem for path in (out / 'eval').iterdir()} >= {'s16', 's12'}
    before, after = read(run), read(out)
    assert (after.qw, after.qa) == (8, 8)
    for name, value in before.values.items():
        np.testing.assert_array_equal(after.values[name], value, err_msg=name)
    ranges = {name: value for name, value in after.values.items() if name.endswith('/range')}
    assert {name.split('/')[-2] for name in ranges} == {'s16', 's12'}
    for low, high in ranges.values():
        # Behind a ReLU; not where they started.
        assert low == 0 < high != 1
    steps = [name for name in after.values if name.endswith('/step')]
    assert len(steps) == len({name.partition('/weight_quant')[0] for name in steps}) > 0


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_more_images_of_the_same_change_nothing(run):
    """Tables add up over batches, and the first range is that of the float network."""
    source = read(run)
    asked = quantizing.Asked(8, 8, "affine(method='minmax')")
    config = quantizing.quantized(source.config, asked, 'RUN').adjusted(kd=False)
    batch = [test_grid.IMAGES, test_grid.LABELS]
    once = quantizing.observe(config, source.values, [batch])
    twice = quantizing.observe(config, source.values, [batch, batch])
    assert once.keys() == twice.keys() and once
    for name, value in once.items():
        np.testing.assert_allclose(twice[name], value, rtol=1e-6)
