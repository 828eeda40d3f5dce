"""The published checkpoint of DS-Net becomes a run.

Averaged weights, the widths with statistics, stored logits.
"""

import argparse
import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.config.config import read_config
from engine.errors import UsageError
from engine.graph import freeze
from engine.graph.tower import Model
from engine.importers import torch_file, torch_pickle
from engine.results.records import read_layers
from engine.runs import checkpoint
from engine.training import starting
from quant.backend import tf
from scripts import import_checkpoint
from tests.engine.importers.torch_format import of, write
from tests.parity.fixtures import draw, fill, load
from tests.paths import SHARED

pytestmark = pytest.mark.usefixtures('few_validation_images')

# An eighth of the published channels, in half of the layers.
NARROW = ([2, 3], [4, 11], [6, 21], [12, 33])
UNIFORM = ([28 + 4 * i for i in range(14)], [92 + 4 * i for i in range(14)])
LAYERS = (1, 1, 1, 3, 1)


def norm(name: str, choices: list[int]) -> dict[str, tuple[int, ...]]:
    """Statistics of every width, affine parameters of the last one, counters that nobody uses."""
    shapes = {
        f'{name}.aux_bn.{i}.{leaf}': () if leaf[0] == 'n' else (count,)
        for i, count in enumerate(choices)
        for leaf in ('running_mean', 'running_var', 'num_batches_tracked')
    }
    return shapes | {
        f'{name}.aux_bn.{len(choices) - 1}.{leaf}': (choices[-1],) for leaf in ('weight', 'bias')
    }


def supernet(classes: int) -> dict[str, tuple[int, ...]]:
    shapes, inputs = {'conv_stem.weight': (3, 3, 3, 3), **norm('bn1', NARROW[0])}, NARROW[0]
    for stage, outputs in enumerate((*NARROW[1:], *UNIFORM)):
        for layer in range(LAYERS[stage]):
            name = f'blocks.{stage}.' + (f'residual_blocks.{layer - 1}' if layer else 'first_block')
            last, hidden = inputs[-1], int(0.25 * inputs[-1] + 0.5)
            shapes |= {
                f'{name}.conv_dw.weight': (last, 1, 3, 3),
                f'{name}.conv_pw.weight': (outputs[-1], last, 1, 1),
                f'{name}.gate.conv_reduce.weight': (hidden, last, 1, 1),
                f'{name}.gate.conv_reduce.bias': (hidden,),
                f'{name}.gate.conv_expand.bias': (last,),
                f'{name}.gate.conv_expand.weight': (last, hidden, 1, 1),
                **norm(f'{name}.bn1', inputs),
                **norm(f'{name}.bn2', outputs),
            }
            if (stage, layer) == (3, 0):
                shapes[f'{name}.gate.gate.0.weight'] = (4, hidden, 1, 1)
            inputs = outputs
    return shapes | {'classifier.weight': (classes, inputs[-1]), 'classifier.bias': (classes,)}


