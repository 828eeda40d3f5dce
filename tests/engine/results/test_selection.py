"""Choosing by budget over run folders: static points, exits, gates, routes."""

import itertools
import shlex
from pathlib import Path

import numpy as np
import pytest

from engine.config.cli import parse
from engine.errors import UsageError
from engine.quantities import quantity
from engine.results import exit_thresholds, selection
from engine.results.exit_thresholds import ALWAYS, ExitPolicy
from engine.results.selection import Choice, Limits
from scripts import choose, thresholds
from tests.engine.results.run_folders import FIRST_EXIT, SECOND_EXIT

MEASURES = ('madds', 'ms', 'weight_bytes')


def by_point(run):
    return {found.point: found for found in selection.choices(run) if found.policy is None}


def test_static_points(static):
    """Neither foreign statistics nor ensembles, which no command runs alone."""
    found = by_point(static)
    assert list(found.values()) == [
        Choice(str(static), 's28', 90.0, 4e6, 4, 4.0),
        Choice(str(static), 's20', 80.0, 2e6, 4),
    ]


def test_gates_cost_what_was_measured(gated, routed):
    assert by_point(gated)['s28'].madds == 1_500_000
    found = by_point(routed)
    assert {point: (one.top1, one.madds, one.weight_bytes) for point, one in found.items()} == {
        'w03': (88.0, 2_560_000, 64),
        'w00': (60.0, 640_000, 16),
        'dynamic': (87.0, 1_200_000, 64),
    }


def test_exits_become_policies(exits):
    """Thresholds of the hold-out, scored on validation images, from the first exit's cost on."""
    run, arrays = exits
    found = [one for one in selection.choices(run) if one.policy]
    assert len(found) == selection.POLICIES and {one.point for one in found} == {'s28'}
    assert {one.weight_bytes for one in found} == {8}
    asked = [one.policy.budget for one in found]
    np.testing.assert_allclose(asked, np.linspace(FIRST_EXIT, SECOND_EXIT, selection.POLICIES))
    for one in found:
        first = arrays['test_confidence'][:, 0] >= one.policy.thresholds[0]
        right = np.where(first, *arrays['test_right'].T)
        assert one.policy.thresholds[1] == ALWAYS and one.policy.exits == (0, 1)
        assert one.top1 == pytest.approx(100 * right.mean())
        mean = SECOND_EXIT + first.mean() * (FIRST_EXIT - SECOND_EXIT)
        assert one.madds == one.policy.cost == pytest.approx(mean)
        assert one.ms == pytest.approx(3.0 - 2.0 * first.mean())
    assert found[0].madds == FIRST_EXIT and found[-1].madds == SECOND_EXIT
    assert {point: one.madds for point, one in by_point(run).items()} == {
        's28-x0': FIRST_EXIT,
        's28-x1': SECOND_EXIT,
    }


def test_no_policies_without_a_holdout(exits):
    run, arrays = exits
    np.savez(
        run / 'exits' / 's28.npz',
        **{key: value for key, value in arrays.items() if key.startswith('test')},
    )
    assert len(selection.choices(run)) == 2


@pytest.mark.parametrize('damage', [b'', b'nothing', b'PK\x03\x04nothing'])
def test_damaged_exits(damage, exits, capsys):
    (exits[0] / 'exits' / 's28.npz').write_bytes(damage)
    assert choose.main([str(exits[0])]) == 2
    assert 's28.npz: damaged' in capsys.readouterr().err


MADE = [
    Choice('a', 's28', 90.0, 4e6, 100, 4.0),
    Choice('a', 's20', 80.0, 2e6, 100, None),
    Choice('b', 's28', 85.0, 2e6, 50, 9.0),
    Choice('c', 's28', 70.0, 1e6, 400, 1.0),
    Choice('d', 's28', 90.0, 3e6, 500, 5.0),
]


@pytest.mark.parametrize(
    'limits, expected',
    [
        ({'madds': 4e6}, 4),
        ({'madds': 2e6}, 2),
        ({'madds': 2.9e6}, 2),
        ({'madds': 1e6}, 3),
        ({'ms': 4.5}, 0),
        ({'ms': 2.0}, 3),
        ({'weight_bytes': 60}, 2),
        ({'weight_bytes': 100, 'ms': 5.0}, 0),
        ({'top1': 85.0}, 2),
        ({'top1': 60.0}, 3),
        ({'top1': 86.0}, 4),
        ({'top1': 80.0, 'weight_bytes': 100}, 0),
        ({'top1': 80.0, 'madds': 2e6}, 2),
        ({}, 4),
    ],
)
def test_best(limits, expected):
    """The most accurate; of equals the cheapest; else the cheapest that is accurate enough."""
    for order in (MADE, MADE[::-1]):
        assert selection.best(order, Limits(**limits)) == MADE[expected]


def test_best_against_all():
    """Every combination of limits, each next to a value that is there: by filtering."""
    grid = {
        'madds': (1e6, 2.5e6, 9e6),
        'ms': (None, 4.5),
        'weight_bytes': (None, 60, 450),
        'top1': (None, 82.0),
    }
    for values in itertools.product(*grid.values()):
        limits = dict(zip(grid, values))
        kept = [
            one
            for one in MADE
            if all(
                limit is None or getattr(one, name) is not None and getattr(one, name) <= limit
                for name, limit in limits.items()
                if name in MEASURES
            )
            and one.top1 >= (limits['top1'] or 0)
        ]
        if kept:
            assert selection.best(MADE, Limits(**limits)) == max(
                kept, key=lambda one: (one.top1, -one.madds)
            )
        else:
            with pytest.raises(UsageError, match='no choice keeps the limits; the nearest is'):
                selection.best(MADE, Limits(**limits))


