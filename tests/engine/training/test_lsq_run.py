"""LSQ through the command line: starts, training, resuming, loading, evaluation, tables, export."""

import json
import re
import shutil

import numpy as np
import pytest
from tensorpack.tfutils.tower import TowerContext

import imagenet_tf
from engine.config.config import read_config
from engine.data import datasets
from engine.graph.loaders import train_flow
from engine.graph.tower import Model
from engine.results.records import read_layers
from engine.runs import history
from engine.runs.checkpoint import Restore
from quant.backend import new_graph, tf
from scripts import accuracy_table, export
from tests.checkpoints import values

pytestmark = pytest.mark.usefixtures('shallow_module')
TINY = [
    *('--data', 'animals28', '-d', '8', '--mode', 'preact', '--sizes', '16', '12', '--lr', '0.01'),
    *('--batch-size', '8', '--steps-per-epoch', '2', '--epochs', '2', '--threads', '0'),
]
LSQ = [
    *('--quantizer', 'lsq', '--qw', '2', '--qa', '2'),
    *('--stem-bits', '8', '--head-bits', '8'),
]
QUANTIZED = (
    'group0/block0/quant1',
    'group0/block0/quant2',
    'group0/quant_last',
    'group1/block0/quant2',
    'linear/input_quant',
)


def main(*flags):
    assert imagenet_tf.main([str(flag) for flag in flags]) == 0


def accuracies(run):
    found = {}
    for path in sorted((run / 'eval').glob('*.json')):
        record = json.loads(path.read_text())
        found[path.stem] = record['top1'], record['top5']
    return found


@pytest.fixture(scope='module')
def trained(tmp_path_factory, few_validation_images, shallow_module):
    """Four steps, with the weights of the stem and of the classifier at 8 bits."""
    run = tmp_path_factory.mktemp('lsq') / 'run'
    main(*TINY, *LSQ, '--logdir', run)
    return run


@pytest.fixture(scope='module')
def floats(tmp_path_factory, few_validation_images, shallow_module):
    """The same in float."""
    run = tmp_path_factory.mktemp('float') / 'run'
    main(*TINY, '--logdir', run)
    return run


def test_steps_are_trained(trained):
    first, last = values(trained / 'model-2'), values(trained / 'model-4')
    steps = [name for name in first if name.endswith('/step')]
    activations = {name.removesuffix('/step') for name in steps if 'weight_quant' not in name}
    assert activations == set(QUANTIZED)
    assert {name for name in steps if 'weight_quant' in name} > {
        'conv0/weight_quant/step',
        'linear/weight_quant/step',
    }
    for name in steps:
        assert first[name] != last[name] and 0 < last[name] < 1


