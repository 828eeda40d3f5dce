"""Several towers: evaluation split over them, and steps like those of one with the whole batch."""

import collections
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorpack import Callback

from engine.config.config import Config
from engine.data import animals28
from engine.data.sources import ArraySource
from engine.data.spec import Dataset
from engine.evaluation import evaluate
from engine.graph.tower import Model
from engine.graph.worker import SingleWorker
from engine.runs.checkpoint import METRICS
from engine.runs.folder import open_run
from engine.training import train
from quant import specs
from tests import checkpoints, test_grid
from tests.test_grid import NETS

# Fixture.
pytestmark = pytest.mark.usefixtures('shallow')

IMAGES = 11
CLASSES = tuple('abcde')


def config(net: str, **fields) -> Config:
    """The small network of the grid."""
    values = {
        **NETS[net].options,
        'sizes': (16,),
        'data': 'animals28',
        'classes': len(CLASSES),
        'augmentation': 'shift',
        'image_size': 16,
        'resize': 'area',
        **fields,
    }
    found = Config.from_values(net=net, **values)
    found.check()
    return found


@functools.cache
def few() -> Dataset:
    rng = np.random.default_rng(0)
    source = ArraySource(
        rng.integers(0, 256, (IMAGES, 16, 16, 3), np.uint8), rng.integers(0, len(CLASSES), IMAGES)
    )
    return Dataset('few', animals28.SPEC, CLASSES, source, source)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    'net, fields',
    [
        slow('rsnet', {'sizes': (16, 12)}),
        slow('san', {'qw': 2}),
        slow('aig', {'qw': 2, 'qa': 2}),
        ('msdnet', {}),
    ],
)
def test_two_towers_score_every_image_once(net, fields, monkeypatch):
    """Batches of 2, the last of 1: sums and outputs per image are those of one tower."""
    monkeypatch.setattr(evaluate, 'eval_flow', functools.partial(evaluate.eval_flow, batch_size=2))
    values = Model(config(net, **fields), data_format='NHWC').starting_values()
    models = [Model(config(net, **fields, gpu=gpu), data_format='NHWC') for gpu in ((0,), (0, 1))]
    one, two = (evaluate.evaluate(model, values, few(), threads=0)[0] for model in models)
    assert one.images == two.images == IMAGES
    assert (bool(one.accumulators), bool(one.per_image)) == (net == 'aig', net == 'msdnet')
    np.testing.assert_array_equal(two.correct, one.correct)
    outputs = one.accumulators | one.per_image
    for name, found in (two.accumulators | two.per_image).items():
        np.testing.assert_array_equal(found, outputs[name])


def train_alone(monkeypatch) -> None:
    """Training steps and nothing beside them."""
    for name in ('Evaluate', 'SaveBest'):
        monkeypatch.setattr(train, name, lambda *_, **__: Callback())


def start(config: Config) -> dict[str, np.ndarray]:
    """Values under which no branch is hidden by zeros."""
    values = Model(config.replacing(gpu=(0,)), data_format='NHWC').starting_values()
    return values | test_grid.numbers({name: value.shape for name, value in values.items()})


def after_training(
    config: Config, values: dict[str, np.ndarray], folder: Path
) -> dict[str, np.ndarray]:
    """Variables of the last checkpoint, but averages of metrics, which are a tower's."""
    train.train(
        config,
        few(),
        open_run(config, folder, None),
        values=values,
        data_format='NHWC',
        threads=0,
        worker=SingleWorker(),
    )
    stored = checkpoints.values(folder / f'model-{config.steps_per_epoch}')
    return {name: value for name, value in stored.items() if not name.startswith(METRICS)}


def kind(name: str) -> str:
    return (
        '/'.join(name.split('/')[-2:])
        if name.endswith(('EMA', 'Momentum'))
        else name.rpartition('/')[2]
    )


