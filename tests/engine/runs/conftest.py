"""Fixtures of the tests of runs: a run folder."""

import pytest


@pytest.fixture(scope='module')
def ours(tmp_path_factory):
    """A run folder with the epochs 1 and 3, and the values in both."""
    import numpy as np

    from engine.files import write_json
    from tests.engine.runs.test_checkpoint import SMALL, numbers, save, shapes

    folder = tmp_path_factory.mktemp('ours') / 'run'
    values = numbers(shapes(SMALL))
    for epoch in (1, 3):
        stored = values | {'global_step': np.int64(10 * epoch)}
        save(stored, folder / f'model-{10 * epoch}')
    write_json(folder / 'config.json', SMALL.to_json())
    return folder, values
