"""scripts/prune_gates.py: a copy of a run without gates that say the same of nearly all images."""

import dataclasses

import cv2
import numpy as np
import pytest

from engine.data.datasets import open_dataset
from engine.deployment import interpreter, trace
from engine.deployment.choices import Choose
from engine.errors import UsageError
from engine.evaluation import pruning
from engine.files import read_json
from engine.graph.inference import InferenceModel
from engine.importers import pytorch
from engine.results import records
from engine.runs import holdout
from scripts import export, prune_gates
from tests.engine.deployment.test_choices import MIXED, undecided
from tests.engine.deployment.test_program import made

pytestmark = pytest.mark.usefixtures('shallow')

BLOCKS = ['group0/block0', 'group1/block0']


@pytest.mark.parametrize('share', ['0.5', '1.01', '-1', 'nan'])
def test_shares_out_of_range(share, capsys, tmp_path):
    assert prune_gates.main([str(tmp_path), '--share', share]) == 2
    assert 'greater than 0.5 and at most 1' in capsys.readouterr().err
    flags = ['--out', str(tmp_path / 'a.onnx'), '--prune-gates', share]
    assert export.main([str(tmp_path), *flags]) == 2
    assert f'--prune-gates {float(share)}: must be' in capsys.readouterr().err


def of_animals(source, count):
    """The data of a checkpoint, with held-out images."""
    dataset = open_dataset('animals28', size=16)
    config = source.config.replacing(holdout=count)
    return holdout.apply(dataset, config, None)


def test_what_is_refused():
    source = made('rsnet-sizes-w2a2')
    dataset = of_animals(source, 20)
    with pytest.raises(UsageError, match='which has no gates of blocks to remove'):
        pruning.rates(source, dataset)
    bare = dataclasses.replace(dataset, holdout=None)
    with pytest.raises(UsageError, match='has no hold-out.*--holdout N'):
        pruning.rates(made('aig-gates-w2a2'), bare)


def test_a_network_without_gates_answers_as_with_these_answers():
    """One block is always executed, one never; their gates and the second body are gone."""
    source = undecided('aig-gates-w2a2')
    whole = trace.of_points(source, ['s16-dynamic'])
    point = whole.points['s16-dynamic']
    assert [choice.name for choice in point.choices] == BLOCKS
    always = dict(zip(BLOCKS, (True, False)))
    choosing = [one for one in point.operations if isinstance(one, Choose)]
    numbers = {choice.x: number for choice, number in zip(choosing, (1, 0))}
    # As if these gates had said the same of all images.
    changed = []
    for operation in point.operations:
        if operation.out in numbers:
            operation = _saying(operation, numbers[operation.out])
        changed.append(operation)
    told = dataclasses.replace(point, operations=tuple(changed))
    told = dataclasses.replace(whole, points={'s16': told})
    expected, executed = interpreter.answers(told, 's16', MIXED)
    assert np.unique(executed, axis=0).tolist() == [[1, 0]]
    pruned = pruning.without(source, always)
    found = interpreter.run(trace.of_points(pruned, ['s16-dynamic']), 's16-dynamic', MIXED)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.std())
    model = InferenceModel(pruned.config, data_format='NHWC')
    variables, layers = model.inspect()
    assert not [name for name in pruned.values if 'gate' in name]
    assert variables.keys() <= pruned.values.keys()
    names = {row.name for row in layers['s16']}
    assert 'group0/block0/conv1' in names and 'group1/block0/conv1' not in names
    again = pruning.without(source, {BLOCKS[0]: True})
    again = pruning.without(again, {BLOCKS[1]: False})
    assert again.config == pruned.config and again.values.keys() == pruned.values.keys()


def _saying(operation, number):
    """A choice of the same number for all images in place of another."""
    from engine.deployment.choices import Number

    return Number(operation.out, operation.x, number)


def test_rates_are_those_of_held_out_images():
    source = undecided('aig-gates-w2a2')
    dataset = of_animals(source, 30)
    found = pruning.rates(source, dataset)
    whole = trace.of_points(source, ['s16-dynamic'])
    views = source.config.preprocessing.eval_views
    images = np.stack([views(dataset.holdout.read(number))[0] for number in range(30)])
    _, executed = interpreter.answers(whole, 's16-dynamic', images)
    assert list(found) == BLOCKS
    for gate, shares in zip(BLOCKS, executed.T):
        assert found[gate] == [pytest.approx(shares.mean())]


