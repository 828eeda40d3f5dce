"""Budgeted batch: the published loops as oracle, the solver's budget, and policies as files."""

import dataclasses
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from engine.errors import UsageError
from engine.files import write_json
from engine.results import exit_thresholds
from tests.parity.fixtures import load
from tests.parity.msd_dynamic import budgets
from tests.paths import ROOT, SHARED

FIXTURE = SHARED / 'msd_dynamic.json'
COSTS = np.array([2.0, 3.0, 7.0, 8.5])


def log_confidence(n, k=4, seed=0):
    """[n, k] logarithms of probabilities; later exits are surer."""
    return -np.exp(np.random.default_rng(seed).standard_normal((n, k)) * 2 - np.arange(k))


def published_thresholds(confidence, share):
    """What the published loops over sorted samples do."""
    count, exits = confidence.shape
    taken, found = np.zeros(count, bool), np.full(exits, 1e8, confidence.dtype)
    for k in range(exits - 1):
        quota, left = math.floor(np.float32(count) * share[k]), 0
        for i in np.argsort(-confidence[:, k], kind='stable'):
            left += not taken[i]
            if not taken[i] and left == quota:
                found[k] = confidence[i, k]
                break
        taken |= confidence[:, k] >= found[k]
    found[-1] = -1e8
    return found


def published_dynamic(confidence, right, threshold, costs):
    hits, exits = 0, np.zeros(len(costs), np.float32)
    for row, truth in zip(confidence, right):
        k = next(k for k in range(len(costs)) if row[k] >= threshold[k])
        hits, exits[k] = hits + truth[k], exits[k] + 1
    cost = np.float32(0)
    for share, one in zip(exits / np.float32(len(confidence)), costs.astype(np.float32)):
        cost += share * one
    return hits * 100.0 / len(confidence), cost, exits


@pytest.mark.skipif(not FIXTURE.exists(), reason='shared fixtures are not there')
def test_published_numbers():
    result = budgets(load(FIXTURE))
    assert result.passed and len(result.checks) == 32, result.line()


@pytest.mark.parametrize('p', [0.05, 0.5, 1.0, 1.3, 1.95])
@pytest.mark.parametrize('steps', [None, 3, 12])
def test_against_the_published_loops(p, steps):
    """Also where ``steps`` levels of confidence make many images alike."""
    rng = np.random.default_rng(3)
    confidence = rng.random((157, 5), np.float32)
    if steps:
        confidence = np.round(confidence * steps) / np.float32(steps)
    right, costs = rng.random(confidence.shape) < 0.6, np.arange(1, 6, dtype=np.float32) * 7e6
    share = exit_thresholds.shares(p, 5)
    found = exit_thresholds.thresholds(confidence, share)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, published_thresholds(confidence, share))
    top1, cost, taken = exit_thresholds.dynamic(confidence, right, found, costs)
    expected = published_dynamic(confidence, right, found, costs)
    assert (top1, cost) == expected[:2]
    np.testing.assert_array_equal(np.rint(taken * 157), expected[2])


@pytest.mark.parametrize('p, exits', [(0.05, 7), (1.0, 5), (1.95, 10), (1e-8, 10), (1e8, 10)])
def test_shares(p, exits):
    share, powers = (
        exit_thresholds.shares(p, exits),
        [p ** (k - exits * (p > 1)) for k in range(exits)],
    )
    assert share.dtype == np.float32
    np.testing.assert_allclose(share, np.array(powers) / np.sum(powers), rtol=3e-5, atol=1e-33)


def test_quota_larger_than_what_is_left():
    """Ties empty the first exit, so that the second one cannot fill its quota and takes nobody."""
    confidence = np.array([[0.9, 0.8, 0.1]] * 8 + [[0.1, 0.8, 0.1]] * 2, np.float32)
    found = exit_thresholds.thresholds(confidence, np.array([0.2, 0.5, 0.3], np.float32))
    np.testing.assert_array_equal(
        found, np.array([0.9, exit_thresholds.NEVER, exit_thresholds.ALWAYS], np.float32)
    )


def test_quota_of_one_image():
    """The surest image leaves at the first exit, and the surest of the rest at the second."""
    confidence = np.array([[0.5, 0.1, 0], [0.9, 0.3, 0], [0.2, 0.7, 0], [0.1, 0.8, 0]], np.float32)
    found = exit_thresholds.thresholds(confidence, np.array([0.25, 0.25, 0.5], np.float32))
    np.testing.assert_array_equal(found, np.array([0.9, 0.8, exit_thresholds.ALWAYS], np.float32))


def test_logarithms_rank_like_probabilities():
    logs = log_confidence(500)
    for p in (0.3, 1.1):
        share = exit_thresholds.shares(p, 4)
        np.testing.assert_array_equal(
            np.exp(exit_thresholds.thresholds(logs, share)[:-1]),
            exit_thresholds.thresholds(np.exp(logs), share)[:-1],
        )


