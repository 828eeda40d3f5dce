"""Run folders with static points, gates, routes and exits."""

import json

import numpy as np
import pytest

from nets.cost import LayerRecord
from tests.engine.results.run_folders import (
    FIRST_EXIT,
    SECOND_EXIT,
    layer,
    rs_run,
    score,
    write_run,
)

SMALL = {
    'net': 'rsnet',
    'mode': 'pytorch',
    'arch': 'resnet8',
    'data': 'animals28',
    'classes': 10,
    'qw': 32,
    'qa': 32,
}


@pytest.fixture
def rs_net(tmp_path):
    """Two sizes, one of them with foreign statistics too, and their ensemble."""
    scores = [
        score('s192', 64.5, 85.9),
        score('s224', 66.1, 86.4),
        score('s192', 60.25, 80.0, bn='s224'),
        score('ensemble', 67.0, 87.0),
    ]
    return rs_run(tmp_path / 'rs-kd', scores)


@pytest.fixture
def static(tmp_path):
    """Two sizes, one of them with foreign statistics too, and their ensemble; one was timed."""
    layers = {'s28': [layer('conv', 4_000_000)], 's20': [layer('conv', 2_000_000)]}
    scores = [
        score('s28', 90.0),
        score('s20', 80.0),
        score('s20', 70.0, bn='s28'),
        score('ensemble', 95.0),
    ]
    config = {**SMALL, 'sizes': [28, 20]}
    return write_run(tmp_path / 'static', config, layers, scores, times={'s28': 4.0})


@pytest.fixture
def gated(tmp_path):
    """One size with a gate, whose rates make it cheaper."""
    layers = {'s28': [layer('conv', 1_000_000), layer('body', 3_000_000, gate='body')]}
    config = {**SMALL, 'net': 'aig', 'sizes': [28]}
    run = write_run(tmp_path / 'gated', config, layers, [score('s28', 85.0)])
    (run / 'gates').mkdir()
    (run / 'gates' / 's28.json').write_text(json.dumps({'madds': 1_500_000.4}))
    return run


@pytest.fixture
def routed(tmp_path):
    """Two widths and a gate that chooses between them."""
    layers = {
        'w03': [LayerRecord('conv', 'body', (1, 1, 4, 4), (400, 400))],
        'w00': [LayerRecord('conv', 'body', (1, 1, 2, 2), (400, 400))],
    }
    scores = [score('w03', 88.0), score('w00', 60.0), score('dynamic', 87.0)]
    config = {**SMALL, 'net': 'dsnet', 'sizes': [28], 'stage': 'gate'}
    run = write_run(tmp_path / 'routed', config, layers, scores)
    (run / 'routes').mkdir()
    (run / 'routes' / 's28.json').write_text(json.dumps({'madds': 1_200_000}))
    return run


@pytest.fixture
def exits(tmp_path):
    """A run of two exits, and the arrays it recorded.

    The second exit has the first one's layer and one of its own.
    """
    first = layer('conv', FIRST_EXIT)
    second = layer('more', SECOND_EXIT - FIRST_EXIT)
    run = write_run(
        tmp_path / 'the exits',
        {**SMALL, 'net': 'msdnet', 'sizes': [28]},
        {'s28-x1': [first, second], 's28-x0': [first]},
        [score('s28-x1', 90.0), score('s28-x0', 60.0), score('ensemble-s28-x1', 91.0)],
        times={'s28-x0': 1.0, 's28-x1': 3.0},
    )
    rng = np.random.default_rng(0)
    arrays = {
        'confidence': -rng.random((40, 2)),
        'right': np.ones((40, 2), bool),
        'test_confidence': -rng.random((50, 2)),
        'test_right': rng.random((50, 2)) < (0.6, 0.9),
    }
    (run / 'exits').mkdir()
    np.savez(run / 'exits' / 's28.npz', **arrays)
    return run, arrays
