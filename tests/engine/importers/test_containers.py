"""Where trainings put the tensors of a model, and what they put in front of their names."""

import numpy as np
import pytest

from engine.importers import containers

ONE, OTHER = np.ones(2), np.zeros(3)


@pytest.mark.parametrize(
    'content, entry',
    [
        ({'fc.bias': ONE}, 'flat'),
        ({'state_dict': {'fc.bias': ONE}, 'optimizer': {'state': {0: ONE}}}, 'Lightning'),
        ({'model': {'fc.bias': ONE}, 'model_ema': {'fc.bias': OTHER}}, 'an average'),
        ({'model': {'state_dict': {'fc.bias': ONE}}}, 'nested'),
        ({'model': 'resnet18', 'net': {'fc.bias': ONE}, 'ema': None}, 'other entries'),
    ],
)
def test_the_entry_of_the_model(content, entry):
    expected = OTHER if entry == 'an average' else ONE
    found = containers.find_tensors(content)
    assert list(found) == ['fc.bias']
    assert found['fc.bias'] is expected


@pytest.mark.parametrize('content', [None, [ONE], {}, {'model': 3}, {'state_dict': {0: ONE}}])
def test_no_model(content):
    assert containers.find_tensors(content) == {}


def test_entries_that_hold_themselves_or_go_deep():
    itself: dict = {'model': {}}
    itself['model']['state_dict'] = itself
    assert containers.find_tensors(itself) == {}
    itself['model']['net'] = {'fc.bias': ONE}
    assert list(containers.find_tensors(itself)) == ['fc.bias']
    deep: dict = {'fc.bias': ONE}
    for _ in range(10_000):
        deep = {'model': deep}
    assert list(containers.find_tensors(deep)) == ['fc.bias']


@pytest.mark.parametrize(
    'start', ['', 'module.', '_orig_mod.', 'model.', 'net.', 'model._orig_mod.', 'module.backbone.']
)
def test_wrappers(start):
    tensors = {f'{start}conv1.weight': ONE, f'{start}layer1.0.bn1.bias': OTHER, 'loss.scale.w': ONE}
    if start:
        tensors[f'{start}alpha'] = OTHER
    found = containers.unwrapped(tensors)
    assert {'conv1.weight', 'layer1.0.bn1.bias', 'loss.scale.w'} <= set(found)
    assert found['layer1.0.bn1.bias'] is OTHER
    assert not start or found['alpha'] is OTHER


def test_the_larger_of_two_models_is_unwrapped():
    tensors = {f'model.conv{n}.weight': ONE for n in range(3)}
    tensors |= {f'encoder.conv{n}.weight': OTHER for n in range(2)}
    found = containers.unwrapped(tensors)
    assert all(found[f'conv{n}.weight'] is ONE for n in range(3))
    assert found['encoder.conv0.weight'] is OTHER
