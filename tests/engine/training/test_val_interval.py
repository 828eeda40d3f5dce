"""Epochs that are not scored: which ones they are, and that nothing is said or kept of them."""

from types import SimpleNamespace

import pytest

from engine.config.config import Config
from engine.training.callbacks import Evaluate
from engine.training.saving import SaveBest


class Scored(Exception):
    """An epoch is scored."""


def score():
    raise Scored


@pytest.mark.parametrize('interval, expected', [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6, 7])])
def test_epochs_that_are_scored(interval, expected):
    callback = Evaluate.__new__(Evaluate)
    callback._model = SimpleNamespace(config=Config.from_values(val_interval=interval, epochs=7))
    callback._score = score
    found = []
    for epoch in range(1, 8):
        callback.trainer = SimpleNamespace(epoch_num=epoch)
        try:
            callback._trigger_epoch()
        except Scored:
            found.append(epoch)
    assert found == expected


def test_without_a_score_there_is_no_best_epoch(tmp_path):
    def latest(_):
        raise KeyError

    callback = SaveBest(SimpleNamespace(path=tmp_path))
    callback.trainer = SimpleNamespace(monitors=SimpleNamespace(get_latest=latest))
    callback._trigger_epoch()
    assert not list(tmp_path.iterdir())