def far(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """Variables that differ by more than 1e-5, and by how much.

    In terms of their largest value or a fifth of the largest of their kind: where another
    normalisation follows, the gradient of a shift is nothing but rounding.
    """
    largest: dict[str, float] = collections.defaultdict(float)
    for name, value in expected.items():
        largest[kind(name)] = max(largest[kind(name)], np.abs(value).max())
    errors = {
        name: np.abs(found[name] - value).max()
        / max(np.abs(value).max(), 0.2 * largest[kind(name)], 1e-30)
        for name, value in expected.items()
    }
    return {name: error for name, error in errors.items() if error > 1e-5}


LOW = {'qw': 2, 'qa': 2}
KD = {'sizes': (16, 12), 'kd': True}


@pytest.mark.parametrize(
    'net, trainer, fields',
    [
        slow('rsnet', 'replicated', {**LOW, 'mode': 'preact'}),
        slow('rsnet', 'replicated', {}),
        slow('rsnet', 'parameter-server', {}),
        slow('rsnet', 'parameter-server', {**KD, **LOW, 'mode': 'preact'}),
        ('rsnet', 'replicated', {**KD, **LOW, 'mode': 'preact'}),
        slow('rsnet', 'replicated', {**KD, **LOW, 'mode': 'preact', 'gpu': (0, 1, 2, 3)}),
        slow('san', 'replicated', {**KD, **LOW}),
        slow('msdnet', 'replicated', LOW),
    ],
)
def test_towers_step_like_one_with_the_whole_batch(net, trainer, fields, tmp_path, monkeypatch):
    """Variables after a step are those of one tower with all images.

    The quick one has all that the first has, two sizes and a teacher beside it.
    """
    train_alone(monkeypatch)
    several = config(
        net,
        **{
            'gpu': (0, 1),
            'batch_size': 8,
            'epochs': 1,
            'steps_per_epoch': 1,
            'schedule': 'linear',
            'trainer': trainer,
            'sync_bn': True,
            **fields,
        },
    )
    values = start(several)
    found = after_training(several, values, tmp_path / 'several')
    expected = after_training(several.replacing(gpu=(0,), sync_bn=False), values, tmp_path / 'one')
    assert found.keys() == expected.keys()
    kinds = {'W', 'gamma', 'EMA', 'Momentum'} - ({'W'} if net == 'san' else set())
    assert {name.rpartition('/')[2] for name in found} >= kinds | (
        {'basis'} if 'qw' in fields else set()
    )
    moved = [name for name in values if np.any(found[name] != values[name])]
    assert len(moved) > 0.9 * len(values)
    assert not far(found, expected)


def quantized(name: str) -> dict[str, Any]:
    """Fields that let a quantizer serve what it can, of whose gradients none counts values: a step
    of LSQ is scaled by the number of those of a tower.
    """
    fields = test_grid.served(name)
    if 'gradient_scale' in specs.options(name):
        spec = specs.with_options(name, {'gradient_scale': 'none'})
        for half in test_grid.HALVES.values():
            fields[f'{half}_quantizer'] = spec
    return fields


@pytest.mark.slow
@pytest.mark.parametrize('name', specs.names())
def test_every_quantizer_of_towers_steps_like_one(name, tmp_path, monkeypatch):
    """Statistics of starts and of refits are sums over the towers, gradients means."""
    train_alone(monkeypatch)
    length = {'batch_size': 8, 'epochs': 1, 'steps_per_epoch': 1, 'schedule': 'linear'}
    towers = {'gpu': (0, 1), 'sync_bn': True}
    several = config('rsnet', **{**KD, **quantized(name), **length, **towers, 'mode': 'preact'})
    values = start(several)
    found = after_training(several, values, tmp_path / 'several')
    one = several.replacing(gpu=(0,), sync_bn=False)
    expected = after_training(one, values, tmp_path / 'one')
    assert found.keys() == expected.keys()
    largest = max(np.abs(value).max() for name, value in found.items() if 'Momentum' in name)
    apart = {}
    for name, error in far(found, expected).items():
        # Of a share or a scale that the next normalisation undoes, say, nothing but rounding is
        # left; a value that rounding carries over a threshold moves gradients by some 1e-4.
        is_left = np.abs(found[name] - expected[name]).max() > 1e-5 * largest
        if is_left and error > 1e-3:
            apart[name] = error
    assert not apart


@pytest.mark.slow
@pytest.mark.parametrize('trainer', ['replicated', 'parameter-server'])
def test_towers_advance_the_state_of_an_optimizer_once(trainer, tmp_path, monkeypatch):
    """Adam's first steps depend on their number: three of two towers are those of one."""
    for name in ('Evaluate', 'SaveBest'):
        monkeypatch.setattr(train, name, lambda *_, **__: Callback())
    # A larger epsilon, so that the rounding of a gradient near 0 does not decide on a sign.
    fields = {'optimizer': 'adam', 'epsilon': 0.01, 'model_ema': 0.5, 'sync_bn': True}
    length = {'batch_size': 8, 'epochs': 1, 'steps_per_epoch': 3, 'schedule': 'linear'}
    several = config('rsnet', gpu=(0, 1), trainer=trainer, **fields, **length)
    values = start(several)
    found = after_training(several, values, tmp_path / 'several')
    one = several.replacing(gpu=(0,), sync_bn=False)
    expected = after_training(one, values, tmp_path / 'one')
    assert found.keys() == expected.keys()
    assert {name.rpartition('/')[2] for name in found} >= {'W', 'm', 'v'}
    assert any(name.startswith('model_ema/') for name in found)
    apart = {
        name: np.abs(found[name] - value).max() / (np.abs(value).max() + 1e-3)
        for name, value in expected.items()
    }
    assert max(apart.values()) < 1e-3, apart
