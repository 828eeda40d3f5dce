"""scripts/prune_gates.py: a copy of a run without gates that say the same of nearly all images."""

import dataclasses

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
    dataset = of_animals(made('rsnet-sizes-w2a2'), 20)
    for cell in ('rsnet-sizes-w2a2', 'msdnet-exits-w2a2', 'dsnet-gates-w2a2'):
        with pytest.raises(UsageError, match='which has no gates of blocks to remove'):
            pruning.rates(made(cell), dataset)
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


@pytest.mark.slow
def test_a_pruned_run_is_a_run(tmp_path, capsys):
    """Made, evaluated, recorded, exported; a share that no gate reaches is refused with rates."""
    source = undecided('aig-sizes-w2a2')
    config = source.config.replacing(holdout=30)
    folder = tmp_path / 'run'
    pytorch.write(pytorch.Imported(config, source.values, []), folder)
    dataset = of_animals(source, 30)
    found = pruning.rates(source, dataset)
    assert all(len(shares) == 2 for shares in found.values())
    assert prune_gates.main([str(folder), '--share', '0.51']) in (0, 2)
    said = capsys.readouterr()
    executed = pruning.settled(found, 0.51)
    if not executed:
        assert 'says the same of so many' in said.err
        return
    assert f'{len(executed)} of 2 gates removed' in said.out
    record = read_json(tmp_path / 'run-pruned' / prune_gates.RECORD, dict, '')
    assert record['executed'] == executed and set(record['top1']) == {'s16', 's12'}
    out = tmp_path / 'a.onnx'
    flags = ['--point', 's16', '--verify', '20', '--out', str(out)]
    assert export.main([f'{folder}-pruned', *flags]) == 0
