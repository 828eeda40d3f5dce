"""scripts.bench: flags of the benchmarks, random gates, answers of exits, and what is printed."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from engine.results.exit_thresholds import NEVER
from engine.timing import Taken
from nets import cost
from scripts.bench import __main__ as bench
from scripts.bench import exits, gates, infer, train, widths
from tests.engine.deployment.test_choices import MIXED, undecided
from tests.engine.deployment.test_early_exit import TINY


@pytest.mark.parametrize(
    ('module', 'flags'),
    [
        (gates, ['--rates', '1.5']),
        (gates, ['--batches', '0']),
        (exits, ['--budgets', '0']),
        (exits, ['--images', '0']),
        (widths, ['--widths', '3', '3']),
        (widths, ['--rounds', '0']),
    ],
)
def test_numbers_out_of_range(module, flags):
    net = {gates: 'aig', exits: 'msdnet', widths: 'dsnet'}[module]
    with pytest.raises(ValueError, match=flags[0]):
        module.parse_args(net, flags)


def test_every_network_that_is_timed_has_its_benchmark(monkeypatch):
    called = []
    for module in (gates, exits, widths):
        monkeypatch.setattr(module, 'infer', lambda net, rest: called.append((net, rest)))
    for net in ('aig', 'msdnet', 'dsnet'):
        assert bench.main(['infer', '--net', net, '--rounds', '1']) == 0
    assert called == [(net, ['--rounds', '1']) for net in ('aig', 'msdnet', 'dsnet')]


def test_gates_are_open_by_chance_and_not_as_many_in_every_block():
    rng = np.random.default_rng(0)
    drawn = gates.draw_gates(rng, blocks=500, batch=8, rate=0.25)
    assert drawn.shape == (500, 8) and drawn.dtype == bool
    assert drawn.mean() == pytest.approx(0.25, abs=0.02)
    assert len(set(drawn.sum(axis=1))) > 4


class Answers(NamedTuple):
    labels: np.ndarray
    confidence: np.ndarray
    exits: np.ndarray


class Runner:
    """Exit k predicts class k; image i leaves at the first exit whose threshold is below i."""

    def predict(self, images, thresholds):
        numbers = images[0][:, 0, 0, 0].astype(int)
        passed = numbers[:, None] >= np.asarray(thresholds)
        leaves = np.argmax(passed, axis=1)
        return Answers(leaves, -1.0 * numbers, leaves)


def test_answers_of_every_exit():
    images = np.arange(4)[:, None, None, None] * np.ones((1, 2, 2, 3))
    found = exits.answers_of_exits(Runner(), images, 3)
    np.testing.assert_array_equal(found.labels, [[0, 1, 2]] * 4)
    assert found.confidence.shape == (4, 3)
    batches = [[images[:3]], [images[3:]]]
    labels, leaves = exits.run_all(Runner(), batches, [2, NEVER, -NEVER])
    np.testing.assert_array_equal(leaves, [2, 2, 0, 0])
    np.testing.assert_array_equal(labels, leaves)


@pytest.mark.usefixtures('shallow')
@pytest.mark.parametrize('batch', [1, 4])
def test_gates_that_are_told_skip_what_they_close(batch):
    """As the masked simulation; the static network has every body."""
    source = undecided('aig-gates-float')
    ways = gates.build(source, MIXED[:batch], 1)
    gates.warm(ways, 2, batch)
    drawn = np.array([[True, False, True, False], [False, False, True, True]])[:, :batch]
    assert gates.largest_error(ways, [drawn, ~drawn, drawn | True]) < 1e-3
    (static,) = ways.static()
    np.testing.assert_allclose(ways.unfolded()[0], static, rtol=0, atol=1e-3)
    np.testing.assert_allclose(ways.skipping(drawn | True)[0], static, rtol=0, atol=1e-3)
    assert np.abs(ways.skipping(~drawn)[0] - static).max() > 1e-2


@pytest.mark.usefixtures('shallow')
def test_a_mixed_batch_has_each_image_at_its_width():
    source = undecided('dsnet-gates-float')
    network = source.config.network()
    points = {width: str(network.point(16, width)) for width in network.routes}
    batch = 2 * len(points)
    runs = widths.callables(source, points, batch, 1)
    mixed, *_ = runs['mixed']()
    for place, width in enumerate(network.routes):
        rows = slice(2 * place, 2 * place + 2)
        (alone,) = runs[str(width)]()
        np.testing.assert_allclose(mixed[rows], alone[rows], rtol=0, atol=1e-4 * alone.std())
        np.testing.assert_allclose(runs[f'group {width}']()[0], alone[rows], rtol=0, atol=1e-3)


def test_early_exit_is_compared_with_the_last_exit_alone(monkeypatch, capsys):
    config = TINY.replacing(sizes=(28,))
    monkeypatch.setattr(exits, 'configuration', lambda net, preset: config)
    flags = ['--batches', '4', '--images', '10', '--rounds', '1', '--budgets', '0.5']
    exits.infer('msdnet', flags)
    *_, last = capsys.readouterr().out.splitlines()
    (row,) = json.loads(last)['rows']
    _, layers = infer.worked(config)
    alone = cost.madds(layers['s28-x2'])
    every = cost.madds(cost.cumulative(layers, 's28-x2'))
    # The exits before the last are no part of the static network: here they cost more than it does.
    assert alone < every / 2
    first = cost.madds(layers['s28-x0'])
    assert row['other answers'] == 0 and first <= row['MAdds ratio'] * alone <= 0.5 * every
    assert min(row['static ms'], row['early ms'], row['queued ms']) > 0


def test_ratios_are_medians_over_rounds():
    costs = {
        'static': [Taken(2.0, 4.0), Taken(2.0, 4.0), Taken(4.0, 8.0)],
        'unfolded': [Taken(4.0, 4.0), Taken(4.0, 4.0), Taken(8.0, 8.0)],
        'skipping': [Taken(1.0, 4.0), Taken(9.0, 9.0), Taken(2.0, 2.0)],
    }
    found = infer.ratios(costs, 'skipping', madds=0.25)
    assert dict(zip(infer.RATIOS, found)) == {
        'MAdds ratio': 0.25,
        'time ratio': 1.0,
        'time / MAdds': 4.0,
        'CPU / MAdds': 2.0,
        'CPU / MAdds, unfolded': 1.0,
    }
    assert infer.milliseconds(costs, 'skipping') == 4000


def test_a_mixed_batch_is_compared_with_all_its_groups():
    costs = {
        'mixed': [Taken(3.0, 6.0)],
        'group 0': [Taken(1.0, 2.0)],
        'group 4': [Taken(1.0, 1.0)],
    }
    found = widths.against_groups(costs, [0, 4])
    assert found == {'ms': 6000, 'groups_ms': 3000, 'ratio': 2, 'cpu_ratio': 1.5}


def test_the_last_line_is_json(capsys):
    infer.report('aig', ('batch', 'ratio'), [(1, 0.5)], 'a line', arch='resnet8')
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == 'a line'
    assert json.loads(lines[-1]) == {
        'bench': 'infer',
        'net': 'aig',
        'arch': 'resnet8',
        'rows': [{'batch': 1.0, 'ratio': 0.5}],
    }


def test_what_a_training_step_is_compared_with():
    small = ['--data', 'animals28', '--arch', 'resnet8', '--sizes', '16']
    found = train.pair(small)
    assert list(found) == ['quantized', 'float']
    assert [(config.qw, config.qa) for config in found.values()] == [(2, 2), (32, 32)]
    found = train.pair([*small, '--weight-quantizer', 'lq(bits=2)'])
    assert found['float'].qw == 32
    found = train.pair([*small, '--bf16'])
    assert {name: config.bf16 for name, config in found.items()} == {'bf16': True, 'float32': False}
    found = train.pair([*small, '--recompute', 'blocks'])
    ways = {name: config.recompute for name, config in found.items()}
    assert ways == {'blocks': 'blocks', 'all kept': 'none'}
    with pytest.raises(ValueError, match='nothing to compare'):
        train.pair([*small, '--qw', '32', '--qa', '32'])