@pytest.mark.parametrize('n, slack', [(40, 0.35), (2000, 0.01), (20000, 0.001)])
def test_solver_keeps_the_budget_and_uses_it(n, slack):
    confidence = log_confidence(n)
    for wanted in (2.0, 2.01, 2.5, 4.0, 6.3, 8.0, 8.49):
        found = exit_thresholds.solve(confidence, COSTS, wanted)
        cost = exit_thresholds.dynamic(confidence, confidence < 0, found, COSTS)[1]
        assert wanted - slack <= cost <= wanted


def test_solver_where_probabilities_saturate():
    """As float32 probabilities most images are alike; as logarithms large budgets are used."""
    confidence = log_confidence(5000) * 1e-9
    saturated = np.exp(confidence).astype(np.float32)
    assert (saturated == 1).mean() > 0.9
    right = confidence < 0
    costs = [
        exit_thresholds.dynamic(c, right, exit_thresholds.solve(c, COSTS, 6.0), COSTS)[1]
        for c in (confidence, saturated)
    ]
    assert costs[0] == pytest.approx(6.0, abs=0.005) and costs[1] < 4


def test_budget_below_the_first_exit():
    with pytest.raises(
        UsageError, match='smallest possible budget is 2, the cost of the first exit; got 1.9'
    ):
        exit_thresholds.solve(log_confidence(50), COSTS, 1.9)


@pytest.mark.parametrize('wanted', [8.5, 100.0])
def test_budget_for_the_whole_network(wanted):
    found = exit_thresholds.solve(log_confidence(50), COSTS, wanted)
    np.testing.assert_array_equal(found, [exit_thresholds.NEVER] * 3 + [exit_thresholds.ALWAYS])


def test_costs_that_fall():
    with pytest.raises(UsageError, match='costs of the exits 2, 1, 3'):
        exit_thresholds.solve(log_confidence(50, 3), np.array([2.0, 1.0, 3.0]), 2.5)


def test_one_exit():
    np.testing.assert_array_equal(
        exit_thresholds.solve(log_confidence(9, 1), np.array([5.0]), 5.0), [exit_thresholds.ALWAYS]
    )


def test_sweep():
    confidence = log_confidence(4000)
    rows = exit_thresholds.sweep(confidence, COSTS, 9)
    costs = [
        exit_thresholds.dynamic(confidence, confidence < 0, found, COSTS)[1] for _, found in rows
    ]
    assert [wanted for wanted, _ in rows] == pytest.approx(np.linspace(2, 8.5, 9))
    assert costs == sorted(costs) and costs[0] == 2 and costs[-1] == 8.5


def test_all_published_budgets_of_imagenet_take_seconds():
    confidence, costs = log_confidence(50000, 5).astype(np.float32), np.arange(1.0, 6)
    right, started = confidence < -0.1, time.perf_counter()
    for i in range(1, 40):
        exit_thresholds.dynamic(
            confidence,
            right,
            exit_thresholds.thresholds(confidence, exit_thresholds.shares(i / 20, 5)),
            costs,
        )
    assert time.perf_counter() - started < 10


POLICY = exit_thresholds.ExitPolicy(
    28,
    (0, 1, 2),
    (-0.125, exit_thresholds.NEVER, exit_thresholds.ALWAYS),
    6e7,
    59.5e6,
    'MAdds',
    'run/model-3',
)


def test_policy_as_a_file(tmp_path):
    POLICY.write(tmp_path / 'x.json')
    assert exit_thresholds.read_policy(tmp_path / 'x.json') == POLICY


def test_thresholds_survive_the_file_bit_by_bit(tmp_path):
    values = tuple(log_confidence(1, 30)[0].tolist())
    policy = exit_thresholds.ExitPolicy(28, tuple(range(30)), values, 1.0, 1.0, 'ms', '')
    policy.write(tmp_path / 'x.json')
    assert exit_thresholds.read_policy(tmp_path / 'x.json').thresholds == values


@pytest.mark.parametrize(
    'change, part',
    [
        ({'size': None}, 'damaged'),
        ({'thresholds': [0.5]}, '1 threshold for 3 exits'),
        ({'thresholds': 3}, 'damaged'),
        ({'exits': [], 'thresholds': []}, '0 thresholds for 0 exits'),
        ({'more': 1}, '"more": 1, none but size, exits'),
        ({'cost': 'much'}, 'damaged'),
        ({'thresholds': [math.nan, 1.0, 2.0]}, 'a finite number expected'),
    ],
)
def test_files_that_are_no_policy(change, part, tmp_path):
    POLICY.write(tmp_path / 'x.json')
    write_json(tmp_path / 'x.json', dataclasses.asdict(POLICY) | change)
    with pytest.raises(UsageError, match=f'x.json: .*{part}'):
        exit_thresholds.read_policy(tmp_path / 'x.json')


@pytest.mark.parametrize('text', [None, '{', '[1]', '3'])
def test_files_that_are_no_object(text, tmp_path):
    if text:
        (tmp_path / 'x.json').write_text(text)
    with pytest.raises(UsageError, match='x.json: '):
        exit_thresholds.read_policy(tmp_path / 'x.json')


def test_no_tensorflow():
    program = 'import sys, engine.results.exit_thresholds\nprint("tensorflow" in sys.modules)'
    assert subprocess.check_output([sys.executable, '-c', program], cwd=ROOT) == b'False\n'
