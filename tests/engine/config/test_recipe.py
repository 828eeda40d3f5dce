"""Fields of a recipe that do not go together."""

import math

import pytest

from engine.config.config import Config
from engine.errors import UsageError

DSNET = Config.from_values(
    schedule='cosine_epochs',
    lr=0.08,
    min_lr=1e-5,
    warmup=5,
    epochs=160,
    cooldown=10,
    steps_per_epoch=7,
)


@pytest.mark.parametrize(
    'given, parts',
    [
        ({'schedule': 'cosine'}, ('--min_lr 1e-05', '--schedule cosine', 'cosine_epochs')),
        (
            {'schedule': 'step', 'min_lr': 0.0},
            ('--cooldown 10', '--schedule step', 'cosine_epochs'),
        ),
        ({'min_lr': 0.1}, ('--min_lr 0.1', '0 to --lr 0.08')),
        ({'min_lr': -1e-5}, ('--min_lr -1e-05', 'at least 0')),
        ({'min_lr': math.nan}, ('--min_lr nan', 'at least 0')),
        ({'cooldown': 160}, ('--cooldown 160', '0 to 159', '--epochs 160')),
        ({'cooldown': -1}, ('--cooldown -1', 'at least 0')),
    ],
)
def test_values_that_do_not_fit_the_schedule(given, parts):
    DSNET.check()
    with pytest.raises(UsageError) as caught:
        DSNET.replacing(**given).check()
    assert [part for part in parts if part not in str(caught.value)] == []