def test_excess():
    one = MADE[0]
    assert Limits().excess(one) == 0 and Limits(madds=8e6).excess(one) == 0.5
    assert Limits(madds=2e6, ms=1.0, weight_bytes=100).excess(one) == 4
    assert Limits(top1=99.0, madds=8e6).excess(one) == pytest.approx(1.1)
    assert Limits(ms=1e9).excess(MADE[1]) == float('inf')


@pytest.mark.parametrize(
    'limits, nearest',
    [
        ({'madds': 5e5}, 'c at s28'),
        ({'weight_bytes': 40}, 'b at s28'),
        ({'ms': 0.5}, 'c at s28'),
        ({'top1': 95.0}, 'd at s28, top-1 90.00 %'),
        ({'madds': 1.9e6, 'top1': 84.0}, 'b at s28'),
    ],
)
def test_unreachable(limits, nearest):
    with pytest.raises(UsageError, match=f'no choice keeps the limits; the nearest is .*{nearest}'):
        selection.best(MADE, Limits(**limits))


def test_nothing_to_choose_from():
    for found in ([], MADE[1:2]):
        with pytest.raises(UsageError, match='run scripts.profile first'):
            selection.best(found, Limits(ms=3.0))


def test_pareto():
    assert selection.front(MADE) == [MADE[3], MADE[2], MADE[4], MADE[0]]
    assert selection.front([]) == []
    assert selection.front([MADE[0], MADE[0]]) == [MADE[0]]


def beats(one, other):
    """Whether a choice is as good in everything that is known of both, and better in something."""
    pairs = [(one.top1, other.top1)]
    for name in MEASURES:
        pair = getattr(one, name), getattr(other, name)
        if None not in pair:
            pairs.append((-pair[0], -pair[1]))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@pytest.mark.parametrize('seed', range(5))
def test_front_of_several_costs(seed):
    """By comparing all with all; few values, so that many are equal."""
    rng = np.random.default_rng(seed)
    made = []
    for values in rng.integers(1, 5, size=(40, 4)).astype(float).tolist():
        top1, madds, weights, ms = values
        made.append(Choice('a', 's28', 20 * top1, madds, int(weights), ms if seed else None))
    kept = [one for one in made if not any(beats(other, one) for other in made)]
    found = selection.front(made)
    assert set(found) == set(kept) and len(found) == len(set(found))
    assert [one.madds for one in found] == sorted(one.madds for one in found)


def test_fewer_bits_are_not_beaten_by_equal_multiply_adds():
    """The multiply-adds of a network are those of its float form, its weights are not."""
    full, low = Choice('float', 's28', 95.0, 1e7, 309000), Choice('w2a2', 's28', 94.0, 1e7, 25400)
    worse = Choice('w2a2', 's24', 93.0, 1e7, 25400)
    assert selection.front([full, worse, low]) == [low, full]


def test_what_is_not_known_does_not_decide():
    known, unknown = Choice('a', 's28', 90.0, 2e6, 100, 3.0), Choice('b', 's28', 80.0, 2e6, None)
    assert selection.front([unknown, known]) == [known]
    unknown = Choice('b', 's28', 95.0, 2e6, None)
    assert selection.front([unknown, known]) == [unknown]


def test_describe():
    assert MADE[0].describe() == (
        'a at s28, top-1 90.00 %, 4.00 M multiply-adds, 4.00 ms, 0.0001 MB of weights'
    )
    unmeasured = Choice('a', 's28', 1.0, 1e6, None)
    assert unmeasured.describe() == 'a at s28, top-1 1.00 %, 1.00 M multiply-adds'


@pytest.mark.parametrize(
    'point, flags',
    [
        ('s28', {'eval_scale': [28], 'eval_widths': None}),
        ('w03', {'eval_scale': None, 'eval_widths': [3]}),
        ('s20-w13', {'eval_scale': [20], 'eval_widths': [13]}),
        ('s28-x1', {'eval_scale': [28], 'eval_widths': None}),
        ('dynamic', {'eval_scale': None, 'eval_widths': None}),
        ('s28-dynamic', {'eval_scale': None, 'eval_widths': None}),
    ],
)
@pytest.mark.parametrize('run', ['train_log/run', 'my runs/a'])
def test_commands(point, flags, run):
    (command,) = Choice(run, point, 1.0, 1e6, None).commands
    program, file, *rest = shlex.split(command)
    args = parse(rest)
    assert (program, file, args.eval, args.eval_checkpoint) == (
        'python',
        'imagenet_tf.py',
        True,
        run,
    )
    assert {name: getattr(args, name) for name in flags} == flags


def test_commands_of_thresholds(exits):
    """The first makes the file that the second takes, with the thresholds that were chosen."""
    run, _ = exits
    with_thresholds = [found for found in selection.choices(run) if found.policy]
    assert with_thresholds
    for one in with_thresholds:
        setting, evaluating = map(shlex.split, one.commands)
        assert setting[:3] == ['python', '-m', 'scripts.thresholds']
        args = thresholds.parse_args(setting[3:])
        assert (str(args.run), args.size) == (str(run), 28)
        assert one.policy.budget <= quantity('--budget', args.budget) < one.policy.budget + 1
        assert thresholds.main(setting[3:]) == 0
        args = parse(evaluating[2:])
        assert args.eval and args.eval_checkpoint == str(run)
        written = exit_thresholds.read_policy(Path(args.thresholds))
        assert written.thresholds == pytest.approx(one.policy.thresholds)


def test_a_policy_is_told_apart():
    policy = ExitPolicy(28, (0,), (ALWAYS,), 1e6, 1e6, 'MAdds', 'a')
    choice = Choice('a', 's28', 1.0, 1e6, None, policy=policy)
    assert ' with exit thresholds, ' in choice.describe()
