"""Batch statistics of a single value are said before the first step, with their layers."""

from types import SimpleNamespace

import pytest

from engine.config.config import Config
from engine.training import callbacks
from engine.training.callbacks import WarnOfSingleValues

PIXELS = {'conv0/bn/s16': 64, 'group2/conv1/bn/s16': 4, 'gate/bn/s16': 1}


@pytest.mark.parametrize(
    'batch, gpu, workers, shared, named',
    [
        (1, (0,), 1, False, True),
        (2, (0,), 1, False, False),
        (2, (0, 1), 1, False, True),
        (2, (0, 1), 1, True, False),
        (4, (0, 1), 2, False, True),
        (4, (0,), 2, False, False),
    ],
)
def test_single_values_are_named(batch, gpu, workers, shared, named, monkeypatch):
    said = []
    monkeypatch.setattr(callbacks.logger, 'warning', said.append)
    model = SimpleNamespace(
        config=Config.from_values(batch_size=batch, gpu=gpu),
        worker=SimpleNamespace(size=workers),
        exchange=shared or None,
        towers=[SimpleNamespace(pixels=PIXELS)],
    )
    WarnOfSingleValues(model)._before_train()
    assert len(said) == named
    for text in said:
        assert f'--batch_size {batch}' in text and 'gate/bn/s16' in text
        assert 'conv' not in text