def test_every_activation_starts_from_what_it_codes(tmp_path, few_validation_images):
    """Both sizes pooled, and later layers behind the started ones."""
    run = tmp_path / 'run'
    main(*TINY, *LSQ, '--epochs', 1, '--lr', 1e-30, '--wd', 0, '--logdir', run)
    config, state = read_config(run / 'config.json'), values(run / 'model-2')
    dataset = datasets.open_dataset(config.data)
    (batch,) = [next(iter(train_flow(config, dataset, start_step=0, threads=0)))]
    model = Model(config, data_format='NHWC')
    with new_graph(), tf.Session() as session:
        with TowerContext('', is_training=True):
            model.build_graph(*(tf.constant(array) for array in batch))
        Restore(state).init(session)
        (tower,) = model.towers
        assert tuple(name.removesuffix('/step') for name in tower.quantization.starts) == QUANTIZED
        for name, start in tower.quantization.starts.items():
            assert len(start.tables) == 2
            count, total = np.sum(session.run(start.tables), axis=0)
            bits = 8 if name == f'{QUANTIZED[-1]}/step' else 2  # the input of the head is last
            expected = 2 * total / count / np.sqrt(2**bits - 1)
            np.testing.assert_allclose(state[name], [expected], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_towers_start_together(tmp_path, few_validation_images):
    """As one tower does, but for normalisation by a smaller batch."""
    slow = ('--epochs', 1, '--lr', 1e-30, '--wd', 0)
    main(*TINY, *LSQ, *slow, '--logdir', tmp_path / 'one')
    main(*TINY, *LSQ, *slow, '--gpu', '0,1', '--logdir', tmp_path / 'two')
    one, two = values(tmp_path / 'one' / 'model-2'), values(tmp_path / 'two' / 'model-2')
    for name in QUANTIZED:
        np.testing.assert_allclose(two[f'{name}/step'], one[f'{name}/step'], rtol=0.1)


@pytest.mark.slow
def test_resuming_is_exact(trained, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(trained, run)
    for path in [*run.glob('model-[34].*'), *run.glob('best*')]:
        path.unlink()
    history.write(run, history.read(run, '')[:1])
    main(*TINY, *LSQ, '--logdir', run)
    whole, resumed = values(trained / 'model-4'), values(run / 'model-4')
    assert set(whole) == set(resumed)
    assert [name for name in whole if not np.array_equal(whole[name], resumed[name])] == []


@pytest.mark.slow
def test_starts_from_a_float_run(floats, tmp_path):
    """Weights start from the loaded ones; what the run keeps is loaded."""
    run = tmp_path / 'run'
    main(*TINY, *LSQ, '--epochs', 1, '--lr', 1e-30, '--load', floats, '--logdir', run)
    loaded, state = values(floats / 'model-4'), values(run / 'model-2')
    np.testing.assert_allclose(state['conv0/W'], loaded['conv0/W'], rtol=1e-6)
    for name in ('group0/block0/conv1', 'group1/block0/convshortcut'):
        step = 2 * np.abs(loaded[f'{name}/W']).mean()
        np.testing.assert_allclose(state[f'{name}/weight_quant/step'], [step], rtol=1e-4)
    step = 2 * np.abs(loaded['conv0/W']).mean() / np.sqrt(127)
    np.testing.assert_allclose(state['conv0/weight_quant/step'], [step], rtol=1e-4)
    assert state['group0/quant_last/step'] not in (0, 1)


@pytest.mark.slow
def test_loading_a_quantized_run_keeps_its_steps(trained, tmp_path):
    run = tmp_path / 'run'
    main(*TINY, *LSQ, '--epochs', 1, '--lr', 1e-30, '--load', trained, '--logdir', run)
    loaded, state = values(trained / 'model-4'), values(run / 'model-2')
    for name in loaded:
        if name.endswith('/step'):
            np.testing.assert_allclose(state[name], loaded[name], rtol=1e-6)


def test_evaluation_repeats_the_training_records(trained):
    before = accuracies(trained)
    main('--eval', '-ec', trained)
    assert accuracies(trained) == before


def test_costs(trained):
    layers = read_layers(trained)['s16']
    rows = {row.name: row for row in layers}
    body = rows['group1/block0/conv2']
    assert (body.weight_bits, body.activation_bits, body.basis) == (2, 2, 1)
    stem, head = rows['conv0'], rows['linear']
    assert (stem.weight_bits, stem.activation_bits) == (8, 32)
    assert (head.weight_bits, head.activation_bits) == (8, 8)
    assert head.bit_ops == 8 * 8 * 32 * 10
    assert stem.memory_bits == 8 * 3 * 3 * 3 * 16 + 32


def test_tables(trained, capsys):
    assert accuracy_table.main([str(trained), '--format', 'markdown']) == 0
    table = capsys.readouterr().out
    row = next(line for line in table.splitlines() if ' 16 ' in line)
    assert '2/2' in [cell.strip() for cell in row.split('|')]
    assert 'top-1' in table and 'published' not in table  # nothing is published about LSQ here


def test_export(trained, tmp_path, capsys):
    file = tmp_path / 'net.onnx'
    assert export.main([str(trained), '--point', 's16', '--out', str(file)]) == 0
    assert file.stat().st_size > 0


@pytest.mark.parametrize(
    'flags, message',
    [
        (
            '--quantizer lqq --qw 2',
            "--quantizer lqq.*'lqq' is unknown; did you mean lq or lsq. There are",
        ),
        ('--quantizer lsq --qw 1', '--quantizer lsq: .*1 bit have no positive one'),
        ('--quantizer lsq --qa 2 --mode preact --fixed-qa', 'quantizer lsq has no option'),
        ('--stem-bits 9', '--stem.bits 9: bits must be 1 to 8, or 32'),
        ('--policy nothing.json', 'nothing.json: cannot be read .No such file'),
    ],
)
def test_wrong_options_are_usage_errors(flags, message, tmp_path, capsys):
    run = tmp_path / 'run'
    arguments = ['-d', '8', '--data', 'animals28', *flags.split(), '--logdir', str(run)]
    assert imagenet_tf.main(arguments) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not run.exists()


@pytest.mark.slow
def test_rules_of_a_file_are_recorded(tmp_path, few_validation_images):
    rules = [
        {'scope': '^group1/', 'weight': 'lq(bits=4)'},
        {'roles': ['image'], 'activation': 'lsq(bits=8)'},
    ]
    file = tmp_path / 'rules.json'
    file.write_text(json.dumps(rules))
    run = tmp_path / 'run'
    main(*TINY, '--epochs', 1, '--qw', 2, '--policy', file, '--logdir', run)
    file.unlink()
    state = values(run / 'model-2')
    assert state['group1/block0/conv1/weight_quant/basis'].shape == (4, 32)
    assert state['group0/block0/conv1/weight_quant/basis'].shape == (2, 16)
    assert state['image/step'].shape == (1,)
    before = accuracies(run)
    main('--eval', '-ec', run)
    assert accuracies(run) == before
    layers = read_layers(run)['s16']
    assert layers[0].activation_bits == 8
