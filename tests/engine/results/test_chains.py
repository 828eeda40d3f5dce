"""Chains of points: their costs, and what their stages say, in numpy of its own."""

import decimal

import numpy as np
import pytest

from engine.errors import UsageError
from engine.results import chains
from engine.results.chains import LAST, MEAN, Combination

SINGLE = {'s12': 2.0, 's20': 5.0, 's28-x0': 6.0, 's28-x1': 8.0, 's28-x2': 11.0, 's28-w01': 9.0}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    'points, expected',
    [
        (['s20'], [5]),
        (['s12', 's20'], [2, 7]),
        # Exits of one size share a pass, whichever are left out.
        (['s28-x0', 's28-x2'], [6, 11]),
        (['s12', 's28-x0', 's28-x1', 's28-x2'], [2, 8, 10, 13]),
        (['s28-x0', 's28-w01', 's28-x2'], [6, 15, 26]),
        (['s28-x1', 's28-x0'], [8, 14]),
    ],
)
def test_costs(points, expected):
    assert chains.costs(points, SINGLE).tolist() == expected


@pytest.mark.parametrize(
    'points, part',
    [
        ([], 'no point none'),
        (['s12', 's14'], 'no point s14; there are s12 s20'),
        (['s20', 's12'], 's12 costs no more than s20 before it'),
        (['s12', 's12'], 's12 costs no more than s12'),
        (['s12'] * 6, '6 stages; give at most 5'),
    ],
)
def test_what_is_no_chain(points, part):
    with pytest.raises(UsageError, match=f'--cascade x: .*{part}'):
        chains.check(points, SINGLE, '--cascade x')


@pytest.mark.parametrize('points', [['s12'], ['s12', 's20', 's28-x2']])
def test_a_chain(points):
    chains.check(points, SINGLE, '')
    with pytest.raises(UsageError, match='no point s9'):
        chains.check([*points, 's9'], SINGLE, '')


def precise(logits, temperature):
    """Logarithms of the softmax of a row, with 200 digits."""
    decimal.getcontext().prec = 200
    scaled = [decimal.Decimal(float(value)) / decimal.Decimal(temperature) for value in logits]
    total = sum(value.exp() for value in scaled)
    return [float(value - total.ln()) for value in scaled]


@pytest.mark.parametrize('temperature', [1.0, 0.5, 3.0])
def test_log_probabilities_do_not_saturate(temperature):
    logits = RNG.normal(0, 5, [6, 4])
    logits[0] = [0, 60, 0, 0]  # a probability that is 1 in float64
    logits[1] = [2, 2, 2, 2]
    logits[2] = [-1000, 3, 3, 1000]
    expected = [precise(row, temperature) for row in logits]
    found = chains.log_probabilities(logits.astype(np.float64), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0, 1] < 0


@pytest.mark.parametrize('combine', [LAST, MEAN])
def test_stages_answer_alone_or_together(combine):
    logits = RNG.normal(0, 2, [3, 50, 7])  # [stages, images, classes]
    temperatures = (0.7, 1.0, 2.0)
    combination = Combination(combine, temperatures)
    total = None
    seen = []
    for stage, own in enumerate(logits):
        scaled = own / temperatures[stage]
        softmax = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
        seen.append(softmax)
        expected = np.mean(seen, axis=0) if combine == MEAN else softmax
        found = combination.answer(stage, own, total if combination.sums else None)
        total = found.total
        np.testing.assert_array_equal(found.labels, expected.argmax(1))
        np.testing.assert_allclose(np.exp(found.confidence), expected.max(1))
        np.testing.assert_allclose(np.exp(found.scores), expected)
