"""The report of a gate that chooses widths: shares and multiply-adds of a made-up count."""

import json

import numpy as np
import pytest

from engine.data.datasets import open_dataset
from engine.evaluation import throughput
from engine.evaluation.evaluate import Score
from engine.evaluation.evaluators import widths as routes
from engine.evaluation.evaluators.evaluator import Evaluation
from engine.graph.tower import Model
from engine.runs.checkpoint import Checkpoint
from nets import cost
from nets.cost import LayerRecord
from nets.points import Point
from tests.engine.graph.test_freeze import DSNET, made

pytestmark = pytest.mark.usefixtures('short_slimmable')

CLASSES, ROUTES = 5, (0, 6, 13)


class Net:
    """What the report asks of a network."""

    routes, head_madds, sizes = ROUTES, 77, (16, 12)
    points = tuple(Point(size=size, width=index) for size in (16, 12) for index in ROUTES)
    accumulator_names = ('s16-routes', 's12-routes')

    def point(self, size, index):
        return Point(size=size, width=index)


class Network:
    net, config = Net(), None


def layers():
    return {
        f's{size}-w{index:02d}': [
            LayerRecord('a', 'body', (3, 3, 4 + index, 8), (size, size)),
            LayerRecord('b', 'head', (1, 1, 8, CLASSES), (1, 1), bias=CLASSES),
        ]
        for size in Net.sizes
        for index in ROUTES
    }


@pytest.fixture
def reported(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    chosen = {}
    for name in Net.accumulator_names:
        chosen[name] = rng.integers(0, 9, (CLASSES, len(ROUTES))).astype(float)
    chosen['s12-routes'][2] = 0
    speed = {'dynamic': 120.5, 's16-w00': 300.0}
    monkeypatch.setattr(routes, 'images_per_second', lambda *_: speed)
    score = Score(np.zeros((6, 2)), chosen, {}, 1, 0.1)
    evaluation = Evaluation(Network(), layers(), score, tmp_path, {}, None, threads=0)
    return tmp_path, chosen, routes.Widths().report(evaluation)


def test_shares_and_multiply_adds(reported):
    folder, chosen, said = reported
    for size, counts_by_class in zip(Net.sizes, chosen.values()):
        row = json.loads((folder / 'routes' / f's{size}.json').read_text())
        assert row['points'] == [f's{size}-w{index:02d}' for index in ROUTES]
        share = counts_by_class.sum(0) / counts_by_class.sum()
        np.testing.assert_allclose(row['shares'], share)
        counts = counts_by_class.sum(1)
        for k, by_class in enumerate(row['by_class']):
            np.testing.assert_allclose(
                by_class, counts_by_class[k] / counts[k] if counts[k] else np.zeros(len(ROUTES))
            )
        madds = [9 * (4 + index) * 8 * size * size + 8 * CLASSES for index in ROUTES]
        assert row['of_points'] == madds
        assert row['madds'] == pytest.approx(share @ madds + 77)
        assert row['images_per_second'] == {'dynamic': 120.5, 's16-w00': 300.0}
        assert f's{size}-w06 {100 * share[1]:.1f} %' in said
        assert f'{row["madds"] / 1e6:.2f} M multiply-adds per image' in said


def test_pictures(reported):
    folder, _, said = reported
    for size in Net.sizes:
        assert (folder / 'routes' / f's{size}.png').read_bytes().startswith(b'\x89PNG')
        assert str(folder / 'routes' / f's{size}.png') in said


def test_measured_speed(monkeypatch):
    """Of the gate's choices and of every route; any network with a gate."""
    config, values = made(
        {**DSNET, 'stage': 'gate', 'routes': (0, 6), 'widths': (0, 6), 'classes': 10}
    )
    model = Model(config, data_format='NHWC')
    monkeypatch.setattr(throughput, 'BATCH', 4)
    monkeypatch.setattr(throughput, 'ROUNDS', 2)
    source = Checkpoint('none', values, config)
    found = routes.images_per_second(source, open_dataset('animals28', size=16), 16)
    assert set(found) == {'dynamic', 'w00', 'w06'} and min(found.values()) > 0
    _, records = model.inspect()
    assert cost.madds(records['w00']) < cost.madds(records['w06'])