def test_held_out_images_are_those_of_the_training(tmp_path):
    """Of data that the run divided itself, without those that it left out."""
    rng = np.random.default_rng(0)
    place = tmp_path / 'data'
    for label in 'ab':
        (place / label).mkdir(parents=True)
        for number in range(10):
            image = rng.integers(256, size=(20, 20, 3), dtype=np.uint8)
            cv2.imwrite(str(place / label / f'{number}.png'), image)
    source = made('aig-gates-w2a2')
    shared = {'val_split': 0.2, 'split_seed': 3, 'holdout': 4, 'classes': 2, 'dataset': 'folder'}
    config = source.config.replacing(data=str(place), **shared)
    trained = open_dataset(str(place), size=16, split=config.split).train
    listed = tmp_path / 'skipped.txt'
    listed.write_text(f'{trained.name(0)}\n{trained.name(5)}\n')
    config = config.replacing(skip_list=str(listed))
    source = dataclasses.replace(source, config=config, prefix=str(tmp_path / 'run' / 'model-1'))
    expected = [trained.name(number) for number in range(16) if number not in (0, 5)]
    indices = holdout.draw(14, 4, config.seed)
    found = prune_gates._dataset(source, None).holdout
    assert [found.name(number) for number in range(4)] == [expected[place] for place in indices]


def decided(folder, opens):
    """A run whose gates say the same of all images of a size: whether they open at 16 and at 12."""
    source = made('aig-sizes-w2a2', classes=10)
    values = source.values
    for block, by_size in opens.items():
        for size, is_open in zip((16, 12), by_size):
            values[f'{block}/gate1/bn/s{size}/gamma'][:] = 0
            values[f'{block}/gate1/bn/s{size}/beta'][:] = 1 if is_open else -1
        values[f'{block}/gate2/W'][:] = [-1, 1]
        values[f'{block}/gate2/b'][:] = [1, 0]
    config = source.config.replacing(holdout=30)
    pytorch.write(pytorch.Imported(config, values, []), folder)
    return dataclasses.replace(source, config=config)


@pytest.mark.slow
def test_a_pruned_run_is_a_run(tmp_path, capsys):
    """Made, evaluated, recorded, exported."""
    folder = tmp_path / 'run'
    executed = {BLOCKS[0]: True}
    source = decided(folder, {BLOCKS[0]: (True, True), BLOCKS[1]: (True, False)})
    found = pruning.rates(source, of_animals(source, 30))
    assert found == {BLOCKS[0]: [1, 1], BLOCKS[1]: [1, 0]}
    assert prune_gates.main([str(folder), '--share', '1']) == 0
    said = capsys.readouterr().out
    assert f'1 of 2 gates removed; always executed: {BLOCKS[0]}; left out: none' in said
    record = read_json(tmp_path / 'run-pruned' / prune_gates.RECORD, dict, '')
    assert record['executed'] == executed and set(record['top1']) == {'s16', 's12'}
    out = tmp_path / 'a.onnx'
    flags = ['--point', 's16', '--verify', '20', '--out', str(out)]
    assert export.main([f'{folder}-pruned', *flags]) == 0


@pytest.mark.slow
def test_a_run_is_pruned_on_the_way_to_a_file(tmp_path, capsys):
    """Without a gate left it costs the same for all images, which is recorded."""
    folder = tmp_path / 'run'
    decided(folder, {BLOCKS[0]: (False, False), BLOCKS[1]: (True, True)})
    out = tmp_path / 'a.onnx'
    flags = ['--prune-gates', '1', '--point', 's16', '--verify', '20', '--out', str(out)]
    assert export.main([str(folder), *flags]) == 0
    said = capsys.readouterr().out
    assert f'2 of 2 gates removed; always executed: {BLOCKS[1]}; left out: {BLOCKS[0]}' in said
    pruned = tmp_path / 'run-pruned'
    record = read_json(pruned / prune_gates.RECORD, dict, '')
    for point, layers in records.read_layers(pruned).items():
        names = {layer.name for layer in layers}
        assert f'{BLOCKS[1]}/conv1' in names and f'{BLOCKS[0]}/conv1' not in names
        assert record['madds'][point] == [None, sum(layer.madds for layer in layers)]
    assert out.exists()
    out.unlink()
    assert export.main([str(folder), *flags]) == 2
    assert f'--prune-gates: {pruned} is there' in capsys.readouterr().err


@pytest.mark.slow
def test_a_share_that_no_gate_reaches(tmp_path, capsys):
    folder = tmp_path / 'run'
    decided(folder, {BLOCKS[0]: (True, False), BLOCKS[1]: (False, True)})
    assert prune_gates.main([str(folder), '--share', '1']) == 2
    said = capsys.readouterr().err
    assert 'says the same of so many' in said and f'{BLOCKS[1]} 0.0 100.0 %' in said
    assert [path.name for path in tmp_path.iterdir()] == ['run']