def drawn(classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Trained values of everything but the largest network's own statistics, which the published
    calibration leaves as they begin.
    """
    rng, found = np.random.default_rng(seed), {}
    for name, shape in supernet(classes).items():
        if '.aux_bn.1.running_' in name and shape[0] in (3, 11, 21, 33):
            value = np.full(shape, name.endswith('var'))
        elif name.endswith('tracked'):
            value = np.asarray(0)
        elif name.endswith('var') or '.aux_bn.' in name and name.endswith('.weight'):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.standard_normal(shape) * (
                0.1 if len(shape) < 2 else (2 / np.prod(shape[1:])) ** 0.5
            )
        found[name] = value.astype('<i8' if name.endswith('tracked') else '<f4')
    return found


def untouched(tensors: dict[str, np.ndarray], pattern: str) -> dict[str, np.ndarray]:
    """The same with statistics at 0 and 1 where the name fits."""
    return {
        name: np.full_like(value, name.endswith('var'))
        if re.search(rf'{pattern}\.running_', name)
        else value
        for name, value in tensors.items()
    }


def published(path: Path, average, *, trained=None, form: str = 'zip') -> Path:
    """What the published code saves, through timm."""

    def state(tensors):
        return OrderedDict(
            {
                f'module.{name}': of(value, 'Long' if value.dtype.kind == 'i' else 'Float')
                for name, value in tensors.items()
            }
        )

    options = argparse.Namespace(
        config='mobilenetv1_bn_uniform.yml', lr=0.08, mean=None, decay_epochs=[30], amp=False
    )
    content = {
        'epoch': 159,
        'arch': 'slimmable_mbnet_v1_bn_uniform',
        'optimizer': {'state': {}, 'param_groups': []},
        'args': options,
        'version': 2,
        'metric': 70.1,
        'state_dict': state(trained or average),
    }
    return write(path, form, content | ({'state_dict_ema': state(average)} if trained else {}))


def imports(file: Path, out: Path, *flags: str) -> int:
    return import_checkpoint.main([str(file), '--out', str(out), *flags])


def read(run: Path) -> checkpoint.Checkpoint:
    return checkpoint.read(checkpoint.find(str(run), None, '-ec'), flag='-ec')


def logits(run: Path, images: np.ndarray) -> tuple[dict, dict]:
    source = read(run)
    model = Model(source.config, data_format='NHWC')
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = model.net.outputs(
            {images.shape[1]: tf.constant(images)}, model.blocks(training=False)
        )
        checkpoint.Restore(source.values).init(session)
        return session.run(
            ({str(point): value for point, value in outputs.logits.items()}, outputs.extras)
        )


@pytest.mark.slow
@pytest.mark.parametrize('name', ['dsnet_mbv1_supernet', 'dsnet_mbv1_gate'])
def test_the_published_network_from_file_to_logits(name, tmp_path):
    if not (SHARED / f'{name}.json').exists():
        pytest.skip(f'{SHARED} is not there')
    fixture, gate = load(SHARED / f'{name}.json'), name.endswith('gate')
    file = published(tmp_path / 'x.pth.tar', {row['name']: fill(row) for row in fixture.tensors()})
    assert imports(file, tmp_path / 'run', *(['--stage', 'gate'] if gate else [])) == 0
    config = read_config(tmp_path / 'run' / 'config.json')
    assert (config.arch, config.width, config.sizes, config.classes) == (
        'mobilenetv1',
        1,
        (224,),
        1000,
    )
    images = np.concatenate([draw(row) for row in fixture.data['inputs']]).transpose(0, 2, 3, 1)
    found, extras = logits(tmp_path / 'run', images)
    # The statistics of the fixture are all drawn, so that the largest network has its own.
    assert sorted(found) == [f'w{i:02d}' for i in range(15)]
    pairs = (
        [(extras['dynamic'], fixture.arrays['logits'])]
        if gate
        else [
            (found[f'w{i:02d}'], expected)
            for i, expected in enumerate(fixture.arrays['subnet_logits'])
        ]
    )
    for value, expected in pairs:
        np.testing.assert_allclose(value, expected, atol=1e-4 * expected.std(), rtol=0)
    if not gate:
        expected = fixture.arrays['largest_logits']
        np.testing.assert_allclose(found['w14'], expected, atol=1e-2 * expected.std(), rtol=0)


@pytest.fixture(scope='module')
def tensors() -> dict[str, np.ndarray]:
    return drawn(10)


@pytest.fixture(scope='module')
def run(tensors, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('imported')
    # Few widths take less time.
    average = untouched(tensors, r'bn2\.aux_bn\.([2-8]|1\d)')
    file = published(folder / 'x.pth.tar', average, trained=drawn(10, seed=1))
    assert imports(file, folder / 'run', '--sizes', '28', '--data', 'animals28') == 0
    return folder / 'run'


def test_what_is_recorded(run):
    config, source = read_config(run / 'config.json'), read(run)
    assert (config.net, config.arch, config.mode, config.width) == (
        'dsnet',
        'mobilenetv1_small',
        'pytorch',
        0.125,
    )
    assert (config.stage, config.sizes, config.classes, config.inputs) == (
        'supernet',
        (28,),
        10,
        'normalized_rgb',
    )
    assert config.widths == (0, 1, 9)
    assert source.calibrated == ['w00', 'w01', 'w09']
    assert set(read_layers(run)) == set(source.calibrated)
    assert not any('slimming_gate' in name for name in source.values)


def test_the_average_is_taken(run, tensors):
    values = read(run).values
    np.testing.assert_array_equal(
        values['group3/block2/pointwise/W'][0, 0],
        tensors['blocks.3.residual_blocks.1.conv_pw.weight'][:, :, 0, 0].T,
    )
    np.testing.assert_array_equal(values['linear/W'], tensors['classifier.weight'].T)
    table = values['group3/block0/pointwise/bn/variance/EMA']
    np.testing.assert_array_equal(
        table[9, :64], tensors['blocks.3.first_block.bn2.aux_bn.9.running_var']
    )
    assert table.shape == (15, 80) and (table[9, 64:] == 1).all()


def test_widths_with_statistics_are_evaluated(run, few_validation_images, capsys):
    assert imagenet_tf.main(['--eval', '-ec', str(run), '-ew', '0', '9', '--threads', '0']) == 0
    assert {path.stem for path in (run / 'eval').glob('*.json')} == {'w00', 'w09'}
    assert imagenet_tf.main(['--eval', '-ec', str(run), '-ew', '14', '--threads', '0']) == 2
    assert 'no statistics for w14; python -m scripts.calibrate' in capsys.readouterr().err


def test_a_start_for_a_gate(run):
    config = read_config(run / 'config.json')
    start = starting.starting_values(
        config.replacing(stage='gate', routes=(0, 9), widths=(), load=str(run))
    )
    assert 'slimming_gate/W' not in start
    assert np.array_equal(start['linear/W'], read(run).values['linear/W'])


def test_untouched_statistics_are_missing(tensors, tmp_path):
    """Statistics at 0 and 1 in one layer are enough, as are those that the file lacks."""
    changed = untouched(tensors, r'blocks\.4\.first_block\.bn1\.aux_bn\.([1-68]|1[0-3])')
    for part in ('mean', 'var'):
        del changed[f'blocks.3.residual_blocks.0.bn2.aux_bn.9.running_{part}']
    changed['blocks.3.residual_blocks.0.bn2.aux_bn.7.running_mean'] = np.zeros(56, '<f4')
    assert (
        imports(
            published(tmp_path / 'x.pth', changed, form='legacy'), tmp_path / 'run', '--sizes', '28'
        )
        == 0
    )
    assert read_config(tmp_path / 'run' / 'config.json').widths == (0, 7)


def test_a_file_that_ends_early(tensors, tmp_path):
    """Wider networks than those of the file are none of its points."""
    short = {
        name: value
        for name, value in untouched(tensors, r'bn2\.aux_bn\.[1-4]').items()
        if not re.search(r'^blocks\.[34]\..*\.aux_bn\.([6-9]|1\d)\.running_', name)
    }
    assert imports(published(tmp_path / 'x.pth', short), tmp_path / 'run', '--sizes', '28') == 0
    assert read_config(tmp_path / 'run' / 'config.json').widths == (0, 5)


def test_the_gate_on_demand(tensors, tmp_path):
    file = published(tmp_path / 'x.pth', untouched(tensors, r'bn2\.aux_bn\.([4-9]|1\d)'))
    assert imports(file, tmp_path / 'run', '--sizes', '28', '--stage', 'gate') == 0
    source = read(tmp_path / 'run')
    assert (source.config.stage, source.config.routes) == ('gate', (0, 1, 2, 3))
    np.testing.assert_array_equal(
        source.values['slimming_gate/W'],
        tensors['blocks.3.first_block.gate.gate.0.weight'][:, :, 0, 0].T,
    )
    assert freeze.points(source) == ['w03', 'w02', 'w01', 'w00']


def test_a_gate_without_its_widths(tensors, tmp_path, capsys):
    file = published(tmp_path / 'x.pth', untouched(tensors, r'bn2\.aux_bn\.([2-9]|1\d)'))
    assert imports(file, tmp_path / 'run', '--sizes', '28', '--stage', 'gate') == 2
    assert 'routes [0, 1, 2, 3] must be among the widths [0, 1]' in capsys.readouterr().err


@pytest.mark.parametrize(
    'change, flags, part',
    [
        ({'conv_stem.weight': None}, '', 'holds no complete DS-Net'),
        (
            {'blocks.3.residual_blocks.1.conv_pw.weight': None},
            '',
            'lacks: group3/block2/pointwise/W (and 0 more)',
        ),
        (
            {'blocks.0.first_block.conv_xy.weight': (1,)},
            '',
            'blocks.0.first_block.conv_xy.weight is no part of a DS-Net',
        ),
        ({'blocks.4.residual_blocks.0.conv_dw.weight': (1,)}, '', 'no DS-Net has 1 1 1 3 2 layers'),
        ({'classifier.weight': (10, 7)}, '', 'linear/W: [10, 7] does not fit'),
        ({'bn1.aux_bn.0.running_mean': (1,)}, '', 'row 0 of [1] does not fit'),
        ({'conv_stem.weight': ()}, '', 'conv_stem.weight has shape []'),
        ({'classifier.bias': (0,)}, '', 'classifier.bias has shape [0]'),
        ({'classifier.weight': (80 * 2, 10)}, '', 'linear/W: [160, 10] does not fit'),
        ({}, '--sizes 28 20', 'has one input size'),
        ({}, '--arch mobilenetv1', 'lacks: group'),
        ({}, '--arch vgg', "arch 'vgg' of dsnet is unknown"),
    ],
)
def test_files_that_do_not_fit(change, flags, part, tensors, tmp_path, capsys):
    shapes = {
        name: None if shape is None else np.zeros(shape, '<f4') for name, shape in change.items()
    }
    changed = {name: value for name, value in (tensors | shapes).items() if value is not None}
    assert imports(published(tmp_path / 'x.pth', changed), tmp_path / 'run', *flags.split()) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_a_network_that_was_never_run(tensors, tmp_path, capsys):
    fresh = {
        name: value * 0 + name.endswith('var') if 'running' in name else value
        for name, value in tensors.items()
    }
    assert imports(published(tmp_path / 'x.pth', fresh), tmp_path / 'run') == 2
    assert 'no width has statistics' in capsys.readouterr().err


def test_a_stage_of_another_network(tmp_path, capsys):
    from tests.engine.importers.test_importer_aig import torchvision18, written

    assert (
        imports(written(tmp_path / 'x.pth', torchvision18(5)), tmp_path / 'run', '--stage', 'gate')
        == 2
    )
    assert '--stage gate' in capsys.readouterr().err


def test_settings_of_a_run_are_dropped(tmp_path):
    """Nothing of a Namespace gets onto what stands for it, and its class cannot be altered."""
    options = argparse.Namespace(items=3, __getitem__=4, values=of([1.0]))
    found = torch_file.read_torch(write(tmp_path / 'a', 'zip', {'args': options, 'x': of([2.0])}))
    assert (
        found['args'] == {}
        and not hasattr(found['args'], '__dict__')
        and list(found['args'].items()) == []
    )
    altered = b'\x80\x02cargparse\nNamespace\n}X\x05\x00\x00\x00itemsK\x01sb.'
    with pytest.raises((TypeError, pickle.UnpicklingError)):
        torch_pickle.load(io.BytesIO(altered), written_file(tmp_path), lambda *_: None)


def written_file(folder: Path) -> Path:
    path = folder / 'altered'
    path.write_bytes(bytes(1000))
    return path


def test_other_classes_are_still_refused(tmp_path):
    path = write(tmp_path / 'a', 'zip', {'args': argparse.ArgumentParser, 'x': of([2.0])})
    with pytest.raises(UsageError, match='argparse.ArgumentParser'):
        torch_file.read_torch(path)
