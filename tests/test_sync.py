"""Several towers: evaluation that is split over them, and steps that equal those of one tower with the whole batch."""

import functools

import numpy as np
import pytest

from engine import evaluate
from engine.config import Config
from engine.datasets import ArraySource, Dataset
from engine.model import Model
from tests import test_grid
from tests.test_grid import NETS

# Fixture.
shallow = test_grid.shallow

IMAGES = 11
CLASSES = tuple('abcde')


def config(net: str, **fields) -> Config:
    """The small network of the grid."""
    values = {**NETS[net].options, 'sizes': (16,), 'data': 'animals28', 'classes': len(CLASSES), 'image_size': 16,
              'resize': 'area', **fields}
    found = Config(net=net, **values)
    found.check()
    return found


@functools.cache
def few() -> Dataset:
    rng = np.random.default_rng(0)
    source = ArraySource(rng.integers(0, 256, (IMAGES, 16, 16, 3), np.uint8), rng.integers(0, len(CLASSES), IMAGES))
    return Dataset('few', CLASSES, 16, 'shift', source, source)


@pytest.mark.parametrize('net, fields', [
    pytest.param('rsnet', {'sizes': (16, 12)}, marks=pytest.mark.slow),
    pytest.param('san', {'qw': 2}, marks=pytest.mark.slow),
    ('aig', {'qw': 2, 'qa': 2}), ('msdnet', {})])
def test_two_towers_score_every_image_once(net, fields, monkeypatch):
    """Batches of 2, the last of 1: counts, tallies and the answers image by image are those of one tower."""
    monkeypatch.setattr(evaluate, 'eval_flow', functools.partial(evaluate.eval_flow, batch_size=2))
    values = Model(config(net, **fields), data_format='NHWC').starting_values()
    one, two = (evaluate.evaluate(Model(config(net, **fields, gpu=gpu), data_format='NHWC'), values, few(), workers=0)[0]
                for gpu in ((0,), (0, 1)))
    assert one.images == two.images == IMAGES
    assert (len(one.sums) > 1, bool(one.answers)) == (net == 'aig', net == 'msdnet')
    for expected, found in zip([*one.sums, *one.answers], [*two.sums, *two.answers], strict=True):
        np.testing.assert_array_equal(found, expected)
