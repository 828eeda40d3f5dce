"""What is written about exits and chosen widths of a network of several precisions: of each."""

from typing import Any

import numpy as np
import pytest

from engine.data.datasets import open_dataset
from engine.data.sources import Subset
from engine.data.spec import Dataset
from engine.evaluation import throughput
from engine.evaluation.evaluate import evaluate
from engine.evaluation.evaluators import exits
from engine.evaluation.evaluators.evaluator import Evaluation
from engine.evaluation.evaluators.widths import Widths
from engine.files import read_json
from engine.graph.tower import Model
from engine.results import exit_records
from engine.results.records import read_expected_madds
from nets import cost
from nets.points import Point
from tests import test_grid

IMAGES = 20


def evaluation(cell, folder, **fields) -> Evaluation:
    """A network with random weights, scored on some images."""
    config = test_grid.config(cell).replacing(classes=10, **fields)
    model = Model(config, data_format='NHWC')
    variables, layers = model.inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    values = model.starting_values() | test_grid.numbers(shapes)
    whole = open_dataset('animals28', size=config.image_size)
    val, held = Subset(whole.val, np.arange(IMAGES)), Subset(whole.val, np.arange(40, 70))
    few = Dataset('few', whole.spec, whole.classes, whole.train, val, held)
    (score,) = evaluate(model, values, few, threads=0)
    return Evaluation(model, layers, score, folder, values, few, threads=0)


@pytest.mark.slow
def test_exits_of_each_precision(tmp_path, monkeypatch):
    """Answers are those of the points of the precision, whose exits alone are timed."""
    monkeypatch.setattr(exits, 'ROUNDS', 2)
    monkeypatch.setattr(exits, 'BATCHES', (1,))
    found = evaluation('msdnet-exits-b4b2', tmp_path)
    said = exits.Exits().report(found)
    every = [str(point) for point in found.model.net.points]
    sizes = found.model.net.sizes
    latency = read_json(tmp_path / 'exits' / 'latency.json', dict[str, object], '')
    assert set(latency) == set(every)
    for size in sizes:
        for bits in (4, 2):
            at = Point(size=size, bits=bits)
            own = [name for name in every if Point.parse(name) in _exits(at, found.model.net)]
            columns = [every.index(name) for name in reversed(own)]
            with np.load(tmp_path / 'exits' / f'{at}.npz') as stored:
                expected = found.score.per_image['confidence'][:, columns]
                np.testing.assert_array_equal(stored['test_confidence'], expected)
                assert stored['confidence'].shape == (30, len(own))
            assert (tmp_path / 'exits' / f'{at}.png').exists()
            assert all(name in said for name in own)
    # Thresholds are set for networks of one precision.
    assert exit_records.recorded_sizes(tmp_path) == []


def _exits(at, net):
    return [point for point in net.points if (point.size, point.bits) == (at.size, at.bits)]


@pytest.mark.slow
@pytest.mark.parametrize('sizes', [(16,), (16, 12)])
def test_chosen_widths_of_each_precision(sizes, tmp_path, monkeypatch):
    """Expected multiply-adds of what a gate chooses are found by the name of the choice."""
    monkeypatch.setattr(throughput, 'BATCH', 4)
    monkeypatch.setattr(throughput, 'ROUNDS', 2)
    found = evaluation('dsnet-gates-b4b2', tmp_path, sizes=sizes)
    said = Widths().report(found)
    net = found.model.net
    for name, accumulator in zip(net.dynamic_names, net.accumulator_names, strict=True):
        point = Point.within(name)
        size = point.size or sizes[0]
        at = Point(size=size, bits=point.bits)
        row = read_json(tmp_path / 'routes' / f'{at}.json', dict[str, Any], '')
        chosen = found.score.accumulators[accumulator]  # [classes, routes]
        assert chosen.sum() == IMAGES
        np.testing.assert_allclose(row['shares'], chosen.sum(0) / IMAGES)
        assert {Point.parse(one).bits for one in row['points']} == {point.bits}
        madds = [cost.madds(found.layers[one]) for one in row['points']]
        expected = np.dot(row['shares'], madds) + net.head_madds
        assert read_expected_madds(tmp_path, name, sizes[0]) == pytest.approx(expected)
        assert f'{at}: ' in said
